"""Tuning the plain Stable Diffusion baseline on the data set's images."""
