"""The baseline GLIDE, which draws with models of its own."""
