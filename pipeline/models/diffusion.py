"""Stable Diffusion behind two verbs, encode prompts and draw: one code path for SD 1.5 and for our small model of the same classes.

Guidance leads from an empty (or negative) prompt to the words, and with look tokens in two parts: u + s_w (words - u) + s_l (both - words), as
InstructPix2Pix (Brooks et al. 2023) does with its two conditions.

Legend: B images, T rows of a prompt (any number), K tokens of an encoded text, M look tokens, d token width, C, h, w latent shape.
Departure from `StableDiffusionPipeline.__call__`, which a test shows to give the same images: the denoising loop is written
out over the pipeline's own scheduler, U-Net and VAE, so that a prompt of any T needs no second one of equal length from the
caller, and no image is checked, converted or counted on the way. The safety checker is never used: it paints images black.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.cluster.parcels import remember_call
from pipeline.models.folders import resolve_model
from pipeline.models.prompt_projection import project_once
from pipeline.models.references import choose_variant, explain_load_error, split_revision
from pipeline.models.text_budget import budget_tokenizer

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

SCHEDULERS = {"dpm": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler", "ddim": "DDIMScheduler", "own": None}  # of diffusers
NOT_FINITE = "set models.dtype to float32 or bfloat16, where float16 overflows."
ENCODE_BATCH = 16  # texts a forward pass; a text has the same states in passes of 4 to 64, and callers often bring 16


class NotFiniteError(ValueError):
    """Some images of a batch hold numbers that are not finite, as half formats that overflow give; written to a file, they would be black."""

    def __init__(self, images_BHWC: np.ndarray, bad_B: np.ndarray) -> None:
        self.images_BHWC, self.bad_B = images_BHWC, bad_B  # what was drawn, and which rows of it are no pictures
        super().__init__(f"{int(bad_B.sum())} of {len(bad_B)} drawn images are not finite; {NOT_FINITE}")


Scale = float | torch.Tensor  # of guidance, for all images or for each (B,)


@dataclass(frozen=True)
class LookPrompt:
    """Look tokens that stand behind the words' rows, and how far guidance leads to them from tokens that say nothing of a look."""

    tokens_BMD: torch.Tensor
    no_look_MD: torch.Tensor
    scale: Scale  # s_l, 0 = the look is not followed
    words: torch.Tensor | None = None  # a factor on s_w for each image (B,), None: none

    def select(self, rows: slice) -> LookPrompt:
        """Return the prompt of some images."""
        scale = self.scale[rows] if isinstance(self.scale, torch.Tensor) else self.scale
        return LookPrompt(self.tokens_BMD[rows], self.no_look_MD, scale, None if self.words is None else self.words[rows])


@dataclass(frozen=True)
class Start:
    """Images that are drawn over, as latents (B, C, h, w) of `encode_images`, and how much: near 0 hardly anything, 1 everything."""

    latents_BChw: torch.Tensor
    strength: float

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength is {self.strength}, but it must be above 0 and at most 1.")


