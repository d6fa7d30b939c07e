"""The ArtMoji data set. Run: python -m pytest tests/pipeline/data/test_artmoji.py"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts import read_table, write_table
from pipeline.data.adapters.artmoji import Catalogue, build_artmoji, build_catalogue, build_item_id, draw_cases, list_users
from pipeline.data.artmoji import FAMILIES, PICTURE_TABLE, PICTURES, Pictures, Thing, is_held_out, read_things
from pipeline.data.dataset import Dataset
from pipeline.data.images import decode_image
from pipeline.data.openmoji import render_sticker
from pipeline.metrics.matched_pairs import compute_pair_choice, find_matched_pairs
from tests.broken_items import draw_halves
from tests.configs import ARTMOJI as CONFIG
from tests.configs import ARTMOJI_FULL as FULL

NO_EXTRA = Path("no-such-folder")
Pair = tuple[dict[str, Any], dict[str, Any]]


class World:
    """The users of a config, without pictures, and what only labels tell of the items."""

    def __init__(self, **changes: Any) -> None:
        self.config = replace(FULL, **changes)
        self.catalogue: Catalogue = build_catalogue(self.config, seed=0)
        self.cases = [case for numbers, split in list_users(self.config) for case in draw_cases(self.catalogue, numbers, split, seed=0)]
        self.label = {build_item_id(thing, family): (thing, family) for thing in self.catalogue.things for family in self.config.families}

    def list_history(self, case: dict[str, Any]) -> list[tuple[Thing, str]]:
        return [self.label[item_id] for item_id in case["history"]]

    def list_own_cell(self, case: dict[str, Any]) -> list[str]:
        """List the families of the history items of the truth's cell."""
        cell = self.catalogue.cell_of[self.label[case["truth_id"]][0]]
        return [family for thing, family in self.list_history(case) if self.catalogue.cell_of[thing] == cell]


@pytest.fixture(scope="module")
def small() -> Dataset:
    return build_artmoji(CONFIG, extra=NO_EXTRA, seed=0)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def find_pairs(data: Dataset) -> list[Pair]:
    case_of = {case["case_id"]: case for case in data.cases}
    found = find_matched_pairs(data.cases, {item_id: item["text"] for item_id, item in data.items.items()}, "test")
    return [(case_of[first], case_of[second]) for first, second in found]


def test_every_family_has_drawn_every_thing_and_each_name_is_one_thing() -> None:
    things, pictures = read_things(Path(FULL.raw)), Pictures(Path(FULL.raw))
    assert len(things) == len({thing.name for thing in things}) == len({thing.code_point for thing in things}) == 443
    assert Counter(thing.category for thing in things) == {
        "Animals & Nature": 83,
        "Food & Drink": 59,
        "Travel & Places": 124,
        "Activities": 45,
        "Objects": 132,
    }
    assert set(FULL.families) == set(FAMILIES)
    for thing in things[::40]:
        assert {pictures.draw(thing, family).size for family in FAMILIES} == {(64, 64)}


def test_the_drawing_of_a_family_is_that_familys_drawing_of_that_thing() -> None:
    """OpenMoji's own SVGs come with another package: of all families' drawings theirs is the nearest."""
    pictures, nearest = Pictures(Path(FULL.raw)), []
    for thing in read_things(Path(FULL.raw))[::20]:
        sticker = np.full((64, 64, 3), 255.0)
        sticker[3:62, 3:62] = render_sticker(thing.code_point.upper(), "classic", size=59)  # 66 of the drawing's 72 units
        drawn = {family: np.abs(np.asarray(pictures.draw(thing, family), dtype=float) - sticker).mean() for family in FAMILIES}
        nearest.append(min(drawn, key=drawn.__getitem__))
    assert nearest.count("openmoji") == len(nearest), nearest


def test_every_pair_is_an_item_and_nothing_but_the_picture_and_the_labels_tells_its_family(small: Dataset) -> None:
    assert len(small.items) == 80 * 9
    words = {word for family in FAMILIES for word in (family, *family.split("-"))} - {"flat"}
    endings: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for label in small.labels:
        item = small.items[label["item_id"]]
        assert item["text"] == label["concept"]
        assert not words & set(f"{item['text']} {item['category']}".lower().split())
        assert not any(family in label["item_id"] for family in FAMILIES)
        endings[label["style"]].append(label["item_id"].partition("-")[2])
    assert len({ending for family in endings.values() for ending in family}) == 80 * 9  # none is a family's
    # nor do ids sort by family: each is at every place among its thing's nine
    order = sorted(small.labels, key=lambda label: label["item_id"])
    places = {(label["style"], place % 9) for place, label in enumerate(order)}
    assert len(places) == 81


