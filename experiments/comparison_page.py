"""Write a comparison of methods as a Markdown page, a LaTeX table and CSV rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.catalogue import Experiment
from experiments.comparison import ALPHA, Cell, list_methods
from experiments.names import MAIN
from experiments.results import Cost, RunResult
from experiments.tables import ARROWS, build_legend_lines
from pipeline.metrics.definitions import Metric
from pipeline.metrics.significance import NUM_FLIPS
from pipeline.report.figures import BOUNDS, EXPLANATIONS, format_interval, format_value, get_title

CSV_COLUMNS = (
    "method", "metric", "profile", "seed", "value", "low", "high", "n", "place", "difference", "difference_low", "difference_high", "p", "p_holm",
)  # fmt: skip
Cells = Mapping[tuple[str, str], Cell]  # by method and metric, as `compare_methods` returns them
MARKS = {"better": "▲", "worse": "▼", "": ""}
LATEX_MARKS = {"better": r"$^{\blacktriangle}$", "worse": r"$^{\blacktriangledown}$", "": ""}
SHARED = {  # stages that no method has to itself
    "captioning": "the items' captions (every method but SD)",
    "embedding": "their vectors (the same)",
    "keywords": "their keywords (SD + keywords, SD + retrieved, RAGAR)",
    "ranker": "the ranker (RAGAR)",
}
SHORT_GROUPS = {"personalisation": "pers.", "semantic alignment": "sem."}


def build_page(experiment: Experiment, result: RunResult, cells: Cells) -> str:
    """Return the whole page; every figure in it comes from the run."""
    methods, metrics = list_methods(experiment, result), list_metrics(cells)
    num_users = max((cell.value.n for cell in cells.values()), default=0)
    num_tests = sum(cell.p is not None for cell in cells.values())
    lines = [
        f"# {experiment.title}",
        "",
        experiment.sentence,
        "",
        f"Made by `make {experiment.name}`. Profile `{result.profile}`, data set `{result.dataset}`, {describe_seeds(result)}, {num_users} test "
        f"users, the same for every method. In brackets: {result.level:.0%} intervals, bootstrap over {'seeds and ' if result.seeds else ''}users, "
        f"{result.num_resamples} resamples. "
        "**Bold**: the best of the drawn methods, <u>underlined</u>: the second. "
        f"▲ and ▼: {get_title(MAIN)} is significantly better or worse than that method (paired sign-flip test over users, {NUM_FLIPS:,} flips, "
        f"Holm's correction over all {num_tests} tests of this table, level {ALPHA}).",
        "",
        f"| | {' | '.join(format_heading(metric) for metric in metrics.values())} |",
        f"|---|{'---:|' * len(metrics)}",
    ]
    lines += [f"| {describe_row(method)} | {' | '.join(format_cell(cells.get((method, name))) for name in metrics)} |" for method in methods]
    lines += ["", *build_methods(methods), *build_differences(cells, methods, metrics)]
    lines += [*build_assignment(methods, result), *build_costs(methods, result.costs, result.stage_seconds), *build_own_checks(result.trainings)]
    runs = ", ".join(f"`{name}`" for name in result.experiment.split(", "))
    lines += ["## Runs" if result.seeds else "## Run", "", runs, "", *build_legend_lines(metrics.values())]
    return "\n".join(lines) + "\n"


def describe_seeds(result: RunResult) -> str:
    """Write the seed of the run, or those of the runs that were pooled."""
    return f"seeds {', '.join(map(str, result.seeds))}" if result.seeds else f"seed {result.seed}"


def build_assignment(methods: Sequence[str], result: RunResult) -> list[str]:
    """Return the table of the permutation test of whose image is whose, a p-value each seed; empty where there is no test."""
    known = [method for method in methods if result.tests.get(method)]
    if not known:
        return []
    lines = ["## Whose image is whose", "", "| | p, one per seed |", "|---|---|"]
    lines += [f"| {describe_row(method)} | {', '.join(map(format_p, result.tests[method]))} |" for method in known]
    return [
        *lines,
        "",
        "Permutation test: how likely it would be that so many images are by the artist whom their user likes, if all were handed out at random.",
        "",
    ]


def list_metrics(cells: Cells) -> dict[str, Metric]:
    """Return the metrics of the table in order."""
    return {name: cell.metric for (_, name), cell in cells.items()}


def format_heading(metric: Metric) -> str:
    """Write a metric's title with its group, for two groups have metrics of the same title, and the direction that is better."""
    return " ".join(filter(None, [metric.title, SHORT_GROUPS.get(metric.group, "")])) + ARROWS[metric.higher_is_better]


