"""Looks: what the pictures of a history have in common that words cannot say, on its way to the drawing as look tokens beside P^gen."""