def test_a_tenth_of_the_pairs_is_held_out_no_history_holds_them_and_test_truths_come_from_them(world: World) -> None:
    held_out = [is_held_out(thing, family) for thing in world.catalogue.things for family in FAMILIES]
    assert 0.09 < np.mean(held_out) < 0.11
    for case in world.cases:
        thing, family = world.label[case["truth_id"]]
        assert not any(is_held_out(*pair) for pair in world.list_history(case))
        assert is_held_out(thing, family) == (case["split"] != "train")
        assert world.label[case["reference_id"]] == (thing, "noto")
        assert family != "noto"
        assert case["split"] != "train" or not is_held_out(thing, "noto")


def test_one_family_is_new_to_the_test_users(world: World) -> None:
    seen: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for case in world.cases:
        seen[case["split"]] |= {family for _, family in world.list_history(case)} | {world.label[case["truth_id"]][1]}
    assert seen["train"] == seen["val"] == set(FAMILIES) - {"noto-v1"}
    assert seen["test"] == set(FAMILIES)
    truths = Counter(world.label[case["truth_id"]][1] for case in world.cases if case["split"] == "test")
    assert truths["noto-v1"] >= 10
    without = World(held_out_family=None, num_users=100)
    assert "noto-v1" in {family for case in without.cases if case["split"] == "train" for _, family in without.list_history(case)}


def test_histories_show_the_liked_family_of_each_cell_and_noise(world: World) -> None:
    cell_of, relevant, decoys = world.catalogue.cell_of, Counter(), []
    for case in world.cases:
        thing, family = world.label[case["truth_id"]]
        history = world.list_history(case)
        assert len({shown for shown, _ in history} - {thing}) == 20  # each thing once, and not the truth's
        relevant[world.list_own_cell(case).count(family)] += 1
        by_cell: dict[str, Counter[str]] = {}
        for shown, drawn_by in history:
            by_cell.setdefault(cell_of[shown], Counter())[drawn_by] += 1
        liked = sorted((max(families.values()) for cell, families in by_cell.items() if cell != cell_of[thing]), reverse=True)[:2]
        assert 14 <= world.list_own_cell(case).count(family) + sum(liked) <= 16  # the rest, 20 to 30%, is noise
        decoys.append(sum(shown.category == thing.category and cell_of[shown] != cell_of[thing] for shown, _ in history))
    assert set(relevant) == set(range(2, 11))
    assert min(relevant.values()) > 0.05 * len(world.cases)
    assert 4.5 < np.mean(decoys) < 6.5  # half of the other 15 - 6 by their cell, and of 5 of noise about a fifth


def test_neither_the_whole_history_nor_the_same_category_gives_the_liked_family_away(world: World) -> None:
    def vote(world: World, *, same_category: bool) -> float:
        right = []
        for case in world.cases:
            thing, family = world.label[case["truth_id"]]
            shown = [f for t, f in world.list_history(case) if t.category == thing.category or not same_category]
            right.append(Counter(shown).most_common(1)[0][0] == family)
        return float(np.mean(right))

    assert vote(world, same_category=False) < 0.65
    assert vote(world, same_category=True) < 0.65
    assert vote(World(cells="category"), same_category=True) > 0.95  # the catalogue's own rule


def test_with_one_cell_all_but_the_noise_is_liked() -> None:
    world = World(cells="one", num_users=30)
    for case in world.cases:
        assert 14 <= world.list_own_cell(case).count(world.label[case["truth_id"]][1]) <= 16


def list_words(data: Dataset, case: dict[str, Any]) -> tuple[Any, ...]:
    """List everything of a case that is words, or is shown to everybody: texts and categories in order, and the reference."""
    texts = tuple((data.items[item_id]["text"], data.items[item_id]["category"]) for item_id in case["history"])
    return (*texts, case["reference_id"], case["split"])


def test_test_users_come_in_pairs_that_no_word_tells_apart_though_every_artist_may_differ(small: Dataset) -> None:
    pairs = find_pairs(small)
    assert [case["case_id"] for pair in pairs for case in pair] == [case["case_id"] for case in small.cases if case["split"] == "test"]
    assert len(pairs) == small.facts["matched_pairs"] == 4
    concept = {label["item_id"]: label["concept"] for label in small.labels}
    for first, second in pairs:
        assert (first["case_id"][:-1], first["case_id"][-1], second["case_id"][-1]) == (second["case_id"][:-1], "a", "b")
        assert list_words(small, first) == list_words(small, second)
        assert first["truth_id"] != second["truth_id"]
        assert concept[first["truth_id"]] == concept[second["truth_id"]]
        assert first["history"] != second["history"]


