"""The baseline LaVIT, which draws with models of its own."""
