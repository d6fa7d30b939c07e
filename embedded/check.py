"""Measure the shipped models on held-out pairs, of stickers and of artists' drawings, and write `embedded/quality.json`.

Run as `python -m embedded.check` (minutes on two cores). Everything is loaded the way the pipeline loads it. A key by itself is
about the held-out stickers of the first 300 concepts, which are the default data set's; a key that ends in `_all` about those of
all 1,343; one that ends in `_artists` about artists' drawings. Intervals are 95% bootstrap intervals over pairs; of the seconds, over batches.

The guidance of the drawings is not chosen on the pairs that are reported: `--compare-guidance` measures several on held-out
pairs of other concepts.
"""

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor

from embedded.card import write_card
from embedded.check_artists import measure_artists
from embedded.check_drawing import compare_guidance, measure_drawing
from embedded.check_stickers import load_held_out, measure_captioner, measure_clip, measure_judge, measure_keywords, measure_vae
from embedded.stickers import DEFAULT_UNIVERSE
from embedded.summaries import summarise
from embedded.training import ROOT, WEIGHTS_DIR
from pipeline.json_files import write_json

QUALITY_PATH = ROOT / "embedded" / "quality.json"
SHEET_PATH = ROOT / "embedded" / "contact_sheet.png"


def measure_all(guidance: float) -> Iterator[tuple[str, dict[str, object]]]:
    """Measure one model after the other."""
    held, universe = load_held_out(DEFAULT_UNIVERSE), load_held_out(None)
    measures = [
        lambda: measure_vae(universe),
        lambda: measure_clip(held),
        lambda: mark_all(measure_clip(universe)),
        lambda: measure_captioner(held),
        lambda: mark_all(measure_captioner(universe)),
        lambda: measure_keywords(universe),
        lambda: measure_judge(held),
        lambda: mark_all(measure_judge(universe)),
        measure_artists,
        lambda: measure_drawing(held, guidance, sheet=SHEET_PATH),
        lambda: mark_all(measure_drawing(universe, guidance)),
    ]
    for measure in measures:
        for key, values in measure().items():
            yield key, summarise(values.float())
    yield "weights_mb", measure_weights()


def mark_all(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mark figures as those of all concepts; seconds are the same for any."""
    return {f"{key}_all": value for key, value in values.items() if not key.endswith("_seconds")}


def measure_weights() -> dict[str, object]:
    """Size of all shipped weights in MB of 10^6 bytes; n is the number of files."""
    sizes = [path.stat().st_size for path in WEIGHTS_DIR.rglob("*.safetensors")]
    total = round(sum(sizes) / 1e6, 2)
    return {"value": total, "interval": [total, total], "n": len(sizes)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guidance", type=float, default=4.0, help="classifier-free guidance scale of the drawings")
    parser.add_argument("--compare-guidance", type=float, nargs="+", help="only compare these scales")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.compare_guidance:
        compare_guidance(arguments.compare_guidance)
        return
    quality = {}
    for key, summary in measure_all(arguments.guidance):
        quality[key] = summary
        print(key, summary, flush=True)
    write_json(QUALITY_PATH, quality)
    write_card(quality)


if __name__ == "__main__":
    main()
