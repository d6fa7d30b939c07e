"""Whether the catalogue is of the kind that the embedded models were trained on: how well its pictures fit their texts, beside held-out stickers.

CLIP was trained to bring a sticker and its text together. Where it does not, captions, keywords and drawings have nothing to go by. The rule: a
picture is far if its vector is farther (by cosine) from its text's than those of 19 in 20 stickers that no model has seen; a catalogue is outside of
the domain if more than a quarter of its pictures are far. `embedded/domain.json`, written by `python -m embedded.domain`, holds the limit and the
CLIP that it was measured with; of another CLIP nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import get_matrix, read_provenance, read_table
from pipeline.json_files import read_json
from pipeline.schemas import EMBEDDINGS

FAR_SHARE = 0.05  # of held-out stickers
MAX_FAR = 0.25  # share of a catalogue's pictures; of StyleMoji's it is 0.04, of OpenMoji's originals 0.1, of photographs and noise 0.9 and more


@dataclass(frozen=True)
class DomainFit:
    """How many of a catalogue's pictures are far from what their text says."""

    num_items: int
    num_far: int

    @property
    def is_outside(self) -> bool:
        """Say whether the models do not know such pictures."""
        return self.num_far > MAX_FAR * self.num_items

    @property
    def summary(self) -> str:
        """Return the measurement in words."""
        return (
            f"{self.num_far:,} of the catalogue's {self.num_items:,} pictures ({self.num_far / self.num_items:.0%}) fit their text worse than "
            f"{1 - FAR_SHARE:.0%} of the stickers that the models have never seen"
        )


def measure_domain(embeddings: Path, reference: Path) -> DomainFit | None:
    """Measure a catalogue by its vectors; None if these are of another CLIP than the reference's."""
    known, made = read_json(reference), read_provenance(embeddings)
    if made.get("clip") != known["clip"] or known["revision"] not in made.get("revisions", []):
        return None
    vectors = read_table(embeddings, EMBEDDINGS, columns=["semantic", "clip_image"])
    if not vectors.num_rows:
        return None
    fit_N = compute_fit(get_matrix(vectors, "clip_image"), get_matrix(vectors, "semantic"))
    return DomainFit(len(fit_N), int((fit_N < known["limit"]).sum()))


def compute_fit(image_ND: np.ndarray, text_ND: np.ndarray) -> np.ndarray:
    """Return the cosine of each picture and its text; both are unit vectors."""
    return np.einsum("nd,nd->n", image_ND, text_ND, dtype=np.float64)
