"""What the votes of a task say: mean ranks with crossed intervals, tests, agreement, strengths.

Not in the paper, whose Table 3 prints bare means. Sources: the crossed ("pigeonhole") bootstrap of Owen 2007, which draws participants and cases
anew, both with replacement; Friedman's test and Kendall's W; Holm 1979; Plackett-Luce strengths by the library choix. A pairwise p-value is
the largest of three: sign flips over participants, sign flips over cases, and min F' (Clark 1973), which treats both as samples at once, as the
intervals do. The two flips alone find something in 9 of 100 studies in which methods differ by case and participant but not on average.
Shapes: P participants, C cases, M methods, R resamples.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.intervals import MIN_USERS, Interval
from pipeline.metrics.significance import compute_flip_p
from pipeline.study.votes import Votes

NUM_RESAMPLES, LEVEL = 2000, 0.95
NUM_REFITS = 200  # resamples of the strengths, each of which is a fit of its own
PRIOR = 0.01  # weight of the belief that all methods are alike: a method that is always first has a finite strength
MAX_ITERATIONS = 10_000  # the hundred of the library are too few where one method is nearly always first
MAX_CELLS = 2**22  # of resampled weights at once: 32 MiB


@dataclass(frozen=True)
class Overall:
    """A test that all methods are alike, with Kendall's W; participants or cases are its blocks. None where there is nothing to test."""

    test: str
    statistic: float | None
    p: float | None
    w: float | None
    num_blocks: int


@dataclass(frozen=True)
class Pair:
    """Two methods: first minus second in mean rank (below zero: the first is better), and how often the first stands before the second."""

    first: str
    second: str
    difference: Interval
    share_before: float
    p_participants: float | None
    p_cases: float | None
    p_crossed: float | None

    @property
    def p(self) -> float | None:
        """The largest p-value of those that there are; a test over fewer than two is none."""
        return max((p for p in (self.p_participants, self.p_cases, self.p_crossed) if p is not None), default=None)


@dataclass(frozen=True)
class Agreement:
    """How far participants agree about the same cases: Kendall's W, and the mean rank correlation of two of them, both averaged over cases."""

    w: float | None
    correlation: float | None
    num_cases: int


def compute_mean_ranks(votes: Votes, *, seed: int) -> dict[str, Interval]:
    """Return every method's mean rank with its crossed interval."""
    means_RM = resample_means(votes, votes.rank_PCM, seed=seed)
    return {method: make_interval(votes, votes.rank_PCM[:, :, index], means_RM[:, index]) for index, method in enumerate(votes.methods)}


def compare_pairs(votes: Votes, *, seed: int) -> list[Pair]:
    """Return every pair of methods, the later one of the table first, with its difference and tests."""
    index_pairs = list(itertools.combinations(reversed(range(len(votes.methods))), 2))
    rank_PCM = votes.rank_PCM
    difference_PCK = np.stack([rank_PCM[:, :, first] - rank_PCM[:, :, second] for first, second in index_pairs], axis=2)
    means_RK = resample_means(votes, difference_PCK, seed=seed)
    pairs = []
    for number, (first, second) in enumerate(index_pairs):
        difference_PC = difference_PCK[:, :, number]
        pairs.append(
            Pair(
                votes.methods[first],
                votes.methods[second],
                make_interval(votes, difference_PC, means_RK[:, number]),
                float(np.mean(difference_PC[votes.asked_PC] < 0)),
                compute_difference_p(np.nanmean(difference_PC, axis=1), seed=seed),
                compute_difference_p(np.nanmean(difference_PC, axis=0), seed=seed),
                compute_crossed_p(difference_PC) if min(difference_PC.shape) > 1 else None,
            )
        )
    return pairs


def compute_difference_p(difference_N: np.ndarray, *, seed: int) -> float | None:
    """Return the p-value that differences are zero on average; None for fewer than two."""
    if len(difference_N) < 2:
        return None
    return compute_flip_p(dict(enumerate(difference_N.tolist())), dict.fromkeys(range(len(difference_N)), 0.0), seed=seed)


def compute_crossed_p(difference_PC: np.ndarray) -> float:
    """Return the p-value of min F' that differences are zero on average, for at least two participants and cases; NaN where nobody was asked."""
    from scipy.special import stdtr

    asked_PC = ~np.isnan(difference_PC)
    filled_PC = np.where(asked_PC, difference_PC, 0.0)
    mean = filled_PC.sum() / asked_PC.sum()
    variances, terms = 0.0, 0.0
    for axis in (1, 0):
        is_asked = asked_PC.any(axis)  # in a study drawn anew not everybody need be
        mean_N = filled_PC.sum(axis)[is_asked] / asked_PC.sum(axis)[is_asked]
        variance = mean_N.var(ddof=1) / len(mean_N)
        variances += variance
        terms += variance**2 / (len(mean_N) - 1)
    if variances < 1e-12:
        return 0.0 if abs(mean) > 1e-12 else 1.0
    return float(2 * stdtr(variances**2 / terms, -abs(mean) / np.sqrt(variances)))


