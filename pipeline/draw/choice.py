"""Which picture to ship: the rule of docs/draw.md, in words that stand in the manifest.

A candidate can be shipped if it is technically sound, still shows the thing, and both rankers put the reference clearly further up with it.
Of several that can, the one is chosen whose smaller ΔR of the two is largest; of several that cannot, the one that fails last (sound, then
shows, then ΔR). Where the chosen one cannot be shipped, the catalogue's own picture is to be kept, for the reason that is given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.draw.scores import Scored

SHOWS = 0.5  # of the CS of the reference's own picture
GAIN = 0.2  # ΔR: a fifth of the way up to the first place; less than that was often a picture in another wrong style
WORD = re.compile(r"[^\W\d_]{3,}")
EMPTY_WORDS = frozenset({"the", "and", "with", "for", "from", "picture", "image", "photo", "sticker", "drawing", "new"})


@dataclass(frozen=True)
class Verdict:
    """What speaks for or against one candidate; `reason` is a sentence without its end."""

    is_sound: bool
    shows: bool
    is_preferred: bool
    margin: float  # the smaller ΔR; 0 where no ranker knows
    reason: str

    @property
    def keep_original(self) -> bool:
        """Whether the catalogue's own picture is to be kept."""
        return not (self.is_sound and self.shows and self.is_preferred)

    @property
    def rank(self) -> tuple[bool, bool, bool, float]:
        """What is compared: larger is better."""
        return (not self.keep_original, self.is_sound, self.shows, self.margin)


def judge_candidate(scored: Scored, *, fault: str | None, reference_text: str) -> Verdict:
    """Judge one candidate; `fault` says why it is not sound, `reference_text` what the thing is called."""
    gains = [gain for name in ("delta_r", "delta_r_check") if (gain := scored.scores.get(name)) is not None]
    margin = min(gains, default=0.0)
    named = find_named(scored.caption, reference_text)
    cs, own = scored.scores.get("cs"), scored.cs_original
    is_close = cs is not None and own is not None and own > 0 and cs >= SHOWS * own
    shows, is_preferred = bool(named) or is_close, margin >= GAIN
    if fault:
        reason = fault
    elif not shows:
        says = f"the captioner sees {scored.caption!r}" if scored.caption else "the captioner has no word for it"
        reason = f"it does not show the thing any more: {says}, and CS is {format_number(cs)} against {format_number(own)}"
    elif not gains:
        reason = "no ranker knows this user, so nobody can say whether it is preferred"
    elif not is_preferred:
        reason = f"not both rankers prefer it clearly (ΔR of {GAIN} or more): {describe_gains(scored)}"
    else:
        seen = f"its caption names {named}" if named else f"CS is {format_number(cs)} against {format_number(own)} of the catalogue's picture"
        reason = f"sound; shows the thing ({seen}); both rankers prefer it: {describe_gains(scored)}"
    return Verdict(fault is None, shows, is_preferred, margin, reason)


def find_named(caption: str, reference: str) -> str:
    """Return the first word of a caption that also says what the reference is; empty if there is none."""
    wanted = set(WORD.findall(reference.casefold())) - EMPTY_WORDS
    return next((word for word in WORD.findall(caption.casefold()) if word in wanted), "")


def describe_gains(scored: Scored) -> str:
    """Write what each ranker says, e.g. `rank 812 to 35 (ΔR 0.96), second ranker 640 to 18 (ΔR 0.97)`."""
    parts = []
    for suffix, title in (("", "rank"), ("_check", "second ranker")):
        before, after, gain = (scored.scores.get(f"{name}{suffix}") for name in ("rank_original", "rank_generated", "delta_r"))
        if before is not None and after is not None and gain is not None:
            parts.append(f"{title} {before:.0f} to {after:.0f} (ΔR {gain:.2f})")
    return ", ".join(parts)


def choose(verdicts: Sequence[Verdict]) -> int:
    """Return the place of the best candidate; of equals the first."""
    return max(range(len(verdicts)), key=lambda place: (verdicts[place].rank, -place))


def explain_choice(verdicts: Sequence[Verdict], place: int, best: int) -> str:
    """Say why this candidate was chosen, why the original is to be kept, or why another candidate is better."""
    verdict, number = verdicts[place], len(verdicts)
    if place != best:
        return f"Candidate {best + 1} is better; of this one: {verdict.reason}."
    among = f"the best of {number} candidates: " if number > 1 else ""
    return f"{'Keep the original' if verdict.keep_original else 'Use it'}: {among}{verdict.reason}."


def format_number(value: float | None) -> str:
    """Write a score, or that nobody knows it."""
    return "unknown" if value is None else f"{value:.1f}"
