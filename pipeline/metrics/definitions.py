"""What every score column means: title, unit, direction, and one sentence on what is compared with what.

Paper: Table 1, Table 4 and eq. 16. The columns of a perceptual distance are named after the model that measured it
(`lpips_pers`, `effnet_pers`), because a metric that is not the paper's has another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.metrics.protocol import CUTOFF, NUM_NEGATIVES

Group = Literal["right answer", "personalisation", "semantic alignment", "recommender", "coverage"]
GROUPS: tuple[Group, ...] = ("right answer", "personalisation", "semantic alignment", "recommender", "coverage")


@dataclass(frozen=True)
class Metric:
    """One score column; `higher_is_better` is None where neither end is good, `scale` multiplies the value for people."""

    name: str
    title: str
    group: Group
    higher_is_better: bool | None
    sentence: str
    digits: int = 2
    scale: float = 1.0
    unit: str = ""
    counted: str = "users"  # what n counts
    summed_up: str = "the mean"  # what the value is of them


FIXED = (
    Metric(
        "style_accuracy",
        "Style",
        "right answer",
        True,
        "Share of images whose style (in ArtMoji the artist), as named by an independent judge, is the one that the user likes for this group; "
        "on the truths themselves it is the judge's own accuracy.",
        digits=1,
        scale=100.0,
        unit="%",
    ),
    Metric(
        "concept_accuracy",
        "Concept",
        "right answer",
        True,
        "Share of images in which the judge's first guess is the thing that the reference shows.",
        digits=1,
        scale=100.0,
        unit="%",
    ),
    Metric(
        "concept_top5",
        "Concept, top 5",
        "right answer",
        True,
        "Share of images in which the thing that the reference shows is among the judge's first five guesses.",
        digits=1,
        scale=100.0,
        unit="%",
    ),
    Metric(
        "pair_choice_judge",
        "Matched pairs",
        "right answer",
        True,
        "Share of matched pairs (two users with the same words who like other artists) whose images are together closer to their own truths than "
        "to each other's, by the judge's features; ties count half, and what reads words alone gets 50%.",
        digits=1,
        scale=100.0,
        unit="%",
        counted="pairs",
    ),
    Metric(
        "pair_choice_pixels",
        "Matched pairs, pixels",
        "right answer",
        True,
        "Share of matched pairs whose images are together closer to their own truths than to each other's, pixel by pixel; ties count half.",
        digits=1,
        scale=100.0,
        unit="%",
        counted="pairs",
    ),
    Metric(
        "nearest_truth_judge",
        "Nearest to the truth",
        "right answer",
        True,
        "Share of images that are nearer to the truth than to every other drawing of the same thing in the catalogue, by the judge's features.",
        digits=1,
        scale=100.0,
        unit="%",
    ),
    Metric(
        "nearest_truth_pixels",
        "Nearest to the truth, pixels",
        "right answer",
        True,
        "Share of images that are nearer to the truth than to every other drawing of the same thing in the catalogue, pixel by pixel.",
        digits=1,
        scale=100.0,
        unit="%",
    ),
    Metric(
        "assignment_p",
        "Whose image, p",
        "right answer",
        None,
        "Permutation test: how likely it were that so many images are in the style that their user likes, if all were handed out at random.",
        digits=4,
        counted="images",
        summed_up="one test",
    ),
    Metric("cis_truth", "CIS to truth", "right answer", True, "100 x cosine of the CLIP images of image and truth."),
    Metric("ssim_truth", "SSIM to truth", "right answer", True, "100 x SSIM between image and truth, pixel by pixel."),
    Metric("cps", "CPS", "personalisation", True, "100 x cosine of CLIP image and CLIP text, mean over the texts of the history items."),
    Metric("cpis", "CPIS", "personalisation", True, "100 x cosine of CLIP images, mean over the images of the history items."),
    Metric("ssim_pers", "SSIM", "personalisation", True, "100 x SSIM, mean over the images of the history items."),
    Metric("cs", "CS", "semantic alignment", True, "100 x cosine of CLIP image and the CLIP text of the reference."),
    Metric("cis", "CIS", "semantic alignment", True, "100 x cosine of CLIP images of image and reference."),
    Metric("ssim_sem", "SSIM", "semantic alignment", True, "100 x SSIM between image and reference."),
    Metric(
        "delta_r",
        "ΔR",
        "recommender",
        True,
        "Eq. 16: (original rank - rank with the image in the reference's place) / (1 + original rank), in the whole catalogue.",
        digits=3,
    ),
    Metric(
        "log2_rank_gain",
        "log2 gain",
        "recommender",
        True,
        "log2(original rank / rank with the image): 1 means that the rank was halved; unlike ΔR it is symmetric.",
    ),
    Metric(
        "rank_improved",
        "Improved",
        "recommender",
        True,
        "Share of cases whose reference ranks better with the image than with its own.",
        digits=1,
        scale=100.0,
        unit="%",
    ),
    Metric(
        "delta_r_check",
        "ΔR, 2nd ranker",
        "recommender",
        True,
        "ΔR by the frozen evaluation ranker, another kind of model with another image encoder, which is never a reward and which no param "
        "of the method changes: a gain that only fools the reward is none here.",
        digits=3,
    ),
    Metric("log2_rank_gain_check", "log2 gain, 2nd ranker", "recommender", True, "log2(original rank / rank with the image), by the second ranker."),
    Metric("rank_original", "Rank before", "recommender", None, "Rank of the reference with its own image, 1 = best.", digits=1),
    Metric("rank_generated", "Rank after", "recommender", False, "Rank of the reference with the image in its place, 1 = best.", digits=1),
    Metric("rank_original_check", "Rank before, 2nd ranker", "recommender", None, "Rank with its own image, by the second ranker.", digits=1),
    Metric(
        "rank_generated_check", "Rank after, 2nd ranker", "recommender", False, "Rank with the image in its place, by the second ranker.", digits=1
    ),
    Metric(
        f"hit_at_{CUTOFF}",
        f"R@{CUTOFF}",
        "recommender",
        True,
        f"Share of cases whose reference, with the image in its place, is among the first {CUTOFF} of the whole catalogue.",
        digits=4,
    ),
    Metric(
        f"ndcg_at_{CUTOFF}",
        f"N@{CUTOFF}",
        "recommender",
        True,
        f"1 / log2(rank + 1) of the reference with the image in its place, 0 beyond place {CUTOFF}.",
        digits=4,
    ),
    Metric(
        f"hit_at_{CUTOFF}_sampled",
        f"R@{CUTOFF}, 1+{NUM_NEGATIVES}",
        "recommender",
        True,
        f"R@{CUTOFF} among {NUM_NEGATIVES} sampled items, the same for every method.",
        digits=4,
    ),
    Metric(
        f"ndcg_at_{CUTOFF}_sampled",
        f"N@{CUTOFF}, 1+{NUM_NEGATIVES}",
        "recommender",
        True,
        f"N@{CUTOFF} among {NUM_NEGATIVES} sampled items, the same for every method.",
        digits=4,
    ),
    Metric("num_history", "History items", "coverage", None, "History items with a readable image: those that were compared.", digits=1),
)
DISTANCES: tuple[tuple[str, str, Group, str], ...] = (
    ("truth", " to truth", "right answer", "between image and truth"),
    ("pers", "", "personalisation", "mean over the images of the history items"),
    ("sem", "", "semantic alignment", "between image and reference"),
)
PERCEPTUAL_TITLES = {"lpips": "LPIPS", "effnet": "EffNet dist."}


def define_metrics(perceptual: str) -> tuple[Metric, ...]:
    """Return every metric in the order of the tables, the distances named after the perceptual model."""
    title = PERCEPTUAL_TITLES.get(perceptual, f"{perceptual} dist.")
    digits = 2 if perceptual == "lpips" else 1  # without learned channel weights the values are about ten times as large
    distances = [
        Metric(f"{perceptual}_{suffix}", f"{title}{extra}", group, False, f"100 x {title} (LPIPS formula), {compared}.", digits=digits)
        for suffix, extra, group, compared in DISTANCES
    ]
    table = [metric for group in GROUPS for metric in FIXED if metric.group == group]
    for distance in distances:  # before the SSIM of its group, as in Table 1
        place = next(i for i, metric in enumerate(table) if metric.group == distance.group and metric.name.startswith("ssim"))
        table.insert(place, distance)
    return tuple(table)
