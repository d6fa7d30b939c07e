"""Stage `generation@<method>`: draw one image a case with one method."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import typer

from pipeline.artifacts import build_provenance, get_matrix, read_provenance, read_table, read_tensors, write_json
from pipeline.baselines.pmg.config import SelectionConfig
from pipeline.baselines.sd.fit import StableDiffusionConfig
from pipeline.conditioning.conditioner import Conditioner, load_conditioner
from pipeline.conditioning.states import compute_condition_inputs
from pipeline.cost import summarise_rows
from pipeline.data.cases import select_cases
from pipeline.fingerprint import compute_fingerprint
from pipeline.generation import build_method
from pipeline.generation.config import GenerationConfig
from pipeline.generation.context import Baselines, GenerationContext, PmgPreference
from pipeline.generation.drawing import build_generated, draw_cases, summarise_drawn
from pipeline.models.diffusion import Diffusion, load_diffusion
from pipeline.models.encoders import load_clip
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.llm import prepare_language_model
from pipeline.models.lora import load_lora
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import load_params, load_seed, read_section
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, CASES, GENERATED, ITEMS, PMG_PREFERENCES, PREFERENCES, PSEUDO_WORDS
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    method: str = typer.Option(...),
    cases: Path = typer.Option(...),
    items: Path = typer.Option(...),
    out: Path = typer.Option(...),
    captions: Path | None = None,
    preferences: Path | None = None,
    calibrator: Path | None = None,
    lora: Path | None = None,
    vectors: Path | None = None,
    pmg_preferences: Path | None = None,
    params: Path = Path("params.yaml"),
) -> None:
    """Write the images of `method`, the cases that it cannot draw, its figures and its cost; a method is given only the files that it depends on."""
    config, seed, device = load_params(params, "generation", GenerationConfig), load_seed(params), resolve_device(load_runtime(params))
    reference, dtype_name, llm = read_reference(params, "diffusion"), read_section(params, "models.dtype"), prepare_language_model(params, device)
    clip = read_reference(params, "selection_clip")
    tuned = read_tensors(lora)[0] if lora else {}
    options = {"device": device, "dtype": parse_dtype(dtype_name, device), "scheduler": config.scheduler}
    states_batch = read_section(params, "mapper.states_batch_size")
    context = GenerationContext(
        config=config,
        seed=seed,
        cases=select_cases(read_table(cases, CASES), read_table(preferences, PREFERENCES) if preferences else None, config.splits),
        items=read_table(items, ITEMS),
        captions=read_table(captions, CAPTIONS) if captions else None,
        load_diffusion=lambda: load_tuned(reference, tuned, **options),
        load_conditioner=partial(load_trained, calibrator, device),
        compute_inputs=lambda chosen, module, diffusion: compute_condition_inputs(
            [vars(case) for case in chosen], llm=llm, diffusion=diffusion, conditioner=module, batch_size=states_batch
        ),
        load_clip=lambda: load_clip(resolve_model(clip), device=device, dtype=options["dtype"]),
        revisions={
            "selection_clip": f"{compute_model_revision(clip)} {dtype_name}",
            "diffusion": f"{compute_model_revision(reference)} {dtype_name}{f' lora {compute_fingerprint(lora.read_bytes())}' if tuned else ''}",
            "language_model": f"{llm.revision} {llm.dtype} {states_batch}",
            "conditioner": compute_fingerprint(calibrator.read_bytes()) if calibrator else "",
        },
        baselines=load_baselines(params, vectors, pmg_preferences),
    )
    stage, chosen = f"generation@{method}", build_method(method, context)
    result = draw_cases(chosen, method, context.cases, batch_size=config.batch_size, device=device)
    write_json(out / "metrics.json", summarise_drawn(result))
    write_json(out / "cost.json", summarise_rows(result.values.values(), device))
    # a data set need not know any truth; one that knows some must know nearly all
    max_fraction = 1.0 if method == "truth" and not any(case.truth_id for case in context.cases) else config.max_rejected_fraction
    write_outcome(
        stage,
        out / "generated.parquet",
        build_generated(method, result),
        GENERATED,
        rejected=result.rejected,
        summary=result.summary,
        max_fraction=max_fraction,
        provenance=build_provenance(stage, method=method, identity=chosen.identity),
    )


def load_tuned(reference: str, tuned: dict[str, torch.Tensor], **options: Any) -> Diffusion:
    """Load the diffusion model, with the adapters that the stage sd has trained, if any."""
    diffusion = load_diffusion(resolve_model(reference), **options)
    load_lora(diffusion, tuned)
    return diffusion


def load_baselines(params: Path, vectors: Path | None, pmg_preferences: Path | None) -> Baselines:
    """Read what the baselines were trained to."""
    selection = load_params(params, "pmg.selection", SelectionConfig)
    baselines = Baselines(negative_prompt=load_params(params, "sd", StableDiffusionConfig).negative_prompt, selection=selection)
    if vectors is not None:
        table, facts = read_table(vectors, PSEUDO_WORDS), read_provenance(vectors)
        rows = zip(table["user_id"].to_pylist(), get_matrix(table, "vectors"), strict=True)
        words = {user_id: vector_VE.reshape(facts["num_vectors"], -1) for user_id, vector_VE in rows}
        baselines = replace(baselines, template=facts["template"], vectors=words)
    if pmg_preferences is not None:
        table, num_soft = read_table(pmg_preferences, PMG_PREFERENCES), read_provenance(pmg_preferences)["num_soft"]
        baselines = replace(baselines, pmg_preferences=read_pmg_preferences(table, num_soft))
    return baselines


def read_pmg_preferences(table: pa.Table, num_soft: int) -> dict[str, PmgPreference]:
    """Return what PMG knows of every case; without soft embeddings their place is empty."""
    columns = (table[name].to_pylist() for name in ("case_id", "preference_keywords", "target_keywords"))
    matrix = get_matrix(table, "soft")
    return {
        case_id: PmgPreference(tuple(preference), tuple(target), soft.reshape(num_soft, -1) if num_soft else np.zeros((0, 0), dtype=np.float32))
        for case_id, preference, target, soft in zip(*columns, matrix, strict=True)
    }


def load_trained(calibrator: Path | None, device: torch.device) -> Conditioner:
    """Load the trained mapper and calibrator; ValueError if none was given."""
    if calibrator is None:
        raise ValueError("this method draws P^gen, so it needs --calibrator, the file that the stage reflection writes.")
    return load_conditioner(calibrator)[0].to(device)


if __name__ == "__main__":
    run_stage(app)
