"""Textual Inversion: one pseudo-word a user, learned from the images that the user has looked at."""
