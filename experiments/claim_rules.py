"""What a claim is and what it takes for it to hold: pure functions from scores to a verdict, one for every kind of sentence.

Gains are signed so that more is better, also for distances. "Excludes zero" is the whole interval above zero; "loses nothing" is an
interval that is not wholly below zero; "intervals apart" is two intervals of means that do not overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experiments.names import MAIN
from experiments.results import ByUser, RunResult
from experiments.runs import Run
from pipeline.metrics.definitions import Metric
from pipeline.metrics.intervals import Interval, compute_nested_interval, compute_paired_interval
from pipeline.report.figures import format_value

Drawn = tuple[RunResult, str]  # a method in a run
MIN_SEEDS = 5  # of a claim about training


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds, the figure that decides, what had to be true, and what is worth knowing beside it."""

    figure: Interval
    holds: bool
    threshold: str
    seeds: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Evidence:
    """What the claims are checked against: results by run name, and facts of the default run."""

    results: Mapping[str, RunResult]
    held_out_share: float | None  # of the test users' truths
    seconds: Mapping[str, Mapping[int, float]]  # stage -> seed -> how long it took, where that is known

    def get(self, run: Run, method: str = MAIN) -> Drawn:
        """Return a method in a run."""
        return self.results[run.name], method


@dataclass(frozen=True)
class Claim:
    """A sentence and how to check it; `experiment` names the make target and the file in docs/results/."""

    name: str
    sentence: str
    experiment: str
    check: Callable[[Evidence], Verdict]


def get_values(drawn: Drawn, metric: str) -> ByUser:
    """Return the values by user; ValueError if there are none, for a claim about nothing must not pass or fail."""
    result, method = drawn
    values = result.get_users(method, metric)
    if not values:
        raise ValueError(f"{result.experiment} has no {result.get_metric(metric).name} of {method!r}, which a claim needs; see its evaluation stage.")
    return values


def compute_mean(drawn: Drawn, metric: str) -> Interval:
    """Return a method's mean over users; ValueError without any."""
    get_values(drawn, metric)
    return drawn[0].average(drawn[1], metric)


def compute_gain(first: Drawn, second: Drawn, metric: str) -> Interval:
    """Return first - second, paired by user, or second - first where less is better; ValueError across seeds."""
    if first[0].seed != second[0].seed:
        raise ValueError(f"{first[0].experiment} and {second[0].experiment} have different seeds, so their users cannot be paired.")
    better, worse = get_values(first, metric), get_values(second, metric)
    if first[0].get_metric(metric).higher_is_better is False:
        better, worse = worse, better
    gain = compute_paired_interval(better, worse, **first[0].list_knobs())
    if gain.value is None:
        raise ValueError(f"{first[0].experiment} and {second[0].experiment} share no user with {metric}.")
    return gain


def is_above(figure: Interval, bound: float = 0.0) -> bool:
    """Say whether the whole interval lies above `bound`; without an interval it does not."""
    return figure.low is not None and figure.low > bound


def is_below(figure: Interval, bound: float = 0.0) -> bool:
    """Say whether the whole interval lies below `bound`."""
    return figure.high is not None and figure.high < bound


def check_at_least(drawn: Drawn, metric: str, floor: float) -> Verdict:
    """Check that a method's mean is at least `floor`."""
    figure = compute_mean(drawn, metric)
    return Verdict(figure, figure.value is not None and figure.value >= floor, f"mean >= {floor:g}", (drawn[0].seed,))


def check_users(drawn: Drawn, metric: str, floor: int) -> Verdict:
    """Check that the figures rest on at least `floor` users."""
    num_users = len(get_values(drawn, metric))
    return Verdict(Interval(float(num_users), None, None, num_users), num_users >= floor, f"n >= {floor}", (drawn[0].seed,))


def check_gain(first: Drawn, second: Drawn, metric: str, *, at_least: float | None = None) -> Verdict:
    """Check that a paired gain is at least `at_least` or, without that, that its interval excludes zero."""
    figure = compute_gain(first, second, metric)
    if at_least is None:
        return Verdict(figure, is_above(figure), "interval above 0", (first[0].seed,))
    return Verdict(figure, figure.value is not None and figure.value >= at_least, f"gain >= {at_least:g}", (first[0].seed,))


def check_kept(first: Drawn, second: Drawn, metric: str, *, margin: float) -> Verdict:
    """Check that a method is not worse than another by more than `margin`."""
    figure = compute_gain(first, second, metric)
    return Verdict(figure, figure.value is not None and figure.value >= -margin, f"gain >= -{margin:g}", (first[0].seed,))


