"""From tables to every case's look: which items of the history count how much, and the look tokens that they add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.artifacts import get_matrix
from pipeline.keywords.preference import PreferenceConfig
from pipeline.looks.read import read_looks
from pipeline.looks.weights import compute_look_weights
from pipeline.retrieval.history import center_rows, list_unique
from pipeline.retrieval.index import compute_cosines

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.look import LookMap


class LookBuilder:
    """The vectors and looks of all items, from which a case's look is put together."""

    def __init__(
        self,
        config: PreferenceConfig,
        embeddings: pa.Table,
        texts: Mapping[str, str],
        *,
        center: bool,
        look: LookMap,
        diffusion: Diffusion,
        num_known: int | None = None,
    ) -> None:
        """`texts` are what items are called; `center` is the retrieval's. The first `num_known` items, all by default, are the catalogue.

        Items beyond it move neither its centre nor the mean of its looks.
        """
        if look.shape.num_tokens != config.visual_tokens:
            raise ValueError(
                f"preference.visual_tokens is {config.visual_tokens}, but it must be 0 or {look.shape.num_tokens}, as many as the look map writes."
            )
        self.config, self.look = config, look
        item_ids = embeddings["item_id"].to_pylist()
        self._place_of = {item_id: place for place, item_id in enumerate(item_ids)}
        semantic_ND = get_matrix(embeddings, "semantic")
        self._semantic_ND = center_rows(semantic_ND) if center else semantic_ND
        visual_NV = torch.from_numpy(np.array(get_matrix(embeddings, "visual"), dtype=np.float32))
        self._look_NF = read_looks(look, visual_NV, [texts.get(item_id, "") for item_id in item_ids], diffusion)
        self._mean_F = self._look_NF[:num_known].mean(dim=0)

    def build(self, case: Mapping[str, Any], retrieved: Mapping[str, float]) -> dict[str, Any] | None:
        """Build the look of a case, or None if no item counts; `retrieved` are the similarities of its retrieved items by item_id."""
        found = retrieved if self.config.look_items == "retrieved" and retrieved else self.compare(case)
        if not found:
            return None
        look_NF = self._look_NF[[self._place_of[item_id] for item_id in found]]
        weight_N = compute_look_weights(
            torch.tensor(list(found.values())),
            self.center_looks(list(found)),
            temperature=self.config.look_temperature,
            consensus=self.config.look_consensus,
        )
        with torch.no_grad():
            tokens_MD = self.look.write_tokens(look_NF[None], weight_N[None])[0]
        order = sorted(zip(found, weight_N.tolist(), strict=True), key=lambda pair: -pair[1])
        return {
            "case_id": case["case_id"],
            "item_ids": [item_id for item_id, _ in order],
            "weights": [weight for _, weight in order],
            "tokens": tokens_MD.flatten().numpy(),
        }

    def center_looks(self, item_ids: Sequence[str]) -> torch.Tensor:
        """Return the looks of items beside the catalogue's mean (N, F)."""
        return self._look_NF[[self._place_of[item_id] for item_id in item_ids]] - self._mean_F

    def compare(self, case: Mapping[str, Any]) -> dict[str, float]:
        """Return the similarity of every history item to the reference, as the retrieval measures it."""
        item_ids = [item_id for item_id in list_unique(case["history"]) if item_id in self._place_of]
        if case["reference_id"] not in self._place_of or not item_ids:
            return {}
        reference_D = self._semantic_ND[self._place_of[case["reference_id"]]]
        cosine_N = compute_cosines(reference_D, self._semantic_ND[[self._place_of[item_id] for item_id in item_ids]])
        return dict(zip(item_ids, cosine_N.tolist(), strict=True))


def build_looks(cases: pa.Table, retrieved: pa.Table, builder: LookBuilder) -> list[dict[str, Any]]:
    """Build the rows of all cases that have a look."""
    similarity_of: dict[str, dict[str, float]] = {}
    for row in retrieved.to_pylist():
        similarity_of.setdefault(row["case_id"], {})[row["item_id"]] = row["similarity"]
    rows = (builder.build(case, similarity_of.get(case["case_id"], {})) for case in cases.to_pylist())
    return [row for row in rows if row is not None]
