"""Retrieval module of the paper: which history items matter for the reference, and the preference P^ret that they add up to."""
