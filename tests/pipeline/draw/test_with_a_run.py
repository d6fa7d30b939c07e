"""`make draw` and `make export` from a finished run of the whole pipeline. Run: python -m pytest tests/pipeline/draw/test_with_a_run.py -m slow"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pipeline.artifacts import read_table
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.manifest import MANIFEST
from pipeline.table_images import ImageColumn
from tests.small_project import SmallProject

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(small_run: SmallProject, tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    return small_run.copy(tmp_path_factory.mktemp("draw") / "ragar")


def read_rows(project: SmallProject, folder: str) -> list[dict]:
    return read_table(project.root / folder / "manifest.parquet", MANIFEST).to_pylist()


def test_known_and_new_users_and_references_are_drawn_and_the_runs_own_have_its_bytes(project: SmallProject) -> None:
    run = FinishedRun(project.root)
    cases = [row for row in run.cases.to_pylist() if row["split"] == "test"]
    stored = {method: ImageColumn(run.locate_generated(method), "case_id") for method in ("ragar", "retrieved")}
    own = [row for row in cases if all(row["case_id"] in column for column in stored.values())][:2]
    (project.root / "mine.png").write_bytes(run.images.read([own[0]["truth_id"]])[own[0]["truth_id"]])
    lines = ["user_id,history,reference_id,image,text,method,candidates"]
    lines += [f"{row['user_id']},,{row['reference_id']},,,{method}," for row in own for method in stored]
    lines += [f"zoe,{'|'.join(own[0]['history'][:6])},{own[0]['reference_id']},,,ragar,2"]
    lines += [f"{own[0]['user_id']},,,mine.png,a thing of mine,ragar,", "nobody,,gone,,,ragar,"]
    (project.root / "requests.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw = (sys.executable, "-m", "pipeline.draw", "requests.csv", "--out")

    printed = project.run(*draw, "drawn")
    assert "draw: 7 requests, 6 pictures in drawn" in printed
    assert "1 rejected (rejected.csv)" in printed
    rows = [row for row in read_rows(project, "drawn") if row["status"] == "chosen"]
    for row, (case, method) in zip(rows[:4], [(case, method) for case in own for method in stored], strict=True):
        assert (row["case_id"], row["user_vector"]) == (case["case_id"], "trained")
        assert (project.root / "drawn" / row["file"]).read_bytes() == stored[method].read([case["case_id"]])[case["case_id"]]
    assert [row["user_vector"] for row in rows[4:]] == ["inductive", "trained"]
    assert all(row["delta_r"] is not None and row["delta_r_check"] is not None and row["caption"] for row in rows)

    # without its tables and finished rows the run's pictures are drawn again, among others: the same bytes
    before = {path.relative_to(project.root / "drawn"): path.read_bytes() for path in (project.root / "drawn").rglob("*.png")}
    aside = {method: run.locate_generated(method).rename(project.root / f"{method}.aside") for method in stored}
    finished = project.root / ".work" / "generation"
    finished.rename(project.root / "generation.aside")
    project.run(*draw, "again")
    assert {path.relative_to(project.root / "again"): path.read_bytes() for path in (project.root / "again").rglob("*.png")} == before
    for method, path in aside.items():
        path.rename(run.locate_generated(method))
    shutil.rmtree(finished)
    (project.root / "generation.aside").rename(finished)


def test_nothing_that_dvc_keeps_is_touched_and_an_export_holds_all_pictures(project: SmallProject) -> None:
    before = project.hash_outs("generation")
    project.run(sys.executable, "-m", "pipeline.draw.export", "--out", "exported", "--method", "ragar", "--method", "original")
    run = FinishedRun(project.root)
    for row in read_rows(project, "exported"):
        image = ImageColumn(run.locate_generated(row["method"]), "case_id").read([row["case_id"]])[row["case_id"]]
        assert (project.root / "exported" / row["file"]).read_bytes() == image
    assert {row["method"] for row in read_rows(project, "exported")} == {"ragar", "original"}
    assert project.hash_outs("generation") == before
    assert "Data and pipelines are up to date." in project.run("dvc", "status")


def test_a_changed_parameter_is_refused_in_one_line(project: SmallProject, tmp_path: Path) -> None:
    params = project.root / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("guidance_scale: 4.0", "guidance_scale: 3.0"))
    try:
        printed = project.run(sys.executable, "-m", "pipeline.draw.export", "--out", str(tmp_path), "--method", "ragar", check=False)
    finally:
        params.write_text(text)
    assert printed.strip().splitlines()[-1].startswith("error: ")
    assert "was drawn with other params or models than those of" in printed
    assert "Traceback" not in printed
