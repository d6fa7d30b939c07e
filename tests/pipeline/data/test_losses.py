"""Every interaction is in a history or counted, every user is a case or named. Run: python -m pytest tests/pipeline/data/test_losses.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.adapters.folder import build_folder
from pipeline.data.adapters.ml_latest import build_ml_latest
from pipeline.data.adapters.pigeon import build_pigeon
from pipeline.data.adapters.pog import build_pog
from pipeline.data.adapters.ser30k import build_ser30k
from pipeline.data.dataset import Dataset, summarise
from pipeline.data.losses import LEFT_OUT, NO_IMAGE, REFERENCES, REPEATED, Losses, describe_cut
from tests.configs import FOLDER, ML_LATEST, PIGEON, POG, SER30K
from tests.raw_sets import make_folder, make_ml_latest, make_pigeon, make_pog, make_ser30k, write_csv_rows


def build_own(raw: Path, rows: list[list[str]], references: list[list[str]] | None = None, **changes: object) -> Dataset:
    make_folder(raw)
    write_csv_rows(raw / "interactions.csv", ["user_id", "item_id"], rows)
    if references:
        write_csv_rows(raw / "references.csv", ["user_id", "item_id"], references)
    return build_folder(replace(FOLDER, raw=str(raw), **changes), extra=raw / "no-extra")


def list_rows(user: str, items: list[int]) -> list[list[str]]:
    return [[user, f"{item:03d}" if item < 40 else "9999"] for item in items]


def test_what_becomes_of_every_interaction_of_a_catalogue_is_counted(tmp_path: Path) -> None:
    rows = [
        *list_rows("long", list(range(20))),  # 6 of 19 stay beside the reference
        *list_rows("again", [1, 2, 3, 4, 2, 5, 99]),  # one is repeated, one has no image
        *list_rows("plain", [1, 2, 3, 4]),
        *list_rows("short", [1, 2]),
        *list_rows("blind", [99]),
        *list_rows("lost", [1, 2, 3, 4, 5]),
    ]
    data = build_own(tmp_path / "raw", rows, [["lost", "9999"], ["nobody", "001"]], history_length=6, min_history=3)
    assert data.losses.num_read == len(rows) == 39
    assert data.losses.interactions == {describe_cut(6): 13, REFERENCES: 3, REPEATED: 1, NO_IMAGE: 1, LEFT_OUT: 8}
    assert data.losses.num_kept == sum(len(case["history"]) for case in data.cases) == 13
    assert data.losses.users == {
        "short": "the user 'short' is left out: 1 items with a readable image besides the reference, fewer than dataset.min_history, 3.",
        "blind": "the user 'blind' is left out: none of the user's items has a readable image.",
        "lost": "the user 'lost' is left out: the reference '9999' has no readable image.",
        "nobody": "the user 'nobody' is left out: there is a reference for this user, but no interaction.",
    }
    assert data.losses.describe()[0] == (
        "interactions: 39 were read, 13 are in histories; 13 are older than the latest 6 of a user (dataset.history_length); 8 are of users who are "
        "left out; 3 are taken as references; 1 repeat an item of the same user; 1 are of items without a readable image"
    )
    summary = summarise(data)
    assert (summary["interactions_read"], summary["interactions_in_histories"], summary["users_left_out"]) == (39, 13, 4)
    assert sum(summary["interactions_lost"].values()) == 26


def test_users_are_named_up_to_a_number(tmp_path: Path) -> None:
    rows = [row for n in range(3) for row in list_rows(f"u{n}", [1, 2, 3, 4, 5])] + [row for n in range(12) for row in list_rows(f"s{n:02d}", [1])]
    lines = build_own(tmp_path / "raw", rows).losses.describe()
    assert [line.split("'")[1] for line in lines[1:11]] == [f"s{n:02d}" for n in range(10)]
    assert lines[11] == "12 users are left out in all; data/dataset/rejected.parquet and the report name them"


def test_titles_that_say_nothing_are_counted(tmp_path: Path) -> None:
    raw = make_folder(tmp_path / "raw")
    lines = (raw / "items.csv").read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:2], "4006381333931", "cups"])
    (raw / "items.csv").write_text("\n".join(lines) + "\n")
    data = build_folder(replace(FOLDER, raw=str(raw)), extra=raw / "no-extra")
    assert data.losses.titles == ["000"]
    assert data.losses.describe()[-1] == "titles: 1 are codes or numbers, e.g. that of item '000'; the images' captions stand in for them"
    assert summarise(data)["titles_without_words"] == 1


SETS = {
    "folder": (make_folder, build_folder, FOLDER, {}),
    "ml_latest": (make_ml_latest, build_ml_latest, ML_LATEST, {"seed": 0}),
    "pog": (make_pog, build_pog, POG, {"seed": 0}),
    "pigeon": (make_pigeon, build_pigeon, PIGEON, {"seed": 0}),
}


def build(name: str, raw: Path, **changes: object) -> Dataset:
    make, build_set, config, options = SETS[name]
    return build_set(replace(config, raw=str(make(raw)), **changes), extra=raw / "no-extra", **options)


@pytest.mark.parametrize("name", SETS)
def test_what_is_in_histories_is_what_was_read_without_the_losses(name: str, tmp_path: Path) -> None:
    data = build(name, tmp_path / "raw")
    assert data.losses.interactions.total() > 0
    assert data.losses.num_kept == sum(len(case["history"]) for case in data.cases)
    assert data.losses.interactions[REFERENCES] == len(data.cases)


def test_movielens_names_people_without_a_chunk_and_counts_stars_and_rests(tmp_path: Path) -> None:
    losses = build("ml_latest", tmp_path / "raw", min_rating=3.0).losses
    rows = [line.split(",") for line in (tmp_path / "raw" / "ratings.csv").read_text().split()[1:]]
    assert losses.num_read == len(rows)
    assert losses.interactions["have fewer stars than dataset.min_rating"] == sum(float(stars) < 3 for _, _, stars, _ in rows)
    assert losses.interactions[NO_IMAGE] == 8
    assert losses.users["9"] == "the user '9' is left out: 3 rated movies with a readable poster, but history and reference need 7."
    assert any(what.startswith("are the rest of a person's ratings, too short for a chunk of 7") for what in losses.interactions)


def test_pog_says_which_users_had_too_few_images_and_which_were_not_needed(tmp_path: Path) -> None:
    losses = build("pog", tmp_path / "raw", num_users=5).losses
    assert losses.interactions["are of spare users who were not needed"] > 0
    assert all(sentence.endswith("history and reference need 7.") for sentence in losses.users.values())


def test_pigeon_counts_the_windows_that_were_not_drawn(tmp_path: Path) -> None:
    losses = build("pigeon", tmp_path / "raw").losses
    assert losses.interactions["are of windows that were not drawn, one of every user and split is"] > 0
    assert "0, split test" in losses.users
    assert losses.users["0, split test"] == (
        "the user '0, split test' is left out: none of 2 windows has a readable image of every item, and a reference that is not in its own history."
    )


def test_ser30k_says_which_themes_are_in_no_history(tmp_path: Path) -> None:
    raw = make_ser30k(tmp_path / "raw", per_theme=8)
    for path in sorted((raw / "Images" / "01-panda-bear").iterdir())[:6]:
        path.unlink()
    config = replace(SER30K, raw=str(raw), max_rejected_fraction=0.5)
    data = build_ser30k(config, extra=raw / "no-extra", seed=0)
    assert data.notes == [
        f"themes: 1 of 6 have fewer than {config.stickers_per_theme} readable stickers (dataset.stickers_per_theme), e.g. '01-panda-bear' with 2; "
        "their 2 stickers are drawn as references and in no history"
    ]
    assert summarise(data).keys().isdisjoint({"interactions_read"})


def test_where_nothing_is_counted_nothing_is_said_or_written() -> None:
    losses = Losses()
    assert (losses.summarise(), losses.describe(), losses.explain_users()) == ({}, [], {})
