"""The table of figures in the model card, `embedded/README.md`, and what this project asks of its models."""

from embedded.training import ROOT, write_atomically

CARD_PATH = ROOT / "embedded" / "README.md"
CARD_MARKS = ("<!-- figures: written by python -m embedded.check -->", "<!-- end of figures -->")
BARS = {
    "vae_psnr": ">= 28",
    "clip_r1_100": ">= 0.90",
    "clip_style": ">= 0.98",
    "caption_style": ">= 0.98",
    "caption_concept": ">= 0.80",
    "keyword_style": ">= 0.97",
    "keyword_concept": ">= 0.90",
    "keyword_seconds": "<= 0.15",
    "draw_style": ">= 0.98",
    "draw_concept_top1": ">= 0.75",
    "draw_concept_top5": ">= 0.90",
    "draw_seconds": "<= 0.25",
    "judge_style": ">= 0.99",
    "judge_concept": ">= 0.90",
    "weights_mb": "<= 100",
}


def write_card(quality: dict[str, dict[str, object]]) -> None:
    """Put the figures into the model card, between its two marks."""
    lines = ["| figure | value | 95% interval | n | bar |", "|---|---|---|---|---|"]
    for key, figure in quality.items():
        low, high = figure["interval"]
        lines.append(f"| {key} | {figure['value']} | {low} to {high} | {figure['n']} | {BARS.get(key, '')} |")
    head, _, rest = CARD_PATH.read_text(encoding="utf-8").partition(CARD_MARKS[0])
    _, _, tail = rest.partition(CARD_MARKS[1])
    text = "\n".join([head + CARD_MARKS[0], *lines, CARD_MARKS[1] + tail])
    write_atomically(CARD_PATH, lambda temporary: temporary.write_text(text, encoding="utf-8"))