def measure_pairs(data: Dataset, pairs: Sequence[Pair], draw: Any) -> np.ndarray:
    """Return the choice for every pair, of images that `draw` makes of a case, by distance of pixels."""

    def read(item_id: str) -> np.ndarray:
        return np.asarray(decode_image(data.items[item_id]["image"]["bytes"]), dtype=float)

    images = [[draw(data, case, read) for case in pair] for pair in pairs]
    truths = [[read(case["truth_id"]) for case in pair] for pair in pairs]
    distances = [[[np.square(i - t).mean() for t in own] for i in drawn] for drawn, own in zip(images, truths, strict=True)]
    return compute_pair_choice(np.array(distances))


def draw_words(data: Dataset, case: dict[str, Any], read: Any) -> np.ndarray:
    """Draw anything that depends on all the words and the reference's picture, and on nothing else."""
    words = repr(list_words(data, case))
    noise = np.random.default_rng(list(hashlib.sha256(words.encode()).digest())).normal(size=(CONFIG.image_size, CONFIG.image_size, 3))
    return read(case["reference_id"]) + 40 * noise


def test_a_method_that_reads_words_alone_is_right_in_exactly_half_of_the_pairs(small: Dataset) -> None:
    pairs = find_pairs(small)
    assert measure_pairs(small, pairs, draw_words).tolist() == [0.5] * len(pairs)
    assert measure_pairs(small, pairs, lambda data, case, read: read(case["truth_id"])).tolist() == [1] * len(pairs)
    swapped = {case["case_id"]: other["truth_id"] for pair in pairs for case, other in (pair, pair[::-1])}
    assert measure_pairs(small, pairs, lambda data, case, read: read(swapped[case["case_id"]])).tolist() == [0] * len(pairs)


def test_an_odd_last_test_user_is_alone() -> None:
    world = World(num_users=13, splits=(0.4, 0.2, 0.4))
    tests = [case["case_id"] for case in world.cases if case["split"] == "test"]
    assert [case_id[-1] for case_id in tests[:4]] == ["a", "b", "a", "b"]
    assert len(tests) == 5
    assert tests[-1][-1].isdigit()


def test_extra_images_go_to_users_without_a_partner(tmp_path: Path) -> None:
    for number in range(12):
        draw_halves("red").save(tmp_path / f"hat_{number}.png")
    data = build_artmoji(CONFIG, extra=tmp_path, seed=0)
    assert data.facts["extra_items"] == 12
    assert data.facts["matched_pairs"] == 4
    assert {case["split"] for case in data.cases for item_id in case["history"] if item_id.startswith("extra-")} <= {"train", "val"}


def copy_raw(folder: Path) -> Path:
    shutil.copytree(FULL.raw, folder)
    return folder


def test_missing_and_damaged_raw_files_and_impossible_sizes_get_one_clear_sentence(tmp_path: Path) -> None:
    def refuse(sentence: str, **changes: Any) -> None:
        with pytest.raises(ValueError, match=sentence) as error:
            build_artmoji(replace(CONFIG, **changes), extra=NO_EXTRA, seed=0)
        assert "\n" not in str(error.value)

    refuse(r"num_things is 444, but there are only 443 things", num_things=444)
    refuse(r"cannot draw user \d+: no cell has a .* truth.*raise dataset.num_things \(9\)", num_things=9)
    refuse(r"things\.csv, the table of things, does not exist", raw=str(tmp_path))
    raw = copy_raw(tmp_path / "raw")
    rows = read_table(raw / PICTURES, PICTURE_TABLE).to_pylist()
    thing = build_catalogue(CONFIG, seed=0).things[0]
    picture = next(row for row in rows if (row["code_point"], row["family"]) == (thing.code_point, "noto"))
    write_table(raw / PICTURES, [row for row in rows if row is not picture], PICTURE_TABLE, provenance={})
    refuse(rf"pictures\.parquet has no picture of '{thing.name}' \({thing.code_point}\) by noto", raw=str(raw))
    picture["image"]["bytes"] = picture["image"]["bytes"][:40]
    write_table(raw / PICTURES, rows, PICTURE_TABLE, provenance={})
    refuse(rf"pictures\.parquet: '{thing.name}' \({thing.code_point}\) by noto cannot be read\. The", raw=str(raw))
    (raw / PICTURES).write_bytes(b"PAR1")
    refuse(r"pictures\.parquet is not a readable Parquet file", raw=str(raw))
