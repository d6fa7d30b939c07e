"""Read and write the pipeline's files: tables and tensors. Everything is validated, sorted by key and replaced atomically.

The same rows give the same bytes (fixed order, row-group size and compression, no timestamps), because DVC's early cut-off compares hashes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.columns import cut_groups, find_disorder, take_rows, unpack_vectors
from pipeline.files import replace_file, write_bytes
from pipeline.schemas import IMAGE, REJECTED, SCHEMA_VERSION, VECTOR, Table

if TYPE_CHECKING:
    import torch

Rows = pa.Table | Sequence[dict[str, Any]] | Iterator[pa.Table]

ROW_GROUP_ROWS = 1024
ROW_GROUP_BYTES = 32 * 2**20  # of images: what reading one row group takes
SORTED_IMAGES = 32  # gathered at once: 32 images of the largest allowed size are 1 GiB, and one Arrow array holds less than 2
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
    return pa.concat_tables([schema.empty_table(), *build_chunks(rows, schema)])


def build_chunks(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    """Build tables of some rows each, so that a stream of rows with images needs the memory of a few."""
    images = [field.name for field in schema if field.type.equals(IMAGE)]
    held: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        held.append(row)
        size += sum(len(row[name]["bytes"] or b"") for name in images)
        if len(held) == ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield pa.Table.from_pylist(held, schema=schema)
            held, size = [], 0
    if held:
        yield pa.Table.from_pylist(held, schema=schema)


def write_table(path: Path, rows: Rows, table: Table, *, provenance: dict[str, object], dims: dict[str, int] | None = None) -> None:
    """Validate, sort by key and write one Parquet file; ValueError names a wrong column, null or duplicate key.

    An iterator of tables is written as it comes and must be in key order; memory then holds a row group and no more.
    """
    where = str(path)
    if isinstance(rows, Iterator):
        chunks = check_stream(rows, table, where=where)
    else:
        data = rows if isinstance(rows, pa.Table) else build_table(rows, table, dims=dims)
        chunks = iter([sort_table(check_table(data, table, where=where), table, where=where)])
    first = next(chunks, None)
    if first is None:
        first = build_table([], table, dims=dims)
    schema = first.schema.with_metadata({PROVENANCE_KEY: json.dumps(provenance, sort_keys=True, default=str).encode()})
    groups = cut_groups(itertools.chain([first], chunks), max_rows=ROW_GROUP_ROWS, max_bytes=ROW_GROUP_BYTES)
    with replace_file(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
        for group in groups:
            writer.write_table(group)


def check_stream(chunks: Iterator[pa.Table], table: Table, *, where: str) -> Iterator[pa.Table]:
    """Check every table of a stream, and that all keys ascend."""
    last: pa.Table | None = None
    for chunk in chunks:
        data = check_table(chunk, table, where=where)
        keys = data.select(table.key)
        joined = keys if last is None else pa.concat_tables([last, keys])
        assert find_disorder(joined)[0] is None, f"{where}: rows are streamed out of order"
        check_unique(joined, table, where=where)
        last = joined.slice(max(len(joined) - 1, 0))
        yield data


def read_table(path: Path, table: Table, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read and validate one table; rows come in key order. ValueError names the file and what is wrong with it.

    `columns` reads the key and these alone: with them images need not be in memory (`table_images.ImageColumn` reads single ones).
    """
    if columns is not None:
        table = replace(table, columns={name: table.columns[name] for name in (*table.key, *columns)}, open_metrics=False)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the stage that writes the {table.name} table first.")
    try:
        data = read_groups(path, None if columns is None else list(table.columns))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}).") from error
    return sort_table(check_table(data, table, where=str(path)), table, where=str(path))


def read_groups(path: Path, columns: list[str] | None) -> pa.Table:
    """Read a file row group by row group: of a struct's column Arrow cannot read more than 2 GiB at once."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if not file.num_row_groups:
            return file.read(columns=columns)
        data = pa.concat_tables([file.read_row_group(group, columns=columns) for group in range(file.num_row_groups)])
    return data if any(pa.types.is_struct(dtype) for dtype in data.schema.types) else data.combine_chunks()


def read_provenance(path: Path) -> dict[str, Any]:
    """Return the provenance that `write_table` put into the file's metadata."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(PROVENANCE_KEY, b"{}"))


