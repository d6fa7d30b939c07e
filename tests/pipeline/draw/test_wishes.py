"""Requests become the run's cases or new ones. Run: python -m pytest tests/pipeline/draw/test_wishes.py"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import pipeline.draw.wishes
from pipeline.artifacts import build_table, get_matrix, write_table
from pipeline.data.cases import map_looks
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.new_items import NewItem, NewItems
from pipeline.draw.pictures import list_candidates
from pipeline.draw.requests import Request, Start
from pipeline.draw.wishes import centre_on_catalogue, find_looks, find_wishes, prefer
from pipeline.looks.run import LookBuilder, build_looks
from pipeline.models.fake import FakeDiffusion
from pipeline.models.look import LookMap, LookShape, prepare_look_map, save_look_map
from pipeline.retrieval.history import retrieve_histories
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, LOOKS, PREFERENCES, RETRIEVED
from tests.pipeline.draw.toy_run import DIM, ToyRun

K = 5  # of conf/config.yaml
REQUEST = Request(2, "", "user-1", (), "item-00", None, "", "", 0, 1, "sd", K, Start())
VECTOR = (np.arange(DIM) / np.linalg.norm(np.arange(DIM))).astype(np.float32).tolist()


def make_new_items(*item_ids: str, toy: ToyRun) -> NewItems:
    found = [NewItem(item_id, b"png", item_id, "a new thing", "") for item_id in item_ids]
    return NewItems(
        found,
        build_table([{"item_id": i, "caption": "a new picture"} for i in item_ids], CAPTIONS),
        build_table([{"item_id": i, "semantic": VECTOR, "visual": VECTOR, "clip_image": VECTOR} for i in item_ids], EMBEDDINGS, dims=None)
        if item_ids
        else toy.run.embeddings.slice(0, 0),
    )


def test_a_user_with_their_own_reference_is_the_runs_case_with_its_prompts(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    row, preference = toy.cases[1], toy.run.preferences.to_pylist()[1]
    [wish], rejected = find_wishes([(REQUEST, row["reference_id"])], toy.run, make_new_items(toy=toy))
    assert not rejected
    assert (wish.case.case_id, wish.case.history, wish.is_case_of_run, wish.is_known_user) == ("case-1", tuple(row["history"]), True, True)
    assert (wish.case.detailed_prompt, wish.case.keyword_prompt) == (preference["detailed_prompt"], preference["keyword_prompt"])
    assert [item_id for item_id, _ in wish.retrieved] == [one["item_id"] for one in toy.run.retrieved.to_pylist() if one["case_id"] == "case-1"]
    assert [wish.name_noise(index, seed=0) for index in range(2)] == ["case-1", "case-1/seed-0/1"]
    assert replace(wish, request=replace(REQUEST, seed=5)).name_noise(0, seed=0) == "case-1/seed-5/0"


@pytest.mark.parametrize(
    ("changes", "variation"),
    [
        ({}, ""),
        ({"k": 3}, "/k-3"),
        ({"start": Start("reference", 0.25)}, "/reference-0.25"),
        ({"k": 1, "start": Start("reference", 1.0)}, "/k-1/reference-1.0"),
    ],
)
def test_what_a_request_changes_stands_in_the_pictures_name_and_not_in_that_of_its_noise(
    toy: ToyRun, diffusion: FakeDiffusion, changes: dict, variation: str
) -> None:
    [wish], _ = find_wishes([(replace(REQUEST, **changes), toy.cases[1]["reference_id"])], toy.run, make_new_items(toy=toy))
    [candidate] = list_candidates([wish], seed=0)
    assert (candidate.noise, candidate.case.case_id) == ("case-1", f"case-1{variation}")


def test_noise_is_a_variation_where_the_run_begins_with_the_references_picture(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    toy.run.params.write_text(toy.run.params.read_text().replace("start: noise", "start: reference"))
    run, reference_id = FinishedRun(toy.folder), toy.cases[1]["reference_id"]
    own = Start("reference", run.generation.strength)
    wishes, _ = find_wishes([(replace(REQUEST, start=start), reference_id) for start in (Start(), own)], run, make_new_items(toy=toy))
    assert [wish.variation for wish in wishes] == ["/noise-1.0", ""]


@pytest.mark.parametrize("reference_id", ["case", "item-23"])
def test_k_items_are_retrieved_and_their_keywords_are_those_of_a_run_with_this_k(toy: ToyRun, diffusion: FakeDiffusion, reference_id: str) -> None:
    reference_id = toy.cases[1]["reference_id"] if reference_id == "case" else reference_id
    requests = [(replace(REQUEST, number=2 + k, k=k), reference_id) for k in (1, 3, K, 1000)]
    wishes, rejected = find_wishes(requests, toy.run, make_new_items(toy=toy))
    assert not rejected
    assert [len(wish.retrieved) for wish in wishes] == [1, 3, K, 8]  # the whole history
    for wish in wishes:
        row = {**toy.cases[1], "reference_id": reference_id, "case_id": wish.case.case_id}
        config = replace(toy.run.retrieval, k=wish.request.k)
        expected, _ = retrieve_histories(build_table([row], CASES), toy.run.embeddings, config, seed=toy.run.seed)
        assert dict(wish.retrieved) == pytest.approx({one["item_id"]: one["weight"] for one in expected}, rel=1e-6)  # float32 in the run's table
    assert len({wish.case.keywords for wish in wishes}) > 1


def test_another_reference_makes_a_new_case_of_the_users_history(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    [wish], _ = find_wishes([(REQUEST, "item-23")], toy.run, make_new_items(toy=toy))
    assert wish.case.history == tuple(toy.cases[1]["history"])
    assert (wish.case.user_id, wish.is_known_user, wish.is_case_of_run) == ("user-1", True, False)
    assert wish.case.case_id.startswith("new-case-")
    assert wish.case.retrieved_prompt.startswith("thing 23, ")


def test_a_history_makes_a_new_user_whose_case_depends_on_nothing_else(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    history = ("item-03", "item-05", "item-07")
    requests = [replace(REQUEST, number=number, user_id=user_id, history=history) for number, user_id in ((2, "zoe"), (3, ""))]
    first, second = find_wishes([(request, "item-00") for request in requests], toy.run, make_new_items(toy=toy))[0]
    assert first.case == second.case
    assert first.case.user_id.startswith("new-user-")
    assert not first.is_known_user


@pytest.mark.parametrize(
    ("request_", "reference_id", "reason"),
    [
        (replace(REQUEST, user_id="zoe"), "item-00", "The user_id 'zoe' is not known to the run; give a `history` of item ids."),
        (REQUEST, "item-99", "The reference: the item_id 'item-99' is not in the table of items."),
        (REQUEST, "ITEM_00", "The reference: the item_id 'ITEM_00' is not in the table of items; did you mean 'item-00'?"),
        (replace(REQUEST, history=("item-03", "gone")), "item-00", "The history: the item_id 'gone' is not in the table of items."),
    ],
)
def test_who_or_what_is_unknown_is_said(toy: ToyRun, diffusion: FakeDiffusion, request_: Request, reference_id: str, reason: str) -> None:
    wishes, [rejected] = find_wishes([(request_, reference_id)], toy.run, make_new_items(toy=toy))
    assert (wishes, rejected.number, rejected.reason) == ([], 2, reason)


def test_a_user_of_the_interactions_without_a_case_has_the_history_of_the_interactions(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    toy.run.cases = toy.run.cases.slice(1)  # user-0 has none any more
    [wish], _ = find_wishes([(replace(REQUEST, user_id="user-0"), "item-23")], toy.run, make_new_items(toy=toy))
    assert wish.case.history == tuple(toy.cases[0]["history"])


def test_new_cases_are_retrieved_and_counted_as_the_run_does_it(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    rows, retrieved, reasons = prefer(toy.cases, toy.run, make_new_items("new-1", toy=toy), k=toy.run.retrieval.k)
    assert reasons == {}
    assert build_table(rows, PREFERENCES).equals(toy.run.preferences)
    assert build_table(retrieved, RETRIEVED).equals(toy.run.retrieved)


def test_new_items_do_not_move_the_centre_of_the_catalogue(toy: ToyRun) -> None:
    without, _ = centre_on_catalogue(toy.run, make_new_items(toy=toy))
    with_many, config = centre_on_catalogue(toy.run, make_new_items("new-1", "new-2", toy=toy))
    assert np.array_equal(get_matrix(with_many, "semantic")[: len(without)], get_matrix(without, "semantic"))
    raw = get_matrix(toy.run.embeddings, "semantic")
    assert np.array_equal(get_matrix(without, "semantic"), raw - raw.mean(axis=0, dtype=np.float64))
    assert config == replace(toy.run.retrieval, center=False)


def give_looks(toy: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run have look tokens, as its stage preference would have written them."""
    torch.manual_seed(0)
    shape = LookShape(visual_dim=DIM, text_dim=8, width=4, num_tokens=2, token_dim=8)
    save_look_map(toy.folder / "look" / "model.safetensors", LookMap(shape))
    params = toy.run.params.read_text().replace("look: embedded/look", f"look: {toy.folder / 'look'}").replace("visual_tokens: 0", "visual_tokens: 2")
    toy.run.params.write_text(params)
    toy.run = FinishedRun(toy.folder)
    monkeypatch.setattr(pipeline.draw.wishes, "load_diffusion", lambda *_, **__: FakeDiffusion())
    texts = {row["item_id"]: row["text"] for row in toy.items}
    options = {"center": toy.run.retrieval.center, "look": prepare_look_map(toy.run.params).model, "diffusion": FakeDiffusion()}
    builder = LookBuilder(toy.run.preference, toy.run.embeddings, texts, **options)
    path = toy.run.list_method_files("ragar")["looks"]
    write_table(path, build_looks(toy.run.cases, toy.run.retrieved, builder), LOOKS, provenance={})


