"""The command of `make export`: the pictures of a finished run as files, with the manifest of `make draw`, for people who want no Parquet.

`python -m pipeline.draw.export --out FOLDER [--method ragar --method sd] [--format png]`. Beside the files stands `pictures.parquet`, the manifest
with the pictures in it, which `datasets.load_dataset("parquet", data_files=...)` loads as images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer

from pipeline.artifacts import build_chunks
from pipeline.draw.command import check_choice, print_outcome, run_app
from pipeline.draw.finished_run import FINISH, FinishedRun
from pipeline.draw.manifest import MANIFEST
from pipeline.draw.picture_files import FORMATS
from pipeline.files import replace_file
from pipeline.schemas import IMAGE, Table

OUT = Path("data/export")
PICTURES = Table(
    "pictures",
    {"image": IMAGE, **MANIFEST.columns},
    key=MANIFEST.key,
    nullable=("image", *MANIFEST.nullable),  # `datasets` takes a column for what the metadata says only where it may hold nulls
)

app = typer.Typer(add_completion=False)
Out = Annotated[Path, typer.Option(help="Folder of the pictures and the manifest.")]
Methods = Annotated[list[str], typer.Option("--method", help="A method whose pictures are written; may be repeated. All of them by default.")]
FormatName = Annotated[str, typer.Option("--format", help=f"Format of the files: {', '.join(FORMATS)}.")]


@app.command()
def main(out: Out = OUT, methods: Methods = [], picture_format: FormatName = "png") -> None:  # noqa: B006
    """Write all pictures that the finished run in this folder has drawn, and judge them; nothing is drawn."""
    started = time.monotonic()
    run = FinishedRun()
    run.check()
    for method in methods:
        check_choice("--method", method, run.list_methods())
    check_choice("--format", picture_format, FORMATS)
    from pipeline.draw.run import export_run  # late: it loads torch, and a bad option is said at once

    outcome = export_run(out, run, methods or run.list_methods(), picture_format)
    if not outcome.chosen:
        raise ValueError(f"the run has no picture by {', '.join(methods) or 'any method'}; {FINISH}.")
    write_pictures_table(out, outcome.chosen)
    print_outcome("export", outcome, out, seconds=time.monotonic() - started)


def write_pictures_table(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the manifest with the files' bytes in it, some rows at a time."""
    schema = PICTURES.build_schema().with_metadata(describe_features())
    filled = ({**row, "image": {"bytes": (out / row["file"]).read_bytes(), "path": row["file"]}} for row in rows)
    path = out / "pictures.parquet"
    with replace_file(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
        for chunk in build_chunks(filled, schema):
            writer.write_table(chunk)


def describe_features() -> dict[bytes, bytes]:
    """Return the metadata by which `datasets` knows that the column holds images; it works the other columns out from their types."""
    return {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}}).encode()}


if __name__ == "__main__":
    run_app(app, "export")