def write_rejected(path: Path, stage: str, rejected: Mapping[Any, str], *, rows_in: int, max_fraction: float, provenance: dict[str, object]) -> None:
    """Write the stage's rejected rows; ValueError if they are more than `max_fraction` of the input."""
    rows = [{"stage": stage, "row_key": key if isinstance(key, str) else "/".join(key), "reason": reason} for key, reason in rejected.items()]
    write_table(path, rows, REJECTED, provenance=provenance)
    if rows_in and len(rows) > max_fraction * rows_in:
        raise ValueError(
            f"{stage}: {len(rows)} of {rows_in} rows were rejected, more than the allowed fraction {max_fraction}; "
            f"the first: {rows[0]['row_key']}: {rows[0]['reason']} All are in {path}."
        )


def check_table(data: pa.Table, table: Table, *, where: str) -> pa.Table:
    """Return `data` with its columns and nullability as declared; ValueError on missing, unknown, mistyped or null ones.

    Where a vector is declared, the packed bytes of a ledger are taken as well.
    """
    unknown = [name for name in data.column_names if name not in table.columns]
    if unknown and not table.open_metrics:
        raise ValueError(f"{where}: unknown column `{unknown[0]}`; the {table.name} table has: {', '.join(table.columns)}.")
    fields, columns = [], []
    for name, kind in table.columns.items():
        if name not in data.column_names:
            raise ValueError(f"{where}: column `{name}` is missing; the {table.name} table has: {', '.join(table.columns)}.")
        column = data[name]
        if kind == VECTOR and pa.types.is_binary(column.type) and len(column):
            column = unpack_vectors(column)
        if not (is_vector(column.type) if kind == VECTOR else column.type.equals(kind)):
            raise ValueError(f"{where}: column `{name}` is {column.type}, but it must be {kind}.")
        if column.null_count and name not in table.nullable:
            raise ValueError(f"{where}: column `{name}` holds {column.null_count} nulls, but none is allowed.")
        dtype = pa.list_(column.type.value_type, column.type.list_size) if kind == VECTOR else kind
        fields.append(pa.field(name, dtype, nullable=name in table.nullable))
        columns.append(column if str(column.type) == str(dtype) else column.cast(dtype))  # Parquet calls the items of a list `element`
    extra = [(data.schema.field(name).remove_metadata(), data[name]) for name in unknown]
    return pa.Table.from_arrays([*columns, *(column for _, column in extra)], schema=pa.schema([*fields, *(field for field, _ in extra)]))


def is_vector(dtype: pa.DataType) -> bool:
    """Say whether `dtype` is a fixed-size list of float16 or float32."""
    return pa.types.is_fixed_size_list(dtype) and dtype.value_type in (pa.float16(), pa.float32())


def sort_table(data: pa.Table, table: Table, *, where: str) -> pa.Table:
    """Return the rows in ascending key order; ValueError if two share a key."""
    keys = data.select(table.key)
    if find_disorder(keys)[0] is not None:
        order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in table.key]).to_numpy().astype(np.int64)
        step = SORTED_IMAGES if any(kind == IMAGE for kind in table.columns.values()) else len(order)
        data = pa.concat_tables([take_rows(data, order[start : start + step]) for start in range(0, len(order), step)])
    check_unique(data, table, where=where)
    return data


def check_unique(data: pa.Table, table: Table, *, where: str) -> None:
    """Raise ValueError if two neighbouring rows (the table is sorted) share a key."""
    _, twice = find_disorder(data.select(table.key))
    if twice is not None:
        raise ValueError(f"{where}: key {dict(zip(table.key, (data[name][twice].as_py() for name in table.key), strict=True))} occurs twice.")


def get_matrix(data: pa.Table, column: str) -> np.ndarray:
    """Return a vector column as an (N, d) array; zero-copy when the column is one chunk (the array is then read-only)."""
    array = data[column].combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty column stays chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a safetensors file: its tensors on the CPU and the facts that `write_tensors` stored with them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = json.loads((file.metadata() or {}).get("ragar", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}).") from error


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any] | None = None) -> None:
    """Write tensors and JSON-able facts as safetensors, atomically; the same values give the same bytes."""
    if tensors:
        from safetensors.torch import save

        contiguous = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    else:  # the same bytes without loading torch
        from safetensors.numpy import save

        contiguous = {}
    # safetensors does not keep the metadata's order, so all facts go into one JSON string
    header = {"ragar": json.dumps(metadata, sort_keys=True)} if metadata else None
    write_bytes(path, save(contiguous, metadata=header))
