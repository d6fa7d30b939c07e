"""What the check promises about tiny data sets, and what the stages then do. Run: python -m pytest tests/pipeline/feasibility/test_obstacles.py"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.artifacts import build_table, write_rejected
from pipeline.baselines.histories import narrow_histories
from pipeline.baselines.pmg.keywords import ItemWords
from pipeline.baselines.pmg.run import build_training_set, split_cases
from pipeline.baselines.sd import run as sd_run
from pipeline.baselines.ti.run import list_histories
from pipeline.conditioning.fit import build_captions
from pipeline.conditioning.run import choose_lessons
from pipeline.data.cases import select_cases
from pipeline.data.dataset import SPLITS, Dataset, assign_splits, build_interactions
from pipeline.data.items import ItemRows
from pipeline.data.source import UserSequence, build_case
from pipeline.evaluation.inputs import Catalogue, build_tasks
from pipeline.feasibility.material import Plan, load_plan, survey
from pipeline.feasibility.notes import list_notes
from pipeline.feasibility.obstacles import UNPROMPTED, find_obstacles
from pipeline.keywords.preference import PreferenceBuilder, build_preferences
from pipeline.models.lazy import LazyModel
from pipeline.ranker.interactions import build_ranker_data, build_sampler
from pipeline.ranker_check.material import build_catalogue, build_data
from pipeline.reflection.inputs import ReflectionTables
from pipeline.reflection.run import plan_cases
from pipeline.retrieval.history import retrieve_histories
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, INTERACTIONS, ITEMS, KEYWORDS, PREFERENCES, RETRIEVED
from tests.broken_items import TableImages
from tests.test_repo_rules import REPO

DEFAULT = load_plan(REPO / "params.yaml")
METHODS = ("original", "truth", "sd", "keywords", "retrieved", "ti", "ti_retrieved", "pmg", "pmg_retrieved", "global", "ragar")


def make_dataset(histories: list[list[str]], splits: list[str], *, num_items: int = 0) -> Dataset:
    """Make users `u0`, `u1`, ... with the given histories; the reference of each is `r`, which nobody has seen; equal first letters look equal."""
    items = ItemRows()
    known = dict.fromkeys([*(item for history in histories for item in history), "r", *(f"n{index}" for index in range(num_items))])
    for item_id in known:
        items.add(item_id, item_id.split("=")[0].encode(), text="", category="")
    cases = [build_case(UserSequence(f"u{n}", tuple(history), "r"), split) for n, (history, split) in enumerate(zip(histories, splits, strict=True))]
    return Dataset(items, build_interactions(cases), cases)


def change(plan: Plan, *, methods: set[str] | None = None, shares: tuple[float, ...] | None = None, **blocks: dict[str, Any]) -> Plan:
    configs = {name: replace(config, **blocks.get(name, {})) for name, config in plan.configs.items()}
    return Plan(configs, plan.methods if methods is None else frozenset(methods), plan.shares if shares is None else shares)


def find(dataset: Dataset, plan: Plan) -> list[str]:
    return find_obstacles(survey(dataset), plan)


SPLIT_OF_THREE = ["train", "val", "test"]
ABC = ["a", "b", "c"]


@pytest.mark.parametrize("num_users", [3, 4, 5, 6, 7, 10])
@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.5, 0.1, 0.4), (0.98, 0.01, 0.01), (0.01, 0.01, 0.98)])
def test_few_users_leave_no_split_empty_that_has_a_share(num_users: int, shares: tuple[float, ...]) -> None:
    splits = assign_splits([f"u{n}" for n in range(num_users)], shares)
    assert set(splits) == set(SPLITS)
    largest = SPLITS[int(np.argmax(shares))]
    assert splits.count(largest) == max(map(splits.count, SPLITS))


def test_a_split_without_a_share_stays_empty_and_two_users_fill_two() -> None:
    assert set(assign_splits(range(7), (0.9, 0.0, 0.1))) == {"train", "test"}
    assert len(set(assign_splits(range(2), (0.8, 0.1, 0.1)))) == 2


def test_a_data_set_that_has_all_that_is_needed_has_no_obstacle() -> None:
    assert find(make_dataset([["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]], SPLIT_OF_THREE), DEFAULT) == []


def test_an_empty_split_is_named_with_who_needs_it_and_the_shares_that_fill_it() -> None:
    dataset = make_dataset([ABC, ["d", "e", "f"], ["g", "h", "i"]], ["train", "train", "test"])
    assert find(dataset, change(DEFAULT, shares=(0.8, 0.0, 0.2), sd={"lora_rank": 4}, methods={"pmg", "ragar"})) == [
        "reflection and sd and pmg need a user of the split val, but none of the 3 is in it; set dataset.splits=[0.7,0.1,0.2]."
    ]
    without_shares = change(DEFAULT, evaluation={"split": "val"}, generation={"splits": ("val",)}, shares=())
    assert find(dataset, without_shares) == [
        "reflection and generation and evaluation need a user of the split val, but none of the 3 is in it; "
        "the data set's own files say who is in it."
    ]


def test_a_baseline_that_is_given_retrieved_items_needs_some() -> None:
    dataset = make_dataset([ABC, ["d"], ["g", "h", "i"]], SPLIT_OF_THREE)
    asked = {"ti_retrieved", "pmg_retrieved", "ragar"}
    without = change(DEFAULT, methods=asked, retrieval={"k": 0})
    reason = "needs retrieved items, but 1 of 1 drawn cases have none (retrieval.k is 0, retrieval.strategy ret); set retrieval.k=5"
    assert find(dataset, without) == [f"{stage}_retrieved {reason} or comparison.{stage}_retrieved=false." for stage in ("ti", "pmg")]
    assert find(dataset, change(DEFAULT, methods={"ti", "pmg", "ragar"}, retrieval={"k": 0})) == []
    allowed = {"max_rejected_fraction": 1.0}
    beyond = change(DEFAULT, methods=asked, retrieval={"k": 1, "strategy": "exp-ret", **allowed}, preference=allowed, sd={"lora_rank": 0})
    assert [sentence for sentence in find(dataset, beyond) if "retrieved items" in sentence] == [
        "pmg_retrieved needs retrieved items, but no case of the split val has any (retrieval.k is 1, retrieval.strategy exp-ret); "
        "set retrieval.strategy=ret or comparison.pmg_retrieved=false."
    ]


def test_only_test_users_are_refused_in_sentences_about_the_splits() -> None:
    dataset = make_dataset([ABC, ["d", "e", "f"], ["g", "h", "i"]], ["test"] * 3)
    everybody = {"splits": ("train", "val", "test")}
    assert find(dataset, change(DEFAULT, shares=(0.0, 0.0, 1.0), generation=everybody)) == [
        "mapper and reflection need a user of the split train, but none of the 3 is in it; set dataset.splits=[0.1,0.1,0.8].",
        "reflection needs a user of the split val, but none of the 3 is in it; set dataset.splits=[0.1,0.1,0.8].",
    ]


def test_what_is_drawn_must_be_what_is_scored() -> None:
    dataset = make_dataset([ABC, ["d", "e", "f"], ["g", "h", "i"]], SPLIT_OF_THREE)
    assert find(dataset, change(DEFAULT, generation={"splits": ("val",)})) == [
        "evaluation.split is test, but generation.splits is [val]; set generation.splits=[val,test]."
    ]


def test_equal_pictures_are_one_caption() -> None:
    dataset = make_dataset([["a=1", "a=2", "a=3"], ["d", "e", "f"], ["g", "h", "i"]], SPLIT_OF_THREE)
    assert find(dataset, DEFAULT) == [
        "mapper needs 2 different pictures in training users' histories of two items and more, one to learn and one to hold out, but there are 1; "
        "set mapper.prompt=detailed."
    ]
    assert find(dataset, change(DEFAULT, mapper={"prompt": "detailed"})) == []


@pytest.mark.parametrize(
    ("histories", "validation_items", "cure"),
    [
        ([ABC, ABC, ABC], 1, "set ranker.negatives=all."),
        ([["a", "b"], ["b", "a"], ["a", "b"]], 0, "set ranker.negatives=all."),
        ([ABC, ABC, ABC], 0, "set ranker.negatives=all."),
    ],
)
def test_users_who_have_seen_every_item_leave_nothing_to_rank(histories: list[list[str]], validation_items: int, cure: str) -> None:
    dataset = make_dataset(histories, SPLIT_OF_THREE)
    (obstacle,) = find(dataset, change(DEFAULT, ranker={"validation_items": validation_items}))
    assert obstacle == (
        "ranker learns from an item that a user has seen and one that they have not, but every user has seen every item that may be drawn "
        f"(ranker.negatives interacted); {cure}"
    )
    assert find(dataset, change(DEFAULT, ranker={"validation_items": validation_items, "negatives": "all"})) == []


def test_histories_no_longer_than_k_are_counted_where_what_ranks_beyond_is_asked_for() -> None:
    dataset = make_dataset([ABC, ["d", "e", "f"], ["g", "h", "i", "j"]], SPLIT_OF_THREE)
    assert find(dataset, change(DEFAULT, retrieval={"strategy": "exp-ret", "k": 3}))[0] == (
        "retrieval.strategy exp-ret takes what ranks beyond retrieval.k, 3, but 2 of 3 histories are no longer; set retrieval.k=2."
    )
    assert find(dataset, change(DEFAULT, retrieval={"strategy": "exp-ret", "k": 2})) == []
    assert find(dataset, change(DEFAULT, retrieval={"strategy": "ret", "k": 3})) == []


def test_notes_say_what_few_users_and_few_items_do_to_the_figures() -> None:
    def list_all(*arguments: Any, **options: Any) -> list[str]:
        return list(list_notes(survey(make_dataset(*arguments, **options)), DEFAULT))

    one = "evaluation scores 1 test user. One user has no interval, and says nothing of others."
    assert list_all([ABC, ["d"], ["e"]], SPLIT_OF_THREE) == [
        one,
        "a reference has 4 rivals (items that its user has not seen), fewer than the 99 that are to be sampled: all of them are ranked, "
        "and R@10 is 1 for whoever has fewer than 10.",
    ]
    assert list_all([ABC, ABC, ABC], SPLIT_OF_THREE) == [
        one,
        "every scored user has seen every other item, so that no reference has a rival: it always ranks first, and ΔR says nothing; add items.",
    ]
    assert list_all([ABC] * 22, ["train", "val", *["test"] * 20], num_items=99) == []
    assert list_all([ABC] * 7, ["train", "val", *["test"] * 5], num_items=99) == [
        "evaluation scores 5 test users. Means over 5 users say little of others: below 10 none has an interval or is called better or worse."
    ]


def draw_world(rng: random.Random) -> tuple[Dataset, Plan]:
    """Draw a tiny data set of 3 to 12 users, and params."""
    num_users, num_items = rng.randint(3, 12), rng.choice((2, 3, 6, 10))
    alike = rng.choice((0.0, 0.3, 1.0))
    names = [f"{'a' if rng.random() < alike else 'i' + str(n)}={n}" for n in range(num_items)]
    longest = rng.choice((1, 4, num_items, num_items))
    histories = [rng.sample(names, rng.randint(1, min(longest, num_items))) for _ in range(num_users)]
    if rng.random() < 0.2:
        histories = [sorted(names)] * num_users
    shares = rng.choice(((0.8, 0.1, 0.1), (0.5, 0.1, 0.4), (0.5, 0.2, 0.3), *rng.sample(((0.6, 0.4, 0.0), (0.8, 0.0, 0.2), (0.0, 0.5, 0.5)), 1)))
    splits = assign_splits([f"u{n}" for n in range(num_users)], shares)
    limits = {"max_rejected_fraction": rng.choice((0.0, 0.1, 1.0, 1.0))}
    plan = change(
        DEFAULT,
        shares=shares,
        methods=set(rng.sample(METHODS, rng.randint(1, len(METHODS)))),
        retrieval={"k": rng.randint(0, 3), "strategy": rng.choice(("ret", "exp-ret", "random")), **limits},
        preference={"keywords_from": rng.choice(("all", "weighted")), "global_from": rng.choice(("all", "retrieved")), **limits},
        captioning=limits,
        mapper={"prompt": rng.choice(("leave_one_out", "detailed")), "leave_one_out_k": rng.randint(1, 3)},
        ranker={
            "negatives": rng.choice(("all", "interacted")),
            "validation_items": rng.randint(0, 2),
            "include_reference": rng.random() < 0.3,
        },
        sd={"lora_rank": rng.choice((0, 2))},
        generation={"splits": rng.choice((("test",), ("val", "test"), ("train", "val", "test"), ("val",)))},
        evaluation={"split": rng.choice(("test", "test", "test", "val"))},
    )
    return make_dataset(histories, splits, num_items=rng.choice((0, 3))), plan


class Reached(Exception):
    """A stage has found all that it needs."""


def run_stages(dataset: Dataset, plan: Plan, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what the stages run before they compute anything; ValueError if one of them cannot."""
    configs, digests = plan.configs, survey(dataset).digests
    cases, num_cases = build_table(dataset.cases, CASES), len(dataset.cases)
    interactions = build_table(dataset.interactions, INTERACTIONS)
    items = build_table(list(dataset.items.values()), ITEMS)
    captions = build_table([{"item_id": key, "caption": f"a {digest}"} for key, digest in digests.items()], CAPTIONS)
    keywords = build_table([{"item_id": key, "keywords": ["neon", digest]} for key, digest in digests.items()], KEYWORDS)
    rng = np.random.default_rng(0)
    vectors = {key: rng.normal(size=4).astype(np.float32) for key in digests}
    embeddings = build_table([{"item_id": key, **dict.fromkeys(("semantic", "visual", "clip_image"), v)} for key, v in vectors.items()], EMBEDDINGS)

    def reject(stage: str, rejected: dict, rows_in: int) -> None:
        limit = configs[stage].max_rejected_fraction
        write_rejected(root / "rejected.parquet", stage, rejected, rows_in=rows_in, max_fraction=limit, provenance={})

    rows, rejected = retrieve_histories(cases, embeddings, configs["retrieval"], seed=0)
    reject("retrieval", rejected, num_cases)
    retrieved = build_table(rows, RETRIEVED)
    builder = PreferenceBuilder(configs["preference"], items=items, captions=captions, keywords=keywords, retrieved=retrieved)
    rows, rejected = build_preferences(cases, builder)
    reject("preference", rejected, num_cases)
    preferences = build_table(rows, PREFERENCES)

    build_data(interactions, build_catalogue(list(digests), np.stack(list(vectors.values())), dict.fromkeys(digests, "")))
    ranker = configs["ranker"]
    data = build_ranker_data(
        interactions, cases, embeddings, image_feature="visual", text_feature="semantic",
        validation_items=ranker.validation_items, include_reference=ranker.include_reference,
    )  # fmt: skip
    build_sampler(data.train_P2, num_users=len(data.user_ids), num_items=len(data.item_ids), negatives=ranker.negatives)

    tables = {"cases": cases, "items": items, "captions": captions, "keywords": keywords, "embeddings": embeddings}
    mapper = configs["mapper"]
    lessons = choose_lessons(tables, mapper, retrieval=configs["retrieval"], preference=configs["preference"], seed=0)
    mapper = replace(mapper, held_out_captions=min(mapper.held_out_captions, max(1, len(lessons.prompted) // 2)))
    build_captions(lessons.prompted, SimpleNamespace(encode_prompts=lambda texts: (torch.zeros(len(texts), 1, 1), None)), mapper)

    train, validation = (select_cases(cases, preferences, [split]) for split in ("train", "val"))
    tools = SimpleNamespace(ranker=SimpleNamespace(item_ids=data.item_ids, user_ids=data.user_ids))
    plan_cases(train, validation, ReflectionTables(captions, embeddings, retrieved), tools, configs["reflection"], seed=0)

    drawn = configs["generation"].splits
    latents = dict.fromkeys(digests, torch.zeros(1))
    if configs["sd"].lora_rank:
        monkeypatch.setattr(sd_run, "compute_latents", lambda *arguments: (latents, {}))
        monkeypatch.setattr(sd_run, "Denoiser", lambda model: None)
        monkeypatch.setattr(sd_run, "fit_lora", lambda *arguments, **options: (_ for _ in ()).throw(Reached))
        with pytest.raises(Reached):
            sd_run.run_lora(
                cases, root, dict.fromkeys(digests, "x"), configs["sd"], diffusion=LazyModel("", lambda: None), seed=0, checkpoint_every=1
            )
    for stage in ("ti", "pmg"):
        for method in {stage, f"{stage}_retrieved"} & plan.methods:
            given = cases if method == stage else narrow_histories(cases, retrieved)
            fed = {case["case_id"]: ["neon"] for case in given.to_pylist() if case["history"]}
            if stage == "ti":
                list_histories(given, drawn)
            else:
                build_training_set(split_cases(given, drawn, configs["pmg"], seed=0), fed, ItemWords({}, {}, {}), latents)
            wanted = [case["case_id"] for case in dataset.cases if case["split"] in drawn]
            if not fed.keys() & set(wanted):
                raise ValueError("a table without rows does not know how long its vectors are")
            reject(stage, {case_id: "no item" for case_id in wanted if case_id not in fed}, len(wanted))
    for method in plan.methods:
        select_cases(cases, None if method in UNPROMPTED else preferences, drawn)
    build_tasks(cases, [], retrieved, Catalogue(TableImages(items), dict(digests), {}, {}), configs["evaluation"])
    if configs["evaluation"].split not in drawn:
        raise ValueError("nothing that is drawn is scored")
    if plan.methods - UNPROMPTED:
        select_cases(cases, preferences, [configs["evaluation"].split])


@pytest.mark.parametrize("part", range(4))
def test_what_the_check_accepts_runs_and_what_it_refuses_does_not(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = []
    for number in range(30):
        dataset, plan = draw_world(random.Random(f"{part}-{number}"))
        obstacles = find(dataset, plan)
        try:
            run_stages(dataset, plan, tmp_path, monkeypatch)
            failure = ""
        except ValueError as error:
            failure = str(error)
        if any(sentence.startswith("no picture in the history") for sentence in obstacles):
            continue  # stricter than the stages, which allow some such cases
        assert bool(obstacles) == bool(failure), (number, obstacles, failure, dataset.cases, plan)
        outcomes.append(bool(failure))
    assert 3 < sum(outcomes) < 27  # both are tried


def test_a_wrong_value_in_any_block_is_found_beforehand(tmp_path: Path) -> None:
    text = (REPO / "params.yaml").read_text(encoding="utf-8").replace("batch_cases: 4", "batch_cases: 0", 1)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml: reflection\.batch_cases is 0, but it must be >= 1"):
        load_plan(tmp_path / "params.yaml")
