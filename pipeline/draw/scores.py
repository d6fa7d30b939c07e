"""Score the candidates with the evaluation's own functions and ledger, and caption them; what no data set knows beforehand is left out.

How users and references that the rankers do not know are ranked: `newcomers.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from pipeline.artifacts import get_matrix
from pipeline.captioning import caption_items
from pipeline.code import hash_code
from pipeline.data.images import decode_batch, decode_drawing
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.new_items import ItemModels, NewItem, NewItems, open_items
from pipeline.draw.newcomers import KIND, add_users, find_stand_ins, number_categories, rank_among_all, rank_in_place
from pipeline.draw.pictures import AllImages, Candidate
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.features import ItemStore
from pipeline.evaluation.inputs import Generated, Task, build_catalogue, build_task
from pipeline.evaluation.run import STAGE, index_embeddings, list_inputs, load_models, read_names, score_all
from pipeline.evaluation.scoring import EvaluationModels, SecondRanker
from pipeline.metrics.image import compute_cosine_score
from pipeline.metrics.ranking import compute_rank_change
from pipeline.models.protocols import ImageEncoder
from pipeline.models.references import parse_dtype
from pipeline.params import load_params
from pipeline.ranker_check import newcomers as check_newcomers
from pipeline.runtime import load_runtime, resolve_device

Key = tuple[str, str]  # (method, case_id)
RANKS = ("rank_original", "rank_generated", "delta_r", "rank_original_check", "rank_generated_check", "delta_r_check")
SHOWN = (*RANKS, "cs", "cis", "cps", "cpis")


@dataclass(frozen=True)
class Scored:
    """What is known of one picture: the evaluation's columns (None where nobody knows), the CS of the reference's own picture, the caption."""

    scores: dict[str, float | None]
    cs_original: float | None
    caption: str


class DrawnImages:
    """Drawn pictures of one method, by case_id."""

    def __init__(self, images: Mapping[str, bytes]) -> None:
        self._images = images

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the pictures of the keys."""
        return {key: self._images[key] for key in keys}