def check_apart(first: Drawn, second: Drawn, metric: str) -> Verdict:
    """Check that the first mean is better and the intervals of the two means do not overlap; the figure is the paired gain."""
    definition = first[0].get_metric(metric)
    gain = compute_gain(first, second, metric)
    better, worse = compute_mean(first, metric), compute_mean(second, metric)
    note = f"{format_estimate(better, definition)} against {format_estimate(worse, definition)}"
    if definition.higher_is_better is False:
        better, worse = worse, better
    is_apart = better.low is not None and worse.high is not None and better.low > worse.high
    return Verdict(gain, is_apart, "intervals of the two means apart", (first[0].seed,), note)


def check_rise_and_fall(points: Sequence[tuple[str, Drawn]], metric: str) -> Verdict:
    """Check that the best point lies inside, beats both ends beyond zero, and no step goes the other way beyond its interval.

    The figure is the smaller of the best point's gains over the two ends.
    """
    definition = points[0][1][0].get_metric(metric)
    sign = -1.0 if definition.higher_is_better is False else 1.0
    means = [compute_mean(drawn, metric).value for _, drawn in points]
    place = max(range(len(points)), key=lambda index: sign * means[index])
    gains = [compute_gain(points[place][1], points[end][1], metric) for end in (0, len(points) - 1)]
    steps = [compute_gain(after, before, metric) for (_, before), (_, after) in itertools.pairwise(points)]
    wrong = [f"{points[i][0]} to {points[i + 1][0]}" for i, step in enumerate(steps) if (is_below(step) if i < place else is_above(step))]
    holds = 0 < place < len(points) - 1 and all(map(is_above, gains)) and not wrong
    listed = ", ".join(f"{label}: {format_value(mean, definition)}" for (label, _), mean in zip(points, means, strict=True))
    note = f"best at {points[place][0]} ({listed})" + (f"; against the direction: {', '.join(wrong)}" if wrong else "")
    figure = min(gains, key=lambda gain: gain.value)
    return Verdict(figure, holds, "best inside, above both ends, no step the other way", (points[0][1][0].seed,), note)


def check_same_story(pairs: Sequence[tuple[Drawn, Drawn]], metric: str) -> Verdict:
    """Check that the gain's interval excludes zero on the same side in every seed; the figure pools the users of all seeds."""
    gains = [compute_gain(first, second, metric) for first, second in pairs]
    seeds = tuple(first[0].seed for first, _ in pairs)
    holds = len(set(seeds)) == len(seeds) >= 3 and (all(map(is_above, gains)) or all(map(is_below, gains)))
    return Verdict(pool_gains(pairs, metric), holds, "interval excludes 0 on the same side in every seed", seeds, write_seeds(gains, pairs, metric))


def check_no_loss_in_any_seed(pairs: Sequence[tuple[Drawn, Drawn]], metric: str) -> Verdict:
    """Check that in no seed the gain's interval is wholly below zero; the figure pools the users of all seeds."""
    gains = [compute_gain(first, second, metric) for first, second in pairs]
    holds = all(gain.high is not None and not is_below(gain) for gain in gains)
    seeds = tuple(first[0].seed for first, _ in pairs)
    return Verdict(pool_gains(pairs, metric), holds, "interval in no seed wholly below 0", seeds, write_seeds(gains, pairs, metric))


def check_mean_over_seeds(drawn: Sequence[Drawn], metric: str, floor: float) -> Verdict:
    """Check that a method's mean over seeds and users is at least `floor`."""
    figure, seeds = pool_mean(drawn, metric), tuple(result.seed for result, _ in drawn)
    holds = len(set(seeds)) >= MIN_SEEDS and figure.value is not None and figure.value >= floor
    return Verdict(figure, holds, f"mean over at least {MIN_SEEDS} seeds >= {floor:g}", seeds)


def check_gain_over_seeds(pairs: Sequence[tuple[Drawn, Drawn]], metric: str, *, at_least: float | None = None) -> Verdict:
    """Check that the gain over seeds and users is at least `at_least` or, without that, that its interval excludes zero."""
    figure, seeds, note = describe_over_seeds(pairs, metric)
    enough = len(set(seeds)) >= MIN_SEEDS
    if at_least is None:
        return Verdict(figure, enough and is_above(figure), f"interval over at least {MIN_SEEDS} seeds above 0", seeds, note)
    holds = enough and figure.value is not None and figure.value >= at_least
    return Verdict(figure, holds, f"gain over at least {MIN_SEEDS} seeds >= {at_least:g}", seeds, note)


