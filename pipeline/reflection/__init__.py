"""Reflection: train the balance calibrator and the modal mapper with a ranker's reward and two distances (paper: Reflection Module)."""
