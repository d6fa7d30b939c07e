"""One step with a real (tiny) Stable Diffusion and CLIP: what it costs, and that nothing frozen moves.

Run: `python -m pytest tests/pipeline/reflection/test_real_models.py`.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pipeline.conditioning.conditioner import ConditionInputs
from pipeline.data.cases import Case
from pipeline.models.diffusion import load_diffusion
from pipeline.models.encoders import load_clip
from pipeline.reflection.fit import list_trainable
from pipeline.reflection.inputs import build_batch
from pipeline.reflection.step import CaseBatch, ReflectionTools, observe_step, set_gradients
from tests.configs import REFLECTION
from tests.pipeline.reflection.conftest import LLM_DIM, NUM_IMG, NUM_ITEMS, build_conditioner, build_ranker, build_tables
from tests.tiny_encoders import CLIP_DIM, save_tiny_clip
from tests.tiny_models import save_tiny_stable_diffusion

NUM_TEXT = 77
CONFIG = dataclasses.replace(REFLECTION, reward_steps=2)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> ReflectionTools:
    folder = tmp_path_factory.mktemp("models")
    clip = load_clip(str(save_tiny_clip(folder / "clip")))
    features_NV = torch.nn.functional.normalize(torch.randn(NUM_ITEMS, CLIP_DIM, generator=torch.Generator().manual_seed(2)), dim=1)
    diffusion = load_diffusion(str(save_tiny_stable_diffusion(folder / "sd")))
    return ReflectionTools(diffusion=diffusion, encoder=clip, ranker=build_ranker(features_NV), project=clip.project_text_states)


@pytest.fixture
def batch(tools: ReflectionTools) -> CaseBatch:
    """Three cases whose P^gen has more rows than the 77 of an encoded text."""
    cases = [
        Case(
            f"case{c:02d}",
            f"user{c:02d}",
            f"item{c:02d}",
            None,
            history=(),
            keywords=("neon",),
            keyword_prompt="",
            retrieved_prompt="",
            global_prompt=f"a thing{c}",
            detailed_prompt="",
        )
        for c in range(3)
    ]
    generator = torch.Generator().manual_seed(3)
    global_BKD, global_mask_BK = tools.diffusion.encode_prompts([case.global_prompt for case in cases])
    text_BTD = torch.randn(3, NUM_TEXT, LLM_DIM, generator=generator)
    inputs = ConditionInputs(
        text_BTD, torch.ones(3, NUM_TEXT, dtype=torch.bool), torch.randn(3, NUM_IMG, LLM_DIM, generator=generator), global_BKD, global_mask_BK
    )
    vectors = torch.nn.functional.normalize(torch.randn(NUM_ITEMS, CLIP_DIM, generator=generator), dim=1)
    return build_batch(cases, inputs, build_tables(vectors), tools, CONFIG, seed=1, identity={"models": "tiny"})


def list_frozen(tools: ReflectionTools) -> dict[str, torch.Tensor]:
    """Return every weight that reflection must leave alone."""
    pipeline = tools.diffusion.pipeline
    modules = {
        "unet": pipeline.unet,
        "vae": pipeline.vae,
        "text_encoder": pipeline.text_encoder,
        "clip": tools.encoder._model,
        "ranker": tools.ranker.model,
    }
    return {f"{part}.{name}": value for part, module in modules.items() for name, value in module.state_dict().items()}


def test_a_step_moves_calibrator_and_mapper_and_no_frozen_weight(tools: ReflectionTools, batch: CaseBatch) -> None:
    conditioner = build_conditioner(tools.diffusion)
    before = {name: value.clone() for name, value in list_frozen(tools).items()}
    start = {name: value.clone() for name, value in conditioner.state_dict().items()}
    parameters = list_trainable(conditioner, CONFIG.trainable)
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    losses, row = observe_step(conditioner, batch, tools, CONFIG, seed=1, step=0)
    logged = set_gradients(losses, parameters, CONFIG)
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in list_frozen(tools).items())
    moved = {name.split(".")[0] for name, value in conditioner.state_dict().items() if not torch.equal(value, start[name])}
    assert moved == {"calibrator", "mapper"}
    assert min(logged["grad_rank"], logged["grad_calibration"], logged["grad_semantic"]) > 0
    assert 1.0 <= row["mean_rank"] <= 3.0


def test_perturbations_and_guidance_pairs_share_one_unet_batch_without_gradient(tools: ReflectionTools, batch: CaseBatch) -> None:
    seen: list[tuple[tuple[int, ...], bool, bool]] = []
    images = 3 * (1 + CONFIG.num_perturbations)

    def note(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        states = kwargs["encoder_hidden_states"]
        seen.append((tuple(states.shape), torch.is_inference_mode_enabled(), states.requires_grad))

    hook = tools.diffusion.pipeline.unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        conditioner = build_conditioner(tools.diffusion)
        observe_step(conditioner, batch, tools, dataclasses.replace(CONFIG, draw_batch=images), seed=1, step=0)
    finally:
        hook.remove()
    num_rows = NUM_TEXT + 2 * tools.diffusion.num_tokens
    assert num_rows > 77
    assert seen == [((2 * images, num_rows, tools.diffusion.token_dim), True, False)] * CONFIG.reward_steps


def test_reference_and_global_scores_are_not_computed_in_a_step(tools: ReflectionTools, batch: CaseBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tools.ranker), "score_original", lambda *args: pytest.fail("the reference was scored again"))
    monkeypatch.setattr(type(tools.diffusion), "encode_prompts", lambda *args, **rest: pytest.fail("a text was encoded again"))
    conditioner = build_conditioner(tools.diffusion)
    losses, row = observe_step(conditioner, batch, tools, dataclasses.replace(CONFIG, reward_steps=1), seed=1, step=0)
    assert set(losses) == {"rank", "calibration", "semantic"}
    assert row["score_global"] == pytest.approx(float(batch.comparator_BC[:, 1].mean()))
