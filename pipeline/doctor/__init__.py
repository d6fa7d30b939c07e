"""Find beforehand what would stop a run: one line a check. It needs no package, so that it can say which are missing."""
