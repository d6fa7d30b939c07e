"""What `make bench-gpu` measures: the pipeline's rate at each kind of work, beside the loop's rate on the same models in the same run."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from pipeline.data.images import decode_batch
from tests.bench import loops, ours
from tests.bench.lots import Lot, make_lot
from tests.bench.models import Setting
from tests.bench.timing import Way
from tests.bench.utilisation import watch_gpu


@dataclass(frozen=True)
class Sizes:
    """How much is measured: rows by kind of work, a loop's rows, and the sides of the pictures."""

    captions: int = 512
    images: int = 4096
    keywords: int = 512
    pictures: int = 48
    loop: int = 16
    side: int = 512  # px of the encoded images
    interactions: int = 500_000
    items: int = 25_000
    reflection_steps: int = 3


@dataclass(frozen=True)
class Line:
    """A rate with what stands beside it."""

    name: str
    unit: str
    rate: float
    loop: float | None = None
    goal: float | None = None
    utilisation: float | None = None  # percent
    decoding: float | None = None  # share of the time


def make_photo(index: int, side: int) -> bytes:
    """Encode a smooth random JPEG."""
    noise = np.random.default_rng(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def make_photos(folder: Path, count: int, side: int, *, first: int = 0) -> Lot:
    """Make a lot of photos with a caption and a text each."""
    rows = [
        {"item_id": f"photo-{index:06d}", "image": make_photo(index, side), "text": f"thing number {index}", "category": "things"}
        for index in range(first, first + count)
    ]
    lot = make_lot(folder, rows)
    lot.captions = {row["item_id"]: f"a photo of the {row['text']}" for row in rows}
    return lot


class TokenCounter:
    """Counts the positions for which a language model's head has computed the next token."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        model.get_output_embeddings().register_forward_hook(self._add)

    def _add(self, module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.count += output.shape[0]  # of each row the last position


def synchronise(device: torch.device) -> None:
    """Wait for what was asked of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_way(way: Callable[[], object], device: torch.device) -> tuple[float, float | None]:
    """Return the seconds that it takes, and how busy the GPU was."""
    synchronise(device)
    with watch_gpu() as watch:
        started = time.perf_counter()
        way()
        synchronise(device)
        seconds = time.perf_counter() - started
    return seconds, watch.percent


class Track:
    """Lots of photos in one folder, no photo twice, so that no ledger knows a row."""

    def __init__(self, folder: Path, setting: Setting, sizes: Sizes) -> None:
        self.folder, self.setting, self.sizes, self.used = folder, setting, sizes, 0

    def make_lot(self, count: int) -> Lot:
        """Make the next photos."""
        self.used += count
        return make_photos(self.folder / f"photos-{self.used}", count, self.sizes.side, first=self.used - count)

    def measure(self, way: Way, count: int, *, warm_up: int) -> tuple[float, float | None, Lot]:
        """Warm up, then return the rows a second, how busy the GPU was, and the rows."""
        way(self.make_lot(warm_up))
        lot = self.make_lot(count)
        seconds, percent = time_way(lambda: way(lot), self.setting.device)
        return count / seconds, percent, lot

    def race(self, name: str, unit: str, makers: Sequence[Callable[[], Way]], count: int, *, goal: float, batch_size: int) -> Line:
        """Measure ours, then the loop on fewer rows; of ours also the share of the time that decoding the images takes."""
        rate, percent, lot = self.measure(makers[0](), count, warm_up=batch_size)
        encoded = [row["image"] for row in lot.rows]
        started = time.perf_counter()
        for start in range(0, count, batch_size):
            decode_batch(encoded[start : start + batch_size])
        share = (time.perf_counter() - started) * rate / count
        loop_rate = self.measure(makers[1](), self.sizes.loop, warm_up=1)[0]
        return Line(name, unit, rate, loop_rate, goal, percent, share)


def race_captions(track: Track) -> Line:
    """BLIP-2 opt-2.7b."""
    makers = (lambda: ours.Captions(track.setting), lambda: loops.CaptionLoop(track.setting))
    batch_size = track.setting.configs["captioning"].batch_size
    return track.race("BLIP-2 opt-2.7b", "captions/s", makers, track.sizes.captions, goal=400, batch_size=batch_size)


def race_vectors(track: Track) -> Line:
    """ViT-L/14, both towers, from encoded bytes."""
    makers = (lambda: ours.Vectors(track.setting), lambda: loops.VectorLoop(track.setting))
    batch_size = track.setting.configs["embedding"].batch_size
    return track.race("CLIP ViT-L/14 from encoded bytes", "images/s", makers, track.sizes.images, goal=2700, batch_size=batch_size)


def race_keywords(track: Track) -> list[Line]:
    """Qwen2.5-7B; random weights name no keyword, so every item is asked about twice, by ours and by the loop."""
    ours_way = ours.Keywords(track.setting)
    rates, percent = measure_tokens(track, ours_way, ours_way.llm.model.model, track.sizes.keywords)
    del ours_way  # two such models need not fit at once
    loop_way = loops.KeywordLoop(track.setting)
    loop_rates, _ = measure_tokens(track, loop_way, loop_way.model, track.sizes.loop)
    units = (("items/s", None), ("tokens/s", 12_500))
    found = zip(units, rates, loop_rates, strict=True)
    return [Line("Qwen2.5-7B", unit, rate, loop_rate, goal, percent) for (unit, goal), rate, loop_rate in found]


def measure_tokens(track: Track, way: Way, model: Any, count: int) -> tuple[tuple[float, float], float | None]:
    """Return the rows and the tokens a second, and how busy the GPU was."""
    counter = TokenCounter(model)
    way(track.make_lot(1))
    counter.count, lot = 0, track.make_lot(count)
    seconds, percent = time_way(lambda: way(lot), track.setting.device)
    return (count / seconds, counter.count / seconds), percent


def race_pictures(track: Track) -> list[Line]:
    """Stable Diffusion 1.5, with and without compiled blocks of the U-Net."""
    name = "Stable Diffusion 1.5, 512 px, 25 steps"
    batch_size = track.setting.configs["generation"].batch_size
    loop_rate = track.measure(loops.PictureLoop(track.setting), track.sizes.loop, warm_up=1)[0]
    way = ours.Pictures(track.setting)
    rate, percent, _ = track.measure(way, track.sizes.pictures, warm_up=batch_size)
    lines = [Line(name, "pictures/s", rate, loop_rate, 7, percent)]
    way.diffusion.model.pipeline.unet.compile_repeated_blocks()
    # every drawing's known keys and values would be constants of the compiled blocks, which would be compiled anew until torch gives up
    with patch("pipeline.models.diffusion.project_once", lambda unet, prompt: nullcontext()):
        rate, percent, _ = track.measure(way, track.sizes.pictures, warm_up=batch_size)
    return [*lines, Line(f"{name}, compiled, keys and values of prompts anew each step", "pictures/s", rate, loop_rate, 7, percent)]
