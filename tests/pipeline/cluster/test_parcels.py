"""What travels to a worker, and how. Run: python -m pytest tests/pipeline/cluster/test_parcels.py"""

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.artifacts import write_table
from pipeline.cluster.parcels import Packer, Unpacker, forget_call, remember_call
from pipeline.models.lazy import LazyModel
from pipeline.schemas import ITEMS
from pipeline.table_images import ImageColumn

pytest.importorskip("ray", reason="Ray is not installed: make setup EXTRAS=cluster")

LOADED: list[str] = []


class Model:
    """Weights that must not travel."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.weights = np.zeros(10_000)


@remember_call
def load_model(name: str, *, times: int = 1) -> Model:
    """Load, and note it."""
    LOADED.append(name)
    return Model(name * times)


class Store:
    """Stands for Ray's object store."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def put(self, data: bytes) -> int:
        """Keep."""
        self.held.append(data)
        return len(self.held) - 1


@pytest.fixture
def store() -> Store:
    LOADED.clear()
    return Store()


def test_a_lazy_model_travels_unloaded_and_is_loaded_once_in_all_maps(store: Store) -> None:
    model = LazyModel("revision", lambda: load_model("a"))
    assert model.model.name == "a"  # the driver has loaded it; its weights stay at home all the same
    packer, unpacker = Packer(store.put), Unpacker(store.held.__getitem__)
    parcels = [packer.pack(lambda: model.model.name), packer.pack(lambda: model.revision + model.model.name)]
    assert sum(map(len, [*parcels, *store.held])) < 5_000
    LOADED.clear()
    assert [unpacker.unpack(parcel, packer.stored)() for parcel in parcels] == ["a", "revisiona"]
    assert LOADED == ["a"]


def test_a_loaded_model_travels_as_the_call_that_loads_it_wherever_it_is_held(store: Store) -> None:
    model = load_model("b", times=2)
    packer, unpacker = Packer(store.put), Unpacker(store.held.__getitem__)
    first, second = unpacker.unpack(packer.pack({"one": model, "two": [model]}), packer.stored).values()
    assert first is second[0]
    assert (first.name, LOADED) == ("bb", ["b", "b"])
    assert unpacker.unpack(packer.pack(model), packer.stored) is first


def test_a_model_that_has_been_changed_travels_with_its_weights(store: Store) -> None:
    model = load_model("c")
    model.weights += 1
    forget_call(model)
    forget_call(model)  # there is nothing left to forget
    packer = Packer(store.put)
    found = Unpacker(store.held.__getitem__).unpack(packer.pack(model), packer.stored)
    assert (found.weights.sum(), LOADED) == (10_000, ["c"])


def test_a_function_that_remembers_its_answers_travels_without_them(store: Store) -> None:
    asked: list[int] = []

    def double(number: int) -> int:
        asked.append(number)
        return 2 * number

    remembering = cache(double)
    remembering(4)
    packer = Packer(store.put)
    found = Unpacker(store.held.__getitem__).unpack(packer.pack(remembering), packer.stored)
    assert (found(4), found(4), found.cache_info().hits) == (8, 8, 1)


def test_a_column_of_images_travels_as_its_path(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"item_id": "a", "image": {"bytes": b"png" * 9999, "path": None}, "text": "", "category": "", "image_sha256": "00"}
    write_table(Path("items.parquet"), [row], ITEMS, provenance={})
    packer, images = Packer(store.put), ImageColumn(Path("items.parquet"))
    parcel = packer.pack(lambda: images.read(["a"]))
    assert len(parcel) < 5_000
    monkeypatch.chdir("/")
    assert Unpacker(store.held.__getitem__).unpack(parcel, packer.stored)() == {"a": b"png" * 9999}


def test_tables_and_modules_functions_travel_as_ever(store: Store) -> None:
    packer = Packer(store.put)
    value = (pa.table({"a": [1, 2]}), load_model, Path("x"))
    assert Unpacker(store.held.__getitem__).unpack(packer.pack(value), packer.stored) == value