class Diffusion:
    """A frozen Stable Diffusion pipeline: token states in, images out."""

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        self.pipeline = pipeline
        for module in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
            module.requires_grad_(False).eval()
        self.device: torch.device = pipeline.unet.device
        self.dtype: torch.dtype = pipeline.unet.dtype
        self.num_tokens: int = pipeline.tokenizer.model_max_length
        self.text_budget = budget_tokenizer(pipeline.tokenizer)
        self.token_dim: int = pipeline.unet.config.cross_attention_dim
        self.latent_shape = (pipeline.unet.config.in_channels, *_pair(pipeline.unet.config.sample_size))
        self.image_size: int = self.latent_shape[1] * pipeline.vae_scale_factor
        self._negatives: dict[str, torch.Tensor] = {}  # encoded negative prompts (K, d)

    @torch.no_grad()  # not inference_mode: the states take part in the losses of reflection
    def encode_prompts(self, prompts: Sequence[str], *, batch_size: int = ENCODE_BATCH) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode texts: token states (B, K, d) as float32 on the CPU and a bool mask (B, K), False at padding."""
        states, masks = [], []
        for start in range(0, len(prompts), batch_size):
            batch = list(prompts[start : start + batch_size])
            padded = batch + batch[-1:] * (batch_size - len(batch))  # one shape for all, so a text's states depend on it only
            states_BKD, _ = self.pipeline.encode_prompt(padded, self.device, 1, False)
            states.append(states_BKD[: len(batch)].float().cpu())
            tokens = self.pipeline.tokenizer(batch, padding="max_length", max_length=self.num_tokens, truncation=True)
            masks.append(torch.tensor(tokens["attention_mask"], dtype=torch.bool))
        if not states:
            return torch.zeros(0, self.num_tokens, self.token_dim), torch.zeros(0, self.num_tokens, dtype=torch.bool)
        return torch.cat(states), torch.cat(masks)

    @torch.inference_mode()
    def draw(
        self,
        prompt_BTD: torch.Tensor,
        *,
        generators: Sequence[torch.Generator],
        steps: int,
        guidance_scale: float,
        negative_prompt: str = "",
        look: LookPrompt | None = None,
        start: Start | None = None,
    ) -> np.ndarray:
        """Draw one image per row: uint8 (B, H, W, 3). A row depends on its prompt and its own CPU generator (and on B, T in the last bits).

        Without guidance (guidance_scale <= 1) a look is followed as the words are; `start` is drawn over, else noise.
        """
        size, num_rows, _ = prompt_BTD.shape
        if len(generators) != size:
            raise ValueError(f"{size} prompts need {size} generators, not {len(generators)}.")
        negative_BTD = self.build_negative(num_rows, negative_prompt).expand(size, -1, -1)
        prompts, scales = build_guidance(negative_BTD, prompt_BTD.to(self.device, self.dtype), guidance_scale, look)
        return self.decode_latents(self.denoise(prompts, scales, generators=generators, steps=steps, start=start))

    @torch.inference_mode()
    def denoise(
        self,
        prompts: Sequence[torch.Tensor],
        scales: Sequence[Scale],
        *,
        generators: Sequence[torch.Generator],
        steps: int,
        start: Start | None = None,
    ) -> torch.Tensor:
        """Run the denoising loop to latents (B, C, h, w); guidance adds scales[i] times the step from prompts[i] to prompts[i + 1]."""
        scheduler = _copy_scheduler(self.pipeline.scheduler)
        scheduler.set_timesteps(steps, device=self.device)
        timesteps = scheduler.timesteps
        noise = [torch.randn(self.latent_shape, generator=generator, dtype=torch.float32) for generator in generators]
        latents_BChw = torch.stack(noise).to(self.device, self.dtype)
        if start is None:
            latents_BChw = latents_BChw * scheduler.init_noise_sigma
        else:
            first = max(steps - max(1, int(steps * start.strength)), 0) * scheduler.order
            timesteps = timesteps[first:]
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(first)
            latents_BChw = scheduler.add_noise(start.latents_BChw.to(latents_BChw), latents_BChw, timesteps[:1].repeat(len(latents_BChw)))
        prompt_NTD = torch.cat(list(prompts))
        with project_once(self.pipeline.unet, prompt_NTD):
            for timestep in timesteps:
                model_input = scheduler.scale_model_input(torch.cat([latents_BChw] * len(prompts)), timestep)
                outputs = self.pipeline.unet(model_input, timestep, encoder_hidden_states=prompt_NTD, return_dict=False)[0].chunk(len(prompts))
                output = guide(outputs, scales)
                latents_BChw = scheduler.step(output, timestep, latents_BChw, return_dict=False)[0]
        return latents_BChw

    def estimate_pixels(
        self,
        prompt_BTD: torch.Tensor,
        *,
        generators: Sequence[torch.Generator],
        guidance_scale: float,
        negative_prompt: str = "",
        look: LookPrompt | None = None,
    ) -> torch.Tensor:
        """Estimate what would be drawn in one step from noise -> pixels (B, 3, H, W) in [0, 1], differentiable in prompt and look."""
        size, num_rows, _ = prompt_BTD.shape
        negative_BTD = self.build_negative(num_rows, negative_prompt).expand(size, -1, -1)
        prompts, scales = build_guidance(negative_BTD, prompt_BTD.to(self.device, self.dtype), guidance_scale, look)
        noise = [torch.randn(self.latent_shape, generator=generator, dtype=torch.float32) for generator in generators]
        noise_BChw = torch.stack(noise).to(self.device, self.dtype)
        config = self.pipeline.scheduler.config
        timestep = torch.tensor(config.num_train_timesteps - 1, device=self.device)
        outputs = self.pipeline.unet(torch.cat([noise_BChw] * len(prompts)), timestep, encoder_hidden_states=torch.cat(prompts), return_dict=False)[0]
        output_BChw = guide(outputs.chunk(len(prompts)), scales)
        latents_BChw = estimate_clean(noise_BChw, output_BChw, self.pipeline.scheduler.alphas_cumprod[-1], config.prediction_type)
        vae = self.pipeline.vae
        image_BCHW = vae.decode(latents_BChw / vae.config.scaling_factor, return_dict=False)[0]
        return (image_BCHW.float() / 2 + 0.5).clamp(0, 1)

    @torch.inference_mode()
    def encode_images(self, images_BHWC: np.ndarray) -> torch.Tensor:
        """Encode uint8 images of the model's own size to latents (B, C, h, w), the mean of what the encoder says of each."""
        pixels_BCHW = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).to(self.device, self.dtype) / 127.5 - 1
        return self.pipeline.vae.encode(pixels_BCHW).latent_dist.mode() * self.pipeline.vae.config.scaling_factor

    @torch.inference_mode()
    def decode_latents(self, latents_BChw: torch.Tensor) -> np.ndarray:
        """Decode latents (B, C, h, w) to images: uint8 (B, H, W, 3); NotFiniteError if one of them is none."""
        vae = self.pipeline.vae
        image_BCHW = vae.decode(latents_BChw / vae.config.scaling_factor, return_dict=False)[0].float()
        bad_B = ~image_BCHW.isfinite().flatten(1).all(dim=1).cpu().numpy()
        image_BHWC = (image_BCHW.nan_to_num() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu()
        images_BHWC = (image_BHWC * 255).round().to(torch.uint8).numpy()
        if bad_B.any():
            raise NotFiniteError(images_BHWC, bad_B)
        return images_BHWC

    def build_negative(self, num_rows: int, text: str = "") -> torch.Tensor:
        """Build the prompt (num_rows, d) that guidance leads away from: an encoded text, the empty one by default, cut or repeated to length."""
        if text not in self._negatives:
            self._negatives[text] = self.encode_prompts([text], batch_size=1)[0][0]
        states_KD = self._negatives[text]
        repeats = -(-num_rows // len(states_KD))
        return states_KD.repeat(repeats, 1)[:num_rows].to(self.device, self.dtype)


def build_guidance(
    negative_BTD: torch.Tensor, prompt_BTD: torch.Tensor, guidance_scale: float, look: LookPrompt | None
) -> tuple[list[torch.Tensor], list[Scale]]:
    """Return the prompts that guidance leads through, one after the other, and how far it goes each time."""
    guided = guidance_scale > 1
    if look is None:
        return ([negative_BTD, prompt_BTD], [guidance_scale]) if guided else ([prompt_BTD], [])
    tokens_BMD = look.tokens_BMD.to(prompt_BTD)
    both_BTD = torch.cat([prompt_BTD, tokens_BMD], dim=1)
    if not guided:
        return [both_BTD], []
    no_look_BMD = look.no_look_MD.to(prompt_BTD).expand_as(tokens_BMD)
    words = [torch.cat([rows_BTD, no_look_BMD], dim=1) for rows_BTD in (negative_BTD, prompt_BTD)]
    return [*words, both_BTD], [guidance_scale if look.words is None else guidance_scale * look.words, look.scale]


def guide(outputs: Sequence[torch.Tensor], scales: Sequence[Scale]) -> torch.Tensor:
    """Go from the first output (B, C, h, w) towards the others, scales[i] times the way from outputs[i] to outputs[i + 1]."""
    output_BChw = outputs[0]
    for scale, before, after in zip(scales, outputs, outputs[1:], strict=False):
        factor = scale.to(after).view(-1, 1, 1, 1) if isinstance(scale, torch.Tensor) else scale
        output_BChw = output_BChw + factor * (after - before)
    return output_BChw


def estimate_clean(noisy_BChw: torch.Tensor, output_BChw: torch.Tensor, alpha: torch.Tensor, prediction_type: str) -> torch.Tensor:
    """Return the clean latents that a model's output implies, where `alpha` is the share of signal in the noisy ones' variance."""
    alpha = alpha.to(noisy_BChw)
    if prediction_type == "epsilon":
        return (noisy_BChw - (1 - alpha).sqrt() * output_BChw) / alpha.sqrt()
    if prediction_type == "v_prediction":
        return alpha.sqrt() * noisy_BChw - (1 - alpha).sqrt() * output_BChw
    if prediction_type == "sample":
        return output_BChw
    raise ValueError(f"the diffusion model predicts {prediction_type!r}, but it must be one of: epsilon, v_prediction, sample.")


@remember_call
def load_diffusion(reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, scheduler: str = "dpm") -> Diffusion:
    """Load a Stable Diffusion pipeline from a hub id or folder; `scheduler` is dpm (DPM-Solver++), unipc, ddim or own (the folder's)."""
    import diffusers
    from diffusers import StableDiffusionPipeline

    if scheduler not in SCHEDULERS:
        raise ValueError(f"diffusion scheduler is {scheduler!r}, but it must be one of: {', '.join(SCHEDULERS)}.")
    reference = resolve_model(reference)
    name, revision = split_revision(reference)
    with explain_load_error("diffusion model", reference):
        kind = StableDiffusionPipeline.load_config(name, revision=revision).get("_class_name")
        if kind != StableDiffusionPipeline.__name__:  # which would load what it can of others, such as Stable Diffusion XL
            raise ValueError(f"it is a {kind}, but it must be a StableDiffusionPipeline, as Stable Diffusion 1 and 2 are")
        pipeline = StableDiffusionPipeline.from_pretrained(
            name,
            revision=revision,
            dtype=dtype,
            safety_checker=None,
            requires_safety_checker=False,
            use_safetensors=True,
            **choose_variant(reference),
        )
    if (class_name := SCHEDULERS[scheduler]) is not None:
        options = {"clip_sample": False} if scheduler == "ddim" else {}  # latents are no pixels in [-1, 1]
        pipeline.scheduler = getattr(diffusers, class_name).from_config(pipeline.scheduler.config, **options)
    pipeline.set_progress_bar_config(disable=True)
    return Diffusion(pipeline.to(device))


def _copy_scheduler(scheduler: object) -> object:
    """Make a fresh scheduler of the same config: schedulers keep the state of a run."""
    return type(scheduler).from_config(scheduler.config)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
