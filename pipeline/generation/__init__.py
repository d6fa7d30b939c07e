"""Generation: one image per case and method."""
