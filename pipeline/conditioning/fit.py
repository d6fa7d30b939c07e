"""Stage 0: teach [IMG] vectors and mapper to say in the diffusion model's text space what a caption says (GILL's generation loss).

The paper does not say how its mapper came to fit its language model; an untrained one produces noise that a rate of 1e-5 cannot mend.
Departures from GILL (Koh et al. 2023, CC3M, 20,000 steps of 200):
1. Only the generation loss is used: captioning and retrieval heads are no part of RAGAR, and [IMG] is never decoded.
2. Two phases: `img_steps` steps train vectors and mapper together through the frozen language model, then the vectors are fixed, the
   states are computed once, and `mapper_steps` cheap steps train the mapper alone.
3. The learning rate warms up and then falls along a cosine to zero over both phases, instead of a step every five epochs.
4. `attention_steps` more steps teach the calibrator's attention where to point, on leave-one-out cases only (`attention_pretraining.py`).
5. `prompt: leave_one_out` takes leave-one-out cases of training users, whose p_g has the form of the real ones (`leave_one_out.py`); `detailed` puts
   the caption itself into p_g; `caption` is GILL's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pipeline.checkpoints import flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint
from pipeline.conditioning.config import MapperConfig
from pipeline.conditioning.img_tokens import init_img_vectors, rescale_rows
from pipeline.conditioning.mapper import MapperShape, ModalMapper, compute_gill_loss, take_prefix
from pipeline.conditioning.states import compute_prompt_states, run_prompts
from pipeline.cost import Clock
from pipeline.fingerprint import compute_fingerprint
from pipeline.keywords.prompts import build_detailed_prompt, flatten_text
from pipeline.randomness import make_generator
from pipeline.runtime import progress

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LazyLanguageModel

STAGE = "mapper"
CURVE_COLUMNS = ("step", "phase", "learning_rate", "loss", "held_out_loss", "held_out_match")


@dataclass
class MapperState:
    """Everything that the next step needs."""

    mapper: ModalMapper
    img_vectors_LD: torch.nn.Parameter
    optimizer: torch.optim.Optimizer
    step: int = 0
    curves: list[dict[str, Any]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def save(self, fingerprint: str) -> None:
        """Write the checkpoint."""
        tensors = {f"mapper.{name}": value for name, value in self.mapper.state_dict().items()}
        tensors |= {"img_vectors": self.img_vectors_LD, **flatten_optimizer(self.optimizer)}
        save_checkpoint(STAGE, fingerprint, step=self.step, tensors=tensors, facts={"curves": self.curves, "seconds": self.clock.stop()})

    def restore(self, fingerprint: str) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = load_checkpoint(STAGE, fingerprint)
        if saved is None:
            return
        self.step, tensors, facts = saved
        self.mapper.load_state_dict(take_prefix(tensors, "mapper."))
        with torch.no_grad():
            self.img_vectors_LD.copy_(tensors["img_vectors"])
        restore_optimizer(self.optimizer, tensors)
        self.curves = facts["curves"]
        self.clock.resume(facts.get("seconds"))  # unknown to checkpoints of before


@dataclass(frozen=True)
class CaptionSet:
    """Captions as prompts and as token states (N, K, d) of the diffusion model; the last `num_held_out` are never trained on."""

    prompts: list[str]
    target_NKD: torch.Tensor
    num_held_out: int

    @property
    def num_train(self) -> int:
        """Number of captions to train on."""
        return len(self.prompts) - self.num_held_out


def choose_captions(caption_of: dict[str, str], item_ids: Sequence[str], config: MapperConfig, *, seed: int) -> list[str]:
    """Choose at most `max_captions` distinct captions of the items, in a seeded order."""
    captions = sorted({" ".join(caption_of[item_id].split()) for item_id in item_ids if item_id in caption_of})
    order = torch.randperm(len(captions), generator=make_generator(seed, STAGE, "captions")).tolist()
    return [captions[i] for i in order[: config.max_captions]]


def write_prompts(captions: Sequence[str], config: MapperConfig) -> list[tuple[str, str]]:
    """Write a prompt for each caption: (prompt, caption)."""
    if config.prompt == "caption":
        return [(flatten_text(caption), caption) for caption in captions]
    return [(build_detailed_prompt([flatten_text(caption)], reference_text=None, reference_caption=None), caption) for caption in captions]


def build_captions(prompted: Sequence[tuple[str, str]], diffusion: Diffusion, config: MapperConfig) -> CaptionSet:
    """Build the targets of (prompt, caption) pairs; ValueError if there are too few to hold some out."""
    if len(prompted) <= config.held_out_captions:
        raise ValueError(f"there are only {len(prompted)} captions of interacted items, but mapper.held_out_captions is {config.held_out_captions}.")
    prompts, captions = ([pair[i] for pair in prompted] for i in range(2))
    return CaptionSet(prompts, diffusion.encode_prompts(captions)[0], config.held_out_captions)


def fit_mapper(
    captions: CaptionSet,
    config: MapperConfig,
    *,
    llm: LazyLanguageModel,
    diffusion_revision: str,
    device: torch.device,
    seed: int,
    checkpoint_every: int,
) -> MapperState:
    """Run both phases, or go on after a kill; the same inputs give the same weights either way."""
    fingerprint = compute_fingerprint(config, captions.prompts, llm.revision, str(llm.dtype), diffusion_revision, seed)
    state = build_state(captions, config, llm=llm, device=device, seed=seed)
    state.restore(fingerprint)
    shown = progress(range(state.step, config.num_steps), label=STAGE, total=config.num_steps - state.step)
    states_NLD: torch.Tensor | None = None
    for step in shown:
        in_first_phase = step < config.img_steps
        if not in_first_phase and states_NLD is None:
            states_NLD = compute_states(captions, state, config, llm=llm)
        batch = choose_batch(captions.num_train, config.img_batch_size if in_first_phase else config.batch_size, seed=seed, step=step)
        if in_first_phase:
            img_BLD = run_prompts([captions.prompts[i] for i in batch], llm.load(), state.img_vectors_LD, config.prompt_format).img_BLD
        else:
            img_BLD = states_NLD[batch].to(device)
        row = take_step(state, img_BLD, captions.target_NKD[batch].to(device), config)
        is_last = state.step == config.num_steps
        if states_NLD is not None and (is_last or state.step % config.held_out_every == 0):
            row |= measure_held_out(state, states_NLD[captions.num_train :].to(device), captions.target_NKD[captions.num_train :].to(device))
        state.curves.append(row)
        if is_last or state.step % checkpoint_every == 0 or state.step == config.img_steps:
            state.save(fingerprint)
    return state


def build_state(captions: CaptionSet, config: MapperConfig, *, llm: LazyLanguageModel, device: torch.device, seed: int) -> MapperState:
    """Build the untrained vectors, mapper and optimiser."""
    mean_row_D, mean_norm = llm.load().measure_embedding()
    generator = make_generator(seed, STAGE, "weights")
    vectors_LD = init_img_vectors(config.num_img_tokens, mean_row_D, mean_norm, generator=generator)
    shape = MapperShape(
        d_model=config.d_model,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        ffn_dim=config.ffn_dim,
        input_dim=len(mean_row_D),
        num_img_tokens=config.num_img_tokens,
        num_tokens=captions.target_NKD.shape[1],
        token_dim=captions.target_NKD.shape[2],
    )
    mapper = ModalMapper(shape, generator=generator).to(device)
    img_vectors_LD = torch.nn.Parameter(vectors_LD.to(device))
    groups = [{"params": list(mapper.parameters()), "weight_decay": config.weight_decay}, {"params": [img_vectors_LD], "weight_decay": 0.0}]
    return MapperState(mapper, img_vectors_LD, torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95)))


def compute_states(captions: CaptionSet, state: MapperState, config: MapperConfig, *, llm: LazyLanguageModel) -> torch.Tensor:
    """Compute the [IMG] states of all captions (N, L, D) with the vectors as they are."""
    vectors_LD = state.img_vectors_LD.detach().cpu()
    return compute_prompt_states(
        captions.prompts, llm=llm, img_vectors_LD=vectors_LD, prompt_format=config.prompt_format, batch_size=config.states_batch_size
    ).img_BLD


def choose_batch(num_captions: int, batch_size: int, *, seed: int, step: int) -> list[int]:
    """Choose the captions of a step; they follow from (seed, step) alone."""
    return torch.randint(num_captions, (batch_size,), generator=make_generator(seed, STAGE, "batch", str(step))).tolist()


def take_step(state: MapperState, img_BLD: torch.Tensor, target_BKD: torch.Tensor, config: MapperConfig) -> dict[str, Any]:
    """Take one optimiser step, put the [IMG] vectors back to their norm, and return the row of the curves."""
    in_first_phase = state.step < config.img_steps
    vectors_LD = state.img_vectors_LD if in_first_phase else state.img_vectors_LD.detach()
    norm = state.img_vectors_LD.detach().norm(dim=1).mean().item()
    loss = compute_gill_loss(state.mapper(img_BLD, vectors_LD), target_BKD)
    rate = config.learning_rate * compute_rate(state.step, num_steps=config.num_steps, warmup_steps=config.warmup_steps)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    torch.nn.utils.clip_grad_norm_([*state.mapper.parameters(), state.img_vectors_LD], config.clip_norm)
    state.optimizer.step()
    if in_first_phase:
        with torch.no_grad():
            state.img_vectors_LD.copy_(rescale_rows(state.img_vectors_LD, norm))
    state.step += 1
    return {"step": state.step, "phase": "img" if in_first_phase else "mapper", "learning_rate": rate, "loss": loss.item()}


def compute_rate(step: int, *, num_steps: int, warmup_steps: int) -> float:
    """Compute the share of the learning rate at `step` (0-based): linear warm-up, then a cosine to zero."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, num_steps - warmup_steps)))


