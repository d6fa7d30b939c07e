"""The whole pipeline on a small setting, without network. Run: python -m pytest tests/test_end_to_end.py"""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.broken_items import draw_halves
from tests.small_project import SmallProject, list_ran

pytestmark = pytest.mark.slow

MAP_STAGES = ("captioning", "embedding", "keywords")
DROPPED = ("-S", "comparison.ti_retrieved=false", "-S", "comparison.pmg_retrieved=false")  # trained for long, and k changes them too


@pytest.fixture(scope="module")
def project(small_run: SmallProject, tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    return small_run.copy(tmp_path_factory.mktemp("end") / "ragar")


def read_summary_line(output: str, stage: str) -> dict[str, int]:
    match = re.search(rf"^{stage}: (\d+) rows in, (\d+) computed, (\d+) reused, (\d+) rejected", output, re.MULTILINE)
    assert match, f"no summary line of {stage} in:\n{output[-3000:]}"
    return dict(zip(("rows_in", "computed", "reused", "rejected"), map(int, match.groups()), strict=True))


def test_every_stage_runs_and_the_gallery_is_there(project: SmallProject) -> None:
    stages = list_ran(project.first_output)
    assert {"dataset", "captioning", "ranker", "reflection", "generation@ragar", "evaluation", "report"} <= set(stages)
    page = (project.root / "data" / "report" / "index.html").read_text()
    assert "data:image/png;base64," in page or "data:image/webp;base64," in page
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page).replace("http://www.w3.org", "")


def test_a_second_run_has_nothing_to_do(project: SmallProject) -> None:
    assert list_ran(project.repro()) == []


def test_every_case_has_an_image_of_every_method_and_every_number_an_interval(project: SmallProject) -> None:
    summary = json.loads((project.root / "data" / "evaluation" / "summary.json").read_text())
    for method in ("original", "truth", "sd", "keywords", "retrieved", "ti", "ti_retrieved", "pmg", "pmg_retrieved", "global", "ragar"):
        table = pq.read_table(project.root / "data" / "generation" / method / "generated.parquet")
        assert table.num_rows == 8  # 0.4 of 20 users
        for metric, cell in summary["methods"][method].items():
            assert {"value", "low", "high", "n"} <= set(cell), (method, metric)


def test_dvc_shows_metrics(project: SmallProject) -> None:
    shown = project.run("dvc", "metrics", "show", "--json")
    assert "ragar" in shown
    assert "data/evaluation/metrics.json" in shown


def test_an_experiment_reruns_only_what_depends_on_it(project: SmallProject) -> None:
    ran = list_ran(project.run("dvc", "exp", "run", "-S", "retrieval.k=3", "preference"))
    assert {"retrieval", "preference"} <= set(ran) <= {"code", "retrieval", "preference"}  # what the stage reads and k changes, in plain processes
    ran = list_ran(project.run("python", "-m", "experiments.launch", "exp", "run", "-S", "retrieval.k=3", *DROPPED))  # what `make exp` calls
    assert {"generation@ragar", "evaluation", "report"} <= set(ran)
    untouched = {"dataset", "captioning", "embedding", "keywords", "ranker", "mapper", "generation@sd", "generation@original", "generation@truth"}
    untouched |= {"sd", "ti@ti", "pmg@pmg", "generation@ti", "generation@pmg"}
    assert not untouched & set(ran)
    project.run("git", "checkout", "--", ".")
    project.run("dvc", "checkout")


@pytest.mark.parametrize("stage", [*MAP_STAGES, "generation@ragar", "generation@pmg", "reflection", "ranker", "mapper", "ti@ti", "pmg@pmg"])
def test_kill_9_in_a_stage_then_repro_gives_the_same_bytes(project: SmallProject, stage: str) -> None:
    noun, _, method = stage.partition("@")
    folder = f"{noun}/{method}" if method else noun
    before = project.hash_outs(folder)
    assert before
    kept = folder if noun == "generation" else noun  # the instances of another stage share their finished rows
    num_left = project.cut_work(kept)
    work = project.root / ".work" / kept

    def reached() -> bool:
        return len(list(work.rglob("part-*.parquet"))) > num_left or any(work.rglob("checkpoint-*.safetensors"))

    project.kill_when(reached, "dvc", "repro", "--single-item", "--force", stage)
    output = project.repro("--single-item", "--force", stage)
    assert project.hash_outs(folder) == before
    if stage in MAP_STAGES or noun == "generation":
        assert read_summary_line(output, stage)["reused"] > 0


def write_bomb(path: Path, side: int = 30_000) -> None:
    """Write a valid, small PNG file of side x side pixels."""
    row = b"\0" + b"\0" * ((side + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_odd_and_broken_items_of_ones_own_are_computed_or_left_out_with_a_reason_and_nothing_else_is_recomputed(project: SmallProject) -> None:
    extra = project.root / "data" / "extra"
    good = draw_halves("orange", 40)
    good.save(extra / "plain.png")
    (extra / "plain.txt").write_text('<script>alert(1)</script><b>"bold"')
    good.save(extra / "truncated.png")
    (extra / "truncated.png").write_bytes((extra / "truncated.png").read_bytes()[:60])
    (extra / "zero.png").write_bytes(b"")
    write_bomb(extra / "bomb.png")
    Image.new("RGB", (40, 40), "orange").save(extra / "blank.png")
    Image.new("RGB", (1, 1)).save(extra / "pixel.gif")
    good.convert("CMYK").save(extra / "cmyk.jpg")
    draw_halves("green", 40).save(extra / "animated.gif", save_all=True, append_images=[draw_halves("blue", 40)])
    good.rotate(10).save(extra / "wordless.png")
    (extra / "wordless.txt").write_text("")

    output = project.repro("keywords")
    captioned, named = (read_summary_line(output, stage) for stage in ("captioning", "keywords"))
    assert (captioned["computed"], captioned["reused"], captioned["rejected"]) == (4, 30 * 6, 0)
    assert (named["rows_in"], named["rejected"]) == (30 * 6 + 4, 0)
    assert named["computed"] <= 4
    rejected = pq.read_table(project.root / "data" / "dataset" / "rejected.parquet").to_pylist()
    reasons = {row["row_key"]: row["reason"] for row in rejected}
    assert set(reasons) == {f"extra-{name}" for name in ("truncated.png", "zero.png", "bomb.png", "blank.png", "pixel.gif")}
    assert all(" is missing: The " in reason for reason in reasons.values())
    keywords = pq.read_table(project.root / "data" / "keywords" / "keywords.parquet").to_pylist()
    assert "extra-wordless.png" in {row["item_id"] for row in keywords}  # by its caption
