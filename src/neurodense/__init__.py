"""neurodense."""
