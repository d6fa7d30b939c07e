"""The StyleMoji data set. Run: python -m pytest tests/pipeline/data/test_stylemoji.py"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.adapters.stylemoji import build_stylemoji
from pipeline.data.dataset import Dataset, assign_splits
from pipeline.data.images import decode_image
from pipeline.data.openmoji import STYLES, is_held_out
from tests.broken_items import draw_halves
from tests.configs import STYLEMOJI as CONFIG

NO_EXTRA = Path("no-such-folder")


@pytest.fixture(scope="module")
def small() -> Dataset:
    return build_stylemoji(CONFIG, extra=NO_EXTRA, seed=0)


def split_id(item_id: str) -> tuple[str, str]:
    concept, style = item_id.rsplit("-", 1)
    return concept, style


def test_every_pair_is_an_item_and_only_the_image_tells_its_style(small: Dataset) -> None:
    assert len(small.items) == 64 * 6
    texts = {item["item_id"]: item["text"] for item in small.items.values()}
    for label in small.labels:
        assert texts[label["item_id"]] == label["concept"]
        assert not any(style in label["concept"].split() for style in STYLES)


def test_histories_show_the_liked_style_of_the_truths_group_and_noise(small: Dataset) -> None:
    group = {item["item_id"]: item["category"] for item in small.items.values()}
    for case in small.cases:
        assert len(case["history"]) == len(set(case["history"])) == 8
        truth_concept, liked = split_id(case["truth_id"])
        same = [split_id(i)[1] for i in case["history"] if group[i] == group[case["truth_id"]]]
        assert same.count(liked) >= 3  # 6 liked items over 2 groups
        assert split_id(case["reference_id"]) == (truth_concept, "classic")
        assert liked != "classic"
        assert truth_concept not in {split_id(i)[0] for i in case["history"]}


def test_the_whole_history_does_not_give_the_liked_style_away() -> None:
    config = replace(CONFIG, num_users=300, num_concepts=200, history_length=20, groups_per_user=3, noise=0.2)
    data = build_stylemoji(config, extra=NO_EXTRA, seed=0)
    group = {item["item_id"]: item["category"] for item in data.items.values()}
    related = [sum(group[i] == group[case["truth_id"]] for i in case["history"]) for case in data.cases]
    assert abs(sum(related) / len(related) - (16 / 3 + 4 / 8)) < 0.25  # 16 liked items over 3 groups, noise over 8; 300 users
    votes = [Counter(split_id(i)[1] for i in case["history"]).most_common(1)[0][0] for case in data.cases]
    assert sum(vote == split_id(case["truth_id"])[1] for vote, case in zip(votes, data.cases, strict=True)) / 300 < 0.5


def test_no_history_holds_a_held_out_pair_and_test_truths_are_held_out(small: Dataset) -> None:
    for case in small.cases:
        assert not any(is_held_out(*split_id(item_id)) for item_id in case["history"])
        assert is_held_out(*split_id(case["truth_id"])) == (case["split"] != "train")


def test_about_a_tenth_of_the_pairs_is_held_out_and_none_in_the_reference_style() -> None:
    whole = build_stylemoji(replace(CONFIG, num_concepts=300, num_users=3, splits=(1.0, 0.0, 0.0)), extra=NO_EXTRA, seed=0)
    assert 0.07 < whole.facts["held_out_pairs"] / len(whole.items) < 0.13
    assert not any(is_held_out(*split_id(item["item_id"])) for item in whole.items.values() if item["item_id"].endswith("-classic"))


def test_the_same_seed_gives_the_same_data_and_another_seed_other_users(small: Dataset) -> None:
    again, other = (build_stylemoji(CONFIG, extra=NO_EXTRA, seed=seed) for seed in (0, 1))
    assert again.cases == small.cases
    assert again.items == small.items == other.items
    assert other.cases != small.cases


def test_a_user_does_not_depend_on_how_many_users_there_are(small: Dataset) -> None:
    more = build_stylemoji(replace(CONFIG, num_users=30, splits=(1.0, 0.0, 0.0)), extra=NO_EXTRA, seed=0)
    trained = [case["case_id"] for case in small.cases if case["split"] == "train"]
    by_id = {case["case_id"]: case for case in more.cases}
    assert all(by_id[case["case_id"]] == case for case in small.cases if case["case_id"] in trained)


def test_splits_have_their_exact_sizes() -> None:
    assert Counter(assign_splits(range(500), (0.5, 0.1, 0.4))) == {"train": 250, "val": 50, "test": 200}


def test_the_papers_protocol_merges_two_themes_and_takes_the_reference_from_another() -> None:
    data = build_stylemoji(replace(CONFIG, protocol="themes", history_length=4), extra=NO_EXTRA, seed=0)
    group = {item["item_id"]: item["category"] for item in data.items.values()}
    for case in data.cases:
        themes = Counter((group[i], split_id(i)[1]) for i in case["history"])
        assert sorted(themes.values()) == [2, 2]
        assert (group[case["reference_id"]], split_id(case["reference_id"])[1]) not in themes
        assert case["truth_id"] is None


def test_impossible_sizes_and_wrong_names_get_one_clear_sentence() -> None:
    with pytest.raises(ValueError, match=r"cannot draw user 0.*num_concepts"):
        build_stylemoji(replace(CONFIG, num_concepts=9, history_length=20), extra=NO_EXTRA, seed=0)
    with pytest.raises(ValueError, match=r"'cubist'.*classic, outline"):
        replace(CONFIG, styles=("classic", "cubist"))
    with pytest.raises(ValueError, match="sum to 1"):
        replace(CONFIG, splits=(0.5, 0.5, 0.5))


def test_extra_images_become_items_in_histories_like_the_others_and_unusable_ones_are_missing_with_a_reason(tmp_path: Path) -> None:
    draw_halves("red", 400).save(tmp_path / "a_cat.png")
    draw_halves("red").save(tmp_path / "wordless.gif")
    (tmp_path / "wordless.txt").write_text("")
    (tmp_path / "notes.md").write_text("no image")
    (tmp_path / "._a_cat.png").write_bytes(b"what macOS leaves")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "plain.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "pixel.gif")
    data = build_stylemoji(CONFIG, extra=tmp_path, seed=0)
    extras = [row for row in data.items.values() if row["item_id"].startswith("extra-")]
    sizes = [decode_image(extra["image"]["bytes"]).size for extra in extras]
    expected = [("extra-a_cat.png", "a cat", (CONFIG.image_size,) * 2), ("extra-wordless.gif", "", (16, 16))]
    assert [(extra["item_id"], extra["text"], size) for extra, size in zip(extras, sizes, strict=True)] == expected
    reasons = {row.item_id: row.reason for row in data.missing}
    assert list(reasons) == ["extra-broken.png", "extra-empty.jpg", "extra-pixel.gif", "extra-plain.png"]
    assert "header is damaged" in reasons["extra-broken.png"]
    assert "0 bytes" in reasons["extra-empty.jpg"]
    assert "1 x 1 pixels, too small" in reasons["extra-pixel.gif"]
    assert "blank" in reasons["extra-plain.png"]
    shown = Counter(i for case in data.cases for i in case["history"] if i.startswith("extra-"))
    assert shown == {"extra-a_cat.png": 1, "extra-wordless.gif": 1}
    assert all(len(case["history"]) == 8 for case in data.cases)
