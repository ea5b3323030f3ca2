"""A model behind HTTP: a REST service, and a page that uses it."""
