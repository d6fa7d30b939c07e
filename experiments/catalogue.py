"""The experiments as data: which runs each needs, what is shown of them, and what is compared with what.

Figure 2 names its two metrics nowhere; here they are R@10 and N@10 of the drawn image, with CPS and CPIS. Beside the whole catalogue they are
taken among 99 sampled items: few references come near the first ten of 1,800. Style accuracy and ΔR say the same more clearly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.names import (
    CONCEPT,
    CONCEPT_TOP5,
    DELTA_R,
    DELTA_R_CHECK,
    DISTANCE,
    DISTANCE_PERSONAL,
    DISTANCE_SEMANTIC,
    GLIDE,
    GLOBAL,
    IMAGE_PROMPT,
    INVERSION,
    INVERSION_RETRIEVED,
    JUDGED,
    KEYWORD_ONLY,
    LAVIT,
    MAIN,
    NDCG,
    ORACLE,
    ORIGINAL,
    PMG,
    PMG_RETRIEVED,
    RECALL,
    RECONSTRUCTION,
    RETRIEVED,
    SAMPLED_NDCG,
    SAMPLED_RECALL,
    STYLE,
    TEXT_ONLY,
    TRUTH,
)
from experiments.runs import (
    ARTIST_BEFORE_POINTS,
    ARTIST_POINTS,
    ARTIST_WORD_POINTS,
    BASELINE_POINTS,
    BEFORE_POINTS,
    CHOICE_POINTS,
    DEFAULT,
    GLOBAL_POINTS,
    GRAPH_POINTS,
    K_POINTS,
    KEPT_POINTS,
    KEYWORD_POINTS,
    LAST_POINTS,
    LONGEST,
    NO_RANK_POINTS,
    R_POINTS,
    REFLECTION_CHOICE_POINTS,
    REWARD_POINTS,
    SEED_POINTS,
    STRATEGY_POINTS,
    STRENGTH_POINTS,
    TABLE1,
    TARGET_POINTS,
    TEXT_POINTS,
    TUNED,
    TUNED_TITLES,
    WITHOUT_RANK,
    WITHOUT_RETRIEVAL,
    Point,
    Run,
)


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


EXPERIMENTS = (
    Experiment(
        "table1",
        "Table 1: RAGAR beside the other methods",
        "The same users, size and metrics for every method, and the same noise, sampler and steps for all but GLIDE and LaVIT, which have "
        "generators of their own; `original` is the reference as it is.",
        (Group("methods", (Point("table1", TABLE1),)),),
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
        (
            Group("look tokens", ARTIST_POINTS),
            Group("words alone", ARTIST_WORD_POINTS, methods=(MAIN,), suffix="_words"),
            Group("before reflection", ARTIST_BEFORE_POINTS, methods=(MAIN,), suffix="_before"),
        ),
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
            f"{MAIN}_before",
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
        "k retrieved items, r perturbations per step (at the last step; the default keeps the best on validation users), no retrieval "
        "(k = 0, keywords from the whole history), no rank reward (alpha = 0).",
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
        (Group("methods", (Point("table1", TABLE1),)),),
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
        "What the paper leaves open and no figure of it asks for; the row `default` has none of the changes. What only reflection reads is shown at "
        "its last step: where validation keeps the step before any training, it changes no image.",
        (
            Group("choices", (Point("default", DEFAULT), *CHOICE_POINTS)),
            Group("reflection, at its last step", REFLECTION_CHOICE_POINTS),
        ),
        (STYLE, CONCEPT_TOP5, DISTANCE, "cpis", "cis", DELTA_R, DELTA_R_CHECK),
    ),
    Experiment(
        "strength",
        "The baselines' step counts, on validation users",
        "How long TI and PMG train, given the whole history or the retrieved items alone, and what it costs beside RAGAR. RAGAR's own figures are "
        "in its favour here: its checkpoint was chosen on some of these users.",
        (
            *(
                Group(title, (*STRENGTH_POINTS, *([LONGEST] if method in (PMG, PMG_RETRIEVED) else [])), "steps", (method,))
                for method, title in zip(TUNED, TUNED_TITLES, strict=True)
            ),
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
