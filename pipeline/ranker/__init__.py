"""The ranking model RM of the paper (MICRO): graphs, model, losses, training, and the scoring of substituted images (paper: eq. 10)."""
