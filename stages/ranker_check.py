"""Stage `ranker_check`: a second MICRO with another image encoder and seed, which is never a reward: it checks the first one's verdict."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_table
from pipeline.params import load_params, load_seed
from pipeline.ranker.config import CheckConfig, RankerConfig
from pipeline.ranker.fit import read_data
from pipeline.ranker.interactions import join_embeddings
from pipeline.ranker.run import run_ranker, summarise_run
from pipeline.runtime import load_runtime, print_summary, resolve_device
from pipeline.schemas import CASES, CHECK_EMBEDDINGS, EMBEDDINGS, INTERACTIONS
from pipeline.terminal import say
from stages.entry import run_stage

app = typer.Typer(add_completion=False)
STAGE, IMAGE_FEATURE = "ranker_check", "check_visual"


@app.command()
def main(
    interactions: Path = typer.Option(...),
    cases: Path = typer.Option(...),
    embeddings: Path = typer.Option(...),
    check_embeddings: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write the trained second ranker, its R@10 and N@10, and its training curves; its settings are those of the block `ranker`."""
    started = time.monotonic()
    config, runtime = load_params(params, "ranker", RankerConfig), load_runtime(params)
    seed = load_seed(params) + load_params(params, STAGE, CheckConfig).seed_offset
    vectors = join_embeddings(read_table(embeddings, EMBEDDINGS), read_table(check_embeddings, CHECK_EMBEDDINGS))
    data = read_data(read_table(interactions, INTERACTIONS), read_table(cases, CASES), vectors, config=config, image_feature=IMAGE_FEATURE)
    outcome = run_ranker(
        data,
        config,
        out,
        stage=STAGE,
        image_feature=IMAGE_FEATURE,
        seed=seed,
        device=resolve_device(runtime),
        checkpoint_every=runtime.checkpoint_every,
    )
    say(f"{STAGE}: {outcome}")
    print_summary(STAGE, summarise_run(data, seconds=time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
