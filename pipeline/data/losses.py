"""What is lost between the raw files and the tables, counted and named: interactions by cause, users with the reason, titles without words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.data.problems import quote

NUM_NAMED = 10  # users that are printed; the table of rejected rows has all of them
LEFT_OUT = "are of users who are left out"
NO_IMAGE = "are of items without a readable image"
REFERENCES = "are taken as references"
REPEATED = "repeat an item of the same user"


@dataclass
class Losses:
    """`interactions` counts what was read and is in no history, by what became of it; `users` are those left out, each with a sentence."""

    num_read: int = 0  # interactions
    interactions: Counter[str] = field(default_factory=Counter)
    users: dict[str, str] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)  # items whose title is a code or a number: their caption stands in for it

    @property
    def num_kept(self) -> int:
        """Return how many interactions are in a history."""
        return self.num_read - self.interactions.total()

    def leave_out(self, user_id: str, reason: str, *, num_read: int = 0) -> None:
        """Note a user who is left out with all that was read of them."""
        self.users[user_id] = f"the user {quote(user_id)} is left out: {reason}."
        self.count(LEFT_OUT, num_read)

    def count(self, what: str, times: int) -> None:
        """Count lost interactions; none are no entry."""
        if times:
            self.interactions[what] += times

    def explain_users(self) -> dict[tuple[str, str], str]:
        """Return the sentence of every user who is left out, under a key that no item has."""
        return {("user", user_id): sentence for user_id, sentence in self.users.items()}

    def summarise(self) -> dict[str, Any]:
        """Return the counts for summary.json; empty where nothing was counted."""
        if self == Losses():
            return {}
        return {
            "interactions_read": self.num_read,
            "interactions_in_histories": self.num_kept,
            "interactions_lost": dict(sorted(self.interactions.items())),
            "users_left_out": len(self.users),
            "titles_without_words": len(self.titles),
        }

    def describe(self) -> list[str]:
        """Return the lines that a person should read."""
        lines = []
        if self.num_read:
            lost = "; ".join(f"{times:,} {what}" for what, times in self.interactions.most_common())
            lines.append(f"interactions: {self.num_read:,} were read, {self.num_kept:,} are in histories{f'; {lost}' if lost else ''}")
        lines += list(self.users.values())[:NUM_NAMED]
        if len(self.users) > NUM_NAMED:
            lines.append(f"{len(self.users):,} users are left out in all; data/dataset/rejected.parquet and the report name them")
        if self.titles:
            first = quote(self.titles[0])
            lines.append(f"titles: {len(self.titles):,} are codes or numbers, e.g. that of item {first}; the images' captions stand in for them")
        return lines


def describe_cut(length: int) -> str:
    """Return what became of interactions that are older than a history is long."""
    return f"are older than the latest {length} of a user (dataset.history_length)"