def check_share_over_seeds(pairs: Sequence[tuple[Drawn, Drawn]], metric: str, share: float) -> Verdict:
    """Check that over seeds and users the first mean is at least `share` of the second, for a metric of which more is better.

    The figure is first - share x second.
    """
    seeds, definition = tuple(first[0].seed for first, _ in pairs), pairs[0][0][0].get_metric(metric)
    figure = pool_gains(pairs, metric, share=share)
    note = " against ".join(format_estimate(pool_mean(side, metric), definition) for side in zip(*pairs, strict=True))
    holds = len(set(seeds)) >= MIN_SEEDS and figure.value is not None and figure.value >= 0.0
    return Verdict(figure, holds, f"mean over at least {MIN_SEEDS} seeds >= {share:g} x the other", seeds, note)


def check_no_loss_over_seeds(pairs: Sequence[tuple[Drawn, Drawn]], metric: str) -> Verdict:
    """Check that the gain's interval over seeds and users is not wholly below zero."""
    figure, seeds, note = describe_over_seeds(pairs, metric)
    holds = len(set(seeds)) >= MIN_SEEDS and figure.high is not None and not is_below(figure)
    return Verdict(figure, holds, f"interval over at least {MIN_SEEDS} seeds not wholly below 0", seeds, note)


def describe_over_seeds(pairs: Sequence[tuple[Drawn, Drawn]], metric: str) -> tuple[Interval, tuple[int, ...], str]:
    """Return the gain over the users of all seeds, the seeds, and what each of them says."""
    gains = [compute_gain(first, second, metric) for first, second in pairs]
    return pool_gains(pairs, metric), tuple(first[0].seed for first, _ in pairs), write_seeds(gains, pairs, metric)


def write_seeds(gains: Sequence[Interval], pairs: Sequence[tuple[Drawn, Drawn]], metric: str) -> str:
    """Write every seed's gain for people."""
    definition = pairs[0][0][0].get_metric(metric)
    return "; ".join(f"seed {first[0].seed}: {format_estimate(gain, definition, signed=True)}" for (first, _), gain in zip(pairs, gains, strict=True))


def pool_mean(drawn: Sequence[Drawn], metric: str) -> Interval:
    """Return a method's mean over the users of all seeds; its interval is over seeds and users."""
    pooled: ByUser = {(one[0].seed, user): value for one in drawn for user, value in get_values(one, metric).items()}
    return compute_nested_interval(pooled, **drawn[0][0].list_knobs())


def pool_gains(pairs: Sequence[tuple[Drawn, Drawn]], metric: str, *, share: float = 1.0) -> Interval:
    """Return the mean gain on `share` of the second over the users of all seeds, who are different people; its interval is over seeds and users."""
    pooled: ByUser = {}
    for first, second in pairs:
        better, worse = get_values(first, metric), get_values(second, metric)
        sign = -1.0 if first[0].get_metric(metric).higher_is_better is False else 1.0
        pooled |= {(first[0].seed, user): sign * (better[user] - share * worse[user]) for user in better.keys() & worse.keys()}
    return compute_nested_interval(pooled, **pairs[0][0][0].list_knobs())


def check_seconds(seconds: Mapping[int, float], limit: float, *, stage: str, result: RunResult) -> Verdict:
    """Check that a stage took less than `limit` seconds in every run (by seed) of which it is known; n is the number of those runs."""
    slowest = max(seconds.values(), default=None)
    note = (
        ""
        if seconds
        else f"not measured: no data/{stage}/metrics.json has `seconds`, and in no run's log did {stage} run; `make seeds` on an empty cache"
    )
    if result.profile != "embedded":
        note = f"the profile is {result.profile!r}, not the embedded one"
    holds = slowest is not None and slowest < limit and result.profile == "embedded"
    return Verdict(Interval(slowest, None, None, len(seconds)), holds, f"seconds < {limit:g}", tuple(sorted(seconds)), note)


def format_estimate(figure: Interval, metric: Metric, *, signed: bool = False) -> str:
    """Write a value with its interval for people."""
    low, high = (format_value(bound, metric, signed=signed) for bound in (figure.low, figure.high))
    return f"{format_value(figure.value, metric, signed=signed)} ({low} … {high})"
