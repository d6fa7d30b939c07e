"""BLIP-2 as one verb: images in, captions out (eq. 2), loaded from a hub id or a folder through transformers' own classes.

Departures: none from BLIP-2; only new tokens are decoded, for `generate` of a decoder-only model returns the image
placeholders and the prompt in front of the caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from pipeline.cluster.parcels import remember_call
from pipeline.models.folders import resolve_model
from pipeline.models.references import CHECKED, NO_CODE, check_loaded, check_tokenizer, choose_variant, explain_load_error, split_revision

if TYPE_CHECKING:
    from PIL import Image


class Captioner:
    """A frozen BLIP-2 with its processor."""

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model.eval().requires_grad_(False)
        self._processor = processor

    @torch.inference_mode()
    def caption(self, images: Sequence[Image.Image], *, prompt: str | None, num_beams: int, max_new_tokens: int) -> list[str]:
        """Describe RGB images, by beam search without sampling; captions continue `prompt` and do not repeat it."""
        if not images:
            return []
        texts = [prompt or ""] * len(images)
        batch = self._processor(images=list(images), text=texts, return_tensors="pt")
        inputs = {
            "pixel_values": batch["pixel_values"].to(self._model.device, self._model.dtype),
            "input_ids": batch["input_ids"].to(self._model.device),
            "attention_mask": batch["attention_mask"].to(self._model.device),
        }
        output_BT = self._model.generate(**inputs, num_beams=num_beams, max_new_tokens=max_new_tokens, do_sample=False)
        num_given = 0 if self._model.config.text_config.is_encoder_decoder else inputs["input_ids"].shape[1]
        captions = self._processor.batch_decode(output_BT[:, num_given:].cpu(), skip_special_tokens=True)
        return [clean_caption(caption, prompt) for caption in captions]


@remember_call
def load_captioner(reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Captioner:
    """Load a BLIP-2 and its processor from a hub id (`id@commit` pins one) or a folder; ValueError if it is another kind of model."""
    from transformers import AutoConfig, Blip2ForConditionalGeneration, Blip2Processor

    reference = resolve_model(reference)
    name, revision = split_revision(reference)
    with explain_load_error("captioner", reference):
        config = AutoConfig.from_pretrained(name, revision=revision, **NO_CODE)
        if config.model_type != "blip-2":
            raise ValueError(f"it is a {config.model_type} model, but it must be blip-2")
        if config.image_token_id is None:
            raise ValueError("its config names no image token; take a later revision")
        processor = Blip2Processor.from_pretrained(name, revision=revision)
        processor.num_query_tokens = config.num_query_tokens
        check_tokenizer(processor.tokenizer)
        model, report = Blip2ForConditionalGeneration.from_pretrained(name, revision=revision, dtype=dtype, **CHECKED, **choose_variant(reference))
        check_loaded(report)
    return Captioner(model.to(device), processor)


def clean_caption(caption: str, prompt: str | None = None) -> str:
    """Join runs of white space, and drop a leading repetition of the prompt; anything else, markup too, is text and stays."""
    caption, prompt = " ".join(caption.split()), " ".join((prompt or "").split())
    if prompt and caption.lower().startswith(prompt.lower()):
        caption = caption[len(prompt) :].lstrip(" :,")
    return caption
