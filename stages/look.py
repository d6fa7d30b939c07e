"""Stage `look`: train what writes look tokens, where `models.look` names this stage's folder; where it names other weights there is nothing to do."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_table, write_tensors
from pipeline.cost import keep_cost
from pipeline.fingerprint import compute_fingerprint
from pipeline.generation.config import LOOK_METHODS
from pipeline.json_files import write_json
from pipeline.keywords.preference import PreferenceConfig
from pipeline.looks.config import CURVE_COLUMNS, STAGE, LookTrainingConfig
from pipeline.params import load_params, load_seed, read_flag, read_section
from pipeline.rows import Summary
from pipeline.runtime import print_summary
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS
from pipeline.spreadsheets import write_csv
from stages.entry import PARAMS, Needed, run_stage

app = typer.Typer(add_completion=False)
DEFAULT_TOKENS = 4  # of a map that ip_adapter alone asks for (IP-Adapter)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, embeddings: Needed, out: Needed, params: Path = PARAMS) -> None:
    """Write model.safetensors, its metrics and its curve; all are empty where nothing is trained."""
    started = time.monotonic()
    config, seed = load_params(params, STAGE, LookTrainingConfig), load_seed(params)
    facts, num_lessons = {"params": compute_fingerprint(config), "seed": seed}, 0
    if is_asked_for(params, out):
        num_lessons = train(cases, items, captions, embeddings, out, params=params)
    else:
        write_tensors(out / "model.safetensors", {}, facts)
        write_json(out / "metrics.json", {"num_lessons": 0, "seed": seed})
        write_csv(out / "curves.csv", [], CURVE_COLUMNS)
        keep_cost(out / "model.safetensors", {"seconds": 0.0, "peak_memory_mb": None})
    print_summary(STAGE, Summary(num_lessons, num_lessons, 0, 0, time.monotonic() - started))


def is_asked_for(params: Path, out: Path) -> bool:
    """Say whether a method draws with look tokens, and the map behind them is the one that this stage makes."""
    reference = read_section(params, "models.look")
    is_own = isinstance(reference, str) and Path(reference).resolve() == out.resolve()
    asking = read_section(params, "models.ip_adapter") is None and any(read_flag(params, f"comparison.{method}") for method in LOOK_METHODS)
    return is_own and (asking or bool(load_params(params, "preference", PreferenceConfig).visual_tokens))


def train(cases: Path, items: Path, captions: Path, embeddings: Path, out: Path, *, params: Path) -> int:
    """Train and write the map; return the number of lessons that it was trained on."""
    # late: these load torch, which nothing to do does without
    from pipeline.baselines.frozen import prepare_diffusion
    from pipeline.data.texts import read_item_texts
    from pipeline.looks.train import run_look
    from pipeline.models.look import save_look_map
    from pipeline.retrieval.config import RetrievalConfig
    from pipeline.training_run import open_training, write_training

    config, seed, device, checkpoint_every = open_training(params, STAGE, LookTrainingConfig)
    preference = load_params(params, "preference", PreferenceConfig)
    result = run_look(
        read_table(cases, CASES),
        read_table(embeddings, EMBEDDINGS),
        items,
        read_item_texts(read_table(items, ITEMS, columns=["text"]), read_table(captions, CAPTIONS)),
        config,
        preference,
        center=load_params(params, "retrieval", RetrievalConfig).center,
        diffusion=prepare_diffusion(params, device),
        num_tokens=preference.visual_tokens or DEFAULT_TOKENS,
        seed=seed,
        checkpoint_every=checkpoint_every,
    )
    made = out / "model.safetensors"
    save_look_map(made, result.look)
    metrics = {**result.metrics, "seed": seed}
    write_training(made, metrics=metrics, curves=result.curves, columns=CURVE_COLUMNS, seconds=result.seconds, device=device)
    return result.metrics["num_lessons"]


if __name__ == "__main__":
    run_stage(app)
