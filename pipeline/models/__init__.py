"""Model wrappers: the only place that imports transformers, diffusers, open_clip and timm."""
