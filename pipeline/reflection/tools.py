"""Load the frozen models of reflection as the params name them, and say which weights they are."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.fingerprint import compute_fingerprint
from pipeline.models.diffusion import load_diffusion
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.folders import compute_model_revision
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import read_section
from pipeline.ranker.scoring import load_ranker
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.step import ReflectionTools

ENCODER_ROLES = {"visual": "visual", "clip_image": "clip"}  # embedding column -> role of the model that makes it


def load_tools(
    params: Path, ranker_path: Path, config: ReflectionConfig, device: torch.device, *, with_looks: bool = False
) -> tuple[ReflectionTools, dict[str, str]]:
    """Load diffusion model, encoders and ranker; drawn images are encoded by the model behind the ranker's own image feature."""
    dtype_name = read_section(params, "models.dtype")
    options = {"device": device, "dtype": parse_dtype(dtype_name, device)}
    ranker = load_ranker(ranker_path, device=device)
    role = ENCODER_ROLES[ranker.image_feature]
    references = {name: read_reference(params, name) for name in ("diffusion", "clip", role)}
    clip = load_clip(references["clip"], **options)
    same = references[role] == references["clip"]
    encoder = clip if same else load_visual(references[role], **options)
    seeing = None
    if with_looks:
        seeing = clip if config.retrieved_feature == "clip_image" else load_visual(read_reference(params, "visual"), **options)
    tools = ReflectionTools(
        diffusion=load_diffusion(references["diffusion"], **options, scheduler=config.reward_scheduler),
        encoder=encoder,
        ranker=ranker,
        project=clip.project_text_states,
        see=seeing.see_pixels if seeing else None,
    )
    revisions = {name: compute_model_revision(reference) for name, reference in references.items()}
    return tools, {**revisions, "dtype": str(dtype_name), "ranker": compute_fingerprint(ranker_path.read_bytes())}
