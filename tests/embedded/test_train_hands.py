"""Drawings that are asked whose hand they show. Run: python -m pytest tests/embedded/test_train_hands.py"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedded.critic import Critic
from embedded.drawing_model import DrawingModel, UnetConfig, build_noiser
from embedded.examples import Examples
from embedded.prompts import LookBank, TextBank
from embedded.readers import build_reader, name_classes
from embedded.texts import MAX_TOKENS, TEXT_WIDTH
from embedded.train_hands import Exam, HandsRecipe, Studio
from embedded.train_unet import Lessons
from pipeline.data.openmoji import STYLES

FAMILIES, THINGS = 2, 3
CONFIG = UnetConfig(channels=(16, 32), head_dim=8, look_width=16)


class Painter(nn.Module):
    """Stands for the autoencoder: three of the latents are the colours."""

    config = SimpleNamespace(scaling_factor=1.0)

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=functional.interpolate(latents[:, :3], scale_factor=2))


class ColourReader(nn.Module):
    """Says which of the first colours there is most of."""

    def __init__(self, first: int, count: int) -> None:
        super().__init__()
        self.first, self.count = first, count

    def forward(self, images: Tensor) -> Tensor:
        return 4 * images.mean(dim=(2, 3))[:, self.first : self.first + self.count]


class Eyes:
    """Stands for the trunk: sees colours, in full and in half size."""

    def extract(self, images: Tensor) -> list[Tensor]:
        return [images, functional.avg_pool2d(images, 2)]


REAL = torch.tensor([240, 20, 20], dtype=torch.uint8).view(1, 3, 1, 1)  # every real drawing is red


def build_lessons() -> Lessons:
    """Build six drawings, three things by two families, whose looks are told by their vectors."""
    numbers = torch.arange(FAMILIES * THINGS)
    looks, things = len(STYLES) + numbers % FAMILIES, numbers // FAMILIES
    examples = Examples(torch.zeros(len(numbers), 3, 2, 2), looks, things, ["a", "b", "c"], ["group"] * THINGS, 0)
    generator = torch.Generator().manual_seed(0)
    names = torch.randn((THINGS, 1, MAX_TOKENS, TEXT_WIDTH), generator=generator)
    words = TextBank(names, names, names, torch.zeros(MAX_TOKENS, TEXT_WIDTH))
    members = [torch.nonzero(looks == look)[:, 0] for look in range(len(STYLES) + FAMILIES)]
    bank = LookBank(functional.one_hot(numbers % FAMILIES, 4).float(), torch.zeros(len(numbers), TEXT_WIDTH), members)
    return Lessons(examples, words, bank, torch.zeros(len(numbers), 4, 8, 8), [numbers[:0], numbers], build_noiser())


def build_exam(lessons: Lessons, **changes: object) -> Exam:
    weights = {"hand_weight": 1.0, "thing_weight": 0.0, "real_weight": 0.0} | changes
    return Exam(
        recipe=HandsRecipe(batch_size=12, steps=3, look_scales=(2.0, 2.0), **weights),
        lessons=lessons,
        vae=Painter(),
        readers={"hand": ColourReader(0, FAMILIES), "thing": ColourReader(0, THINGS)},
        classes={"hand": lessons.examples.looks - len(STYLES), "thing": lessons.examples.things},
        eyes=Eyes(),
        real=REAL.expand(len(lessons.examples), 3, 16, 16),
        empty=torch.zeros(MAX_TOKENS, TEXT_WIDTH),
    )


@pytest.fixture
def studio() -> Studio:
    torch.manual_seed(0)
    return Studio(DrawingModel(CONFIG, 4, 4), Critic([3, 3]))


def test_a_model_learns_the_hand_that_it_is_asked_for(studio: Studio) -> None:
    lessons = build_lessons()
    exam, generator = build_exam(lessons), torch.Generator().manual_seed(1)
    optimiser, right = torch.optim.AdamW(studio.parameters(), 5e-3), []
    for _ in range(24):
        loss, figures = exam.compute_loss(studio, generator)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        right.append(figures["hand_right"])
    assert torch.stack(right[:4]).mean() < 0.7, "it knows the hands before it learns them"
    assert torch.stack(right[-6:]).mean() > 0.9


def test_the_gradient_comes_through_one_step_alone(studio: Studio) -> None:
    lessons, calls = build_lessons(), []
    studio.drawing.unet.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    exam, generator = build_exam(lessons), torch.Generator().manual_seed(1)
    lengths = set()
    for _ in range(12):
        exam.compute_loss(studio, generator)
        assert calls[-1]
        assert not any(calls[:-1])
        lengths.add(len(calls))
        calls.clear()
    assert lengths == {2, 3}, "a step that is neither the first nor always the same"


def test_weights_say_how_much_an_answer_counts(studio: Studio) -> None:
    lessons = build_lessons()

    def compute(hand: float, thing: float, real: float) -> float:
        exam = build_exam(lessons, hand_weight=hand, thing_weight=thing, real_weight=real)
        return exam.compute_loss(studio, torch.Generator().manual_seed(2))[0].item()

    nothing = compute(0.0, 0.0, 0.0)  # the critic's own loss
    each = [compute(*weights) - nothing for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]
    assert all(abs(part) > 1e-4 for part in each)
    assert compute(0.5, 0.25, 0.125) - nothing == pytest.approx(0.5 * each[0] + 0.25 * each[1] + 0.125 * each[2], rel=1e-3)


def test_a_model_learns_what_the_critic_finds_real(studio: Studio) -> None:
    lessons = build_lessons()
    exam, generator = build_exam(lessons, hand_weight=0.0, real_weight=1.0), torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(studio.parameters(), 5e-3)
    for _ in range(30):
        loss, _ = exam.compute_loss(studio, generator)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    red, green, blue = exam.draw_estimates(studio.drawing, torch.arange(6), generator).detach().mean(dim=(0, 2, 3)).tolist()
    assert red > 0.2
    assert max(green, blue) < -0.2


def test_drawing_and_judging_teach_apart(studio: Studio) -> None:
    pictures = torch.rand(2, 3, 8, 8, requires_grad=True)
    maps, families = [pictures, functional.avg_pool2d(pictures, 2)], torch.tensor([0, 1])
    studio.critic.score_frozen(maps, families).backward()
    assert pictures.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in studio.critic.parameters())
    pictures.grad = None
    real = [layer.detach() for layer in maps]
    studio.critic.compute_loss(real, families, maps, families).backward()
    assert pictures.grad is None
    assert all(parameter.grad is not None for parameter in studio.critic.parameters())


def test_readers_number_families_and_things_as_the_drawings_do() -> None:
    names = [*(f"concept {number}" for number in range(5)), *(f"thing {number}" for number in range(443))]
    looks, things = torch.tensor([0, 3, len(STYLES), len(STYLES) + 8]), torch.tensor([0, 4, 5, 447])
    examples = Examples(torch.zeros(4, 3, 2, 2), looks, things, names, ["group"] * len(names), 2)
    assert name_classes(examples, "hand")[2:].tolist() == [0, 8]
    assert name_classes(examples, "thing")[2:].tolist() == [0, 442]
    assert (name_classes(examples, "thing")[:2] < 0).all()


@pytest.mark.parametrize(("kind", "classes"), [("hand", 9), ("thing", 443)])
def test_a_reader_answers_about_every_family_or_thing(kind: str, classes: int) -> None:
    reader = build_reader(kind)
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    logits = reader(images)
    assert logits.shape == (2, classes)
    logits[:, 0].sum().backward()
    assert images.grad.abs().amax(dim=(1, 2, 3)).gt(0).all()
