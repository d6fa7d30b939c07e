"""The paper's experiments on the default pipeline: declared as data, run as DVC experiments, written to docs/results/."""