def test_new_cases_have_the_look_that_the_run_would_give_them_whatever_else_is_new(toy: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    give_looks(toy, monkeypatch)
    found = find_looks(toy.cases, toy.run.retrieved.to_pylist(), toy.run, make_new_items("new-1", toy=toy))
    assert found == map_looks(toy.run.looks)
    [known], _ = find_wishes([(REQUEST, toy.cases[1]["reference_id"])], toy.run, make_new_items(toy=toy))
    [new], _ = find_wishes([(REQUEST, "item-23")], toy.run, make_new_items(toy=toy))
    assert known.case.look == found["case-1"]
    assert len(new.case.look) == len(known.case.look)
    assert new.case.look != known.case.look  # another reference weighs the same history in another way


def test_a_run_without_look_tokens_gives_none(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    [wish], _ = find_wishes([(REQUEST, "item-23")], toy.run, make_new_items(toy=toy))
    assert wish.case.look == b""


def test_a_new_reference_has_its_own_text_in_the_prompt(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    [wish], rejected = find_wishes([(REQUEST, "new-1")], toy.run, make_new_items("new-1", toy=toy))
    assert not rejected
    assert wish.case.reference_id == "new-1"
    assert wish.case.retrieved_prompt.startswith("a new thing, ")


def test_a_case_without_keywords_has_the_stages_reason(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    toy.run.keywords = toy.run.keywords.slice(0, 0)
    _, [rejected] = find_wishes([(REQUEST, "item-23")], toy.run, make_new_items(toy=toy))
    assert rejected.reason == "None of the case's items has keywords."


def test_cases_of_the_table_are_sound(toy: ToyRun) -> None:
    assert toy.run.cases.equals(build_table(toy.cases, CASES))
