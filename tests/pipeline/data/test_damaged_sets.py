"""Raw files with random damage give whole tables or one sentence, never a crash. Run: python -m pytest tests/pipeline/data/test_damaged_sets.py"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.adapters.folder import build_folder
from pipeline.data.dataset import Dataset
from tests.pipeline.data.test_folder import CONFIG as FOLDER
from tests.pipeline.data.test_paper_sets import BUILD, ML, PIGEON, POG, SER
from tests.raw_sets import make_folder, make_ml_latest, make_pigeon, make_pog, make_ser30k

NUM_DAMAGED = 25  # copies per file
CASES = [
    (FOLDER, make_folder, ("items.csv", "interactions.csv")),
    (ML, make_ml_latest, ("movies.csv", "ratings.csv", "links.csv")),
    (POG, make_pog, ("user_data.txt", "item_data.txt")),
    (SER, make_ser30k, ("Annotations/train.json",)),
    (PIGEON, make_pigeon, ("processed_seq/train.npy", "processed_seq/all_image_paths.npy", "processed_seq/mapped_movies.npy")),
]
SPECIAL = b'\0\n\r",;:{}[]\xff\xef\xbb\xbf/.-0eN'


def damage(data: bytes, rng: random.Random) -> bytes:
    """Cut, overwrite, double or insert some bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            del changed[place : place + rng.randint(1, 20)]
        elif kind == 2:
            changed[place : place + 1] = bytes([rng.choice(SPECIAL)])
        elif kind == 3:
            changed[place:place] = bytes(rng.choice(SPECIAL) for _ in range(rng.randint(1, 5)))
        else:
            changed[place:place] = changed[max(0, place - 30) : place]
    return bytes(changed)


@pytest.mark.parametrize(("config", "make", "files"), CASES, ids=[case[0].name for case in CASES])
def test_damaged_files_give_tables_or_one_sentence(config, make, files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make(tmp_path / "raw")
    config = replace(config, raw=str(raw), image_size=16)
    rng = random.Random(0)
    sentences: list[str] = []
    for name in files:
        original = (raw / name).read_bytes()
        for _ in range(NUM_DAMAGED):
            (raw / name).write_bytes(damage(original, rng))
            try:
                data = build_folder(config, extra=tmp_path) if config.name == "folder" else BUILD[config.name](config, extra=tmp_path, seed=0)
                assert isinstance(data, Dataset)
            except ValueError as error:
                sentences.append(str(error))
        (raw / name).write_bytes(original)
    assert len(sentences) > NUM_DAMAGED / 5
    assert [text for text in sentences if not text.startswith(str(raw)) or len(text.splitlines()) != 1] == []
