"""LaVIT (Jin et al. 2024, LaVIT-7B-v2): a language model that reads and writes pictures as codes, and a diffusion model for their pixels.

Its own code needs libraries of 2023, so what it has of its own stands here, with the names and shapes of the official weights. What timm (the vision
tower EVA ViT-g), transformers (Llama, its sampling and guidance) and diffusers (U-Nets, autoencoders, samplers) have is used. The official code was
read to compare against, not copied.
"""
