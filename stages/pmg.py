"""Stage `pmg`: keywords of every user's taste, and PMG's soft preference embeddings, trained on training users."""

import functools
import time
from pathlib import Path

import numpy as np
import typer

from pipeline.artifacts import build_provenance, read_table, write_csv, write_json, write_tensors
from pipeline.baselines.pmg.config import PmgConfig
from pipeline.baselines.pmg.fit import CURVE_COLUMNS, STAGE
from pipeline.baselines.pmg.keywords import ItemWords, name_preferences
from pipeline.baselines.pmg.run import build_rows, build_training_set, compute_soft, fit_soft, split_cases
from pipeline.columns import map_columns
from pipeline.cost import describe_training
from pipeline.data.texts import read_item_texts
from pipeline.fingerprint import compute_fingerprint
from pipeline.latents import compute_latents
from pipeline.models.denoising import choose_training_dtype
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.llm import prepare_language_model
from pipeline.models.references import read_reference
from pipeline.params import load_params, load_seed, read_section
from pipeline.rows import Summary
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, CASES, ITEMS, KEYWORDS, PMG_PREFERENCES
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)
NO_SOFT = np.zeros(1, dtype=np.float32)


@app.command()
def main(
    cases: Path = typer.Option(...),
    items: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    keywords: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write preferences.parquet, the trained module, its metrics, its curve, what it cost, and the cases without keywords."""
    started = time.monotonic()
    config, seed, runtime = load_params(params, STAGE, PmgConfig), load_seed(params), load_runtime(params)
    device = resolve_device(runtime)
    llm, reference, dtype = prepare_language_model(params, device), read_reference(params, "diffusion"), choose_training_dtype(device)
    revision = f"{compute_model_revision(reference)} {dtype}"
    load = functools.cache(lambda: load_diffusion(resolve_model(reference), device=device, dtype=dtype))

    caption_table, keyword_table = read_table(captions, CAPTIONS), read_table(keywords, KEYWORDS)
    words = ItemWords(
        read_item_texts(read_table(items, ITEMS, columns=["text"]), caption_table),
        map_columns(caption_table, "item_id", "caption"),
        map_columns(keyword_table, "item_id", "keywords"),
    )
    splits = split_cases(read_table(cases, CASES), read_section(params, "generation.splits"), config, seed=seed)
    named, rejected = name_preferences(splits.list_histories(), words, config, llm=llm)
    facts = {"language_model": f"{llm.revision} {llm.dtype}", "diffusion": revision, "params": compute_fingerprint(config), "seed": seed}
    soft_of, metrics, curves, seconds, tensors = {}, {}, [], 0.0, {}
    if config.use_soft:
        seen = [item_id for case in (*splits.train, *splits.validation) for item_id in case["history"]]
        latents, _ = compute_latents(items, seen, load_diffusion=load, revision=revision)
        training_set = build_training_set(splits, named, words, latents)
        state, tools, metrics = fit_soft(
            training_set, config, llm=llm, diffusion=load(), revision=revision, seed=seed, checkpoint_every=runtime.checkpoint_every
        )
        drawn = {case["case_id"]: case["history"] for case in splits.drawn if case["case_id"] in named}
        soft_of = compute_soft(drawn, words, config, state.soft, tools, identity=facts["language_model"])
        curves, seconds, tensors = state.curves, state.clock.seconds, state.soft.state_dict()
    write_tensors(out / "soft.safetensors", tensors, facts)
    write_json(out / "metrics.json", {**metrics, "seed": seed})
    write_csv(out / "curves.csv", curves, CURVE_COLUMNS)
    write_json(out / "cost.json", describe_training(seconds, device))
    drawn_rejected = {case["case_id"]: rejected[case["case_id"]] for case in splits.drawn if case["case_id"] in rejected}
    num = len(splits.drawn)
    write_outcome(
        STAGE,
        out / "preferences.parquet",
        lambda: build_rows(splits, named, words, config, lambda case_id: soft_of.get(case_id, NO_SOFT)),
        PMG_PREFERENCES,
        rejected=drawn_rejected,
        summary=Summary(num, num, 0, len(drawn_rejected), time.monotonic() - started),
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance(STAGE, num_soft=config.num_soft if config.use_soft else 0, **facts),
    )


if __name__ == "__main__":
    run_stage(app)
