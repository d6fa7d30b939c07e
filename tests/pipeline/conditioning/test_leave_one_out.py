"""Leave-one-out cases of stage 0. Run: python -m pytest tests/pipeline/conditioning/test_leave_one_out.py"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from pipeline.artifacts import build_table
from pipeline.conditioning.leave_one_out import build_leave_one_out_cases, choose_cases
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, KEYWORDS
from tests import configs

RETRIEVAL = replace(configs.RETRIEVAL, k=1, max_rejected_fraction=1.0)
PREFERENCE = replace(configs.PREFERENCE, num_keywords=4, min_count=1, reference_in_prompt="text")
THINGS = {  # item -> (text, caption, keyword, semantic vector)
    "dog": ("dog", "a pastel dog", "pastel", [1.0, 0.0]),
    "cat": ("cat", "a soft cat", "soft", [0.9, 0.436]),
    "car": ("car", "a neon car", "neon", [0.0, 1.0]),
    "bus": ("bus", "a bright bus", "bright", [0.1, 0.995]),
    "ref": ("fox", "a classic fox", "classic", [0.7, 0.714]),
}


def make_tables() -> dict[str, pa.Table]:
    image = {"bytes": b"", "path": None}
    case = {"history": ["dog", "cat", "car", "bus"], "reference_id": "ref", "truth_id": "car"}
    cases = [{"case_id": f"c-{split}", "user_id": split, "split": split, **case} for split in ("train", "val", "test")]
    rows = [(name, *thing) for name, thing in THINGS.items()]
    return {
        "cases": build_table(cases, CASES),
        "items": build_table([{"item_id": n, "image": image, "text": t, "category": "", "image_sha256": ""} for n, t, *_ in rows], ITEMS),
        "captions": build_table([{"item_id": name, "caption": caption} for name, _, caption, *_ in rows], CAPTIONS),
        "keywords": build_table([{"item_id": name, "keywords": [keyword]} for name, _, _, keyword, _ in rows], KEYWORDS),
        "embeddings": build_table([{"item_id": n, "semantic": v, "visual": v, "clip_image": v} for n, *_, v in rows], EMBEDDINGS),
    }


def test_a_leave_one_out_case_asks_for_the_item_with_the_keywords_of_the_related_other_ones() -> None:
    examples = build_leave_one_out_cases(make_tables(), retrieval=RETRIEVAL, preference=PREFERENCE, count=10, seed=0)
    prompt_of = {example.caption: example.detailed_prompt for example in examples}
    assert set(prompt_of) == {"a pastel dog", "a soft cat", "a neon car", "a bright bus"}
    for caption, (text, related) in {"a pastel dog": ("dog", "soft"), "a soft cat": ("cat", "pastel"), "a neon car": ("car", "bright")}.items():
        assert f"pictures with: {related}. The next picture shows: {text}." in prompt_of[caption]
        assert caption not in prompt_of[caption]  # the answer is not in the question


def test_only_training_users_are_used_and_truths_are_not_used() -> None:
    tables = make_tables()
    captions = {name: caption for name, (_, caption, *_) in THINGS.items()}
    chosen = choose_cases(tables["cases"], captions, count=10, seed=0)
    assert {(case["user_id"], case["split"], case["truth_id"]) for case in chosen} == {("train", "train", None)}
    assert all(case["reference_id"] not in case["history"] and len(case["history"]) == 3 for case in chosen)


def test_no_caption_is_asked_for_twice_and_the_count_is_kept() -> None:
    cases = make_tables()["cases"]
    same = dict.fromkeys(THINGS, "a thing")
    assert len(choose_cases(cases, same, count=10, seed=0)) == 1
    captions = {name: caption for name, (_, caption, *_) in THINGS.items()}
    few = choose_cases(cases, captions, count=2, seed=0)
    assert len(few) == 2
    assert few == choose_cases(cases, captions, count=2, seed=0)
    orders = {tuple(case["reference_id"] for case in choose_cases(cases, captions, count=4, seed=seed)) for seed in range(8)}
    assert len(orders) > 1