def describe_row(method: str) -> str:
    """Write a method's name; floor and ceiling in italics."""
    return f"*{get_title(method)}* ({BOUNDS[method]})" if method in BOUNDS else get_title(method)


def format_cell(cell: Cell | None) -> str:
    """Write one figure with its interval and marks."""
    if cell is None or cell.value.value is None:
        return "–"
    text = format_value(cell.value.value, cell.metric)
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.place or 0, text) + MARKS[cell.verdict]
    bounds = format_interval(asdict(cell.value), cell.metric)
    return f"{text} ({bounds})" if bounds else text


def build_methods(methods: Sequence[str]) -> list[str]:
    """Say what every method draws from."""
    return [*(f"- {get_title(method)}: {EXPLANATIONS[method]}" for method in methods if method in EXPLANATIONS), ""]


def build_differences(cells: Cells, methods: Sequence[str], metrics: Mapping[str, Metric]) -> list[str]:
    """Return the table of paired differences with their adjusted p-values."""
    lines = [
        f"## {get_title(MAIN)} minus each method",
        "",
        f"| | {' | '.join(map(format_heading, metrics.values()))} |",
        f"|---|{'---:|' * len(metrics)}",
    ]
    for method in methods:
        own = [cells.get((method, name)) for name in metrics]
        if any(cell and cell.difference for cell in own):
            lines.append(f"| {get_title(method)} | {' | '.join(map(format_difference, own))} |")
    return [*lines, "", "In brackets: the interval and Holm's p.", ""]


def format_difference(cell: Cell | None) -> str:
    """Write one difference with its interval and adjusted p-value."""
    if cell is None or cell.difference is None or cell.difference.value is None or cell.p_holm is None:
        return "–"
    bounds = format_interval(asdict(cell.difference), cell.metric, signed=True)
    return f"{format_value(cell.difference.value, cell.metric, signed=True)} ({bounds}; p {format_p(cell.p_holm)})"


def format_p(p: float) -> str:
    """Write a p-value: three digits, or that it is smaller."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def build_costs(methods: Sequence[str], costs: Mapping[str, Cost], seconds: Mapping[str, float]) -> list[str]:
    """Return the table of costs; empty if the run recorded none."""
    known = [method for method in methods if method in costs and method not in BOUNDS]
    if not known:
        return []
    lines = ["## Cost", "", "| | training, s | an image, s | peak memory, MB | on |", "|---|---:|---:|---:|---|"]
    for method in known:
        cost = costs[method]
        training = "none" if not cost.is_trained else "–" if cost.training_seconds is None else f"{cost.training_seconds:.1f}"
        image = "–" if cost.seconds_per_image is None else f"{cost.seconds_per_image:.3f}"
        memory = "–" if cost.peak_memory_mb is None else f"{cost.peak_memory_mb:,.0f}"
        lines.append(f"| {get_title(method)} | {training} | {image} | {memory} | {cost.machine} |")
    note = (
        "Training is that of the method's own stages, for all users together; an image is the median over images, every candidate of a choice "
        "included; memory is the process's peak in training or drawing. Seconds are the clock's, and other work on the machine counts."
    )
    return [*lines, "", note, *build_shared(seconds), ""]


def build_shared(seconds: Mapping[str, float]) -> list[str]:
    """Say what the stages take that are in no method's row, as far as the run or the one that it took them from was made here."""
    told = [f"{title} {seconds[stage]:.1f} s" for stage, title in SHARED.items() if stage in seconds]
    return ["", f"Once for all users, and in no row: {', '.join(told)}."] if told else []