class Scorer:
    """Models and tables of the evaluation, for known and new users and items."""

    def __init__(self, run: FinishedRun, new_items: NewItems) -> None:
        self.run, self.new_items = run, new_items
        self.config = load_params(run.params, STAGE, EvaluationConfig)
        self.device, self.names = resolve_device(load_runtime(run.params)), read_names(run.params)
        self.models = load_models(self.names, run.rankers, device=self.device, dtype=parse_dtype(self.names.dtype, self.device))
        items = pa.concat_tables([run.items, new_items.items])
        captions = pa.concat_tables([run.captions, new_items.captions])
        self.catalogue = build_catalogue(items, AllImages(run.images, new_items.images), captions, run.labels, source=self.config.text)
        self.embeddings = pa.concat_tables([run.embeddings, new_items.embeddings])

    def score(self, candidates: Sequence[Candidate], pictures: Mapping[Key, bytes]) -> dict[Key, dict[str, float | None]]:
        """Score all candidates that there is a picture of."""
        chosen = {(candidate.wish.request.method, candidate.case.case_id): candidate for candidate in candidates}
        chosen = {key: candidate for key, candidate in chosen.items() if key in pictures}
        tasks = {key: self._build_task(candidate, pictures[key]) for key, candidate in chosen.items()}
        inputs = list_inputs(self.config, self.names, self.run.rankers, seed=self.run.seed)
        scores: dict[Key, dict[str, float | None]] = {}
        known = [task for key, task in tasks.items() if chosen[key].wish.is_known_user]
        new = [task for key, task in tasks.items() if not chosen[key].wish.is_known_user]
        models = self._welcome({task.user_id: task.masked for task in new})
        for some, with_models, decides in ((known, self.models, inputs), (new, models, (inputs, KIND, hash_code(add_users, check_newcomers)))):
            if some:
                scores |= self._score_tasks(some, pictures, with_models, decides)
        self._rank_new_items([tasks[key] for key in scores if tasks[key].reference_id in self.new_items.images], pictures, models, scores)
        return scores

    def measure_originals(self, reference_ids: Sequence[str]) -> dict[str, float]:
        """Return the CS of the references' own pictures: how well they themselves show what they are called."""
        wanted = list(dict.fromkeys(reference_ids))
        known = index_embeddings(self.embeddings, [_name_items(wanted)]) if self.names.metric_clip == self.names.clip else {}
        store = ItemStore(
            self.catalogue,
            self.models.clip,
            self.models.perceptual,
            image_size=self.config.image_size,
            batch_size=self.config.batch_size,
            known_images=known,
        )
        images, texts = store.get_images(wanted), store.get_texts(wanted)
        return {
            item_id: float(compute_cosine_score(images[item_id][None], texts[item_id][None])[0])
            for item_id in wanted
            if item_id in images and item_id in texts
        }

    def _build_task(self, candidate: Candidate, picture: bytes) -> Task:
        case = candidate.case
        compared = list(case.history) if self.config.history == "all" else [item_id for item_id, _ in candidate.wish.retrieved]
        row = {**vars(case), "history": list(case.history)}
        digest = hashlib.sha256(picture).hexdigest()
        return build_task(candidate.wish.request.method, digest, row, {case.case_id: compared}, self.catalogue)

    def _welcome(self, histories: Mapping[str, Sequence[str]]) -> EvaluationModels:
        """Return the models with rankers that know these users."""
        check = self.models.check
        other = check and replace(check, scorer=check_newcomers.add_users(check.scorer, histories))
        return replace(self.models, ranker=add_users(self.models.ranker, histories), check=other)

    def _score_tasks(
        self, tasks: Sequence[Task], pictures: Mapping[Key, bytes], models: EvaluationModels, inputs: object
    ) -> dict[Key, dict[str, float | None]]:
        generated = []
        for method in sorted({task.method for task in tasks}):
            images = {case_id: image for (name, case_id), image in pictures.items() if name == method}
            generated.append(Generated(method, tuple(sorted(images)), DrawnImages(images)))
        is_shared = self.names.metric_clip == self.names.clip
        known = index_embeddings(self.embeddings, tasks) if is_shared else None
        result = score_all(
            sorted(tasks, key=lambda task: (task.method, task.case_id)),
            generated,
            self.catalogue,
            models,
            self.config,
            known_images=known,
            inputs=inputs,
            seed=self.run.seed,
        )
        return {(str(method), str(case_id)): dict(values) for (method, case_id), values in result.values.items()}

    def _rank_new_items(
        self, tasks: Sequence[Task], pictures: Mapping[Key, bytes], models: EvaluationModels, scores: dict[Key, dict[str, float | None]]
    ) -> None:
        """Fill in the ranks of references that the rankers do not know."""
        if not tasks:
            return
        drawn, _ = decode_batch([pictures[task.method, task.case_id] for task in tasks], decode_drawing)
        ranks = {"": self._rank_in_place(tasks, drawn, models)}
        if models.check is not None:
            ranks["_check"] = self._rank_as_items(tasks, drawn, models.check)
        for suffix, (original_B, generated_B) in ranks.items():
            change_B = compute_rank_change(original_B, generated_B)
            for place, task in enumerate(tasks):
                scores[task.method, task.case_id] |= {
                    f"rank_original{suffix}": float(original_B[place]),
                    f"rank_generated{suffix}": float(generated_B[place]),
                    f"delta_r{suffix}": float(change_B[place]),
                }

    def _rank_in_place(self, tasks: Sequence[Task], drawn: Sequence[Image.Image], models: EvaluationModels) -> tuple[Tensor, Tensor]:
        """Rank by the ranker that was the reward."""
        scorer, vectors = models.ranker, self.new_items.embeddings
        stand_in_of = find_stand_ins(vectors, self.run.embeddings, scorer)
        row_of = {item_id: row for row, item_id in enumerate(vectors["item_id"].to_pylist())}
        own_BF = np.array(get_matrix(vectors, scorer.image_feature))[[row_of[task.reference_id] for task in tasks]]
        drawn_BF = self._encode(models.visual or models.clip, drawn).numpy()
        stand_ins = [stand_in_of[task.reference_id] for task in tasks]
        return rank_in_place(scorer, [task.user_id for task in tasks], stand_ins, own_BF, drawn_BF, [task.masked for task in tasks])

    def _rank_as_items(self, tasks: Sequence[Task], drawn: Sequence[Image.Image], check: SecondRanker) -> tuple[Tensor, Tensor]:
        """Rank by the evaluation ranker, whose encoder no stage has shown the new pictures."""
        new_ids = list(dict.fromkeys(task.reference_id for task in tasks))
        own, _ = decode_batch([self.new_items.images[item_id] for item_id in new_ids], decode_drawing)
        stand_in_of = find_stand_ins(self.new_items.embeddings, self.run.embeddings, check.scorer)
        category_of = number_categories(self.new_items.items, self.run.items, check.scorer, stand_in_of)
        own_MF = self._encode(check.encoder, own)
        scorer = check_newcomers.add_items(check.scorer, new_ids, own_MF, [category_of[item_id] for item_id in new_ids])
        users, references = [task.user_id for task in tasks], [task.reference_id for task in tasks]
        return rank_among_all(scorer, users, references, self._encode(check.encoder, drawn), [task.masked for task in tasks])

    def _encode(self, encoder: ImageEncoder, images: Sequence[Image.Image]) -> Tensor:
        size = self.config.batch_size
        return torch.cat([encoder.encode_images(images[start : start + size]) for start in range(0, len(images), size)])


def _name_items(item_ids: Sequence[str]) -> Any:
    """Return what stands for a task that compares with these items."""
    return Task("", "", "", "", item_ids[0] if item_ids else "", None, None, tuple(item_ids), ())


def caption_pictures(pictures: Mapping[Key, bytes], run: FinishedRun, models: ItemModels) -> dict[Key, str]:
    """Say what each picture shows, in the words of the run's captioner; empty where it refuses the picture (a blank one)."""
    digests = {key: hashlib.sha256(image).hexdigest() for key, image in pictures.items()}
    unique = {digest: NewItem(digest, pictures[key], digest, "", "") for key, digest in digests.items()}
    if not unique:
        return {}
    with (
        open_items([unique[digest] for digest in sorted(unique)]) as (table, images),
        caption_items(table, images, run.captioning, captioner=models.captioner) as result,
    ):
        captions = {key: value["caption"] for key, value in result.values.items()}
    return {key: captions.get(digest, "") for key, digest in digests.items()}


def score_candidates(
    candidates: Sequence[Candidate], pictures: Mapping[Key, bytes], run: FinishedRun, new_items: NewItems, models: ItemModels
) -> dict[Key, Scored]:
    """Score and caption every candidate that there is a picture of."""
    if not pictures:
        return {}
    with torch.inference_mode():
        scorer = Scorer(run, new_items)
        scores = scorer.score(candidates, pictures)
        originals = scorer.measure_originals([candidate.case.reference_id for candidate in candidates])
    captions = caption_pictures(pictures, run, models)
    reference_of = {(candidate.wish.request.method, candidate.case.case_id): candidate.case.reference_id for candidate in candidates}
    return {
        key: Scored({name: values.get(name) for name in SHOWN}, originals.get(reference_of[key]), captions.get(key, ""))
        for key, values in scores.items()
    }
