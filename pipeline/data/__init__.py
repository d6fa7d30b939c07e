"""Data sets: one adapter each turns raw files into items, interactions and cases."""
