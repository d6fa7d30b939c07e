"""What the demo answers, without Gradio. Run: python -m pytest tests/pipeline/demo/test_studio.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pipeline.demo.__main__
from pipeline.data.image_policy import MAX_BYTES
from pipeline.data.images import encode_png
from pipeline.demo.studio import Answer, Ask, Drawn, Studio, Tile, keep_upload
from pipeline.demo.view import show_answer, show_refusal
from pipeline.draw.run import draw_requests
from pipeline.models.fake import FakeDiffusion
from tests.pipeline.draw.toy_run import ToyRun, draw_disc

K = 5  # of conf/config.yaml


def ask_for(toy: ToyRun, user: int = 1, *, k: int = K) -> Ask:
    return Ask(f"user-{user}", toy.cases[user]["reference_id"], k)


@pytest.mark.parametrize("k", [2, K])
def test_the_answer_is_what_make_draw_gives_for_the_same_requests(toy: ToyRun, studio: Studio, k: int) -> None:
    answer = studio.answer(ask_for(toy, k=k))
    path = toy.write_requests(
        ["user_id,reference_id,method,k", f"user-1,{toy.cases[1]['reference_id']},sd,", f"user-1,{toy.cases[1]['reference_id']},retrieved,{k}"]
    )
    rows = draw_requests(path, toy.folder / "out", toy.run, toy.run.build_defaults()).chosen
    assert [one.image for one in answer.drawn] == [(toy.folder / "out" / row["file"]).read_bytes() for row in rows]
    same = ("prompt", "keywords", "retrieved", "reason", "case_id", "seed", "image_sha256", "delta_r")
    assert [{name: one.row[name] for name in same} for one in answer.drawn] == [{name: row[name] for name in same} for row in rows]


def test_the_history_is_whole_and_the_retrieved_items_have_their_weights(toy: ToyRun, studio: Studio) -> None:
    answer = studio.answer(ask_for(toy))
    assert [tile.item_id for tile in answer.history] == toy.cases[1]["history"]
    retrieved = {row["item_id"]: row["weight"] for row in toy.run.retrieved.to_pylist() if row["case_id"] == "case-1"}
    assert {tile.item_id: tile.weight for tile in answer.history if tile.weight is not None} == retrieved
    assert answer.reference.item_id == toy.cases[1]["reference_id"]
    assert all(tile.image for tile in (*answer.history, answer.reference))


def test_k_changes_the_last_method_alone(toy: ToyRun, studio: Studio) -> None:
    few, many = studio.answer(ask_for(toy, k=1)), studio.answer(ask_for(toy, k=8))
    assert [sum(tile.weight is not None for tile in answer.history) for answer in (few, many)] == [1, 8]
    assert few.main.row["prompt"] != many.main.row["prompt"]
    assert few.main.image != many.main.image
    assert few.drawn[0].image == many.drawn[0].image


def test_what_has_been_answered_is_not_drawn_again(toy: ToyRun, studio: Studio, delivered: list[int]) -> None:
    first = studio.answer(ask_for(toy))
    studio.answer(ask_for(toy, k=2))
    assert studio.answer(ask_for(toy)) is first
    assert delivered == [2, 2]


def test_an_uploaded_picture_goes_to_the_repositorys_opener(toy: ToyRun, studio: Studio, tmp_path: Path) -> None:
    path = tmp_path / "any.jpg"
    path.write_bytes(b"no picture at all")
    ask = Ask("user-1", "item-00", K, path, "a pot")
    with pytest.raises(ValueError, match=r"^The image upload cannot be used: "):
        studio.answer(ask)
    path.write_bytes(b"\0" * (MAX_BYTES + 10))
    with pytest.raises(ValueError, match=r"^The image upload cannot be used: .*bytes"):
        studio.answer(ask)


def test_an_uploaded_picture_takes_the_references_place(
    toy: ToyRun, studio: Studio, delivered: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("pipeline.demo.studio.resolve_requests", lambda table, *_: seen.append(table) or ([], None, table.rejected))
    path = tmp_path / "pot.png"
    path.write_bytes(encode_png(draw_disc(80)))
    with pytest.raises(IndexError):  # nothing is resolved here
        studio.answer(Ask("user-1", "item-00", 3, path, f" {'p' * 2_000}"))
    requests = seen[0].requests
    assert [(one.method, one.k, one.reference_id, one.image.name, one.text) for one in requests] == [
        ("sd", K, "", "upload", "p" * 1_000),
        ("retrieved", 3, "", "upload", "p" * 1_000),
    ]


def test_no_more_of_an_upload_is_kept_than_a_picture_may_have(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"\1" * (MAX_BYTES + 10))
    (tmp_path / "folder").mkdir()
    name = keep_upload(tmp_path / "large", tmp_path / "folder")
    assert (tmp_path / "folder" / name).stat().st_size == MAX_BYTES + 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": "zoe"}, "The user_id 'zoe' is not known to the run"),
        ({"reference_id": "gone"}, "The reference: the item_id 'gone' is not in the table of items."),
        ({"user_id": ""}, "It says neither whose picture it is"),
        ({"reference_id": ""}, "It has neither a reference_id nor an image."),
        ({"k": 0}, "`k` is '0', but it must be a whole number from 1 to 1000."),
    ],
)
def test_what_cannot_be_drawn_has_make_draws_reason(toy: ToyRun, studio: Studio, changes: dict, reason: str) -> None:
    with pytest.raises(ValueError, match="^" + reason.replace("(", r"\(").replace(".", r"\.")):
        studio.answer(replace(ask_for(toy), **changes))


def test_those_whom_the_run_has_drawn_are_offered_first_with_their_references(toy: ToyRun, studio: Studio) -> None:
    toy.run.params.write_text(toy.run.params.read_text().replace("splits: [test]", "splits:\n  - test"))
    assert studio.list_users() == ["user-1", "user-3", "user-5", "user-0", "user-2", "user-4"]
    assert studio.find_reference("user-3") == toy.cases[3]["reference_id"]
    assert studio.find_reference("zoe") == ""
    labels = studio.list_references()
    assert labels[0] == (f"thing {int(toy.cases[1]['reference_id'][-2:])} ({toy.cases[1]['reference_id']})", toy.cases[1]["reference_id"])
    assert len(labels) == len(toy.items)
    assert studio.max_k == 8


def test_a_run_without_ragars_pictures_is_not_finished(toy: ToyRun) -> None:
    toy.write_generated("sd", {}, None)
    with pytest.raises(ValueError, match=r"ragar/generated\.parquet does not exist; finish a run with these params first"):
        Studio(toy.run).check()
    toy.write_generated("ragar", {}, None)
    Studio(toy.run).check()


@pytest.mark.parametrize(
    ("is_installed", "words"),
    [(False, "the demo needs the package gradio, which is not installed; `make setup EXTRAS=demo` installs it."), (True, "holds no dvc.yaml")],
)
def test_what_is_missing_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline.demo.__main__, "find_spec", lambda name: object() if is_installed else None)
    result = CliRunner().invoke(pipeline.demo.__main__.app, [])
    assert isinstance(result.exception, ValueError)
    assert words in str(result.exception)


def test_the_page_frames_what_was_retrieved_and_escapes_what_the_data_say() -> None:
    png, evil = encode_png(draw_disc(40)), "<script>alert(1)</script>"
    row = {"reason": f"Use it: {evil}.", "prompt": evil, "keywords": [evil], "retrieved": [{"item_id": "a", "weight": 0.75}]}
    history = [Tile("a", evil, png, 0.75), Tile('b"', evil, b"broken", None)]
    html = show_answer(Answer(evil, Tile("r", evil, png, None), history, [Drawn("sd", row, b""), Drawn("ragar", row, png)], 1))
    assert "<script" not in html
    assert html.count('class="retrieved"') == 1
    assert 'data-item="a" style="--weight: 0.750"' in html
    assert "75 %" in html
    assert html.index(">SD<") < html.index(">RAGAR<")
    assert html.count("data:image/webp;base64,") == 3
    assert html.count("no picture") == 2  # SD's, and that of the broken item
    assert "<b>" not in show_refusal("<b>no</b>")


def test_the_stand_in_draws_once_for_every_picture(toy: ToyRun, studio: Studio, diffusion: FakeDiffusion) -> None:
    studio.answer(ask_for(toy))
    drawn = diffusion.num_drawn
    studio.answer(ask_for(toy, k=1))
    assert diffusion.num_drawn > drawn
    again = diffusion.num_drawn
    Studio(toy.run, studio.methods).answer(ask_for(toy, k=1))  # another start of the demo: all is in the ledger
    assert diffusion.num_drawn == again
