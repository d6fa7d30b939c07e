"""Whose pictures count: how much of a look's weight lies on pictures in the truth's own style, by temperature and consensus.

`make look-weights`, after a run with look tokens on a data set with labels (ArtMoji). It is how `preference.look_temperature` and
`preference.look_consensus` were chosen: on training and validation users; the test users' figures stand beside them. No image is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from torch import Tensor

from experiments.entry import OUT, find_root, run_app
from pipeline.artifacts import read_table
from pipeline.data.texts import read_item_texts
from pipeline.files import write_bytes
from pipeline.keywords.preference import PreferenceConfig
from pipeline.looks.run import LookBuilder
from pipeline.looks.weights import compute_look_weights
from pipeline.models.diffusion import load_diffusion
from pipeline.models.look import prepare_look_map
from pipeline.models.references import read_reference
from pipeline.params import load_params, read_section
from pipeline.runtime import find_device, load_runtime
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, LABELS
from pipeline.spreadsheets import write_csv
from pipeline.terminal import say

PAGE = OUT / "look-weights.md"
TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.125, 0.2, 0.3)
CONSENSUS = (0.0, 2.0, 4.0)
LEARNED = ("train", "val")  # the splits on which the choice is made
CSV_COLUMNS = ("temperature", "consensus", "users", "share", "first", "n")

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class LabelledHistory:
    """What weighs the items of a case's history, and in which styles they are."""

    split: str
    similarity_N: Tensor
    look_NF: Tensor  # minus the catalogue's mean
    styles: list[str]
    truth: str  # the style of the truth


def list_histories(data: Path, params: Path) -> list[LabelledHistory]:
    """List the cases whose truth has a style, from the tables of a finished run; ValueError if its params ask for no look tokens."""
    config = load_params(params, "preference", PreferenceConfig)
    if not config.visual_tokens:
        raise ValueError(f"{params}: preference.visual_tokens is 0, so no picture's look counts; run with dataset=artmoji models=artists first.")
    cases, labels = (read_table(data / "dataset" / f"{table.name}.parquet", table) for table in (CASES, LABELS))
    items = read_table(data / "dataset" / "items.parquet", ITEMS, columns=["text", "image_sha256"])
    texts = read_item_texts(items, read_table(data / "captioning" / "captions.parquet", CAPTIONS))
    device = find_device(load_runtime(params))
    builder = LookBuilder(
        config,
        read_table(data / "embedding" / "embeddings.parquet", EMBEDDINGS),
        texts,
        center=bool(read_section(params, "retrieval.center")),
        look=prepare_look_map(params).model,
        diffusion=load_diffusion(read_reference(params, "diffusion"), device=device),
    )
    style_of = dict(zip(labels["item_id"].to_pylist(), labels["style"].to_pylist(), strict=True))
    found = []
    for case in cases.to_pylist():
        similarities = builder.compare(case)
        if similarities and case["truth_id"] in style_of:
            looks, styles = builder.center_looks(list(similarities)), [style_of[item_id] for item_id in similarities]
            found.append(LabelledHistory(case["split"], torch.tensor(list(similarities.values())), looks, styles, style_of[case["truth_id"]]))
    return found


def measure(histories: Sequence[LabelledHistory], *, temperature: float, consensus: float) -> tuple[float, float]:
    """Return the mean weight on pictures in the truth's style, and the share of cases in which no other style weighs as much."""
    shares, first = [], []
    for history in histories:
        weights = compute_look_weights(history.similarity_N, history.look_NF, temperature=temperature, consensus=consensus).tolist()
        by_style: Counter[str] = Counter()
        for style, weight in zip(history.styles, weights, strict=True):
            by_style[style] += weight
        shares.append(by_style[history.truth])
        first.append(all(by_style[history.truth] > weight for style, weight in by_style.items() if style != history.truth))
    return float(np.mean(shares)), float(np.mean(first))


def list_rows(histories: Sequence[LabelledHistory]) -> Iterator[dict[str, object]]:
    """Yield the figures of every setting, for the users of the choice and for the test users."""
    groups = {
        " and ".join(LEARNED): [history for history in histories if history.split in LEARNED],
        "test": [history for history in histories if history.split == "test"],
    }
    for temperature in TEMPERATURES:
        for consensus in CONSENSUS:
            for users, chosen in groups.items():
                if chosen:
                    share, first = measure(chosen, temperature=temperature, consensus=consensus)
                    yield {"temperature": temperature, "consensus": consensus, "users": users, "share": share, "first": first, "n": len(chosen)}


def build_page(rows: Sequence[dict[str, object]]) -> str:
    """Write the page: a line for each temperature, weight and first place for each consensus."""
    lines = [
        "# Whose pictures count",
        "",
        "Made by `make look-weights` after a run with look tokens. Of the weight that a case's look gives to the pictures of the "
        "history: the share on pictures in the truth's own style / how often no other style weighs as much, by `preference.look_temperature` (rows) "
        "and `preference.look_consensus` (columns). The choice is made on the first table.",
        "",
    ]
    for users in dict.fromkeys(str(row["users"]) for row in rows):
        own = [row for row in rows if row["users"] == users]
        lines += [f"## Users: {users} ({own[0]['n']})", "", f"| | {' | '.join(f'{consensus:g}' for consensus in CONSENSUS)} |"]
        lines.append(f"|---|{'---:|' * len(CONSENSUS)}")
        for temperature in TEMPERATURES:
            cells = [f"{row['share']:.3f} / {row['first']:.3f}" for row in own if row["temperature"] == temperature]
            lines.append(f"| {temperature:g} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


@app.command()
def main(data: Path = Path("data"), params: Path = Path("params.yaml")) -> None:
    """Measure the settings, and write the page and its CSV."""
    root = find_root()
    rows = list(list_rows(list_histories(data, params)))
    write_bytes(root / PAGE, build_page(rows).encode())
    write_csv((root / PAGE).with_suffix(".csv"), rows, CSV_COLUMNS)
    say(f"look-weights: {PAGE.as_posix()}")


if __name__ == "__main__":
    run_app(app)
