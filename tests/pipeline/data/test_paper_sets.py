"""The paper's data sets and Pigeon's, in their official raw formats. Run: python -m pytest tests/pipeline/data/test_paper_sets.py"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.adapters import pog
from pipeline.data.adapters.ml_latest import build_ml_latest
from pipeline.data.adapters.pigeon import build_pigeon
from pipeline.data.adapters.pog import UserSample, build_pog
from pipeline.data.adapters.ser30k import build_ser30k
from pipeline.data.dataset import Dataset
from pipeline.embedding import build_semantic_text
from tests.configs import ML_LATEST as ML
from tests.configs import PIGEON, POG
from tests.configs import SER30K as SER
from tests.raw_sets import make_ml_latest, make_pigeon, make_pog, make_ser30k

BUILD = {"ml_latest": build_ml_latest, "pog": build_pog, "ser30k": build_ser30k, "pigeon": build_pigeon}


def build(config, raw: Path, *, seed: int = 0) -> Dataset:
    return BUILD[config.name](replace(config, raw=str(raw)), extra=raw / "no-extra", seed=seed)


def get_items(data: Dataset) -> dict[str, tuple[str, str]]:
    return {item["item_id"]: (item["text"], item["category"]) for item in data.items.values()}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_movielens_is_cut_into_chunks_by_time_without_posterless_movies(tmp_path: Path, line_end: str) -> None:
    raw = make_ml_latest(tmp_path / "raw", line_end=line_end)
    data = build(ML, raw)
    rows = [line.split(",") for line in (raw / "ratings.csv").read_text().split()[1:]]
    by_time = [movie for _, movie in sorted((int(time), int(movie)) for person, movie, _, time in rows if person == "3" and movie != "193609")]
    cases = {case["user_id"]: case for case in data.cases}
    assert len(cases) == 8 * (15 // 7)
    for chunk in (0, 1):
        case = cases[f"3_{chunk}"]
        assert [*case["history"], case["reference_id"]] == [str(movie) for movie in by_time[7 * chunk : 7 * chunk + 7]]
    assert get_items(data)["1"] == ("American President, The", "Drama, Romance")
    assert get_items(data)["7"] == ("Babylon 5", "")
    assert [(row.item_id, row.hint) for row in data.missing] == [("193609", "imdb tt0064176")]
    assert data.facts["table_2"]["items"] == {"found": 45, "paper": 50, "deviation": -0.1}
    assert (data.facts["ratings"], data.facts["ratings_without_poster"]) == (8 * 16 + 3, 8)


def test_a_threshold_and_a_number_of_people_leave_ratings_out(tmp_path: Path) -> None:
    raw = make_ml_latest(tmp_path / "raw", per_person=40)
    assert build(replace(ML, min_rating=4.0), raw).facts["ratings"] < build(ML, raw).facts["ratings"] / 2
    drawn = [{case["user_id"].split("_")[0] for case in build(replace(ML, num_people=4), raw, seed=seed).cases} for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) <= 4
    rows = [line.split(",") for line in (raw / "ratings.csv").read_text().split()[1:]]
    few = build(replace(ML, num_people=2), raw)
    people = {case["user_id"].split("_")[0] for case in few.cases}
    assert set(get_items(few)) == {movie for person, movie, _, _ in rows if person in people and movie != "193609"}


def test_poster_urls_of_the_user_are_listed_with_what_is_missing(tmp_path: Path) -> None:
    raw = make_ml_latest(tmp_path / "raw")
    (raw / "posters.csv").write_text('movieId,url\n193609,"https://example.org/a,b.jpg"\n')
    assert build(ML, raw).missing[0].url == "https://example.org/a,b.jpg"


def test_pog_takes_the_last_distinct_clicks_and_replaces_what_has_no_image(tmp_path: Path) -> None:
    raw = make_pog(tmp_path / "raw")
    data = build(POG, raw)
    assert len(data.cases) == 10
    lines = [line.split(",") for line in (raw / "user_data.txt").read_text().splitlines()]
    lost = {"9f0000c0ffee", "00001"}
    for case in data.cases:
        clicks = [item for user, items, _ in lines if user == case["user_id"] for item in items.split(";")]
        latest = [item for item in reversed(dict.fromkeys(reversed(clicks))) if item not in lost]
        assert [*case["history"], case["reference_id"]] == latest[-7:]
    assert {row.item_id for row in data.missing} <= lost
    assert data.missing
    assert all(row.url.startswith("http://img.alicdn.com/") for row in data.missing)
    used = {item for case in data.cases for item in (*case["history"], case["reference_id"])}
    assert set(get_items(data)) == used
    text, category = get_items(data)["00003"] if "00003" in used else get_items(data)[min(used)]
    assert text.startswith("秋季新款,连衣裙, 修身 第")
    assert re.fullmatch("[0-9a-f]{32}", category)  # kept: it says which items are alike
    assert build_semantic_text("a dress", text, "text+category", category=category) == text  # never embedded


def test_pog_users_are_drawn_by_the_seed_and_not_by_their_place_or_number_of_clicks(tmp_path: Path) -> None:
    raw = make_pog(tmp_path / "raw", num_users=40)
    drawn = [sorted(case["user_id"] for case in build(POG, raw, seed=seed).cases) for seed in (0, 1)]
    lines = (raw / "user_data.txt").read_text().splitlines()
    by_user = sorted(lines, key=lambda line: line.split(",")[0], reverse=True)  # a user's own lines keep their order
    (raw / "user_data.txt").write_text("\n".join(by_user) + "\n")
    assert sorted(case["user_id"] for case in build(POG, raw, seed=0).cases) == drawn[0] != drawn[1]


def draw_by_definition(lines: list[tuple[bytes, list[bytes]]], sample: UserSample) -> list[tuple[str, list[str]]]:
    """Draw what UserSample promises, with all clicks in memory."""
    clicks: dict[bytes, list[bytes]] = {}
    for user, items in lines:
        clicks.setdefault(user, []).extend(items)
    latest = {user: list(dict.fromkeys(reversed(items)))[: sample.max_items][::-1] for user, items in clicks.items()}
    enough = [user for user, items in latest.items() if len(items) >= sample.min_items]
    ranks = {user: hashlib.blake2b(user, digest_size=8, key=f"pog:{sample.seed}".encode()).digest() for user in enough}
    return [(user.decode(), [item.decode() for item in latest[user]]) for user in sorted(enough, key=ranks.__getitem__)[: sample.size]]


def make_clicks(num_users: int, num_lines: int) -> list[tuple[bytes, list[bytes]]]:
    rng = random.Random(4)
    return [(b"u%d" % rng.randrange(num_users), [b"i%d" % rng.randrange(60) for _ in range(rng.choice((1, 3, 9)))]) for _ in range(num_lines)]


def test_the_streamed_sample_is_the_one_that_its_definition_gives() -> None:
    lines = make_clicks(num_users=3_000, num_lines=12_000)
    sample = UserSample(size=20, min_items=8, max_items=10, seed=5)
    for user, items in lines:
        sample.add(user, items)
    assert sample.list_users() == draw_by_definition(lines, sample)
    assert len(sample.list_users()) == 20
    assert len(sample.users) < 1_000  # of 3,000: those above the limit are forgotten


def test_memory_is_bounded_where_hardly_anybody_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pog, "MAX_TRACKED", 1_500)
    lines = make_clicks(num_users=20_000, num_lines=30_000)
    sample = UserSample(size=20, min_items=8, max_items=10, seed=5)
    most = 0
    for user, items in lines:
        sample.add(user, items)
        most = max(most, len(sample.users))
    assert most <= 2 * 1_500
    drawn = sample.list_users()
    assert drawn
    assert drawn == [entry for entry in draw_by_definition(lines, replace(sample, users={}, enough=[], size=20_000)) if entry in drawn]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [(b"u" * 300 + b",a;b,o", "longer than the allowed 250"), (b"u,a;" + b"b" * 300 + b",o", "longer"), (b"u\xff,a,o", "UTF-8")],
)
def test_odd_ids_are_named_whoever_is_drawn(line: bytes, sentence: str, tmp_path: Path) -> None:
    raw = make_pog(tmp_path / "raw")
    with (raw / "user_data.txt").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ValueError, match=rf"user_data\.txt, line 34: .*{sentence}"):
        build(POG, raw)


@pytest.mark.parametrize("image_level", [False, True])
def test_stickers_merge_two_themes_and_refer_to_another(tmp_path: Path, image_level: bool) -> None:
    data = build(SER, make_ser30k(tmp_path / "raw", image_level=image_level))
    assert (len(data.items), len(data.cases)) == (48, 12)
    for case in data.cases:
        themes = Counter(item_id.split("/")[0] for item_id in case["history"])
        assert sorted(themes.values()) == [3, 4]
        assert case["reference_id"].split("/")[0] not in themes
    assert get_items(data)["01-panda-bear/sticker_1.png"] == ("panda bear", "panda bear")
    assert get_items(data)["00-café_cats/sticker_0.jpg"] == ("good night, 宝", "café cats")
    assert [row.item_id for row in data.missing] == ["00-café_cats/gone.png"]


def test_emotions_are_named_only_where_their_order_is_given(tmp_path: Path) -> None:
    raw = make_ser30k(tmp_path / "raw")
    emotions = tuple("abcdefg")
    assert get_items(build(replace(SER, emotions=emotions), raw))["01-panda-bear/sticker_1.png"][0] == "c"
    with pytest.raises(ValueError, match="emotions has 2 names, but it must have 7"):
        replace(SER, emotions=("joy", "anger"))


@pytest.mark.parametrize("stickers", [False, True])
def test_pigeons_windows_become_one_case_of_every_user_and_split(tmp_path: Path, stickers: bool) -> None:
    data = build(PIGEON, make_pigeon(tmp_path / "raw", stickers=stickers))
    assert len(data.items) == 39
    assert get_items(data)["3"] == (("happiness hi, you", "happiness") if stickers else ("Heat, The 3", "Action, Drama"))
    counts = Counter(case["split"] for case in data.cases)
    assert set(counts) == {"train", "val", "test"}
    assert all(count > 5 for count in counts.values())
    hidden = {(case["user_id"], case["reference_id"]) for case in data.cases if case["split"] != "train"}
    assert not hidden & {(row["user_id"], row["item_id"]) for row in data.interactions}
    assert len({(row["user_id"], row["position"]) for row in data.interactions}) == len(data.interactions)


@pytest.mark.parametrize(
    ("config", "make"), [(ML, make_ml_latest), (POG, make_pog), (SER, make_ser30k), (PIGEON, make_pigeon)], ids=["ml", "pog", "ser", "pigeon"]
)
def test_the_same_seed_gives_the_same_tables(config, make, tmp_path: Path) -> None:
    raw = make(tmp_path / "raw")
    first, second = build(config, raw), build(config, raw)
    assert (first.items, first.cases, first.interactions) == (second.items, second.cases, second.interactions)
