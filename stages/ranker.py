"""Stage `ranker`: train MICRO on the histories; it is the reward of the reflection and a metric of the evaluation."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_table
from pipeline.params import load_params, load_seed
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import read_data
from pipeline.ranker.run import run_ranker, summarise_run
from pipeline.runtime import load_runtime, print_summary, resolve_device
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS, ITEMS
from pipeline.terminal import say
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(
    interactions: Path = typer.Option(...),
    cases: Path = typer.Option(...),
    embeddings: Path = typer.Option(...),
    out: Path = typer.Option(...),
    items: Path | None = None,
    params: Path = Path("params.yaml"),
) -> None:
    """Write the trained ranker, its R@10 and N@10, and its training curves; `items` restricts the catalogue to that table."""
    started = time.monotonic()
    config, runtime, seed = load_params(params, "ranker", RankerConfig), load_runtime(params), load_seed(params)
    tables = (read_table(interactions, INTERACTIONS), read_table(cases, CASES), read_table(embeddings, EMBEDDINGS))
    data = read_data(*tables, config=config, items=read_table(items, ITEMS, columns=[]) if items else None)
    outcome = run_ranker(
        data,
        config,
        out,
        stage="ranker",
        image_feature=config.image_feature,
        seed=seed,
        device=resolve_device(runtime),
        checkpoint_every=runtime.checkpoint_every,
    )
    say(f"ranker: {outcome}")
    print_summary("ranker", summarise_run(data, seconds=time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
