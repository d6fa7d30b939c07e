"""Method `lavit`: LaVIT with the reference's text and picture and, by default, the newest pictures of the history (paper: the baseline LaVIT).

LaVIT reads pictures and words in one line and writes the codes of another picture, which a diffusion model of its own draws. So `generation`'s steps,
guidance, scheduler and negative prompt do not reach it; `lavit` does. Departures:
1. The paper tells neither how LaVIT is asked nor how it is tuned; here it is asked by words of ours (`pipeline.models.lavit.prompts`) and not tuned.
2. Which patches tell of a picture is drawn at random, as LaVIT does it: for every case anew, and the same way each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from pipeline.baselines.lavit.config import LavitConfig
from pipeline.data.cases import Case
from pipeline.data.images import decode_batch
from pipeline.generation.context import Drawing, GenerationContext, Method
from pipeline.generation.own_models import check_start, reject_unfinite
from pipeline.models.folders import compute_model_revision
from pipeline.models.lavit.model import Lavit, load_lavit, load_text_budget
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import load_params, read_section
from pipeline.randomness import make_generator
from pipeline.retrieval.history import list_unique
from pipeline.rows import Rejection

NO_WEIGHTS = "There are no weights of LaVIT: models.lavit is null; name the hub id rain1011/LaVIT-7B-v2, or a folder of the same layout."


@dataclass
class LavitMethod:
    """Ask for a picture of the reference's text, made from the reference's picture, in the style of the history's."""

    context: GenerationContext  # its budget is that of LaVIT's language model
    lavit: LazyModel[Lavit] | None  # None: there are no weights
    config: LavitConfig

    ledger = "lavit"

    @property
    def identity(self) -> object:
        """All models, what they are asked, and how they draw."""
        return {
            "lavit": self.lavit.revision if self.lavit else None,
            "lavit_config": asdict(self.config),
            "batch_size": self.context.config.batch_size,  # may change the last bits
            "seed": self.context.seed,
        }

    def choose_items(self, case: Case) -> list[str]:
        """Return the items whose pictures are shown: the newest of the history, the oldest of them first, and the reference."""
        liked = list_unique(case.history)[-self.config.history_items :] if self.config.prompt_mode == "history+ref" else []
        return [*liked, case.reference_id]

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the reference's text, on the pictures shown and, through what is drawn at random, on items and case."""
        if self.lavit is None:
            return Rejection(NO_WEIGHTS)
        title = self.context.fit_text(case.reference_id)
        if not title.strip():
            return Rejection("The reference has neither a text nor a caption.")
        items = self.choose_items(case)
        digests = {item_id: self.context.read_item(item_id, "image_sha256") for item_id in items}
        unknown = [item_id for item_id, digest in digests.items() if digest is None]
        if unknown:
            return Rejection(f"The item {unknown[0]} is not among the items.")
        return {"title": title, "items": items, "pictures": list(digests.values()), "case_id": self.context.name_noise(case)}

    def list_prompts(self, case: Case) -> list[str]:
        """List the one text before it was shortened."""
        return [self.context.read_text(case.reference_id)]

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Write every case's codes by itself, and draw them together."""
        assert self.lavit is not None, "without weights every case is rejected"
        lavit = self.lavit.model
        outcomes = {case.case_id: self.write_codes(lavit, case) for case in {case.case_id: case for case in cases}.values()}
        written = [outcomes[case.case_id] for case in cases]  # a batch may be filled up with a case
        # a case without codes keeps its place in the batch: the others' last bits must not depend on it
        codes = [torch.zeros(1, dtype=torch.long) if isinstance(outcome, Rejection) else outcome for outcome in written]
        generators = [make_generator(self.context.seed, "generation", self.context.name_noise(case)) for case in cases]
        drawn = reject_unfinite(lambda: lavit.draw_codes(codes, generators, self.config.sampling))
        return [outcome if isinstance(outcome, Rejection) else image for outcome, image in zip(written, drawn, strict=True)]

    def write_codes(self, lavit: Lavit, case: Case) -> torch.Tensor | Rejection:
        """Show the pictures, and let the language model write the codes of another one."""
        names, items = (self.context.seed, "lavit", self.context.name_noise(case)), self.choose_items(case)
        encoded = self.context.images.read(items)
        images, reasons = decode_batch([encoded[item_id] for item_id in items])
        if reasons:
            place, reason = min(reasons.items())
            return Rejection(f"The image of {items[place]} cannot be used: {reason}")
        *liked, reference = lavit.read_images(images, [make_generator(*names, item_id) for item_id in items])
        parts = lavit.fit_prompt(self.context.fit_text(case.reference_id), reference, liked, self.config.sampling)
        if parts is None:
            return Rejection("The reference's text and picture are more than LaVIT's language model reads.")
        codes = lavit.write_codes(parts, make_generator(*names), self.config.sampling)
        return codes if len(codes) else Rejection("LaVIT's language model has written no code of a picture.")


def build_method(context: GenerationContext) -> Method:
    """Build the method with the models that `models.lavit` names; where it is null, one that rejects every case."""
    check_start(context, "lavit")
    config = load_params(context.params, "lavit", LavitConfig)
    if read_section(context.params, "models.lavit") is None:
        return LavitMethod(context, None, config)
    reference, dtype_name = read_reference(context.params, "lavit"), read_section(context.params, "models.dtype")
    options = {"pixels": config.sampling.pixels, "device": context.device, "dtype": parse_dtype(dtype_name, context.device)}
    lavit = LazyModel(f"{compute_model_revision(reference)} {dtype_name}", lambda: load_lavit(reference, **options))
    return LavitMethod(replace(context, budget=LazyModel("", lambda: load_text_budget(reference))), lavit, config)
