"""Textual Inversion: one pseudo-word per user, learned from the images that the user has looked at, or per case, from its retrieved images."""
