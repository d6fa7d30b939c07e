"""Read and write the pipeline's files: tables, JSON, CSV and tensors. Everything is validated, sorted by key and replaced atomically.

The same rows give the same bytes (fixed order, row-group size and compression, no timestamps), because DVC's early cut-off compares hashes.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import io
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.files import replace_file, write_bytes
from pipeline.schemas import SCHEMA_VERSION, VECTOR, Table

if TYPE_CHECKING:
    import torch

ROW_GROUP_ROWS = 1024
PROVENANCE_KEY = b"ragar"
PACKAGES = ("torch", "transformers", "diffusers", "open_clip_torch", "pyarrow")


def build_provenance(stage: str, **facts: object) -> dict[str, object]:
    """Build a table's provenance: stage, schema version, package versions, and facts such as models, params hash and seed."""
    return {"stage": stage, "schema_version": SCHEMA_VERSION, "packages": read_versions(), **facts}


def read_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a result."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def build_table(rows: Sequence[dict[str, Any]], table: Table, *, dims: dict[str, int] | None = None) -> pa.Table:
    """Build an Arrow table from row dicts; vector lengths come from `dims` or from the first row."""
    vectors = [name for name, kind in table.columns.items() if kind == VECTOR]
    if vectors and dims is None:
        if not rows:
            raise ValueError(f"{table.name}: no rows, so the length of {vectors[0]} is unknown.")
        dims = {name: len(rows[0][name]) for name in vectors}
    schema = table.build_schema(dims)
    if table.open_metrics:
        extra = sorted({name for row in rows for name in row} - set(schema.names))
        for name in extra:
            schema = schema.append(pa.field(name, pa.float64()))
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_table(
    path: Path,
    rows: pa.Table | Sequence[dict[str, Any]],
    table: Table,
    *,
    provenance: dict[str, object],
    dims: dict[str, int] | None = None,
) -> None:
    """Validate, sort by key and write one Parquet file; ValueError names a wrong column, null or duplicate key."""
    data = rows if isinstance(rows, pa.Table) else build_table(rows, table, dims=dims)
    data = sort_by_key(check_table(data, table, where=str(path)), table)
    check_unique(data, table, where=str(path))
    metadata = {PROVENANCE_KEY: json.dumps(provenance, sort_keys=True, default=str).encode()}
    with replace_file(path) as temporary:
        pq.write_table(
            data.replace_schema_metadata(metadata).combine_chunks(),
            temporary,
            compression="zstd",
            row_group_size=ROW_GROUP_ROWS,
            write_page_checksum=True,
        )


def read_table(path: Path, table: Table, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read and validate one table; rows come in key order. ValueError names the file and what is wrong with it.

    `columns` reads the key and these alone: with them images need not be in memory (`table_images.ImageColumn` reads single ones).
    """
    if columns is not None:
        table = replace(table, columns={name: table.columns[name] for name in (*table.key, *columns)}, open_metrics=False)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the stage that writes the {table.name} table first.")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        data = file.read(columns=None if columns is None else list(table.columns))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}).") from error
    data = sort_by_key(check_table(data, table, where=str(path)), table)
    check_unique(data, table, where=str(path))
    return data


def read_provenance(path: Path) -> dict[str, Any]:
    """Return the provenance that `write_table` put into the file's metadata."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(PROVENANCE_KEY, b"{}"))


def check_table(data: pa.Table, table: Table, *, where: str) -> pa.Table:
    """Return `data` with its columns in the declared order; ValueError on missing, unknown, mistyped or null ones."""
    unknown = [name for name in data.column_names if name not in table.columns]
    if unknown and not table.open_metrics:
        raise ValueError(f"{where}: unknown column `{unknown[0]}`; the {table.name} table has: {', '.join(table.columns)}.")
    for name, kind in table.columns.items():
        if name not in data.column_names:
            raise ValueError(f"{where}: column `{name}` is missing; the {table.name} table has: {', '.join(table.columns)}.")
        found = data.schema.field(name).type
        if not (is_vector(found) if kind == VECTOR else found.equals(kind)):
            raise ValueError(f"{where}: column `{name}` is {found}, but it must be {kind}.")
        if data[name].null_count and name not in table.nullable:
            raise ValueError(f"{where}: column `{name}` holds {data[name].null_count} nulls, but none is allowed.")
    return data.select([*table.columns, *unknown])


def is_vector(dtype: pa.DataType) -> bool:
    """Say whether `dtype` is a fixed-size list of float16 or float32."""
    return pa.types.is_fixed_size_list(dtype) and dtype.value_type in (pa.float16(), pa.float32())


def sort_by_key(data: pa.Table, table: Table) -> pa.Table:
    """Return the rows in ascending key order."""
    return data.take(pc.sort_indices(data, sort_keys=[(name, "ascending") for name in table.key]))


def check_unique(data: pa.Table, table: Table, *, where: str) -> None:
    """Raise ValueError if two neighbouring rows (the table is sorted) share a key."""
    keys = list(zip(*(data[name].to_pylist() for name in table.key), strict=True))
    for first, second in itertools.pairwise(keys):
        if first == second:
            raise ValueError(f"{where}: key {dict(zip(table.key, first, strict=True))} occurs twice.")


def get_matrix(data: pa.Table, column: str) -> np.ndarray:
    """Return a vector column as an (N, d) array; zero-copy when the column is one chunk (the array is then read-only)."""
    array = data[column].combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty column stays chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)


def read_json(path: Path) -> Any:
    """Read a JSON file; ValueError names the file if it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a readable JSON file ({error}).") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys and a final newline, atomically; NaN is refused."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def write_csv(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV with the given columns, atomically; floats are written with 6 significant digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([f"{v:.6g}" if isinstance(v := row.get(name, ""), float) else v for name in columns])
    write_bytes(path, buffer.getvalue().encode())


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a safetensors file: its tensors on the CPU and the facts that `write_tensors` stored with them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = json.loads((file.metadata() or {}).get("ragar", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}).") from error


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any] | None = None) -> None:
    """Write tensors and JSON-able facts as safetensors, atomically; the same values give the same bytes."""
    from safetensors.torch import save

    contiguous = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    # safetensors does not keep the metadata's order, so all facts go into one JSON string
    header = {"ragar": json.dumps(metadata, sort_keys=True)} if metadata else None
    write_bytes(path, save(contiguous, metadata=header))
