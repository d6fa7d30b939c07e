"""The claims as data: a sentence, the experiment that decides it, and the check (StyleMoji; those on ArtMoji: `artist_claims.py`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from experiments.artist_claims import list_artist_claims
from experiments.catalogue import get_experiment
from experiments.claim_rules import (
    Claim,
    Drawn,
    Evidence,
    Verdict,
    check_apart,
    check_at_least,
    check_gain,
    check_gain_over_seeds,
    check_kept,
    check_no_loss_in_any_seed,
    check_no_loss_over_seeds,
    check_rise_and_fall,
    check_same_story,
    check_seconds,
    check_users,
)
from experiments.names import (
    CONCEPT,
    CONCEPT_TOP5,
    DELTA_R,
    DELTA_R_CHECK,
    DISTANCE,
    GLOBAL,
    JUDGED,
    KEYWORD_ONLY,
    MAIN,
    NDCG,
    RECALL,
    RETRIEVED,
    SAMPLED_NDCG,
    SAMPLED_RECALL,
    STYLE,
    TITLES,
)
from experiments.runs import BEFORE_POINTS, DEFAULT, K_POINTS, KEPT_POINTS, SEED_POINTS, STRATEGY_POINTS, WITHOUT_RETRIEVAL
from pipeline.metrics.intervals import Interval

MIN_USERS = 200
MIN_STYLE = 0.80
STYLE_BEFORE_LOOKS = 0.945  # of the default run before models were trained on two data sets
MIN_STYLE_GAIN = 0.20  # over the same system without retrieval
MAX_CONCEPT_LOSS = 0.05
MAX_SECONDS = {"ranker": 90.0, "reflection": 300.0}
BEATEN = (KEYWORD_ONLY, GLOBAL)
WORDS = {
    STYLE: "style accuracy",
    DISTANCE: "distance to the truth",
    "cps": "CPS",
    "cpis": "CPIS",
    DELTA_R: "ΔR",
    DELTA_R_CHECK: "ΔR of the second ranker",
    RECALL: "R@10 in the whole catalogue",
    NDCG: "N@10 in the whole catalogue",
    SAMPLED_RECALL: "R@10 among 99 sampled items",
    SAMPLED_NDCG: "N@10 among 99 sampled items",
    CONCEPT: "concept accuracy",
    CONCEPT_TOP5: "top-5 concept accuracy",
}


def list_protocol_claims() -> Iterator[Claim]:
    """At least 200 test users, held-out truths."""
    yield Claim("test-users", f"At least {MIN_USERS} test users are judged", "seeds", lambda e: check_users(e.get(DEFAULT), STYLE, MIN_USERS))
    yield Claim("held-out-truths", "Every test user's truth is held out from all model training", "seeds", check_held_out)


def check_held_out(evidence: Evidence) -> Verdict:
    """Check that all truths of the test users are held out."""
    share, num_users = evidence.held_out_share, len(evidence.results[DEFAULT.name].get_users(MAIN, STYLE))
    return Verdict(Interval(share, None, None, num_users), share == 1.0, "share = 1", (evidence.results[DEFAULT.name].seed,))


def list_quality_claims() -> Iterator[Claim]:
    """Style, the images that RAGAR must beat, and the concept."""
    yield Claim("style", f"RAGAR's style accuracy is at least {MIN_STYLE:.2f}", "seeds", lambda e: check_at_least(e.get(DEFAULT), STYLE, MIN_STYLE))
    yield Claim(
        "style-retrieval",
        f"RAGAR's style accuracy is at least {MIN_STYLE_GAIN:.2f} above the same system without retrieval",
        "fig5",
        lambda e: check_gain(e.get(DEFAULT), e.get(WITHOUT_RETRIEVAL), STYLE, at_least=MIN_STYLE_GAIN),
    )
    for method in BEATEN:
        for metric in JUDGED:
            yield Claim(
                f"beats-{method}-{metric.replace('_', '-')}",
                f"RAGAR is better than {TITLES[method]} on {WORDS[metric]}",
                "seeds",
                lambda e, method=method, metric=metric: check_gain(e.get(DEFAULT), e.get(DEFAULT, method), metric),
            )
    for metric in JUDGED:
        yield Claim(
            f"not-worse-than-{RETRIEVED}-{metric.replace('_', '-')}",
            f"RAGAR loses nothing against {TITLES[RETRIEVED]} on {WORDS[metric]}",
            "seeds",
            lambda e, metric=metric: check_no_loss_in_any_seed([(e.get(p.run), e.get(p.run, RETRIEVED)) for p in SEED_POINTS], metric),
        )
    yield Claim(
        "concept-kept",
        f"RAGAR's top-5 concept accuracy is within {MAX_CONCEPT_LOSS} of the keyword-only image's",
        "seeds",
        lambda e: check_kept(e.get(DEFAULT), e.get(DEFAULT, KEYWORD_ONLY), CONCEPT_TOP5, margin=MAX_CONCEPT_LOSS),
    )
    yield Claim(
        "style-as-before",
        f"RAGAR's style accuracy is at least {STYLE_BEFORE_LOOKS:g}, as it was before there were look tokens",
        "seeds",
        lambda e: check_at_least(e.get(DEFAULT), STYLE, STYLE_BEFORE_LOOKS),
    )
    yield Claim(
        f"concept-kept-{RETRIEVED}",
        f"RAGAR's top-5 concept accuracy is within {MAX_CONCEPT_LOSS} of that of {TITLES[RETRIEVED]}",
        "seeds",
        lambda e: check_kept(e.get(SEED_POINTS[0].run), e.get(SEED_POINTS[0].run, RETRIEVED), CONCEPT_TOP5, margin=MAX_CONCEPT_LOSS),
    )


def list_figure_claims() -> Iterator[Claim]:
    """Fig. 2 ordering Ret > Exp-Ret > Random with intervals apart; Fig. 5 rising then falling in k."""
    fig2, fig5 = get_experiment("fig2"), get_experiment("fig5")
    for better, worse in itertools.pairwise(STRATEGY_POINTS):
        for metric in fig2.metrics:
            yield Claim(
                f"fig2-{better.run.name}-over-{worse.run.name}-{metric.replace('_', '-')}",
                f"Figure 2: {better.label} is above {worse.label} on {WORDS[metric]}, intervals apart",
                fig2.name,
                lambda e, better=better, worse=worse, metric=metric: check_apart(e.get(better.run), e.get(worse.run), metric),
            )
    for metric in (STYLE, "cpis", DELTA_R):
        yield Claim(
            f"fig5-k-{metric.replace('_', '-')}",
            f"Figure 5: {WORDS[metric]} rises and then falls in k",
            fig5.name,
            lambda e, metric=metric: check_rise_and_fall([(f"k = {point.label}", e.get(point.run)) for point in K_POINTS], metric),
        )


def list_reflection_claims() -> Iterator[Claim]:
    """RAGAR after reflection beats RAGAR before it on ΔR with the second ranker and loses nothing on style or concept."""

    def pair(evidence: Evidence) -> list[tuple[Drawn, Drawn]]:
        return [(evidence.get(kept.run), evidence.get(before.run)) for kept, before in zip(KEPT_POINTS, BEFORE_POINTS, strict=True)]

    yield Claim(
        "reflection-delta-r-check",
        f"Over five seeds reflection training raises {WORDS[DELTA_R_CHECK]}",
        "reflection-effect",
        lambda e: check_gain_over_seeds(pair(e), DELTA_R_CHECK),
    )
    for metric in (STYLE, CONCEPT, CONCEPT_TOP5):
        yield Claim(
            f"reflection-keeps-{metric.replace('_', '-')}",
            f"Over five seeds reflection training loses nothing on {WORDS[metric]}",
            "reflection-effect",
            lambda e, metric=metric: check_no_loss_over_seeds(pair(e), metric),
        )


def list_seed_claims() -> Iterator[Claim]:
    """Five seeds tell the same story."""
    for point in SEED_POINTS:
        yield Claim(
            f"{point.run.name}-style",
            f"With {point.label} RAGAR's style accuracy is at least {MIN_STYLE:.2f}",
            "seeds",
            lambda e, point=point: check_at_least(e.get(point.run), STYLE, MIN_STYLE),
        )
    for method in BEATEN:
        for metric in JUDGED:
            yield Claim(
                f"seeds-{method}-{metric.replace('_', '-')}",
                f"Five seeds tell the same story of RAGAR and {TITLES[method]} on {WORDS[metric]}",
                "seeds",
                lambda e, method=method, metric=metric: check_same_story([(e.get(p.run), e.get(p.run, method)) for p in SEED_POINTS], metric),
            )


def list_time_claims() -> Iterator[Claim]:
    """On the embedded default the ranker stage takes under 90 s and reflection under 5 minutes on 2 cores."""
    for stage, limit in MAX_SECONDS.items():
        yield Claim(
            f"seconds-{stage}",
            f"On the embedded default the {stage} stage takes under {limit:g} s on 2 cores",
            "seeds",
            lambda e, stage=stage, limit=limit: check_seconds(e.seconds[stage], limit, stage=stage, result=e.results[DEFAULT.name]),
        )


CLAIMS: tuple[Claim, ...] = (
    *list_protocol_claims(),
    *list_quality_claims(),
    *list_figure_claims(),
    *list_reflection_claims(),
    *list_seed_claims(),
    *list_artist_claims(),
    *list_time_claims(),
)
