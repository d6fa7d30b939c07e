"""Why an image was not fetched, and what follows from it: asked again at once, by the next run, or never."""

from __future__ import annotations


class Failure(ValueError):
    """`cause` is the same for all that failed alike, `detail` tells what was special about this one."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause} ({detail})" if detail else cause)
        self.cause, self.detail = cause, detail


class Dead(Failure):
    """The URL will give no image, however often it is asked."""


class Later(Failure):
    """The URL may give an image another time, or with another option: the next run asks again."""


class Busy(Later):
    """The URL may give an image soon: this run asks again, after `wait` seconds where the host said how many."""

    def __init__(self, cause: str, detail: str = "", *, wait: float = 0.0) -> None:
        super().__init__(cause, detail)
        self.wait = wait
