"""What a language model says about items in a few words, and what that says about a user (eq. 6)."""
