"""Compute every item's vectors and feature maps once and keep them: CLIP image and text, perceptual features, SSIM moments, looks.

Feature maps are large (124 MB for one 512 px image under VGG), so they live in a store of bounded size that forgets
what was used longest ago; CLIP vectors are small and all stay. Every batch is filled up to one size, so that an item's features do
not depend on which items were computed with it, or on where a run was interrupted.
Shapes: B images, D embedding width, H x W pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.data.images import decode_batch
from pipeline.evaluation.inputs import Catalogue
from pipeline.evaluation.whereabouts import PIXELS, Look
from pipeline.metrics.image import Moments, compute_moments
from pipeline.models.judge import Judge
from pipeline.models.perceptual import Features, Perceptual
from pipeline.models.protocols import ClipModel

STORE_BYTES = 2**30


@dataclass(frozen=True)
class PixelFeatures:
    """What the pixel metrics need of B images of one size."""

    perceptual: Features
    moments: Moments

    def count_bytes(self) -> int:
        """Return the memory that the tensors hold."""
        tensors = [*self.perceptual.layers, self.moments.image_BCHW, self.moments.mean_BCHW, self.moments.variance_BCHW]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def select(self, index: Sequence[int]) -> PixelFeatures:
        """Take some of the images, in the order given."""
        return PixelFeatures(self.perceptual.select(index), self.moments.select(index))

    @staticmethod
    def stack(parts: Sequence[PixelFeatures]) -> PixelFeatures:
        """Join the images of several batches."""
        moments = [(p.moments.image_BCHW, p.moments.mean_BCHW, p.moments.variance_BCHW) for p in parts]
        joined = [torch.cat(tensors) for tensors in zip(*moments, strict=True)]
        return PixelFeatures(Features.stack([part.perceptual for part in parts]), Moments(*joined))


def resize_image(image: Image.Image, size: int) -> np.ndarray:
    """Return uint8 RGB (size, size, 3), bilinear with antialiasing; the aspect ratio is ignored, as the metric's authors do."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def compute_pixel_features(images: Sequence[np.ndarray], perceptual: Perceptual) -> PixelFeatures:
    """Compute perceptual features and SSIM moments of uint8 (H, W, 3) images of one size."""
    stacked = np.stack(images)
    pixel_BCHW = torch.from_numpy(stacked).permute(0, 3, 1, 2).to(perceptual.device).float() / 255
    return PixelFeatures(perceptual.compute_features(stacked), compute_moments(pixel_BCHW))


def compute_looks(images: Sequence[Image.Image], judge: Judge | None) -> list[Look]:
    """Return what images are located by: their pixels, uint8 at one small size, and the judge's features, if there is one."""
    looks: list[dict[str, np.ndarray]] = [{"pixels": resize_image(image, PIXELS)} for image in images]
    if judge is not None:
        vectors = judge.encode_images([resize_image(image, judge.config.image_size) for image in images]).numpy()
        looks = [{"judge": vector_D, **look} for vector_D, look in zip(vectors, looks, strict=True)]
    return looks


