"""How pictures lead a drawing by themselves: through an official IP-Adapter where `models.ip_adapter` names one, else as look tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from pipeline.data.cases import Case
from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.look_method import LookMethod
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.look import prepare_look_map
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import read_section
from pipeline.rows import Rejection

NUM_PICTURES = 5  # that an image is drawn after
ChooseItems = Callable[[Case], list[str] | Rejection]  # items whose pictures have a vector


def build_image_prompts(context: GenerationContext, choose_items: ChooseItems, *, ledger: str) -> Method:
    """Build the method that draws the reference's text after the pictures of the chosen items."""
    choose_items = cache(choose_items)  # chosen once, for the row's key: what is drawn is what the key names
    if read_section(context.params, "models.ip_adapter") is None:
        return LookMethod(context, prepare_look_map(context.params), choose_items, ledger)
    from pipeline.generation.adapter_method import AdapterMethod  # late: it loads diffusers
    from pipeline.models.ip_adapter import AdaptedDiffusion, load_adapted_diffusion

    adapter, reference = read_reference(context.params, "ip_adapter"), read_reference(context.params, "diffusion")
    dtype, config = parse_dtype(read_section(context.params, "models.dtype"), context.device), context.config

    def load() -> AdaptedDiffusion:
        options = {"device": context.device, "dtype": dtype, "scheduler": config.scheduler}
        return load_adapted_diffusion(adapter, reference, scale=config.ip_adapter_scale, **options)

    return AdapterMethod(context, LazyModel(compute_model_revision(adapter), load), choose_items, ledger)
