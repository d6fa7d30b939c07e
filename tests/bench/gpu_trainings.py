"""The trainings that `make bench-gpu` measures: a step of reflection, and epochs of the ranker; random inputs of the right shapes."""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline.conditioning.calibrator import BalanceCalibrator
from pipeline.conditioning.conditioner import Conditioner, ConditionInputs
from pipeline.conditioning.config import CalibratorConfig, MapperConfig
from pipeline.conditioning.mapper import MapperShape, ModalMapper
from pipeline.models.diffusion import load_diffusion
from pipeline.models.encoders import load_clip
from pipeline.params import load_params
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import RankerTraining
from pipeline.ranker.scoring import build_scorer
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.fit import ReflectionTraining
from pipeline.reflection.step import CaseBatch, ReflectionTools
from tests.bench.gpu_races import Line, Sizes, time_way
from tests.bench.models import Setting
from tests.pipeline.ranker.large_world import build_large_data


def race_reflection(setting: Setting, sizes: Sizes, *, llm_dim: int) -> Line:
    """Steps of reflection with all of a step's pictures in batches, beside the same steps drawn picture by picture."""
    config = load_params(setting.params, "reflection", ReflectionConfig)
    tools, rates, percents = build_tools(setting, config), [], []
    for draw_batch in (config.draw_batch, 1):
        training = build_training(setting, tools, replace(config, draw_batch=draw_batch), llm_dim=llm_dim)
        training.take_step(0)
        seconds, percent = time_way(lambda training=training: [training.take_step(1) for _ in range(sizes.reflection_steps)], setting.device)
        rates.append(sizes.reflection_steps / seconds)
        percents.append(percent)
    count = config.batch_cases * (1 + config.num_perturbations)
    return Line(f"a step of reflection: {count} pictures, {config.reward_steps} steps", "steps/s", rates[0], rates[1], None, percents[0])


def build_tools(setting: Setting, config: ReflectionConfig) -> ReflectionTools:
    """Load the frozen models, and build a small ranker that knows the cases' users and items."""
    options = {"device": setting.device, "dtype": setting.dtype}
    clip = load_clip(setting.folders["clip"], **options)
    data = build_large_data(200, 1_000, dim=clip.dim)
    ranker_config = replace(load_params(setting.params, "ranker", RankerConfig), image_text_weight=0.0)  # pictures alone are scored
    weights = RankerTraining(data, ranker_config, seed=0, device=torch.device("cpu")).name_tensors()
    ids = {"user_ids": data.user_ids, "item_ids": data.item_ids, "image_feature": "clip_image"}
    return ReflectionTools(
        diffusion=load_diffusion(setting.folders["diffusion"], **options, scheduler=config.reward_scheduler),
        encoder=clip,
        ranker=build_scorer(weights, data.features, data.train_P2, config=ranker_config, **ids),
        project=clip.project_text_states,
    )


def build_training(setting: Setting, tools: ReflectionTools, config: ReflectionConfig, *, llm_dim: int) -> ReflectionTraining:
    """Build an untrained conditioner and one batch of cases, which every step takes."""
    generator = torch.Generator().manual_seed(0)
    mapper = load_params(setting.params, "mapper", MapperConfig)
    shape = MapperShape(
        d_model=mapper.d_model,
        num_layers=mapper.num_layers,
        num_heads=mapper.num_heads,
        ffn_dim=mapper.ffn_dim,
        input_dim=llm_dim,
        num_img_tokens=mapper.num_img_tokens,
        num_tokens=tools.diffusion.num_tokens,
        token_dim=tools.diffusion.token_dim,
    )
    sizes = {"llm_dim": llm_dim, "token_dim": tools.diffusion.token_dim}
    calibrator = BalanceCalibrator(load_params(setting.params, "calibrator", CalibratorConfig), **sizes, generator=generator)
    img_vectors_LD = torch.randn(mapper.num_img_tokens, llm_dim, generator=generator)
    conditioner = Conditioner(ModalMapper(shape, generator=generator), calibrator, img_vectors_LD, mapper.prompt_format).to(setting.device)
    batch = build_cases(config.batch_cases, tools, mapper, llm_dim=llm_dim, generator=generator)
    batches = [list(range(config.batch_cases))] * 2
    return ReflectionTraining(conditioner, batch, batch, tools, config, batches=batches, seed=0)


def build_cases(size: int, tools: ReflectionTools, mapper: MapperConfig, *, llm_dim: int, generator: torch.Generator) -> CaseBatch:
    """Make up the cached facts of some cases."""
    num_tokens, token_dim, width = tools.diffusion.num_tokens, tools.diffusion.token_dim, tools.encoder.dim
    mask_BT = torch.ones(size, mapper.max_text_tokens, dtype=torch.bool)
    inputs = ConditionInputs(
        text_BTD=torch.randn(size, mapper.max_text_tokens, llm_dim, generator=generator),
        text_mask_BT=mask_BT,
        img_BLD=torch.randn(size, mapper.num_img_tokens, llm_dim, generator=generator),
        global_BKD=torch.randn(size, num_tokens, token_dim, generator=generator),
        global_mask_BK=torch.ones(size, num_tokens, dtype=torch.bool),
    )
    vector_BV = torch.nn.functional.normalize(torch.randn(size, width, generator=generator), dim=1)
    return CaseBatch(
        case_ids=tuple(f"case-{index}" for index in range(size)),
        user_ids=tuple(f"u{index:07d}" for index in range(size)),  # large_world's
        reference_ids=tuple(f"i{index:07d}" for index in range(size)),
        inputs=inputs,
        caption_BSD=torch.randn(size, num_tokens, token_dim, generator=generator),
        semantic_BV=vector_BV,
        retrieved_BV=vector_BV,
        has_retrieved_B=torch.ones(size, dtype=torch.bool),
        comparator_BC=torch.zeros(size, 2),
        mean_B=torch.zeros(size),
        std_B=torch.ones(size),
    )


def race_ranker(setting: Setting, sizes: Sizes) -> Line:
    """Epochs of MICRO; an epoch has no rows that a loop could take one by one."""
    data = build_large_data(sizes.items, sizes.interactions, dim=768)
    config = load_params(setting.params, "ranker", RankerConfig)
    training = RankerTraining(data, config, seed=0, device=setting.device)
    training.take_step(0)
    seconds, percent = time_way(lambda: training.take_step(1), setting.device)
    name = f"MICRO, {len(data.train_P2):,} interactions, {sizes.items:,} items"
    return Line(name, "epochs/s", 1 / seconds, None, 2, percent)
