"""Maps on a small cluster of this machine, with stand-in models. Run: python -m pytest tests/pipeline/cluster/test_pool.py"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import engine
from pipeline.artifacts import write_table
from pipeline.ledger import open_ledger
from pipeline.models.captioner import load_captioner
from pipeline.models.lazy import LazyModel
from pipeline.rows import Row, map_rows
from tests.pipeline.cluster import driver

pytestmark = pytest.mark.usefixtures("on_ray")


def write(scratch: Path, name: str, *, seconds: float = 0.0) -> bytes:
    scratch.mkdir(exist_ok=True)
    for result in driver.run(scratch, 130, seconds):
        assert result.summary.computed == 130
        write_table(scratch / name, result.iterate("item_id"), driver.TABLE, provenance={})
    return (scratch / name).read_bytes()


def compute(function: object, rows: list[Row], *, name: str = "one", batch_size: int = 2) -> dict:
    with open_ledger(name, pa.schema([pa.field("value", pa.int64())]), code=[compute], inputs="") as ledger:
        return map_rows(ledger, rows, function, batch_size=batch_size, label="toy").load().values


def test_the_table_has_the_bytes_of_a_local_run_and_each_worker_has_loaded_its_model_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.runtime.LOG_SECONDS", 0.0)
    on_workers = write(tmp_path / "ray", "table.parquet", seconds=0.02)
    shown = capsys.readouterr().err.splitlines()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "local"))
    monkeypatch.setattr(engine.Current, "engine", "local")
    assert write(tmp_path / "local", "table.parquet") == on_workers
    loaded = list((tmp_path / "ray").glob("loaded-*"))
    assert len(loaded) == 2
    assert {path.read_text(encoding="ascii") for path in loaded} == {"x"}
    assert f"loaded-{os.getpid()}" not in {path.name for path in loaded}
    assert [line.split(",")[0] for line in shown] == [f"toy: {min(4 * count, 130)}/130" for count in range(1, 34)]


def test_pairs_as_keys_and_equal_inputs_are_mapped_once() -> None:
    rows = [Row(("method", f"case-{index}"), index % 5, index % 5) for index in range(20)]
    assert compute(lambda batch: [{"value": row.payload**2} for row in batch], rows) == {row.key: {"value": row.payload**2} for row in rows}


def test_what_the_world_has_caused_is_our_sentence_with_the_rows_keys(tmp_path: Path) -> None:
    missing = LazyModel("revision", lambda: load_captioner("nobody/has-this-model"))

    def caption(batch: list[Row]) -> list[dict[str, int]]:
        return [{"value": len(missing.model.caption([]))} for _ in batch]

    with pytest.raises(ValueError, match=r"^toy: rows item-0, item-1, on [\w.-]+: .*nobody/has-this-model") as error:
        compute(caption, [Row("item-1", 1), Row("item-0", 0)])
    assert "Traceback" not in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_an_error_of_our_own_code_keeps_the_workers_traceback() -> None:
    rows = [Row(f"a{index}", index) for index in range(9)]
    words = r"^toy: rows a0 to a8 \(9 of them\), on [\w.-]+: AttributeError: 'Row' object has no attribute 'nose'"
    with pytest.raises(RuntimeError, match=words) as error:
        compute(lambda batch: [{"value": row.nose} for row in batch], rows, batch_size=9)
    assert "in <lambda>" in error.value.__notes__[0]


def test_a_batch_that_ends_every_worker_is_given_up_and_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.cluster.pool.MAX_DEATHS", 2)
    rows = [Row(f"c{index}", index, index) for index in range(6)]

    def die_of(batch: list[Row]) -> list[dict[str, int]]:
        if any(row.payload == 3 for row in batch):
            os._exit(9)
        return [{"value": row.payload} for row in batch]

    with pytest.raises(ValueError, match=r"^toy: row c3: 2 workers were killed while they computed this batch, most likely .* memory ran out"):
        compute(die_of, rows, batch_size=1, name="kept")
    finished = compute(lambda batch: [{"value": -1} for _ in batch], rows, batch_size=1, name="kept")
    assert {key: finished[key]["value"] for key in ("c0", "c1", "c2", "c3")} == {"c0": 0, "c1": 1, "c2": 2, "c3": -1}
    assert capfd.readouterr().out == ""  # Ray's own paragraphs about dead workers


def test_workers_that_never_come_to_their_beginning_are_given_up(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    from pipeline.cluster import pool

    pool.open_pool(head, needs_gpu=False).let_go()
    monkeypatch.setattr(pool, "MAX_FAILED_STARTS", 2)
    own = pool.Pool(needs_gpu=False)
    hire = own._hire

    def hire_and_kill(num_tasks: int) -> None:
        hire(num_tasks)
        for worker in own._hired:
            own._ray.kill(worker.actor)

    monkeypatch.setattr(own, "_hire", hire_and_kill)
    with pytest.raises(ValueError, match="^a worker of the Ray cluster cannot begin: 2 were killed as they started; /tmp/ray/session_latest/logs"):
        list(own.run([[Row("h", "h")]], len, label="toy"))
    own.let_go()


def test_many_more_batches_than_workers_are_never_on_their_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.cluster import pool

    loads = []
    whole = pool.Pool._wait
    monkeypatch.setattr(pool.Pool, "_wait", lambda self: loads.extend(len(worker.tasks) for worker in self._hired) or whole(self))
    rows = [Row(f"d{index:03}", index, index) for index in range(200)]
    assert compute(lambda batch: [{"value": row.payload} for row in batch], rows) == {row.key: {"value": row.payload} for row in rows}
    assert max(loads) == 2  # of a worker: one batch at work and one waiting


def test_a_gpu_that_no_node_has_is_a_sentence(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    monkeypatch.setattr(engine.Current, "needs_gpu", True)
    with pytest.raises(ValueError, match=r"^toy: the models are to run on a GPU, but no node of the Ray cluster has one; set runtime.device=cpu\.$"):
        compute(lambda batch: [{"value": 1} for _ in batch], [Row("e", "e")])


def test_other_code_on_a_node_is_refused(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    from pipeline.cluster import pool

    pool.open_pool(head, needs_gpu=False).let_go()
    monkeypatch.setattr(pool, "hash_sources", lambda: "a comment was changed")
    own = pool.Pool(needs_gpu=False)
    assert list(own.run([[Row("f", "f")]], len, label="toy")) == [(0, 1)]
    own.let_go()
    monkeypatch.setattr(pool, "hash_meaning", lambda: "other")
    own = pool.Pool(needs_gpu=False)
    with pytest.raises(ValueError, match="^a worker of the Ray cluster cannot begin: .* holds other code than the driver's; all nodes need the same"):
        list(own.run([[Row("f", "f")]], sum, label="toy"))


@pytest.mark.slow  # starts another node
def test_where_models_run_on_gpus_every_gpu_has_one_worker_that_sees_no_other(cluster: Any) -> None:
    from pipeline.cluster import pool

    pool.open_pool(cluster.address, needs_gpu=False)  # connects, where this test is the first
    node = cluster.add_node(num_cpus=0, num_gpus=2, object_store_memory=100 * 2**20)  # Ray takes our word for it
    own = pool.Pool(needs_gpu=True)
    batches = [[Row(f"g{index}", None, 0.2)] for index in range(20)]
    answers = [answer for _, answer in own.run(batches, lambda rows: (time.sleep(rows[0].payload), os.environ["CUDA_VISIBLE_DEVICES"]), label="toy")]
    own.let_go()
    cluster.remove_node(node)
    assert len(answers) == 20
    assert {visible for _, visible in answers} == {"0", "1"}


@pytest.mark.slow  # starts a cluster of its own
def test_without_an_address_a_cluster_is_started_here_and_goes_with_its_driver(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    words = [sys.executable, "-m", "tests.pipeline.cluster.driver", "ray", str(tmp_path / "t.parquet"), str(tmp_path), "50", "0"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "50 4\n", "")
