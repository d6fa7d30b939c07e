"""Addresses of clusters; no Ray is started. Run: python -m pytest tests/pipeline/cluster/test_connection.py"""

import os
import socket
from pathlib import Path

import pytest

from pipeline.cluster.connection import ROOT, build_environment, check_address, has_token


@pytest.mark.parametrize("where", ["ray://10.0.0.1:10001", "head", "10.0.0.1:", ":6379", "http://10.0.0.1:6379"])
def test_an_address_that_is_none_says_how_one_looks(where: str) -> None:
    with pytest.raises(ValueError, match="^runtime.ray_address is '.*', but it must be the head node's host:port, e.g. 10.0.0.1:6379, or auto"):
        check_address("runtime.ray_address", where)


def test_where_nobody_answers_is_a_sentence_and_where_somebody_does_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        check_address("RAY_ADDRESS", where)
    with pytest.raises(ValueError, match=rf"no Ray cluster answers at {where} \(RAY_ADDRESS\): Connection refused; `ray start --head` starts one"):
        check_address("RAY_ADDRESS", where)


def test_a_worker_is_started_with_the_drivers_threads_and_work_but_with_its_own_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("DVC_ROOT", "/srv/project")
    monkeypatch.setenv("HF_HOME", "/srv/models")
    found = build_environment()
    assert (found["OMP_NUM_THREADS"], found["DVC_ROOT"], found["PYTHONPATH"].split(os.pathsep)[0]) == ("3", "/srv/project", str(ROOT))
    assert "HF_HOME" not in found
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert build_environment()["OMP_NUM_THREADS"] == str(os.cpu_count())  # what the driver has without it; Ray would say 1


def test_a_token_is_found_where_ray_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert not has_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    assert has_token()
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    assert has_token()
