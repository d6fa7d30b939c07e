"""Stage `reflection`: train the balance calibrator and the modal mapper with the ranker's reward and two distances."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_table, write_csv, write_json
from pipeline.conditioning.conditioner import build_conditioner, save_conditioner
from pipeline.conditioning.config import CalibratorConfig
from pipeline.conditioning.states import compute_condition_inputs
from pipeline.cost import describe_training
from pipeline.data.cases import select_cases
from pipeline.fingerprint import compute_fingerprint
from pipeline.models.llm import prepare_language_model
from pipeline.params import load_params, load_seed, read_section
from pipeline.randomness import make_generator
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.fit import CURVE_COLUMNS
from pipeline.reflection.inputs import ReflectionTables
from pipeline.reflection.live import open_live
from pipeline.reflection.run import plan_cases, run_reflection
from pipeline.reflection.tools import load_tools
from pipeline.rows import Summary
from pipeline.runtime import load_runtime, print_summary, resolve_device
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, PREFERENCES, RETRIEVED
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cases: Path = typer.Option(...),
    preferences: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    embeddings: Path = typer.Option(...),
    retrieved: Path = typer.Option(...),
    ranker: Path = typer.Option(...),
    mapper: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write calibrator.safetensors (calibrator, mapper and [IMG] vectors after reflection), its metrics, its curves, its cost and DVCLive's log."""
    started = time.monotonic()
    config, seed, runtime = load_params(params, "reflection", ReflectionConfig), load_seed(params), load_runtime(params)
    calibrator, states_batch = load_params(params, "calibrator", CalibratorConfig), read_section(params, "mapper.states_batch_size")
    device = resolve_device(runtime)
    llm = prepare_language_model(params, device)
    tools, identity = load_tools(params, ranker, config, device)

    joined = (read_table(cases, CASES), read_table(preferences, PREFERENCES))
    tables = ReflectionTables(read_table(captions, CAPTIONS), read_table(embeddings, EMBEDDINGS), read_table(retrieved, RETRIEVED))
    plan = plan_cases(select_cases(*joined, ["train"]), select_cases(*joined, ["val"]), tables, tools, config, seed=seed)
    conditioner, _ = build_conditioner(mapper, calibrator, generator=make_generator(seed, "calibrator"))
    inputs = compute_condition_inputs(
        [vars(case) for case in plan.list_all()],
        llm=llm,
        diffusion=tools.diffusion,
        conditioner=conditioner.to(device),
        batch_size=states_batch,
    )
    files = [path.read_bytes() for path in (cases, preferences, captions, embeddings, retrieved, mapper)]
    with open_live(out / "live") as log_row:
        state, metrics = run_reflection(
            conditioner,
            plan,
            inputs,
            tables,
            tools,
            config,
            seed=seed,
            identity=identity,
            data_hash=compute_fingerprint(calibrator, llm.revision, str(llm.dtype), states_batch, *files),
            checkpoint_every=runtime.checkpoint_every,
            log_row=log_row,
        )
    facts = {**identity, "language_model": llm.revision, "params": compute_fingerprint(config), "seed": seed}
    save_conditioner(out / "calibrator.safetensors", conditioner, facts)
    write_json(out / "metrics.json", metrics)
    write_json(out / "cost.json", describe_training(state.clock.seconds, device))
    write_csv(out / "curves.csv", state.curves, CURVE_COLUMNS)
    before, kept = metrics["before"]["score"], metrics["kept"]["score"]
    print(f"reflection: validation score {before:+.3f} before, {kept:+.3f} at the kept step {metrics['kept_step']}", flush=True)
    num_cases, num_skipped = len(plan.list_all()), plan.num_skipped
    print_summary("reflection", Summary(num_cases + num_skipped, num_cases, 0, num_skipped, time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
