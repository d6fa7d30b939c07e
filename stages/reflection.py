"""Stage `reflection`: train the balance calibrator and the modal mapper with the ranker's reward and two distances."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_table
from pipeline.conditioning.conditioner import build_conditioner, save_conditioner
from pipeline.conditioning.config import CalibratorConfig
from pipeline.conditioning.states import build_balance, compute_condition_inputs
from pipeline.data.cases import select_cases
from pipeline.data.texts import read_item_texts
from pipeline.fingerprint import compute_fingerprint
from pipeline.models.llm import prepare_language_model
from pipeline.models.look import prepare_look_map
from pipeline.params import load_params, read_section
from pipeline.randomness import make_generator
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.fit import CURVE_COLUMNS, STAGE
from pipeline.reflection.inputs import ReflectionTables
from pipeline.reflection.live import open_live
from pipeline.reflection.run import plan_cases, run_reflection
from pipeline.reflection.tools import load_tools
from pipeline.rows import Summary
from pipeline.runtime import print_summary
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, LOOKS, PREFERENCES, RETRIEVED
from pipeline.terminal import say
from pipeline.training_run import open_training, write_training
from stages.entry import PARAMS, Needed, run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cases: Needed,
    preferences: Needed,
    captions: Needed,
    embeddings: Needed,
    retrieved: Needed,
    ranker: Needed,
    mapper: Needed,
    items: Needed,
    looks: Needed,
    out: Needed,
    params: Path = PARAMS,
) -> None:
    """Write calibrator.safetensors (calibrator, mapper and [IMG] vectors after reflection), its metrics, its curves, its cost and DVCLive's log."""
    started = time.monotonic()
    config, seed, device, checkpoint_every = open_training(params, STAGE, ReflectionConfig)
    llm = prepare_language_model(params, device)
    seen = read_table(looks, LOOKS)
    tools, identity = load_tools(params, ranker, config, device, with_looks=len(seen) > 0)
    joined = (read_table(cases, CASES), read_table(preferences, PREFERENCES))
    texts = read_item_texts(read_table(items, ITEMS, columns=["text"]), None) if len(seen) else None
    tables = ReflectionTables(read_table(captions, CAPTIONS), read_table(embeddings, EMBEDDINGS), read_table(retrieved, RETRIEVED), texts)
    train, validation = (select_cases(*joined, [split], seen) for split in ("train", "val"))
    plan = plan_cases(train, validation, tables, tools, config, seed=seed)
    calibrator = load_params(params, "calibrator", CalibratorConfig)
    conditioner, _ = build_conditioner(mapper, calibrator, generator=make_generator(seed, "calibrator"))
    if len(seen):
        look = prepare_look_map(params)
        conditioner.look = build_balance(train, look.model.no_look_MD, count=config.look_directions)
        identity = {**identity, "look": look.revision}
    prompts, size = [vars(case) for case in plan.list_all()], read_section(params, "mapper.states_batch_size")
    inputs = compute_condition_inputs(prompts, llm=llm, diffusion=tools.diffusion, conditioner=conditioner.to(device), batch_size=size)
    with open_live(out / "live") as log_row:
        options = {"seed": seed, "identity": identity, "checkpoint_every": checkpoint_every, "log_row": log_row}
        state, metrics = run_reflection(conditioner, plan, inputs, tables, tools, config, **options)
    described = config.describe(with_looks=len(seen) > 0)
    facts = {**identity, "language_model": llm.revision, "params": compute_fingerprint(described), "seed": seed}
    save_conditioner(out / "calibrator.safetensors", conditioner, facts)
    write_training(out / "calibrator.safetensors", metrics=metrics, curves=state.curves, columns=CURVE_COLUMNS, seconds=state.seconds, device=device)
    before, kept = metrics["before"]["score"], metrics["kept"]["score"]
    say(f"{STAGE}: validation score {before:+.3f} before, {kept:+.3f} at the kept step {metrics['kept_step']}")
    num_cases, num_skipped = len(prompts), plan.num_skipped
    print_summary(STAGE, Summary(num_cases + num_skipped, num_cases, 0, num_skipped, time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