class ItemStore:
    """The items' vectors and feature maps, each computed on first use."""

    KEPT_BY_WORKERS = True  # of a cluster: what one batch has computed serves the next

    def __init__(
        self,
        catalogue: Catalogue,
        clip: ClipModel,
        perceptual: Perceptual,
        *,
        image_size: int,
        batch_size: int,
        known_images: dict[str, Tensor] | None = None,
        judge: Judge | None = None,
    ) -> None:
        """`known_images` are CLIP image vectors that the embedding stage made with the same model."""
        self.catalogue = catalogue
        self.clip = clip
        self.perceptual = perceptual
        self.image_size = image_size
        self.batch_size = batch_size
        self.judge = judge
        self._looks: dict[str, Look] = {}
        self._images = dict(known_images or {})
        self._texts: dict[str, Tensor] = {}
        self._pixels: OrderedDict[str, PixelFeatures] = OrderedDict()
        self._held = 0  # bytes of feature maps now
        self._added = 0  # bytes of feature maps ever computed
        self._broken: set[str] = set()

    def prefetch(self, item_ids: Iterable[str]) -> None:
        """Compute the images' vectors and feature maps in full batches, the maps only until they fill half of the store."""
        wanted = list(dict.fromkeys(item_ids))
        self.get_images(wanted)
        for item_id in wanted:
            if item_id in self._pixels:
                self._pixels.move_to_end(item_id)
        limit = self._added + STORE_BYTES // 2
        lacking = [item_id for item_id in wanted if item_id not in self._pixels and item_id not in self._broken]
        for chunk in self._cut(lacking):
            if self._added >= limit:
                break
            self._keep(self._compute_pixels(chunk))

    def get_texts(self, item_ids: Iterable[str]) -> dict[str, Tensor]:
        """Return the CLIP text vectors of the items that have a text."""
        wanted = [item_id for item_id in dict.fromkeys(item_ids) if item_id in self.catalogue.texts]
        for chunk in self._cut([item_id for item_id in wanted if item_id not in self._texts]):
            vectors = self.clip.encode_texts([self._fit_text(item_id) for item_id in self._fill(chunk)])
            self._texts.update(zip(chunk, vectors, strict=False))
        return {item_id: self._texts[item_id] for item_id in wanted}

    def _fit_text(self, item_id: str) -> str:
        """Return an item's text, in which a long title leaves room for the caption."""
        catalogue = self.catalogue
        return self.clip.text_budget.fit_beginning(catalogue.texts[item_id], catalogue.titles.get(item_id, "")).text

    def get_images(self, item_ids: Iterable[str]) -> dict[str, Tensor]:
        """Return the CLIP image vectors of the items whose image can be read."""
        wanted = list(dict.fromkeys(item_ids))
        for chunk in self._cut([item_id for item_id in wanted if item_id not in self._images]):
            vectors = self.clip.encode_images(self._decode(chunk))
            self._images.update(zip(chunk, vectors, strict=False))
        return {item_id: self._images[item_id] for item_id in wanted if item_id in self._images and item_id not in self._broken}

    def get_looks(self, item_ids: Iterable[str]) -> dict[str, Look]:
        """Return the looks of the items whose image can be read."""
        wanted = list(dict.fromkeys(item_ids))
        for chunk in self._cut([item_id for item_id in wanted if item_id not in self._looks and item_id not in self._broken]):
            self._looks.update(zip(chunk, compute_looks(self._decode(chunk), self.judge), strict=False))
        return {item_id: self._looks[item_id] for item_id in wanted if item_id in self._looks and item_id not in self._broken}

    def get_pixels(self, item_ids: Sequence[str]) -> tuple[list[str], PixelFeatures | None]:
        """Return the items whose image can be read and their features, in the order asked for."""
        wanted = list(dict.fromkeys(item_ids))
        found = {item_id: self._pixels[item_id] for item_id in wanted if item_id in self._pixels}
        for item_id in found:
            self._pixels.move_to_end(item_id)
        lacking = [item_id for item_id in wanted if item_id not in found and item_id not in self._broken]
        for chunk in self._cut(lacking):
            computed = self._compute_pixels(chunk)
            found.update(computed)
            self._keep(computed)
        known = [item_id for item_id in wanted if item_id in found]
        return known, PixelFeatures.stack([found[item_id] for item_id in known]) if known else None

    def _compute_pixels(self, chunk: list[str]) -> dict[str, PixelFeatures]:
        arrays = [resize_image(image, self.image_size) for image in self._decode(chunk)]
        batch = compute_pixel_features(arrays, self.perceptual)
        return {item_id: batch.select([row]) for row, item_id in enumerate(chunk) if item_id not in self._broken}

    def _decode(self, chunk: list[str]) -> list[Image.Image]:
        """Decode a chunk, filled up to a whole batch; broken images are remembered and stand as white ones."""
        filled = self._fill(chunk)
        images, reasons = decode_batch(self.catalogue.read_images(filled))
        self._broken.update(filled[row] for row in reasons)
        return images

    def _fill(self, chunk: list[str]) -> list[str]:
        return chunk + chunk[-1:] * (self.batch_size - len(chunk))

    def _keep(self, computed: dict[str, PixelFeatures]) -> None:
        for item_id, features in computed.items():
            self._pixels[item_id] = features
            self._held += features.count_bytes()
            self._added += features.count_bytes()
        while self._held > STORE_BYTES:
            _, oldest = self._pixels.popitem(last=False)
            self._held -= oldest.count_bytes()

    def _cut(self, item_ids: list[str]) -> list[list[str]]:
        return [item_ids[start : start + self.batch_size] for start in range(0, len(item_ids), self.batch_size)]