@torch.no_grad()
def measure_held_out(state: MapperState, img_BLD: torch.Tensor, target_BKD: torch.Tensor) -> dict[str, float]:
    """Measure held-out captions: the loss, and the share whose output is closer to their own target than to any other's."""
    mapped_BKD = state.mapper(img_BLD, state.img_vectors_LD)
    distance_BB = torch.stack([(mapped_KD - target_BKD).norm(dim=-1).mean(dim=-1) for mapped_KD in mapped_BKD])
    own = torch.arange(len(distance_BB), device=distance_BB.device)
    match = (distance_BB.argmin(dim=1) == own).float().mean().item()
    return {"held_out_loss": compute_gill_loss(mapped_BKD, target_BKD).item(), "held_out_match": match}


def summarise_fit(state: MapperState, captions: CaptionSet) -> dict[str, Any]:
    """Return the metrics of a training."""
    last = next((row for row in reversed(state.curves) if "held_out_loss" in row), {})
    return {
        "num_steps": state.step,
        "num_captions": captions.num_train,
        "num_held_out": captions.num_held_out,
        "loss_first": state.curves[0]["loss"] if state.curves else None,
        "loss_last": state.curves[-1]["loss"] if state.curves else None,
        "held_out_loss": last.get("held_out_loss"),
        "held_out_match": last.get("held_out_match"),
        "held_out_target_norm": captions.target_NKD[captions.num_train :].norm(dim=-1).mean().item(),
    }
