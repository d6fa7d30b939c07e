"""The baselines with a training of their own, one package each, named like its stage: `sd` (LoRA), `ti` (Textual Inversion), `pmg`.

The last two are given the whole history, or the retrieved items alone.
"""
