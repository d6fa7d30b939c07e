"""A DVC project of a few stages that take no time, run by the real stage entry, in which tests break things."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from stages.entry import run_stage

REPO = Path(__file__).resolve().parents[1]
INPUTS = ("table.parquet", "tensors.safetensors", "facts.json", "rows.csv")
MAKE = "python -m tests.toy_project make --source in.txt --out data/make"
ADD = "python -m tests.toy_project add --number ${item} " + " ".join(f"--read data/make/{name}" for name in INPUTS) + " --out data/add/${item}"
JOIN = "python -m tests.toy_project join --folder data/make/many --read data/add/1/sum.txt --read data/add/2/sum.txt --out data/join"
OUTS = [*(f"data/make/{name}" for name in INPUTS), "data/make/many"]
PIPELINE = {
    "stages": {
        "make": {"cmd": MAKE, "deps": ["in.txt"], "outs": OUTS},
        "add": {"foreach": [1, 2], "do": {"cmd": ADD, "deps": [f"data/make/{name}" for name in INPUTS], "outs": ["data/add/${item}/sum.txt"]}},
        "join": {
            "cmd": JOIN,
            "deps": ["data/make/many", "data/add/1/sum.txt", "data/add/2/sum.txt"],
            "params": ["rate"],
            "outs": ["data/join/all.txt"],
        },
    }
}
app = typer.Typer(add_completion=False)


@app.command("make")
def make_files(source: Path = typer.Option(...), out: Path = typer.Option(...)) -> None:
    """Write one file of each kind, and a folder of two."""
    from safetensors.numpy import save_file

    start = int(source.read_text())
    numbers = list(range(start, start + 1000))
    (out / "many").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"number": numbers}), out / "table.parquet", compression="none", use_dictionary=False)
    save_file({"numbers": np.array(numbers, dtype=np.float64)}, out / "tensors.safetensors")
    (out / "facts.json").write_text(json.dumps({"numbers": numbers}))
    (out / "rows.csv").write_text("number\n" + "".join(f"{number}\n" for number in numbers))
    for name in ("a", "b"):
        (out / "many" / f"{name}.txt").write_text(f"{name} {start}")


@app.command("add")
def add_numbers(read: list[Path] = typer.Option(...), out: Path = typer.Option(...), number: int = 1) -> None:
    """Write the sum of the numbers in every file."""
    from safetensors.numpy import load_file

    total = float(np.asarray(pq.read_table(read[0])["number"]).sum() + load_file(read[1])["numbers"].sum())
    total += sum(json.loads(read[2].read_text())["numbers"]) + sum(int(row["number"]) for row in csv.DictReader(read[3].open()))
    write_text(out / "sum.txt", f"{number * total}")


@app.command("join")
def join_files(folder: Path = typer.Option(...), read: list[Path] = typer.Option(...), out: Path = typer.Option(...)) -> None:
    """Write all texts as one."""
    write_text(out / "all.txt", " ".join(path.read_text() for path in [*sorted(folder.iterdir()), *read]))


def write_text(path: Path, text: str) -> None:
    """Write a file of a folder that may not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class ToyProject:
    """One project; `root` is its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
        self.env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}", "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
        self.env["DVC_SITE_CACHE_DIR"] = str(root.parent / "site")
        self.run("git", "init", "--quiet")
        self.run("dvc", "init", "--quiet")
        shutil.copy2(REPO / ".dvc" / "config", root / ".dvc" / "config")
        self.run("dvc", "config", "hydra.enabled", "false")
        (root / "dvc.yaml").write_text(json.dumps(PIPELINE))
        (root / "in.txt").write_text("1000")
        (root / "params.yaml").write_text("rate: 1e-05\n")  # a number to DVC, and a text to other readers of YAML
        (root / ".gitignore").write_text("/data\n")
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "toy")

    def copy_to(self, root: Path) -> ToyProject:
        """Return a copy in another folder; DVC remembers nothing of it."""
        copied = object.__new__(ToyProject)
        copied.root, copied.env = root, {**self.env, "DVC_SITE_CACHE_DIR": str(root.parent / "site")}
        shutil.copytree(self.root, root, symlinks=True)
        return copied

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command, which must end with `code`, and return what it printed."""
        process = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        output = process.stdout + process.stderr
        assert process.returncode == code, f"{' '.join(command)} ended with {process.returncode}, not {code}:\n{output}"
        return output

    def integrity(self, command: str, *arguments: str, code: int = 0) -> str:
        """Run one of `python -m pipeline.integrity`'s commands."""
        return self.run(sys.executable, "-m", "pipeline.integrity", command, *arguments, code=code)

    def read_all(self) -> dict[str, bytes]:
        """Return the content of every out, of dvc.lock and of every object in the cache."""
        paths = [self.root / "dvc.lock", *(self.root / "data").rglob("*"), *(self.root / ".dvc" / "cache").rglob("*")]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in paths if path.is_file()}

    def find_object(self, path: str) -> Path:
        """Return the cache's object of an out, by the out's present content."""
        from pipeline.integrity.cache import locate_object
        from pipeline.integrity.hashes import hash_path

        return locate_object(self.root / ".dvc" / "cache", hash_path(self.root / path))


def flip_byte(path: Path, place: int | None = None, bit: int = 1) -> None:
    """Change one bit as a fault of the disk would: time, size, mode and inode stay. The place is one in the middle, or that given."""
    status = path.stat()
    place = status.st_size // 2 if place is None else place
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ bit]))
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_ino) == (status.st_mtime_ns, status.st_size, status.st_ino)


def draw_places(size: int, count: int, seed: int = 0) -> list[int]:
    """Return random places in a file."""
    return random.Random(seed).sample(range(size), count)


if __name__ == "__main__":
    run_stage(app)
