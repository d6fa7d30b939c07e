"""The plain Stable Diffusion baseline with another text per method, drawn with the adapters of the stage sd."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.artifacts import read_tensors
from pipeline.data.cases import Case
from pipeline.fingerprint import compute_fingerprint
from pipeline.generation.context import GenerationContext
from pipeline.generation.text_method import TextMethod
from pipeline.models.lazy import LazyModel
from pipeline.models.lora import load_lora

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion


def build_tuned_method(
    context: GenerationContext, write_prompt: Callable[[Case], str], reason: str, *, write_whole: Callable[[Case], str] | None = None
) -> TextMethod:
    """Build a variant of `sd` that draws `write_prompt(case)`; a case without a prompt is rejected with `reason`."""
    return TextMethod(context, prepare_tuned(context), write_prompt, reason, write_whole)


def prepare_tuned(context: GenerationContext) -> LazyModel[Diffusion]:
    """Return the diffusion model with the adapters in the file `lora`; where that is empty (`sd.lora_rank: 0`) or not given, the model itself."""
    path = context.files.get("lora")
    tensors = read_tensors(path)[0] if path else {}
    if path is None or not tensors:
        return context.diffusion

    def load() -> Diffusion:
        diffusion = context.diffusion.load()
        load_lora(diffusion, tensors)
        return diffusion

    return LazyModel(f"{context.diffusion.revision} lora {compute_fingerprint(path.read_bytes())}", load)
