"""Stage `code`: the hash of every stage's code, so that DVC runs a stage again when code that decides its result has changed.

It depends on the folders of the code, so it runs whenever a file in them has changed, which takes a moment; the other stages depend on
their own hash alone, which a comment leaves as it is.
"""

from pathlib import Path

import typer

from pipeline.code import hash_stages
from pipeline.json_files import write_json
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(out: Path = typer.Option(...)) -> None:
    """Write hashes.json."""
    write_json(out / "hashes.json", hash_stages())


if __name__ == "__main__":
    run_stage(app)
