"""What the check accepts runs, and what it refuses does not. Run: python -m pytest tests/pipeline/feasibility/test_promise.py"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

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
from pipeline.data.dataset import Dataset, assign_splits
from pipeline.evaluation.inputs import Catalogue, build_tasks
from pipeline.feasibility.material import Plan, survey
from pipeline.feasibility.obstacles import UNPROMPTED
from pipeline.keywords.preference import PreferenceBuilder, build_preferences
from pipeline.models.lazy import LazyModel
from pipeline.ranker.interactions import build_ranker_data, build_sampler
from pipeline.ranker_check.material import build_catalogue, build_data
from pipeline.reflection.inputs import ReflectionTables
from pipeline.reflection.run import plan_cases
from pipeline.retrieval.history import retrieve_histories
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, INTERACTIONS, ITEMS, KEYWORDS, PREFERENCES, RETRIEVED
from tests.broken_items import TableImages
from tests.pipeline.feasibility.tiny_data_sets import DEFAULT, METHODS, change, find, make_dataset


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
