"""Pictures that are missing, or links, in a raw data set. Run: python -m pytest tests/stages/test_dataset_pictures.py"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.stages.dataset_project import MAKERS


def test_a_missing_image_with_control_characters_in_its_name_is_shown_with_escapes(make_project, capsys) -> None:
    project = make_project("folder")
    rows = (project.raw / "items.csv").read_text().replace("gone.jpg", "\x1b[31m\u202egnp.jpg")
    (project.raw / "items.csv").write_text(rows, encoding="utf-8")
    assert project.run("--check") == 0
    assert r"images/\x1b[31m\u202egnp.jpg: There is no such file." in capsys.readouterr().out


@pytest.mark.parametrize("name", MAKERS)
def test_without_images_it_says_so_and_lists_what_is_missing(name: str, make_project, capsys) -> None:
    project = make_project(name)
    for folder in ("images", "posters", "poster", "Images"):
        if (project.raw / folder).is_dir():
            shutil.rmtree(project.raw / folder)
            (project.raw / folder).mkdir()
    assert project.run() == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "missing.csv" in error
    with (project.out / "missing.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) > 30
    assert not list(project.out.glob("*.parquet"))


def test_too_many_missing_images_are_an_error_before_any_table(make_project, capsys) -> None:
    project = make_project("folder")
    project.params["dataset"]["max_rejected_fraction"] = 0.01
    assert project.run() == 2
    assert "1 of 41 images are missing, more than dataset.max_rejected_fraction, 0.01" in capsys.readouterr().err
    assert [path.name for path in project.out.iterdir()] == ["missing.csv"]


def test_pictures_behind_a_link_are_refused_unless_the_raw_folder_is_the_link(make_project, capsys, tmp_path: Path) -> None:
    project = make_project("folder")
    (project.raw / "images").rename(tmp_path / "disk")
    (project.raw / "images").symlink_to(tmp_path / "disk")
    for arguments in ((), ("--check",)):
        assert project.run(*arguments) == 2
        assert (
            f"{project.raw / 'images'} is a link to a folder outside of {project.raw}, and a change behind such a link goes unnoticed; "
            f"make {project.raw} itself the link"
        ) in capsys.readouterr().err
    (project.raw / "images").unlink()
    (tmp_path / "disk").rename(project.raw / "images")
    project.raw.rename(tmp_path / "elsewhere")
    project.raw.symlink_to(tmp_path / "elsewhere")
    assert project.run() == 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_picture_that_is_a_link_to_a_file_elsewhere_is_not_read_in_any_data_set(name: str, make_project, capsys, tmp_path: Path) -> None:
    project = make_project(name)
    picture = next(path for path in sorted(project.raw.rglob("*.*")) if path.suffix in (".png", ".jpg") and path.stem not in ("gone",))
    for path in [path for path in project.raw.rglob("*.*") if path.suffix in (".png", ".jpg")]:
        shutil.copy(path, tmp_path / "secret.png")
        path.unlink()
        path.symlink_to(tmp_path / "secret.png")
    assert project.run() == 2
    error = capsys.readouterr().err
    assert f"pictures are links to files outside of {project.raw}, which are not read; put the files themselves there." in error
    assert str(picture.parent) in error
    assert not list(project.out.glob("*"))
