"""Method `reconstruction`: the truth's own image through the diffusion model's autoencoder: the most that any image of this model could show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.data.cases import Case
from pipeline.generation.context import Drawing, GenerationContext, Method
from pipeline.generation.copying import CopyMethod
from pipeline.rows import Rejection


@dataclass
class ReconstructionMethod:
    """Encode and decode the truth's image at the model's own size."""

    context: GenerationContext
    copy: CopyMethod

    ledger = "reconstruction"

    @property
    def identity(self) -> object:
        """The diffusion model, whose autoencoder it is."""
        return {"diffusion": self.context.diffusion.revision}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the truth's own."""
        return self.copy.describe(case)

    def list_prompts(self, case: Case) -> list[str]:
        """No prompt is read."""
        return []

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Encode and decode what can be decoded of the truths' images."""
        diffusion, drawings = self.context.diffusion.model, self.copy.draw(cases)
        side = (diffusion.image_size, diffusion.image_size)
        places = [place for place, drawing in enumerate(drawings) if isinstance(drawing, np.ndarray)]
        if places:
            resized = (Image.fromarray(drawings[place]).resize(side, Image.Resampling.BICUBIC) for place in places)
            images = diffusion.decode_latents(diffusion.encode_images(np.stack([np.asarray(image) for image in resized])))
            for place, image in zip(places, images, strict=True):
                drawings[place] = image
        return drawings


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    return ReconstructionMethod(context, CopyMethod(context, lambda case: case.truth_id))
