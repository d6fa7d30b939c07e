"""What is wrong with the vectors of a batch, if anything is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def find_faults(vectors: Mapping[str, np.ndarray]) -> dict[int, str]:
    """Say of every row which vector is not a finite unit vector, if one is not (half formats can overflow)."""
    faults: dict[int, str] = {}
    for name, matrix_BD in vectors.items():
        lengths_B = np.linalg.norm(matrix_BD, axis=1)
        bad = np.flatnonzero(~(np.abs(lengths_B - 1.0) < 1e-3))  # also true of NaN; float32 rows of 1024 are off by < 1e-5
        faults = {int(i): f"The {name} vector is not finite or has no length." for i in bad} | faults
    return faults
