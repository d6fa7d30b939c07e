"""The straightforward way: one row after the other, with the public calls of transformers, open_clip, timm and diffusers as their guides show them.

The same weights, number format, prompts, decoding limits, sampler, steps and noise as the pipeline's; gradients are off, attention is the library's
own choice (SDPA), and replies obey the same rules. What a loop does not have: batches, a prefix that is encoded once, a ledger.
"""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.embedding import build_semantic_text
from pipeline.keywords.extract import KeywordsConfig, build_question
from pipeline.keywords.parse import parse_keywords
from pipeline.keywords.prompts import KEYWORD_SYSTEM, build_examples
from pipeline.models.decoding import DecodeRules, Reply
from pipeline.models.diffusion import SCHEDULERS
from pipeline.randomness import make_generator
from pipeline.rows import Rejection
from tests.bench.lots import Lot
from tests.bench.models import Setting
from tests.bench_decoding import LibraryRules


def open_image(data: bytes) -> Image.Image:
    """Decode an image."""
    return Image.open(io.BytesIO(data)).convert("RGB")


class CaptionLoop:
    """`generate` of BLIP-2, image by image."""

    def __init__(self, setting: Setting) -> None:
        from transformers import Blip2ForConditionalGeneration, Blip2Processor

        folder, self.setting, self.config = setting.folders["captioner"], setting, setting.configs["captioning"]
        self.model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=setting.dtype).to(setting.device).eval().requires_grad_(False)
        self.processor = Blip2Processor.from_pretrained(folder)
        self.processor.num_query_tokens = self.model.config.num_query_tokens

    @torch.inference_mode()
    def __call__(self, lot: Lot) -> dict[str, Any]:
        """Caption the lot's images."""
        captions = {}
        for row in lot.rows:
            inputs = self.processor(images=open_image(row["image"]), text=self.config.prompt or "", return_tensors="pt")
            inputs = inputs.to(self.setting.device, self.setting.dtype)
            options = {"num_beams": self.config.num_beams, "max_new_tokens": self.config.max_new_tokens, "do_sample": False}
            output_1T = self.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
            caption = " ".join(self.processor.batch_decode(output_1T, skip_special_tokens=True)[0].split())
            captions |= {row["item_id"]: caption} if caption else {}
        return captions


class VectorLoop:
    """Texts and images through open_clip, and images through timm where the visual encoder is another model, row by row."""

    def __init__(self, setting: Setting) -> None:
        import open_clip

        self.setting, self.kind = setting, setting.configs["embedding"].semantic_text
        name = f"local-dir:{Path(setting.folders['clip']).resolve()}"
        self.model, self.transform = open_clip.create_model_from_pretrained(name, device=setting.device)
        self.model.eval().requires_grad_(False)
        self.tokenizer = open_clip.get_tokenizer(name)
        self.trunk = None if setting.folders["visual"] == setting.folders["clip"] else TrunkLoop(Path(setting.folders["visual"]), setting.device)

    @torch.inference_mode()
    def __call__(self, lot: Lot) -> dict[str, Any]:
        """Encode the lot's texts and images."""
        device, vectors = self.setting.device, {}
        for row in lot.rows:
            text = build_semantic_text(lot.captions.get(row["item_id"], ""), row["text"], self.kind, category=row["category"])
            image = open_image(row["image"])
            with torch.autocast(device.type, self.setting.dtype, enabled=self.setting.dtype != torch.float32):
                text_1D = self.model.encode_text(self.tokenizer([text]).to(device))
                image_1D = self.model.encode_image(self.transform(image)[None].to(device))
            text_D, clip_D = (torch.nn.functional.normalize(row_1D.float(), dim=1)[0].cpu() for row_1D in (text_1D, image_1D))
            visual_D = clip_D if self.trunk is None else self.trunk.encode(image)
            vectors[row["item_id"]] = torch.cat([text_D, visual_D, clip_D]).numpy()
        return vectors


