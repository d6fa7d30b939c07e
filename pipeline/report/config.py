"""The params of the report stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportConfig:
    """How much the page shows; every field is explained in conf/config.yaml."""

    title: str
    num_users: int
    num_concepts: int
    num_rejected: int

    def __post_init__(self) -> None:
        for name in ("num_users", "num_concepts", "num_rejected"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be >= 0.")
