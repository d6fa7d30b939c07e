"""Stage `mapper`: align [IMG] vectors and modal mapper with the diffusion model's text space, on captions of interacted items."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import typer

from pipeline.artifacts import read_table, write_csv, write_json
from pipeline.conditioning.attention_pretraining import pretrain_attention
from pipeline.conditioning.calibrator import BalanceCalibrator
from pipeline.conditioning.conditioner import Conditioner
from pipeline.conditioning.config import CalibratorConfig, MapperConfig
from pipeline.conditioning.fit import CURVE_COLUMNS, MapperState, build_captions, choose_captions, fit_mapper, summarise_fit, write_prompts
from pipeline.conditioning.leave_one_out import build_leave_one_out_cases
from pipeline.conditioning.mapper import save_mapper
from pipeline.cost import Clock, describe_training
from pipeline.fingerprint import compute_fingerprint
from pipeline.keywords.preference import PreferenceConfig
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.llm import prepare_language_model
from pipeline.models.references import read_reference
from pipeline.params import load_params, load_seed
from pipeline.randomness import make_generator
from pipeline.retrieval.config import RetrievalConfig
from pipeline.rows import Summary
from pipeline.runtime import load_runtime, print_summary, resolve_device
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, KEYWORDS
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cases: Path = typer.Option(...),
    items: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    keywords: Path = typer.Option(...),
    embeddings: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write mapper.safetensors (weights and [IMG] vectors), its metrics, its curves and its cost."""
    started = time.monotonic()
    config, seed, runtime = load_params(params, "mapper", MapperConfig), load_seed(params), load_runtime(params)
    device = resolve_device(runtime)
    reference, llm = read_reference(params, "diffusion"), prepare_language_model(params, device)
    revision = compute_model_revision(reference)
    if config.prompt == "leave_one_out":
        paths = {"cases": (cases, CASES), "items": (items, ITEMS), "captions": (captions, CAPTIONS)}
        paths |= {"keywords": (keywords, KEYWORDS), "embeddings": (embeddings, EMBEDDINGS)}
        examples = build_leave_one_out_cases(
            {name: read_table(path, table, columns=["text"] if table is ITEMS else None) for name, (path, table) in paths.items()},
            retrieval=replace(load_params(params, "retrieval", RetrievalConfig), k=config.leave_one_out_k, strategy="ret"),
            preference=load_params(params, "preference", PreferenceConfig),
            count=config.max_captions,
            seed=seed,
        )
        chosen = [(example.detailed_prompt, example.caption) for example in examples]
    else:
        examples = []
        caption_of = {row["item_id"]: row["caption"] for row in read_table(captions, CAPTIONS).to_pylist()}
        seen = {item_id for history in read_table(cases, CASES)["history"].to_pylist() for item_id in history}
        chosen = write_prompts(choose_captions(caption_of, sorted(seen), config, seed=seed), config)

    # a small catalogue has fewer captions than the params ask for: half of them are trained on all the same
    config = replace(config, held_out_captions=min(config.held_out_captions, max(1, len(chosen) // 2)))
    diffusion = load_diffusion(resolve_model(reference), device=device)
    caption_set = build_captions(chosen, diffusion, config)
    state = fit_mapper(caption_set, config, llm=llm, diffusion_revision=revision, device=device, seed=seed, checkpoint_every=runtime.checkpoint_every)
    metrics, calibrator, attention = {**summarise_fit(state, caption_set), "seed": seed}, None, Clock()
    if examples and config.attention_steps:
        conditioner = build_untrained(state, load_params(params, "calibrator", CalibratorConfig), config, seed=seed).to(device)
        metrics |= pretrain_attention(conditioner, examples, config, llm=llm, diffusion=diffusion, seed=seed)
        calibrator = conditioner.calibrator.state_dict()
        attention.stop()
    facts = {"language_model": llm.revision, "diffusion": revision, "params": compute_fingerprint(config), "seed": seed}
    facts["prompt_format"] = asdict(config.prompt_format)
    save_mapper(out / "mapper.safetensors", state.mapper, state.img_vectors_LD, facts, calibrator=calibrator)
    write_json(out / "metrics.json", metrics)
    write_json(out / "cost.json", describe_training(state.clock.seconds and state.clock.seconds + attention.seconds, device))
    write_csv(out / "curves.csv", state.curves, CURVE_COLUMNS)
    print_summary("mapper", Summary(len(chosen), len(chosen), 0, 0, time.monotonic() - started))


def build_untrained(state: MapperState, calibrator: CalibratorConfig, config: MapperConfig, *, seed: int) -> Conditioner:
    """Join the trained mapper and an untrained calibrator."""
    shape = state.mapper.shape
    generator = make_generator(seed, "calibrator")
    untrained = BalanceCalibrator(calibrator, llm_dim=shape.input_dim, token_dim=shape.token_dim, generator=generator)
    return Conditioner(state.mapper, untrained, state.img_vectors_LD, config.prompt_format)


if __name__ == "__main__":
    run_stage(app)
