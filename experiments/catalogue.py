"""The experiments as data: which runs each needs, what is shown of them, and what is compared with what.

A run is the default pipeline with some parameters overridden. Every point states its parameter in full (`retrieval.k=5`): runs
whose composed parameters turn out equal are one run, so the default is run once for all experiments whatever the defaults are.

Readings where the paper is silent:
1. "Without retrieval" is k = 0: no P^ret, and keywords from the whole history, as eq. 6 prints (see `pipeline/keywords/preference.py`).
2. r = 1 subtracts the unperturbed image's reward (`center`): the mean over one perturbation would leave no signal.
3. "Without rank reward" is alpha = 0; r = 0 drops the same loss and stands on the axis of r as a check.
4. Figure 2 names its two metrics nowhere; here they are R@10 and N@10 of the drawn image, with CPS and CPIS. Beside the whole catalogue
   they are taken among 99 sampled items: few references, which no user has seen, come near the first ten of 1,800. Style accuracy and
   ΔR say the same more clearly.
5. The readings of the reward and of its baseline are compared at the last step: by validation the step before any training is kept
   where a reading only does harm.
6. What reflection adds is measured over five seeds of everything, with more users than the default has, so that 100 validation cases choose the
   step that is kept; the sweeps of r and of the readings have one seed, and no claim is made on them.
7. The baselines' step counts are to be chosen on validation users, at no more compute than RAGAR's: `strength` says what each count is worth and
   costs. Its counts are for the embedded models.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAIN = "ragar"
TEXT_ONLY = "sd"  # the image of the reference's text alone
KEYWORD_ONLY = "keywords"  # the image of the reference's text and the whole history's keywords
RETRIEVED = "retrieved"  # the image of the reference's text and the retrieved items' keywords as a plain prompt
IMAGE_PROMPT = "ip_adapter"  # look tokens of the last five pictures with the reference's text
GLOBAL = "global"  # the image of the global preference E^g
INVERSION = "ti"
INVERSION_RETRIEVED = "ti_retrieved"  # the same given the retrieved items alone
PMG = "pmg"
PMG_RETRIEVED = "pmg_retrieved"
GLIDE = "glide"
LAVIT = "lavit"
TRUTH = "truth"
RECONSTRUCTION = "reconstruction"  # the truth through the autoencoder
ORACLE = "oracle"  # look tokens of pictures by the truth's own artist
ORIGINAL = "original"

STYLE = "style_accuracy"
CONCEPT = "concept_accuracy"
CONCEPT_TOP5 = "concept_top5"
DISTANCE = "distance_truth"  # this and the next two stand for columns of the perceptual model at hand, e.g. effnet_truth
DISTANCE_PERSONAL, DISTANCE_SEMANTIC = "distance_pers", "distance_sem"
DELTA_R = "delta_r"
DELTA_R_CHECK = "delta_r_check"  # of the second ranker, which no reward has seen
RECALL, NDCG = "hit_at_10", "ndcg_at_10"
SAMPLED_RECALL, SAMPLED_NDCG = f"{RECALL}_sampled", f"{NDCG}_sampled"  # among 99 items
JUDGED = (STYLE, DISTANCE, "cpis", DELTA_R, DELTA_R_CHECK)  # on which RAGAR is compared with the images that it must beat


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


@dataclass(frozen=True)
class Group:
    """Points that are read together; with `axis` they are the ticks of that axis, in order."""

    title: str
    points: tuple[Point, ...]
    axis: str | None = None
    methods: tuple[str, ...] | None = None  # in place of the experiment's
    is_plotted: bool = True
    suffix: str = ""  # of its methods' names where it stands in one table with other groups


@dataclass(frozen=True)
class Experiment:
    """What one make target of the same name runs and writes."""

    name: str
    title: str
    sentence: str  # what is varied, for the head of the page
    groups: tuple[Group, ...]
    metrics: tuple[str, ...]
    methods: tuple[str, ...] | None = (MAIN,)  # None: every method that was drawn
    compared_with: str | None = None  # a method of the same run; None: the same method of the default run
    is_comparison: bool = False  # one table of methods with tests against RAGAR, over all points (seeds), instead of a table a group
    users: str = "test users"  # whose images are scored
    shows_compute: bool = False  # what the methods cost beside RAGAR

    def list_runs(self) -> tuple[Run, ...]:
        """Return the runs without repetition, the default run, to which most are compared, first."""
        runs = [*([] if self.is_comparison else [DEFAULT]), *(point.run for group in self.groups for point in group.points)]
        return tuple(dict.fromkeys(runs))


DEFAULT = Run("default")


def _sweep(name: str, parameter: str, values: tuple[object, ...], extra: dict[object, tuple[str, ...]] | None = None) -> tuple[Point, ...]:
    return tuple(Point(str(value), Run(f"{name}-{value}", (f"{parameter}={value}", *(extra or {}).get(value, ())))) for value in values)


K_POINTS = _sweep("k", "retrieval.k", (0, 1, 3, 5, 7, 10, 19))
R_POINTS = _sweep("r", "reflection.num_perturbations", (0, 1, 3, 5, 7), {1: ("reflection.baseline=center",)})
KEYWORD_POINTS = _sweep("keywords", "preference.keywords_from", ("retrieved", "weighted", "all"))
GLOBAL_POINTS = _sweep("global", "preference.global_from", ("all", "weighted"))
TEXT_POINTS = _sweep("text", "embedding.semantic_text", ("text+category", "text"))
GRAPH_POINTS = _sweep("image-text", "ranker.image_text_weight", (0.7, 0.0))
STRATEGY_POINTS = (
    Point("Ret", Run("ret", ("retrieval.strategy=ret",))),
    Point("Exp-Ret", Run("exp-ret", ("retrieval.strategy=exp-ret",))),
    Point("Random", Run("random", ("retrieval.strategy=random",))),
)
LAST = ("reflection.keep=last", "reflection.patience=0")  # all steps are made, and what the last one left is kept
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
    "reflection.learning_rate=0.00001",
    "reflection.margin=0.0",
    "reflection.sigma=0.03",
    "evaluation.history=retrieved",
)
CHOICE_POINTS = tuple(Point(choice, Run(f"choice-{choice.split('.')[1].split('=')[0].replace('_', '-')}", (choice,))) for choice in CHOICES)
TUNED_TITLES = ("TI", "TI + retrieved", "PMG", "PMG + retrieved")
TUNED = (INVERSION, INVERSION_RETRIEVED, PMG, PMG_RETRIEVED)  # the baselines whose steps are chosen
ON_VALIDATION = ("evaluation.split=val", "generation.splits=[val]", *(f"comparison.{method}=true" for method in TUNED))
STRENGTH_POINTS = tuple(
    Point(str(steps), Run(f"strength-{steps}", (*ON_VALIDATION, *(f"{method}.num_steps={steps}" for method in TUNED))))
    for steps in (10, 20, 40, 80, 160)
)
TARGET_POINTS = (
    Point("with the target's own keywords", Run("strength-target", (*ON_VALIDATION, "pmg.num_target_keywords=5"))),
    Point("without", Run("strength-no-target", (*ON_VALIDATION, "pmg.num_target_keywords=0"))),
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
    "comparison=table1",
    *(f"comparison.{method}=true" for method in (IMAGE_PROMPT, ORACLE, RECONSTRUCTION)),
    "preference.visual_tokens=4",
)
ARTIST_WORD_POINTS = _repeat("artists-words", "dataset=artmoji", "models=artists", "preference.visual_tokens=0")
WITHOUT_RETRIEVAL = K_POINTS[0].run
WITHOUT_RANK = Run("alpha-0", ("reflection.alpha=0.0",))

EXPERIMENTS = (
    Experiment(
        "table1",
        "Table 1: RAGAR beside the other methods",
        "The same users, size and metrics for every method, and the same noise, sampler and steps for all but GLIDE and LaVIT, which have "
        "generators of their own; `original` is the reference as it is.",
        (Group("methods", (Point("table1", Run("table1", ("comparison=table1",))),)),),
        (DELTA_R, "cps", "cpis", DISTANCE_PERSONAL, "ssim_pers", "cs", "cis", DISTANCE_SEMANTIC, "ssim_sem", STYLE, DISTANCE),
        methods=(ORIGINAL, TEXT_ONLY, KEYWORD_ONLY, RETRIEVED, INVERSION, INVERSION_RETRIEVED, PMG, PMG_RETRIEVED, GLIDE, LAVIT, MAIN, TRUTH),
        compared_with=MAIN,
        is_comparison=True,
    ),
    Experiment(
        "artists",
        "Artists: what a user likes that words cannot say",
        "Real drawings by nine artist teams, whom no text names. Matched pairs of users share all words and differ in the artists alone: "
        "what reads words scores 50%. The rows of the truths, as they are and through the autoencoder, are what the judge is right about; the oracle "
        "is given pictures by the artist of the truth.",
        (Group("look tokens", ARTIST_POINTS), Group("words alone", ARTIST_WORD_POINTS, methods=(MAIN,), suffix="_words")),
        ("pair_choice_judge", STYLE, "nearest_truth_judge", CONCEPT_TOP5, DISTANCE, DELTA_R_CHECK),
        methods=(
            ORIGINAL,
            TEXT_ONLY,
            KEYWORD_ONLY,
            RETRIEVED,
            IMAGE_PROMPT,
            INVERSION,
            INVERSION_RETRIEVED,
            PMG,
            PMG_RETRIEVED,
            f"{MAIN}_words",
            MAIN,
            ORACLE,
            RECONSTRUCTION,
            TRUTH,
        ),
        compared_with=MAIN,
        is_comparison=True,
    ),
    Experiment(
        "fig2",
        "Figure 2: which part of the history",
        "The k most similar history items (Ret), the next k (Exp-Ret), or k random ones (Random) make the preference.",
        (Group("history", STRATEGY_POINTS),),
        (STYLE, DELTA_R, SAMPLED_RECALL, SAMPLED_NDCG, "cps", "cpis", RECALL, NDCG),
    ),
    Experiment(
        "fig5",
        "Figure 5: retrieved items, perturbations, and the parts left out",
        "k retrieved items, r perturbations per step, no retrieval (k = 0, keywords from the whole history), no rank reward (alpha = 0).",
        (
            Group("retrieved items", K_POINTS, axis="k"),
            Group("perturbations", R_POINTS, axis="r"),
            Group("parts", (Point("all parts", DEFAULT), Point("no retrieval", WITHOUT_RETRIEVAL), Point("no rank reward", WITHOUT_RANK))),
        ),
        (STYLE, DISTANCE, "cpis", "cis", DELTA_R, SAMPLED_RECALL, SAMPLED_NDCG),
    ),
    Experiment(
        "table4",
        "Table 4: the recommender with drawn images",
        "R@10 and N@10 of the reference when its image is replaced by each method's; `original` is the reference as it is.",
        (Group("methods", (Point("default", DEFAULT),)),),
        (RECALL, NDCG, SAMPLED_RECALL, SAMPLED_NDCG),
        methods=None,
        compared_with=ORIGINAL,
    ),
    Experiment(
        "ablation",
        "Ablation: our readings against the printed ones",
        "The method as printed, what retrieval reads, whose keywords p_g and E^g name, the ranker's image graph, the readings (A), (B), (C) of "
        "the reward, and the baseline of eq. 12.",
        (
            Group("readings", (Point("default", DEFAULT), Point("as printed", Run("literal", ("method=literal",))))),
            Group("retrieval reads", TEXT_POINTS),
            Group("keywords of p_g from", KEYWORD_POINTS),
            Group("keywords of E^g from", GLOBAL_POINTS),
            Group("text in the image graph", GRAPH_POINTS),
            Group("reward", REWARD_POINTS),
            Group("baseline", BASELINE_POINTS),
        ),
        (STYLE, CONCEPT_TOP5, DISTANCE, "cpis", "cis", DELTA_R, DELTA_R_CHECK),
    ),
    Experiment(
        "choices",
        "Choices: one parameter changed at a time",
        "What the paper leaves open and no figure of it asks for; the row `default` has none of the changes.",
        (Group("choices", (Point("default", DEFAULT), *CHOICE_POINTS)),),
        (STYLE, CONCEPT_TOP5, DISTANCE, "cpis", "cis", DELTA_R, DELTA_R_CHECK),
    ),
    Experiment(
        "strength",
        "The baselines' step counts, on validation users",
        "How long TI and PMG train, given the whole history or the retrieved items alone, and what it costs beside RAGAR. RAGAR's own figures are "
        "in its favour here: its checkpoint was chosen on some of these users.",
        (
            *(Group(title, STRENGTH_POINTS, "steps", (method,)) for method, title in zip(TUNED, TUNED_TITLES, strict=True)),
            Group("target keywords of PMG", TARGET_POINTS, methods=(PMG, PMG_RETRIEVED), is_plotted=False),
            Group("beside them", (Point("RAGAR", TARGET_POINTS[0].run),), methods=(MAIN,), is_plotted=False),
        ),
        (STYLE, CONCEPT_TOP5, DISTANCE, "cpis", "cis", DELTA_R, DELTA_R_CHECK),
        methods=TUNED,
        compared_with=MAIN,
        users="validation users",
        shows_compute=True,
    ),
    Experiment(
        "seeds",
        "Five seeds",
        "Users, models and noise drawn anew; RAGAR beside the keyword-only and the global-preference image of the same seed.",
        (Group("seeds", SEED_POINTS),),
        (*JUDGED, CONCEPT, CONCEPT_TOP5),
        methods=(TEXT_ONLY, KEYWORD_ONLY, RETRIEVED, GLOBAL, MAIN, TRUTH),
        compared_with=MAIN,
    ),
    Experiment(
        "reflection-effect",
        "What reflection training changes",
        "The same system before reflection (no optimiser step), at the step that 100 validation users keep (that before any training among them), at "
        "the last step, and at the kept step of a training without the rank reward. Users, models and noise are drawn anew with every seed.",
        (
            Group("kept", KEPT_POINTS),
            Group("before", BEFORE_POINTS, methods=(MAIN,), suffix="_before"),
            Group("last", LAST_POINTS, methods=(MAIN,), suffix="_last"),
            Group("without the rank reward", NO_RANK_POINTS, methods=(MAIN,), suffix="_no_rank"),
        ),
        (*JUDGED, CONCEPT, CONCEPT_TOP5, "cis"),
        methods=(f"{MAIN}_before", f"{MAIN}_last", f"{MAIN}_no_rank", MAIN),
        compared_with=MAIN,
        is_comparison=True,
    ),
)


def get_experiment(name: str) -> Experiment:
    """Return an experiment by name; ValueError names the choices."""
    for experiment in EXPERIMENTS:
        if experiment.name == name:
            return experiment
    hint = f"; a param needs --set before it: --set {name}" if "=" in name else ""
    raise ValueError(f"there is no experiment {name!r}; choose from: {', '.join(e.name for e in EXPERIMENTS)}{hint}.")


def list_runs(experiments: Iterable[Experiment]) -> tuple[Run, ...]:
    """Return the runs of several experiments without repetition, the default run first."""
    return tuple(dict.fromkeys(run for experiment in experiments for run in experiment.list_runs()))
