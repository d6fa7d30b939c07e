"""Method `sd`: Stable Diffusion with a plain prompt, the reference's own text or, without one, its caption (paper: the baseline SD-v1.5).

Its variants, which say more in the same prompt, are the methods `keywords` and `retrieved`:

| method | prompt | e.g. |
|---|---|---|
| `sd` | text | `hammer` |
| `keywords` | text, then w' of the whole history, comma separated | `hammer, sticker, neon, tool` |
| `retrieved` | text, then w' of the retrieved items | `hammer, neon, sticker` |

All three are drawn with the adapters of the stage `sd` where `sd.lora_rank` is not 0.
Departure: the paper tunes its baselines with a learning rate of 1e-5 in a way that it does not describe; see `pipeline/baselines/sd/fit.py`.
"""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.tuned_method import build_tuned_method


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    reason = "The reference has neither a text nor a caption."
    return build_tuned_method(
        context, lambda case: context.fit_text(case.reference_id), reason, write_whole=lambda case: context.read_text(case.reference_id)
    )
