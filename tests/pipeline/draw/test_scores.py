"""New users and new references by the evaluation ranker. Run: python -m pytest tests/pipeline/draw/test_scores.py"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts import build_table, read_table
from pipeline.data.images import encode_png
from pipeline.draw.new_items import NewItem, NewItems
from pipeline.draw.scores import Scorer
from pipeline.evaluation.inputs import Task
from pipeline.evaluation.scoring import EvaluationModels, SecondRanker
from pipeline.ranker_check.fit import build_tower
from pipeline.ranker_check.material import build_catalogue, build_data
from pipeline.ranker_check.scoring import CheckScorer
from pipeline.schemas import CAPTIONS, EMBEDDINGS, INTERACTIONS
from tests.configs import RANKER_CHECK
from tests.pipeline.draw.toy_run import ToyRun, draw_disc

NEW = {"new-55": 55, "new-132": 132}  # the levels of their discs, which no item has


class MiddleEncoder:
    """Gives an image the direction of the colour in its middle."""

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.tensor([image.getpixel((12, 12)) for image in images], dtype=torch.float32), dim=1)


def encode(*levels: int) -> torch.Tensor:
    return MiddleEncoder().encode_images([draw_disc(level) for level in levels])


def make_new_items(toy: ToyRun) -> NewItems:
    vectors = {item_id: np.eye(5)[place].tolist() for place, item_id in enumerate(NEW)}
    return NewItems(
        [NewItem(item_id, encode_png(draw_disc(level)), item_id, "a pot", "pots") for item_id, level in NEW.items()],
        build_table([{"item_id": item_id, "caption": "a pot"} for item_id in NEW], CAPTIONS),
        build_table([{"item_id": item_id, "semantic": v, "visual": v, "clip_image": v} for item_id, v in vectors.items()], EMBEDDINGS),
    )


@pytest.fixture
def scorer(toy: ToyRun) -> Scorer:
    """The toy run's catalogue with an untrained evaluation ranker; all its items have one category, which is not that of the new ones."""
    ids = [row["item_id"] for row in toy.items]
    catalogue = build_catalogue(ids, encode(*(10 * index for index in range(len(ids)))).numpy(), dict.fromkeys(ids, ""))
    data = build_data(read_table(toy.run.interactions, INTERACTIONS), catalogue)
    check = CheckScorer(build_tower(data, RANKER_CHECK), catalogue, data.user_ids, torch.cat([data.train_P2, data.held_out_P2]))
    scorer = Scorer.__new__(Scorer)  # without the models of the profile
    scorer.run, scorer.new_items, scorer.config = toy.run, make_new_items(toy), SimpleNamespace(batch_size=1)
    reward = SimpleNamespace(user_index={"zoe": 0})  # knows her already: this is about the other one
    scorer.models = EvaluationModels(None, None, reward, None, None, SecondRanker(check, MiddleEncoder()))
    return scorer


def make_task(user_id: str, reference_id: str, *masked: str) -> Task:
    return Task("sd", f"{user_id} {reference_id}", user_id, "", reference_id, None, None, (), masked)


def test_a_new_reference_is_ranked_among_all_items_that_the_user_has_not_seen(scorer: Scorer) -> None:
    check, masked = scorer.models.check, ("item-03", "item-04", "gone")
    task = make_task("user-2", "new-55", *masked)
    original_B, generated_B = scorer._rank_as_items([task], [draw_disc(218)], check)
    user_D, tower = check.scorer.user_UD[2], check.scorer.tower
    others = [float(score) for item_id, score in zip(check.scorer.item_index, check.scorer.item_ND @ user_D, strict=True) if item_id not in masked]
    for rank_B, level in ((original_B, 55), (generated_B, 218)):
        own = float(tower(encode(level).double(), torch.tensor([0]))[0] @ user_D)
        assert rank_B.tolist() == [1 + sum(score >= own for score in others)]
    assert original_B.tolist() != generated_B.tolist()


def test_the_rank_of_a_new_reference_does_not_depend_on_the_other_requests(scorer: Scorer) -> None:
    tasks = [make_task(f"user-{user}", item_id, "item-01") for user in range(6) for item_id in NEW]
    drawn = [draw_disc(7 * place) for place in range(len(tasks))]
    together = scorer._rank_as_items(tasks, drawn, scorer.models.check)
    alone = [scorer._rank_as_items([task], [image], scorer.models.check) for task, image in zip(tasks, drawn, strict=True)]
    assert [ranks.tolist() for ranks in together] == [[int(ranks[place]) for ranks in alone] for place in (0, 1)]


def test_a_new_user_is_known_to_the_evaluation_ranker_by_their_history(scorer: Scorer, toy: ToyRun) -> None:
    check = scorer._welcome({"zoe": toy.cases[4]["history"]}).check
    history, references = toy.cases[4]["history"], ["item-23"]
    assert check.scorer.rank_original(["zoe"], references, exclude=[history]).tolist() == (
        check.scorer.rank_original(["user-4"], references, exclude=[history]).tolist()
    )
    assert "zoe" not in scorer.models.check.scorer.user_index


def test_a_run_without_an_evaluation_ranker_has_none_for_new_users_either(scorer: Scorer) -> None:
    scorer.models = replace(scorer.models, check=None)
    assert scorer._welcome({"zoe": ["item-01"]}).check is None
