"""Method `sd`: Stable Diffusion, zero-shot, from the reference's own text alone (paper: the baseline SD-v1.5).

Departure: the paper tunes its baselines with a learning rate of 1e-5 in a way that it does not describe; here nothing is tuned.
"""

from __future__ import annotations

from pipeline.generation.studio import Method, Studio
from pipeline.generation.texts import TextMethod


def build_method(studio: Studio) -> Method:
    """Build the method."""
    return TextMethod(studio, lambda case: studio.read_text(case.reference_id), "The reference has neither a text nor a caption.")