def resample_means(votes: Votes, value_PCK: np.ndarray, *, seed: int) -> np.ndarray:
    """Return the means of R crossed resamples, of shape (R, K): participants and cases are drawn anew, of each as many as there are."""
    rng = np.random.default_rng(seed)
    filled_PCK, asked_PC = np.nan_to_num(value_PCK), votes.asked_PC.astype(np.float64)
    num_cells = filled_PCK.shape[1] * filled_PCK.shape[2]
    size = max(1, MAX_CELLS // num_cells)
    means = []
    for start in range(0, NUM_RESAMPLES, size):
        rows = min(size, NUM_RESAMPLES - start)
        weight_RP, weight_RC = (draw_weights(rng, rows, count) for count in asked_PC.shape)
        sum_RK = np.einsum("rck,rc->rk", np.tensordot(weight_RP, filled_PCK, axes=1), weight_RC)
        count_R = np.einsum("rc,rc->r", weight_RP @ asked_PC, weight_RC)
        with np.errstate(invalid="ignore"):
            means.append(sum_RK / count_R[:, None])  # 0/0 where no drawn participant was asked about a drawn case
    return np.concatenate(means)


def draw_weights(rng: np.random.Generator, num_resamples: int, count: int) -> np.ndarray:
    """Return how often each of `count` is drawn, of shape (R, count); of a single one nothing can be drawn anew."""
    return rng.multinomial(count, np.full(count, 1 / count), size=num_resamples).astype(np.float64)


def make_interval(votes: Votes, value_PC: np.ndarray, means_R: np.ndarray) -> Interval:
    """Return the mean with its percentile interval, where there is one."""
    low, high = find_bounds(votes, means_R)
    return Interval(float(np.nanmean(value_PC)), low, high, votes.num_participants)


def find_bounds(votes: Votes, value_R: np.ndarray) -> tuple[float | None, float | None]:
    """Return what a figure of R resamples lies between; nothing over 2 to 9 participants or fewer than 10 cases, where it would be far too narrow."""
    if 1 < votes.num_participants < MIN_USERS or votes.num_cases < MIN_USERS:
        return None, None
    low, high = np.nanquantile(value_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def compare_all(mean_NM: np.ndarray) -> Overall:
    """Test whether all methods have the same rank in N blocks (participants or cases); of two methods Friedman's test is the sign test."""
    from scipy.stats import binomtest, friedmanchisquare

    num_blocks, num_methods = mean_NM.shape
    name = "Friedman" if num_methods > 2 else "sign test"
    if num_blocks < 2:
        return Overall(name, None, None, None, num_blocks)
    if num_methods == 2:
        first, second = ((mean_NM[:, index] < mean_NM[:, 1 - index]).sum() for index in (0, 1))
        p = float(binomtest(int(first), int(first + second)).pvalue) if first + second else 1.0
        return Overall(name, float(max(first, second)), p, measure_concordance(mean_NM), num_blocks)
    if np.all(mean_NM == mean_NM[:, :1]):
        return Overall(name, 0.0, 1.0, 0.0, num_blocks)
    found = friedmanchisquare(*mean_NM.T)
    return Overall(name, float(found.statistic), float(found.pvalue), float(found.statistic) / (num_blocks * (num_methods - 1)), num_blocks)


def measure_concordance(value_NM: np.ndarray) -> float | None:
    """Return Kendall's W of N judges' values of M things, ties counted: 1 if all order them alike; None if nobody tells any apart."""
    from scipy.stats import rankdata

    rank_NM = rankdata(value_NM, axis=1)
    num_judges, num_things = rank_NM.shape
    ties = sum(float((counts**3 - counts).sum()) for counts in (np.unique(row, return_counts=True)[1] for row in rank_NM))
    largest = num_judges**2 * (num_things**3 - num_things) - num_judges * ties
    spread = float(((rank_NM.sum(axis=0) - num_judges * (num_things + 1) / 2) ** 2).sum())
    return 12 * spread / largest if largest > 0 else None


def measure_agreement(votes: Votes) -> Agreement:
    """Return how far participants agree, over the cases that at least two of them were asked about."""
    found = []
    for case in range(votes.num_cases):
        rank_NM = votes.rank_PCM[votes.asked_PC[:, case], case]
        if len(rank_NM) > 1 and (w := measure_concordance(rank_NM)) is not None:
            found.append((w, (len(rank_NM) * w - 1) / (len(rank_NM) - 1)))
    if not found:
        return Agreement(None, None, 0)
    w, correlation = np.mean(found, axis=0)
    return Agreement(float(w), float(correlation), len(found))


def estimate_strengths(votes: Votes, *, seed: int) -> dict[str, Interval]:
    """Return Plackett-Luce strengths with crossed intervals: the share of questions in which a method would come first of all; they sum to 1."""
    rng = np.random.default_rng(seed)
    asked_PC = votes.asked_PC
    order_NM = np.argsort(votes.rank_PCM[asked_PC], axis=1, kind="stable")
    drawn = [draw_weights(rng, NUM_REFITS, count) for count in asked_PC.shape]
    weight_RN = [np.outer(weight_P, weight_C)[asked_PC].astype(int) for weight_P, weight_C in zip(*drawn, strict=True)]
    refits_RM = np.stack([fit_strengths(np.repeat(order_NM, weight_N, axis=0)) for weight_N in weight_RN if weight_N.any()])
    strengths = {}
    for index, (method, strength) in enumerate(zip(votes.methods, fit_strengths(order_NM).tolist(), strict=True)):
        low, high = find_bounds(votes, refits_RM[:, index])
        strengths[method] = Interval(strength, low, high, votes.num_participants)
    return strengths


def fit_strengths(order_NM: np.ndarray) -> np.ndarray:
    """Return the strengths (M,) behind N orders of the methods, the best first."""
    from choix import ilsr_rankings

    log_M = ilsr_rankings(order_NM.shape[1], [tuple(order) for order in order_NM.tolist()], alpha=PRIOR, max_iter=MAX_ITERATIONS)
    strength_M = np.exp(log_M - log_M.max())
    return strength_M / strength_M.sum()
