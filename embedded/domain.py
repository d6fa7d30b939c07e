"""Measure how well held-out stickers fit their texts under the shipped CLIP, and write `embedded/domain.json`: the limit of what the models know.

Run as `python -m embedded.domain` after `train_clip` (seconds). The report compares a catalogue with it, see `pipeline/report/domain.py`. The text
of a sticker is its concept's name, as the stage embedding reads StyleMoji's items.
"""

import numpy as np
import torch
from PIL import Image

from embedded.check import HeldOut, load_held_out
from embedded.training import ROOT
from pipeline.json_files import write_json
from pipeline.models.encoders import load_clip
from pipeline.models.folders import compute_model_revision
from pipeline.report.domain import FAR_SHARE, compute_fit

CLIP = "embedded/clip"
DOMAIN_PATH = ROOT / "embedded" / "domain.json"
BATCH = 64


def measure_fit(held: HeldOut) -> np.ndarray:
    """Return the cosine of every held-out sticker and its concept's name."""
    clip = load_clip(CLIP)
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in held.images]
    names = [concept.name for concept in held.concepts]
    starts = range(0, len(names), BATCH)
    image_ND = torch.cat([clip.encode_images(images[start : start + BATCH]) for start in starts])
    text_ND = torch.cat([clip.encode_texts(names[start : start + BATCH]) for start in starts])
    return compute_fit(image_ND.numpy(), text_ND.numpy())


def main() -> None:
    """Measure and write."""
    fit_N = measure_fit(load_held_out(None))
    known = {"limit": round(float(np.quantile(fit_N, FAR_SHARE)), 4), "median": round(float(np.median(fit_N)), 4), "n": len(fit_N)}
    write_json(DOMAIN_PATH, {"clip": CLIP, "revision": compute_model_revision(CLIP), **known})
    print(f"{DOMAIN_PATH}: {known}")


if __name__ == "__main__":
    main()
