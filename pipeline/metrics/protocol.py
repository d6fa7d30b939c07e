"""The constants and choices that metrics, their descriptions and the configs share."""

from __future__ import annotations

from typing import Literal

CUTOFF = 10  # the K of R@K and N@K, Table 4
NUM_NEGATIVES = 99  # items that the sampled protocol ranks beside the positive
SSIM_WINDOW = 11  # px

Ideal = Literal["standard", "retrieved"]  # NDCG's ideal list: of every positive, or of those retrieved only