class TrunkLoop:
    """Feature maps of a timm model, pooled and scaled stage by stage."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        import timm
        from safetensors.torch import load_file

        from pipeline.json_files import read_json

        config = read_json(folder / "config.json")
        self.device, self.trunk = device, timm.create_model(config["architecture"], features_only=True, pretrained=False)
        self.trunk.load_state_dict(load_file(folder / "model.safetensors"))
        self.trunk.eval().requires_grad_(False).to(device)
        self.mean_C11, self.std_C11 = (torch.tensor(config[name]).view(-1, 1, 1) for name in ("mean", "std"))

    def encode(self, image: Image.Image) -> torch.Tensor:
        """Encode one image."""
        from pipeline.models.backbone import ENCODER_SIZE

        pixel_HWC = torch.from_numpy(np.asarray(image.resize((ENCODER_SIZE, ENCODER_SIZE), Image.Resampling.BILINEAR)).copy())
        pixel_CHW = (pixel_HWC.permute(2, 0, 1).float() / 255 - self.mean_C11) / self.std_C11
        means = [stage.float().mean(dim=(2, 3))[0] for stage in self.trunk(pixel_CHW[None].to(self.device))]
        joined_D = torch.cat([torch.nn.functional.normalize(mean_C, dim=0) for mean_C in means])
        return torch.nn.functional.normalize(joined_D, dim=0).cpu()


class KeywordLoop:
    """`generate` of a causal language model, prompt by prompt; `cached` encodes what all prompts begin with once (transformers' guide to caches)."""

    def __init__(self, setting: Setting, *, cached: bool = False, shared: KeywordLoop | None = None) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.config: KeywordsConfig = setting.configs["keywords"]
        self.device, folder = setting.device, setting.folders["language_model"]
        if shared is None:
            self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=setting.language_dtype).to(self.device).eval().requires_grad_(False)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        else:
            self.model, self.tokenizer = shared.model, shared.tokenizer
        ends = self.model.generation_config.eos_token_id
        self.end_tokens = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self.cached, self.known = cached, None

    @torch.inference_mode()
    def __call__(self, lot: Lot) -> dict[str, Any]:
        """Name the lot's keywords; a reply without any is asked for again by the caption alone."""
        found = {}
        for row in lot.rows:
            question = build_question(lot.captions.get(row["item_id"]), row["text"], self.config)
            if isinstance(question, Rejection):
                continue
            keywords = self._name(question.prompt) or self._name(question.without_text)
            found |= {row["item_id"]: keywords} if keywords else {}
        return found

    def _name(self, prompt: str) -> list[str]:
        few_shot = self.config.prompt_style == "few_shot"
        text = build_examples() + prompt if few_shot else self._apply_template(prompt)
        inputs = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").to(self.device)
        options = {"past_key_values": copy.deepcopy(self._read_prefix())} if self.cached and few_shot else {}
        num_keywords, max_new_tokens = self.config.num_keywords, self.config.max_new_tokens
        rules = DecodeRules(max_new_tokens, stop="\n" if few_shot else None, max_parts=num_keywords, distinct_parts=True)
        library = LibraryRules([Reply(self.tokenizer, self.end_tokens, rules)])
        self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            logits_processor=[library],
            stopping_criteria=[library.stop],
            pad_token_id=self.tokenizer.pad_token_id or 0,
            **options,
        )
        reply = rules.cut(self.tokenizer.decode(library.replies[0].tokens, skip_special_tokens=True))
        return parse_keywords(reply, max_keywords=num_keywords)

    def _apply_template(self, prompt: str) -> str:
        turns = [{"role": "system", "content": KEYWORD_SYSTEM}, {"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def _read_prefix(self) -> Any:
        if self.known is None:
            ids_1P = self.tokenizer(build_examples(), add_special_tokens=False, return_tensors="pt")["input_ids"].to(self.device)
            self.known = self.model(input_ids=ids_1P, use_cache=True).past_key_values
        return self.known


class PictureLoop:
    """`StableDiffusionPipeline`, picture by picture, from the noise that the pipeline would take."""

    def __init__(self, setting: Setting) -> None:
        import diffusers

        diffusers.utils.logging.disable_progress_bar()
        self.setting, self.config = setting, setting.configs["generation"]
        options = {"safety_checker": None, "requires_safety_checker": False}
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(setting.folders["diffusion"], dtype=setting.dtype, **options)
        if (name := SCHEDULERS[self.config.scheduler]) is not None:
            pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
        for module in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
            module.requires_grad_(False)
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to(setting.device)

    def __call__(self, lot: Lot) -> dict[str, Any]:
        """Draw the lot's texts."""
        unet, pictures = self.pipeline.unet, {}
        shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        for row in lot.rows:
            noise_1Chw = torch.randn(shape, generator=make_generator(self.setting.seed, "generation", row["item_id"]))[None]
            picture = self.pipeline(
                row["text"],
                num_inference_steps=self.config.steps,
                guidance_scale=self.config.guidance_scale,
                negative_prompt=self.config.negative_prompt or None,
                latents=noise_1Chw.to(self.setting.device, self.setting.dtype),
            ).images[0]
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            pictures[row["item_id"]] = buffer.getvalue()
        return pictures
