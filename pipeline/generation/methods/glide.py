"""Method `glide`: GLIDE with the reference's own text or, without one, its caption (paper: the baseline GLIDE).

GLIDE reads no picture and knows nothing of a user. It has a generator, a sampler and a text encoder of its own, so `generation`'s steps, guidance,
scheduler and negative prompt do not reach it; `glide.sampling` does. Departures:
1. The paper tunes its baselines with a learning rate of 1e-5 in a way that it does not describe; here GLIDE is as its authors trained it, unless
   `glide.tuning.num_steps` asks for more (`pipeline/baselines/glide/fit.py`).
2. A picture's noise is the case's, as with every method, but of another size: pixels and not latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.artifacts import read_tensors
from pipeline.baselines.glide.config import NO_WEIGHTS
from pipeline.data.cases import Case
from pipeline.fingerprint import compute_fingerprint
from pipeline.generation.context import Drawing, GenerationContext, Method
from pipeline.generation.own_models import check_start, reject_unfinite
from pipeline.models.folders import compute_model_revision
from pipeline.models.glide.config import GlideSampling
from pipeline.models.glide.model import Glide, load_glide, load_glide_budget
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import load_params, read_section
from pipeline.randomness import make_generator
from pipeline.rows import Rejection


@dataclass
class GlideMethod:
    """Draw the reference's text."""

    context: GenerationContext  # its budget is that of GLIDE's text encoder
    glide: LazyModel[Glide] | None  # None: there are no weights
    sampling: GlideSampling

    ledger = "glide"

    @property
    def identity(self) -> object:
        """Both models and how they draw."""
        return {
            "glide": self.glide.revision if self.glide else None,
            "sampling": asdict(self.sampling),
            "batch_size": self.context.config.batch_size,  # may change the last bits
            "seed": self.context.seed,
        }

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on its prompt and, through the noise, on the case."""
        if self.glide is None:
            return Rejection(NO_WEIGHTS)
        prompt = self.context.fit_text(case.reference_id)
        if not prompt.strip():
            return Rejection("The reference has neither a text nor a caption.")
        return {"prompt": prompt, "case_id": self.context.name_noise(case)}

    def list_prompts(self, case: Case) -> list[str]:
        """List the one prompt before it was shortened."""
        return [self.context.read_text(case.reference_id)]

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Draw with both models."""
        assert self.glide is not None, "without weights every case is rejected"
        glide = self.glide.model
        prompts = [self.context.fit_text(case.reference_id) for case in cases]
        generators = [make_generator(self.context.seed, "generation", self.context.name_noise(case)) for case in cases]
        return reject_unfinite(lambda: glide.draw(prompts, generators=generators, sampling=self.sampling))


def build_method(context: GenerationContext) -> Method:
    """Build the method with the models that `models.glide` names; where it is null, one that rejects every case."""
    check_start(context, "glide")
    sampling = load_params(context.params, "glide.sampling", GlideSampling)
    if read_section(context.params, "models.glide") is None:
        return GlideMethod(context, None, sampling)
    reference, dtype_name = read_reference(context.params, "glide"), read_section(context.params, "models.dtype")
    dtype = parse_dtype(dtype_name, context.device)
    glide = LazyModel(f"{compute_model_revision(reference)} {dtype_name}", lambda: load_glide(reference, device=context.device, dtype=dtype))
    glide = take_tuned(glide, context.files.get("glide"))
    return GlideMethod(replace(context, budget=LazyModel("", lambda: load_glide_budget(reference))), glide, sampling)


def take_tuned(glide: LazyModel[Glide], path: Path | None) -> LazyModel[Glide]:
    """Return the models with the tuned base model of a file; where it is empty (`glide.tuning.num_steps: 0`) or not given, the models as they are."""
    tensors = read_tensors(path)[0] if path else {}
    if path is None or not tensors:
        return glide

    def load() -> Glide:
        model = glide.load()
        model.base.load_state_dict(tensors)
        return model

    return LazyModel(f"{glide.revision} tuned {compute_fingerprint(path.read_bytes())}", load)
