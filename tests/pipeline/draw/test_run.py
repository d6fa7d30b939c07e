"""From a table of requests to a folder: bytes, names, resuming, rejections. Run: python -m pytest tests/pipeline/draw/test_run.py"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.artifacts import read_table, write_table
from pipeline.data.images import encode_png
from pipeline.draw import delivery
from pipeline.draw.command import check_choice
from pipeline.draw.manifest import MANIFEST, clean_part, name_file
from pipeline.draw.pictures import Setting, build_for, draw_method_cases
from pipeline.draw.requests import Start
from pipeline.draw.run import check_place, export_run
from pipeline.models.fake import FakeDiffusion
from pipeline.schemas import CASE_PSEUDO_WORDS, PMG_PREFERENCES, PSEUDO_WORDS
from pipeline.spreadsheets import read_csv
from tests.pipeline.draw.drawing import draw, draw_as_the_run_does, read_files
from tests.pipeline.draw.test_wishes import make_new_items
from tests.pipeline.draw.toy_run import ToyRun, draw_disc


@pytest.mark.parametrize("method", ["sd", "keywords", "retrieved", "original"])
@pytest.mark.parametrize("finished", ["table", "ledger", "nothing"])
def test_a_case_of_the_run_has_the_runs_bytes_from_its_table_its_ledger_or_drawn_anew(
    toy: ToyRun, diffusion: FakeDiffusion, method: str, finished: str
) -> None:
    images = draw_as_the_run_does(toy, method)
    if finished != "table":
        toy.run.locate_generated(method).unlink()
    if finished == "nothing":
        shutil.rmtree(Path(os.environ["DVC_ROOT"]) / ".work")
    drawn = diffusion.num_drawn
    outcome = draw(toy, *(f"user-{user},item-{toy.cases[user]['reference_id'][-2:]},{method}" for user in (5, 1)))
    assert [(toy.folder / "out" / row["file"]).read_bytes() for row in outcome.chosen] == [images["case-5"], images["case-1"]]
    assert (diffusion.num_drawn > drawn) == (finished == "nothing" and method != "original")


def test_a_run_with_other_params_than_those_at_hand_is_refused(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    draw_as_the_run_does(toy, "sd")
    params = toy.run.params.read_text().replace("guidance_scale: 4.0", "guidance_scale: 5.0")
    toy.run.params.write_text(params)
    with pytest.raises(ValueError, match=r"generated.parquet was drawn with other params or models than those of .*params.yaml; finish a run"):
        draw(toy, f"user-1,{toy.cases[1]['reference_id']},sd")


def test_the_method_of_another_training_is_only_had_from_the_run(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    png = encode_png(draw_disc(99))
    toy.write_generated("truth", {"case-1": png}, "copy")
    taken, reasons = draw_method_cases("truth", toy.list_test_cases(), toy.run, make_new_items(toy=toy), Setting(Start()))
    assert taken == {"case-1": png}
    assert set(reasons) == {"case-3", "case-5"}
    assert reasons["case-3"] == (
        "The run has no picture of this case, seed, k and start by the method truth, and none can be drawn now: nobody knows it but the data set."
    )


TRAINED_FOR = {
    "ti": ("vectors", PSEUDO_WORDS, "a pseudo-word must be trained for each user (stage ti)"),
    "ti_retrieved": ("vectors", CASE_PSEUDO_WORDS, "a pseudo-word must be trained for each case (stage ti)"),
    "pmg": ("pmg_preferences", PMG_PREFERENCES, "the language model is asked for each case (stage pmg)"),
    "pmg_retrieved": ("pmg_preferences", PMG_PREFERENCES, "the language model is asked for each case (stage pmg)"),
}


@pytest.mark.parametrize("method", TRAINED_FOR)
def test_a_trained_baseline_has_the_runs_pictures_and_a_reason_for_all_others(toy: ToyRun, diffusion: FakeDiffusion, method: str) -> None:
    option, table, why = TRAINED_FOR[method]
    path, png = toy.run.list_method_files(method)[option], encode_png(draw_disc(99))
    toy.write_generated(method, {}, None)  # the run was not asked for it
    lines = [f"user-1,{toy.cases[1]['reference_id']},{method}", f"user-1,item-23,{method}"]
    refused = draw(toy, *lines)
    assert [row.reason for row in refused.rejected] == [
        f"The run has no picture of this case, seed, k and start by the method {method}, and none can be drawn now: {why}."
    ] * 2
    facts = {"num_vectors": 1, "num_soft": 0, "template": "{text} in the style of {style}"}
    write_table(path, table.build_empty(), table, provenance=facts)
    toy.write_generated(method, {"case-1": png}, build_for(method, toy.run, make_new_items(toy=toy), [], Setting(Start())).identity)
    drawn = draw(toy, *lines)
    assert [(toy.folder / "out" / row["file"]).read_bytes() for row in drawn.chosen] == [png]
    assert drawn.rejected == refused.rejected[1:]
    toy.run.params.write_text(toy.run.params.read_text().replace("negative_prompt: ''", "negative_prompt: blurry"))
    with pytest.raises(ValueError, match="was drawn with other params or models"):
        draw(toy, *lines)


def test_every_request_is_a_file_or_a_reason_and_the_manifest_says_why(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    outcome = draw(
        toy,
        "user-1,item-23,original",
        "zoe,item-23,sd",
        "user-3,item-99,sd",
        "user-3,item-22,painting",
        "user-3,item-22,keywords",
    )
    out = toy.folder / "out"
    assert sorted(read_files(out)) == [
        "00002-user-1-thing-23-original.png", "00006-user-3-thing-22-keywords.png", "manifest.csv", "manifest.parquet", "rejected.csv",
        "summary.json",
    ]  # fmt: skip
    rejected = [(int(row["request"]), row["reason"]) for row in read_csv(out / "rejected.csv")]
    assert rejected == [(row.number, row.reason) for row in outcome.rejected]
    assert [number for number, _ in rejected] == [3, 4, 5]
    rows = read_table(out / "manifest.parquet", MANIFEST).to_pylist()
    assert [(row["request"], row["candidate"], row["status"]) for row in rows] == [
        (2, 1, "chosen"), (3, 0, "rejected"), (4, 0, "rejected"), (5, 0, "rejected"), (6, 1, "chosen"),
    ]  # fmt: skip
    assert rows[0]["reason"] == "Use it: sound; shows the thing (its caption names thing); both rankers prefer it: rank 10 to 5 (ΔR 0.50)."
    assert (rows[0]["prompt"], rows[0]["seed"], rows[0]["user_vector"], rows[0]["keep_original"]) == ("", 0, "trained", False)
    assert rows[4]["reason"] == "Keep the original: it is blank."  # as all that the stand-in draws
    assert rows[4]["prompt"].startswith("thing 22, thing, word ")
    assert sum(pair["weight"] for pair in rows[0]["retrieved"]) == pytest.approx(1.0)
    assert rows[1]["reason"] == "The user_id 'zoe' is not known to the run; give a `history` of item ids."
    listed = read_csv(out / "manifest.csv")
    assert (listed[0]["keep_original"], listed[0]["is_sound"], listed[1]["is_sound"]) == ("no", "yes", "")
    assert listed[0]["retrieved"].count(" (0.") == len(rows[0]["retrieved"])


def test_the_same_request_gives_the_same_bytes_in_any_company(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    draw(toy, "user-1,item-23,sd", out="alone")
    shutil.rmtree(Path(os.environ["DVC_ROOT"]) / ".work")
    draw(toy, *(f"user-{user},item-{item},sd" for item in (21, 22, 23) for user in (0, 2, 4)), "user-1,item-23,sd", out="together")
    [alone] = (toy.folder / "alone").glob("*.png")
    [together] = (toy.folder / "together").glob("*-user-1-thing-23-sd.png")
    assert alone.read_bytes() == together.read_bytes()


def test_candidates_differ_and_the_best_is_chosen(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    outcome = draw(toy, "user-1,item-23,sd,3", "user-1,item-23,original,3", header="user_id,reference_id,method,candidates")
    first = [row for row in outcome.rows if row["request"] == 2]
    assert [row["status"] for row in first] == ["other candidate", "other candidate", "chosen"]
    assert [row["file"] for row in first] == [
        "other-candidates/00002-user-1-thing-23-sd-candidate-1.png",
        "other-candidates/00002-user-1-thing-23-sd-candidate-2.png",
        "00002-user-1-thing-23-sd.png",
    ]
    assert len({row["image_sha256"] for row in first}) == 3
    assert len([row for row in outcome.rows if row["request"] == 3]) == 1  # a copy is a copy


def test_another_seed_is_another_picture_and_the_runs_own_is_the_default(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    rows = draw(toy, *(f"user-1,item-23,sd,{seed}" for seed in ("", "0", "5")), header="user_id,reference_id,method,seed").rows
    assert rows[0]["image_sha256"] == rows[1]["image_sha256"] != rows[2]["image_sha256"]
    assert [row["seed"] for row in rows] == [0, 0, 5]


def test_a_run_that_was_interrupted_ends_with_the_same_bytes_and_draws_nothing_twice(
    toy: ToyRun, diffusion: FakeDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"user-{user},item-{item},sd" for item in (20, 21, 22, 23) for user in range(6)]
    draw(toy, *lines, out="whole")
    shutil.rmtree(Path(os.environ["DVC_ROOT"]) / ".work")
    drawn, written = diffusion.num_drawn, 0
    put = delivery.put_picture

    def put_some(path: Path, data: bytes) -> bool:
        nonlocal written
        written += 1
        if written > 7:
            path.with_name(f".{path.name}.abcdefgh.tmp").write_bytes(data[:10])  # what a kill leaves
            raise KeyboardInterrupt
        return put(path, data)

    monkeypatch.setattr(delivery, "put_picture", put_some)
    with pytest.raises(KeyboardInterrupt):
        draw(toy, *lines, out="again")
    assert not (toy.folder / "again" / "manifest.parquet").exists()
    once, times = diffusion.num_drawn - drawn, {path: path.stat().st_mtime_ns for path in (toy.folder / "again").glob("*.png")}
    monkeypatch.setattr(delivery, "put_picture", put)
    draw(toy, *lines, out="again")
    assert read_files(toy.folder / "again") == read_files(toy.folder / "whole")
    assert diffusion.num_drawn - drawn == once
    assert len(times) == 7
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_950_of_1000_requests_are_files_and_50_have_reasons(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    lines = [f"user-{row % 6},item-{row % 24:02d},original" for row in range(1_000)]
    for row in range(0, 1_000, 20):
        lines[row] = [f"zoe,item-{row % 24:02d},original", "user-1,gone,original", "user-1,item-01,painting", ",item-01,original"][row % 4]
    outcome = draw(toy, *lines)
    assert (len(outcome.chosen), len(outcome.rejected)) == (950, 50)
    assert len(list((toy.folder / "out").glob("*.png"))) == 950
    assert all(row.reason for row in outcome.rejected)


def test_other_formats_hold_the_same_pixels_or_nearly(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    pixels = {}
    for picture_format, suffix in (("png", "png"), ("webp", "webp"), ("jpeg", "jpg")):
        draw(toy, "user-1,item-23,sd", out=picture_format, picture_format=picture_format)
        [path] = (toy.folder / picture_format).glob(f"*.{suffix}")
        image = Image.open(io.BytesIO(path.read_bytes()))
        assert image.format.lower() == picture_format
        pixels[picture_format] = np.asarray(image).astype(int)
    assert (pixels["webp"] == pixels["png"]).all()
    assert np.abs(pixels["jpeg"] - pixels["png"]).mean() < 8


def test_a_hostile_title_names_no_other_folder_and_runs_in_no_spreadsheet(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    outcome = draw(
        toy,
        '=HYPERLINK("x"),../../etc/\u202ecron\x1b,item-03|item-05,item-23,sd',
        header="request_id,user_id,history,reference_id,method",
    )
    out = toy.folder / "out"
    assert outcome.chosen[0]["file"] == "00002-HYPERLINK-x-etc-cron-thing-23-sd.png"
    text = (out / "manifest.csv").read_text()
    assert "'=HYPERLINK" in text
    assert read_csv(out / "manifest.csv")[0]["request_id"] == '=HYPERLINK("x")'


@pytest.mark.parametrize(
    ("text", "part"),
    [("Mug, blue, 0.3 l", "Mug-blue-0-3-l"), ("../..", ""), ("é" * 50, "é" * 30), ("皿" * 30, "皿" * 20), ("e\u0301t\u00e9", "été"), ("CON", "CON")],
)
def test_parts_of_names_are_letters_and_digits_of_bounded_length(text: str, part: str) -> None:
    assert clean_part(text) == part


def test_empty_parts_leave_no_trace_in_a_name() -> None:
    assert name_file("00001", "", "..", "mug", suffix=".png") == "00001-mug.png"


def test_pictures_of_an_earlier_table_are_named_and_stay(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    draw(toy, "user-1,item-23,sd")
    assert draw(toy, "user-2,item-23,sd").strangers == ["00002-user-1-thing-23-sd.png"]


@pytest.mark.parametrize("place", ["data/generation", "data/generation/sd", "data/dataset/x", "data", "."])
def test_a_folder_that_a_stage_keeps_is_refused(toy: ToyRun, place: str) -> None:
    with pytest.raises(ValueError, match="a stage of the pipeline keeps its files in"):
        check_place(toy.folder / place, toy.run)


def test_the_default_folder_and_those_elsewhere_are_taken_and_a_file_is_not(toy: ToyRun, tmp_path: Path) -> None:
    check_place(toy.folder / "data" / "draw", toy.run)
    check_place(tmp_path / "elsewhere", toy.run)
    with pytest.raises(ValueError, match="which is a file; name a folder"):
        check_place(toy.folder / "params.yaml", toy.run)


def test_an_option_names_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="--format is 'tiff', but it must be one of: png, webp, jpeg."):
        check_choice("--format", "tiff", ("png", "webp", "jpeg"))


def test_an_export_holds_all_that_the_run_has_drawn(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    images = {method: draw_as_the_run_does(toy, method) for method in ("sd", "original")}
    toy.write_generated("ragar", {}, None)
    drawn = diffusion.num_drawn
    outcome = export_run(toy.folder / "out", toy.run, ["sd", "ragar", "original"])
    assert diffusion.num_drawn == drawn
    found = {(row["method"], row["case_id"]): (toy.folder / "out" / row["file"]).read_bytes() for row in outcome.chosen}
    assert found == {(method, case_id): image for method, of_cases in images.items() for case_id, image in of_cases.items()}
    assert len(found) == 6
    assert pq.read_schema(toy.folder / "out" / "manifest.parquet").names == list(MANIFEST.columns)
