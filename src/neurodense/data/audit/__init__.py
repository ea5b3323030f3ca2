"""What would make a score on a folder of images too good, and which files need a person's eye."""
