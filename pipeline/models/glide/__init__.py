"""GLIDE (Nichol et al. 2022, the filtered models): a text-to-image diffusion model in pixels, 64 px and an upsampler to 256 px.

Nobody ships it for current libraries, so its networks stand here, with the names and shapes of the official weights. What diffusers and tokenizers
have (the samplers' steps, byte-pair encoding) is used. The official code was read to compare against, not copied.
"""
