"""The claims on ArtMoji, as data: look tokens say which artist a user likes, which words cannot. Means and gains are over five seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from experiments.claim_rules import (
    Claim,
    Drawn,
    Evidence,
    Verdict,
    check_gain_over_seeds,
    check_mean_over_seeds,
    check_no_loss_over_seeds,
    check_share_over_seeds,
)
from experiments.names import (
    CONCEPT_TOP5,
    IMAGE_PROMPT,
    INVERSION,
    INVERSION_RETRIEVED,
    KEYWORD_ONLY,
    MAIN,
    ORACLE,
    PMG,
    PMG_RETRIEVED,
    RECONSTRUCTION,
    RETRIEVED,
    STYLE,
    TEXT_ONLY,
    TITLES,
    TRUTH,
)
from experiments.runs import ARTIST_BEFORE_POINTS, ARTIST_POINTS, ARTIST_WORD_POINTS, Point

MIN_CHOICE, MIN_CHOICE_GAIN = 0.75, 0.15  # of matched pairs; over the same method without look tokens
MIN_ORACLE = 0.50  # artist accuracy
ORACLE_OF_JUDGED, MAIN_OF_ORACLE = 0.85, 0.75
MIN_JUDGE = {TRUTH: 0.70, RECONSTRUCTION: 0.60}  # a ruler that blurs is no ruler
MAX_ORACLE_CONCEPT_LOSS, MAX_CONCEPT_LOSS = 0.05, 0.10
CHOICE = "pair_choice_judge"
RIVALS = (TEXT_ONLY, KEYWORD_ONLY, RETRIEVED, IMAGE_PROMPT, INVERSION, PMG, PMG_RETRIEVED)


def list_artist_claims() -> Iterator[Claim]:
    """The judge, matched pairs, the oracle, what reflection adds, artist accuracy beside every other method, and the concept."""

    def draw(evidence: Evidence, method: str, points: tuple[Point, ...] = ARTIST_POINTS) -> list[Drawn]:
        return [evidence.get(point.run, method) for point in points]

    def pair(evidence: Evidence, first: str, second: str, other: tuple[Point, ...] = ARTIST_POINTS) -> list[tuple[Drawn, Drawn]]:
        return list(zip(draw(evidence, first), draw(evidence, second, other), strict=True))

    def claim(name: str, sentence: str, check: Callable[[Evidence], Verdict]) -> Claim:
        return Claim(f"artists-{name}", f"ArtMoji: {sentence}", "artists", check)

    for shown, floor in MIN_JUDGE.items():
        yield claim(
            f"judge-{shown}",
            f"the judge names the artist of at least {floor:.0%} of the rows `{shown}`",
            lambda e, shown=shown, floor=floor: check_mean_over_seeds(draw(e, shown), STYLE, floor),
        )
    yield claim(
        "choice",
        f"of matched pairs RAGAR's images go to the right truths in at least {MIN_CHOICE:.0%}",
        lambda e: check_mean_over_seeds(draw(e, MAIN), CHOICE, MIN_CHOICE),
    )
    yield claim(
        "choice-words",
        f"this is at least {MIN_CHOICE_GAIN:.0%} more than without look tokens",
        lambda e: check_gain_over_seeds(pair(e, MAIN, MAIN, ARTIST_WORD_POINTS), CHOICE, at_least=MIN_CHOICE_GAIN),
    )
    yield claim(
        f"choice-{IMAGE_PROMPT}",
        f"this is more than {TITLES[IMAGE_PROMPT]} reach",
        lambda e: check_gain_over_seeds(pair(e, MAIN, IMAGE_PROMPT), CHOICE),
    )
    yield claim(
        f"choice-{INVERSION_RETRIEVED}",
        "this is no less than TI given the retrieved items reaches",
        lambda e: check_no_loss_over_seeds(pair(e, MAIN, INVERSION_RETRIEVED), CHOICE),
    )
    yield claim(
        "oracle",
        f"look tokens of the truth's own artist give the right artist in at least {MIN_ORACLE:.0%}",
        lambda e: check_mean_over_seeds(draw(e, ORACLE), STYLE, MIN_ORACLE),
    )
    yield claim(
        "oracle-judged",
        f"this is at least {ORACLE_OF_JUDGED:g} of what the judge reaches on the truths through the autoencoder",
        lambda e: check_share_over_seeds(pair(e, ORACLE, RECONSTRUCTION), STYLE, ORACLE_OF_JUDGED),
    )
    yield claim(
        "oracle-concept",
        f"their top-5 concept accuracy is within {MAX_ORACLE_CONCEPT_LOSS} of theirs",
        lambda e: check_gain_over_seeds(pair(e, ORACLE, RECONSTRUCTION), CONCEPT_TOP5, at_least=-MAX_ORACLE_CONCEPT_LOSS),
    )
    yield claim(
        "of-oracle",
        f"RAGAR's artist accuracy is at least {MAIN_OF_ORACLE:g} of the oracle's",
        lambda e: check_share_over_seeds(pair(e, MAIN, ORACLE), STYLE, MAIN_OF_ORACLE),
    )
    yield claim(
        "style-words",
        "RAGAR's artist accuracy is above that without look tokens",
        lambda e: check_gain_over_seeds(pair(e, MAIN, MAIN, ARTIST_WORD_POINTS), STYLE),
    )
    for name, metric, figure in (("choice", CHOICE, "its share of matched pairs"), ("style", STYLE, "its artist accuracy")):
        yield claim(
            f"reflection-{name}",
            f"reflection training raises {figure}",
            lambda e, metric=metric: check_gain_over_seeds(pair(e, MAIN, MAIN, ARTIST_BEFORE_POINTS), metric),
        )
    for method in RIVALS:
        yield claim(
            f"style-{method}",
            f"RAGAR's artist accuracy is above that of {TITLES[method]}",
            lambda e, method=method: check_gain_over_seeds(pair(e, MAIN, method), STYLE),
        )
    yield claim(
        "concept",
        f"RAGAR's top-5 concept accuracy is within {MAX_CONCEPT_LOSS} of that of the truths through the autoencoder",
        lambda e: check_gain_over_seeds(pair(e, MAIN, RECONSTRUCTION), CONCEPT_TOP5, at_least=-MAX_CONCEPT_LOSS),
    )
