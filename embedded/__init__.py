"""Recipes, checks and weights of the small models of the embedded profile."""
