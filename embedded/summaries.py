"""Mean and 95% bootstrap interval of a measured figure, as `quality.json` and the model card have them."""

import numpy as np
from torch import Tensor

NUM_RESAMPLES = 2000


def summarise(values: Tensor) -> dict[str, object]:
    """Mean, 95% bootstrap interval and count."""
    array = values.double().numpy()
    rng = np.random.default_rng(0)
    means = array[rng.integers(0, len(array), (NUM_RESAMPLES, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": round(float(array.mean()), 4), "interval": [round(float(low), 4), round(float(high), 4)], "n": len(array)}
