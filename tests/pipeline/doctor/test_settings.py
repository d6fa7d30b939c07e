"""Settings and YAML files beforehand. Run: python -m pytest tests/pipeline/doctor/test_settings.py"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.doctor import __main__ as doctor
from pipeline.doctor import settings
from tests.pipeline.doctor.faults import assert_wrong


@pytest.mark.parametrize("name", [".dvc/config", ".dvc/config.local", "../dvc/config"])
@pytest.mark.parametrize("text", ["[[[", "[cache\n", "\xff"])
def test_settings_of_dvc_that_cannot_be_read_are_named(project: Path, name: str, text: str) -> None:
    assert settings.check_settings().level == "ok"
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("latin-1"))
    assert_wrong(settings.check_settings(), f"settings: {os.path.relpath(path) if name.startswith('.dvc') else path.resolve()} cannot be read (")


def test_settings_that_dvc_does_not_know_or_that_are_gone_are_named(project: Path) -> None:
    (project / ".dvc" / "config.local").write_text("nonsense = 1\n")
    assert_wrong(settings.check_settings(), "extra keys not allowed @ data['nonsense']; look into .dvc/config and .dvc/config.local")
    (project / ".dvc" / "config.local").unlink()
    (project / ".dvc" / "config").write_text("")
    assert_wrong(settings.check_settings(), "lacks `[hydra] enabled = true`, without which experiments ignore conf/; `git checkout .dvc/config`")


CONFLICT = "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("conf/config.yaml", CONFLICT, "conf/config.yaml, line 2: mapping values are not allowed in this context; `git checkout conf/config.yaml`"),
        ("conf/config.yaml", "a: \0", "conf/config.yaml is no readable YAML file"),
        ("dvc.yaml", CONFLICT, "dvc.yaml, line 2: "),
        ("dvc.yaml", "", "dvc.yaml has no stages; `git checkout dvc.yaml` gets it again"),
        ("dvc.yaml", "- a\n", "dvc.yaml holds a list, but it must hold names with values"),
        ("dvc.yaml", "stages: {}\nstags: {}\n", "dvc.yaml is no pipeline (extra keys not allowed"),
    ],
)
def test_a_broken_yaml_file_of_the_project_is_named(project: Path, name: str, text: str, words: str) -> None:
    assert settings.check_yaml().level == "ok"
    (project / name).write_text(text)
    assert_wrong(settings.check_yaml(), words)
    with pytest.raises(SystemExit):
        doctor.refuse(doctor.BEFORE["repro"])


def test_a_broken_dvc_lock_is_a_note_for_it_is_rebuilt(project: Path) -> None:
    (project / "dvc.lock").write_text("schema: '2.0'\nsta")
    finding = settings.check_yaml()
    assert finding.level == "note"
    assert "dvc.lock is broken (it is cut off in the middle of a line); the next run sets it aside and rebuilds it" in finding.text
