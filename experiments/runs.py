"""The runs that experiments need, as data: each the default pipeline with some parameters overridden.

Every point states its parameter in full (`retrieval.k=5`): runs whose composed parameters turn out equal are one run, so the default is run once
for all experiments whatever the defaults are.

Readings where the paper is silent:
1. "Without retrieval" is k = 0: no P^ret, and keywords from the whole history, as eq. 6 prints (see `pipeline/keywords/preference.py`).
2. r = 1 subtracts the unperturbed image's reward (`center`): the mean over one perturbation would leave no signal.
3. "Without rank reward" is alpha = 0; r = 0 drops the same loss and stands on the axis of r as a check.
4. The numbers of perturbations, the readings of the reward and of its baseline, and reflection's rate, margin and sigma are compared at the last
   step: by validation the step before any training is kept where training only does harm, and then all of them draw the same images.
5. What reflection adds is measured over five seeds of everything, with more users than the default has, so that 100 validation cases choose the
   step that is kept; the sweeps of r and of the readings have one seed, and no claim is made on them.
6. The baselines' step counts are to be chosen on validation users, at no more compute than RAGAR's: `strength` says what each count is worth and
   costs. Its counts are for the embedded models.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.names import INVERSION, INVERSION_RETRIEVED, PMG, PMG_RETRIEVED


@dataclass(frozen=True)
class Run:
    """The default pipeline with `overrides` in Hydra's grammar; the name is unique and part of the DVC experiment's name."""

    name: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """A run under the name that one experiment shows it by."""

    label: str
    run: Run


DEFAULT = Run("default")
TABLE1 = Run("table1", ("comparison=table1",))


def _sweep(name: str, parameter: str, values: tuple[object, ...]) -> tuple[Point, ...]:
    return tuple(Point(str(value), Run(f"{name}-{value}", (f"{parameter}={value}",))) for value in values)


LAST = ("reflection.keep=last", "reflection.patience=0")  # all steps are made, and what the last one left is kept
K_POINTS = _sweep("k", "retrieval.k", (0, 1, 3, 5, 7, 10, 19))
R_POINTS = tuple(
    Point(str(r), Run(f"r-{r}", (f"reflection.num_perturbations={r}", *(["reflection.baseline=center"] if r == 1 else []), *LAST)))
    for r in (0, 1, 3, 5, 7)
)
KEYWORD_POINTS = _sweep("keywords", "preference.keywords_from", ("retrieved", "weighted", "all"))
GLOBAL_POINTS = _sweep("global", "preference.global_from", ("all", "weighted"))
TEXT_POINTS = _sweep("text", "embedding.semantic_text", ("text+category", "text"))
GRAPH_POINTS = _sweep("image-text", "ranker.image_text_weight", (0.7, 0.0))
STRATEGY_POINTS = (
    Point("Ret", Run("ret", ("retrieval.strategy=ret",))),
    Point("Exp-Ret", Run("exp-ret", ("retrieval.strategy=exp-ret",))),
    Point("Random", Run("random", ("retrieval.strategy=random",))),
)
REWARD_POINTS = (
    Point("(A) hinge_cost", Run("reward-a", ("reflection.reward=hinge_cost", *LAST))),
    Point("(B) swapped", Run("reward-b", ("reflection.reward=swapped", *LAST))),
    Point("(C) as printed", Run("reward-c", ("reflection.reward=literal", *LAST))),
)
BASELINE_POINTS = tuple(Point(name, Run(f"baseline-{name}", (f"reflection.baseline={name}", *LAST))) for name in ("mean", "none"))
CHOICES = (  # one parameter each, for which no experiment of the paper asks
    "retrieval.center=false",
    "retrieval.temperature=0.3",
    "preference.reference_in_prompt=text+caption",
    "preference.min_count=1",
    "mapper.prompt=detailed",
    "mapper.attention_steps=0",
    "calibrator.fusion=residual_add",
    "ranker.negatives=all",
    "ranker.include_reference=true",
    "evaluation.history=retrieved",
)
REFLECTION_CHOICES = ("reflection.learning_rate=0.00001", "reflection.margin=0.0", "reflection.sigma=0.03")


def _choose(choice: str, *further: str) -> Point:
    return Point(choice, Run(f"choice-{choice.split('.')[1].split('=')[0].replace('_', '-')}", (choice, *further)))


CHOICE_POINTS = tuple(_choose(choice) for choice in CHOICES)
DEFAULT_AT_LAST = R_POINTS[2].run  # r = 3 is the default
REFLECTION_CHOICE_POINTS = (Point("default", DEFAULT_AT_LAST), *(_choose(choice, *LAST) for choice in REFLECTION_CHOICES))
TUNED_TITLES = ("TI", "TI + retrieved", "PMG", "PMG + retrieved")
TUNED = (INVERSION, INVERSION_RETRIEVED, PMG, PMG_RETRIEVED)  # the baselines whose steps are chosen
ON_VALIDATION = ("evaluation.split=val", "generation.splits=[val]")


def _train(steps: int, methods: tuple[str, ...]) -> Point:
    chosen = (*(f"comparison.{method}=true" for method in methods), *(f"{method}.num_steps={steps}" for method in methods))
    return Point(str(steps), Run(f"strength-{steps}", (*ON_VALIDATION, *chosen)))


STRENGTH_POINTS = tuple(_train(steps, TUNED) for steps in (10, 20, 40, 80))
LONGEST = _train(160, (PMG, PMG_RETRIEVED))  # TI costs several times what RAGAR does at half of it
ALL_TUNED = tuple(f"comparison.{method}=true" for method in TUNED)
TARGET_POINTS = (
    Point("with the target's own keywords", Run("strength-target", (*ON_VALIDATION, *ALL_TUNED, "pmg.num_target_keywords=5"))),
    Point("without", Run("strength-no-target", (*ON_VALIDATION, *ALL_TUNED, "pmg.num_target_keywords=0"))),
)
SEEDS = (0, 1, 2, 3, 4)


def _repeat(name: str, *overrides: str) -> tuple[Point, ...]:
    return tuple(Point(f"seed {seed}", Run(f"{name}-{seed}", (f"seed={seed}", *overrides))) for seed in SEEDS)


SEED_POINTS = _repeat("seed", "comparison.retrieved=true")
EFFECT = ("dataset.num_users=600", "dataset.splits=[0.48,0.18,0.34]", "reflection.validation_cases=100")  # 108 validation and 204 test users
KEPT_POINTS = _repeat("reflected", *EFFECT)
LAST_POINTS = _repeat("reflected-last", *EFFECT, *LAST)
BEFORE_POINTS = _repeat("unreflected", *EFFECT, "reflection.num_steps=0")
NO_RANK_POINTS = _repeat("reflected-no-rank", *EFFECT, "reflection.alpha=0.0")
ARTIST_POINTS = _repeat(
    "artists",
    "dataset=artmoji",
    "models=artists",
    "comparison=artists",
    *(f"comparison.{method}=true" for method in TUNED),
    "preference.visual_tokens=4",
)
ARTIST_WORD_POINTS = _repeat("artists-words", "dataset=artmoji", "models=artists", "preference.visual_tokens=0")
ARTIST_BEFORE_POINTS = _repeat("artists-unreflected", "dataset=artmoji", "models=artists", "preference.visual_tokens=4", "reflection.num_steps=0")
WITHOUT_RETRIEVAL = K_POINTS[0].run
WITHOUT_RANK = Run("alpha-0", ("reflection.alpha=0.0",))
