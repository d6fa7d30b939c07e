"""The command of `make fetch-images`: `python -m pipeline.data.fetch data/dataset/missing.csv [--allow-host NAME ...]`.

Behind `--args` may stand all that the Makefile was given; what is not about hosts is for the params.

Exit code 0: everything that was asked for is there. 1: some images could not be fetched. 2: the list or the params are bad.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.data.fetch.download import Downloader
from pipeline.data.fetch.run import describe_outcome, fetch_list
from pipeline.data.fetch.urls import normalise_host
from pipeline.endings import run_command
from pipeline.overrides import split_words, take_option
from pipeline.params import read_section
from pipeline.terminal import say

KEPT = "what has been downloaded is kept, the same command goes on from there"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")

app = typer.Typer(add_completion=False)
AllowedHosts = Annotated[list[str], typer.Option(help="A host that may be asked although its address is not public; may be repeated.")]


@app.command()
def main(missing: Path, params: Path = Path("params.yaml"), allow_host: AllowedHosts = []) -> None:  # noqa: B006
    """Download the images that the list `missing` names with a URL; only public addresses are asked, and those of allowed hosts."""
    raw = Path(str(read_section(params, "dataset.raw")))
    downloader = Downloader([normalise_host(name) for name in allow_host])
    for name in (*PROXIES, *map(str.upper, PROXIES)):
        if os.environ.get(name):
            say(f"fetch-images: note: the proxy in {name} is not used, for it would look names up itself, and addresses could not be checked")
    say("fetch-images: you must be allowed to download the images")
    num_fetched, failed = fetch_list(missing, raw, downloader)
    say(*describe_outcome(num_fetched, failed, missing.parent / "dead_urls.csv"))
    if failed:
        raise typer.Exit(1)


def keep_hosts(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the allowed hosts alone of what stands behind `--args`."""
    if "--args" not in arguments:
        return list(arguments)
    own = list(arguments[: arguments.index("--args")])
    hosts, _ = take_option(split_words(arguments[len(own) :]), "--allow-host")
    return [*own, *(f"--allow-host={name}" for name in hosts)]


def run() -> None:
    """Run the command on the words that concern it."""
    sys.argv[1:] = keep_hosts(sys.argv[1:])
    app()


if __name__ == "__main__":
    run_command(run, kept=KEPT)
