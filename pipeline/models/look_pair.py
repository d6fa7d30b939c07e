"""Which drawing model a look map that we ship writes for. No torch: the params are checked with it before anything is loaded."""

from __future__ import annotations

SHIPPED_MAP, ITS_MODEL = "embedded/look", "embedded/artist_diffusion"  # no other drawing model that we ship has seen the map's tokens


def check_pair(look: object, diffusion: object) -> None:
    """Raise ValueError if the shipped look map is to guide another shipped drawing model, to which its tokens are noise."""
    if look == SHIPPED_MAP and diffusion != ITS_MODEL and str(diffusion).startswith("embedded/"):
        raise ValueError(
            f"models.diffusion is {diffusion}, which has never seen the look tokens of models.look, {look}; "
            "take models=artists, or preference.visual_tokens=0, comparison.ip_adapter=false and comparison.oracle=false to draw without them."
        )