def build_own_checks(trainings: Mapping[str, dict[str, Any]]) -> list[str]:
    """Say whether each trained baseline does what it is trained to do, by its own measure."""
    lines = []
    for method, own in trainings.items():
        title = get_title(method)
        if own.get("held_out_loss") is not None:  # some of the images were held out
            before, after = (format_number(own[name]) for name in ("held_out_loss_before", "held_out_loss"))
            lines.append(
                f"- {title}: denoising loss on held-out history images of {own['num_users']} users {before} with the initial word, {after} with the "
                f"learned one; it falls by {format_fall(own, 'held_out')}, for {100 * (own['share_of_users_improved'] or 0):.0f}% of the users."
            )
        if "validation_loss" in own:
            plain, before, after = (format_number(own[f"validation_loss{suffix}"]) for suffix in ("_keywords", "_before", ""))
            lines.append(
                f"- {title}: denoising loss on images of {own['validation_cases']} validation users {plain} with keywords alone, {before} with "
                f"untrained soft embeddings, {after} with trained ones; against keywords alone it falls by {format_fall(own, 'validation')}."
            )
        if "selection_score" in own:
            lines.append(
                f"- {title}: mean balance score of the chosen images {format_number(own['selection_score'])}, of the first candidates, "
                f"which are what it would draw without a choice, {format_number(own['selection_score_first'])}."
            )
    return ["## Each baseline by its own measure", "", *lines, ""] if lines else []


def format_number(value: float | None) -> str:
    """Write a loss or score with four digits behind the point."""
    return "–" if value is None else f"{value:.4f}"


def format_fall(metrics: Mapping[str, Any], name: str) -> str:
    """Write a paired difference with its interval."""
    value, low, high = (metrics[f"{name}_fall{suffix}"] for suffix in ("", "_low", "_high"))
    return f"{format_number(value)} ({format_number(low)} … {format_number(high)})"


def build_latex(experiment: Experiment, result: RunResult, cells: Cells) -> str:
    """Return the table for a paper, with the packages booktabs and amssymb."""
    metrics = list_metrics(cells)
    arrows = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}
    headings = [escape_latex(format_heading(metric).rstrip(" ↑↓")) + arrows[metric.higher_is_better] for metric in metrics.values()]
    lines = [
        f"% {experiment.title}; profile {result.profile}, data set {result.dataset}, {describe_seeds(result)}; made by `make {experiment.name}`",
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        f"Method & {' & '.join(headings)} " + r"\\",
        r"\midrule",
    ]
    for method in list_methods(experiment, result):
        lines.append(f"{escape_latex(get_title(method))} & {' & '.join(format_latex(cells.get((method, name))) for name in metrics)} " + r"\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def format_latex(cell: Cell | None) -> str:
    """Write one figure for LaTeX."""
    if cell is None or cell.value.value is None:
        return "--"
    text = escape_latex(format_value(cell.value.value, cell.metric))
    return {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.place or 0, text) + LATEX_MARKS[cell.verdict]


def escape_latex(text: str) -> str:
    """Write a text so that LaTeX shows it as it is."""
    for character, written in (("−", "$-$"), ("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("Δ", r"$\Delta$")):
        text = text.replace(character, written)
    return text


def list_csv_rows(result: RunResult, cells: Cells) -> list[dict[str, Any]]:
    """Return a row per method and metric; what does not exist is empty."""
    rows = []
    for cell in cells.values():
        difference = cell.difference
        row = {
            "method": cell.method,
            "metric": cell.metric.name,
            "profile": result.profile,
            "seed": result.seed,
            **asdict(cell.value),
            "place": cell.place,
            "difference": difference and difference.value,
            "difference_low": difference and difference.low,
            "difference_high": difference and difference.high,
            "p": cell.p,
            "p_holm": cell.p_holm,
        }
        rows.append({name: "" if value is None else value for name, value in row.items()})
    return rows
