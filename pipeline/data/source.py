"""What the adapters of raw files share: their common params, items with an image file, user sequences, and the way from these to the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le, MinLen

from pipeline.config import Share, config_dataclass
from pipeline.data.dataset import Dataset, MissingImage, TooFewImagesError, assign_splits, build_interactions, check_shares
from pipeline.data.extra import add_extra_items, place_in_histories
from pipeline.data.items import ItemRows
from pipeline.data.losses import Losses
from pipeline.data.picture_folder import Place, refuse_outside_links
from pipeline.data.stored_images import ImageFormat, store_images
from pipeline.data.wording import keep_text

MIN_USERS = 3  # one per split


@config_dataclass
class SourceConfig:
    """Params of every data set that is made of raw files; explained in conf/dataset/*.yaml."""

    name: str
    raw: Annotated[str, MinLen(1)]  # an empty path would be the whole project
    history_length: Annotated[int, Ge(2)]
    image_size: Annotated[int, Ge(16), Le(1024)]  # px
    image_format: ImageFormat
    max_rejected_fraction: Share
    paper_users: int | None
    paper_items: int | None


@config_dataclass
class SplitConfig(SourceConfig):
    """Params of a data set whose users we split ourselves: `splits` are the shares of train, val and test."""

    splits: tuple[float, ...]

    def __post_init__(self) -> None:
        check_shares(self.splits)


@dataclass(frozen=True)
class RawItem:
    """An item as the raw files have it; `url` is where its image may be had, `hint` where to look for it."""

    item_id: str
    text: str
    category: str
    image: Place
    url: str = ""
    hint: str = ""


@dataclass(frozen=True)
class UserSequence:
    """One case before it has a split: a user, what they looked at (oldest first), and the reference."""

    user_id: str
    history: tuple[str, ...]
    reference_id: str


@dataclass(frozen=True)
class LoadedItems:
    """The items whose image can be read, in raw order, and those whose image cannot."""

    items: ItemRows
    missing: list[MissingImage]
    wordless: list[str] = field(default_factory=list)  # whose text says nothing


def load_catalogue(raw_items: Sequence[RawItem], config: SourceConfig) -> LoadedItems:
    """Decode, resize and keep the images of all items; an item without a readable image is missing, with the reason.

    What an item is called is kept where it says something; else its text is empty, and its caption stands in for it.
    """
    present = [item.image.path.is_file() for item in raw_items]
    paths = [item.image.path for item, there in zip(raw_items, present, strict=True) if there]
    refuse_outside_links(Path(config.raw), paths)
    stored = store_images(paths, image_size=config.image_size, image_format=config.image_format)
    items, missing, wordless = ItemRows(), [], []
    for item, there in zip(raw_items, present, strict=True):
        outcome = next(stored) if there else explain_absence(item.image)
        if isinstance(outcome, bytes):
            text = keep_text(item.text)
            items.add(item.item_id, outcome, text=text, category=item.category)
            wordless += [item.item_id] if item.text and not text else []
        else:
            missing.append(MissingImage(item.item_id, item.text, str(item.image.path), item.url, item.hint, outcome))
    return LoadedItems(items, missing, wordless)


def explain_absence(image: Place) -> str:
    """Say why there is no file."""
    if image.path.is_symlink():
        return "It is a link to a file that is not there."
    return f"There is no such file; did you mean {image.near}?" if image.near else "There is no such file."


def build_tables(
    catalogue: LoadedItems, sequences: Sequence[UserSequence], config: SplitConfig, *, extra: Path, facts: dict[str, Any], losses: Losses
) -> Dataset:
    """Build the data set from one sequence per user; `extra` is a folder of further item images. ValueError if there are too few users."""
    if len(sequences) < MIN_USERS:
        raise TooFewImagesError(explain_few(len(sequences), catalogue.missing, config), catalogue.missing)
    splits = assign_splits([sequence.user_id for sequence in sequences], config.splits)
    cases = [build_case(sequence, split) for sequence, split in zip(sequences, splits, strict=True)]
    return finish_dataset(catalogue, cases, config, extra=extra, facts=facts, losses=losses)


def explain_few(num_users: int, missing: Sequence[MissingImage], config: SplitConfig) -> str:
    """Say that there are too few users, what would make more of them, and what is missing."""
    length = "min_history" if hasattr(config, "min_history") else "history_length"
    users = "1 user has" if num_users == 1 else f"{num_users} users have"
    sentence = (
        f"{config.raw}: only {users} a reference and enough history items with a readable image, but at least {MIN_USERS} are needed, one for each "
        f"split; add interactions, or lower dataset.{length} ({getattr(config, length)})."
    )
    if not missing:
        return sentence
    return f"{sentence} {len(missing):,} images of items are missing, e.g. {missing[0].path}: {missing[0].reason}"


def finish_dataset(
    catalogue: LoadedItems, cases: list[dict[str, Any]], config: SourceConfig, *, extra: Path, facts: dict[str, Any], losses: Losses
) -> Dataset:
    """Place the extra items and put the tables together; the facts compare the counts with the paper's Table 2."""
    counts = compare_counts(catalogue, cases, config)  # which know of no extra items
    extras, unusable = add_extra_items(extra, catalogue.items, image_size=config.image_size, image_format=config.image_format)
    place_in_histories(cases, extras)
    return Dataset(
        items=catalogue.items,
        interactions=build_interactions(cases),
        cases=cases,
        facts={**facts, "extra_items": len(extras), "table_2": counts},
        missing=[*catalogue.missing, *unusable],
        losses=replace(losses, titles=catalogue.wordless),
        max_missing_fraction=config.max_rejected_fraction,
    )


def build_case(sequence: UserSequence, split: str) -> dict[str, Any]:
    """Build one row of the cases table; real data know no truth."""
    return {
        "case_id": f"case-{sequence.user_id}",
        "user_id": sequence.user_id,
        "split": split,
        "history": list(sequence.history),
        "reference_id": sequence.reference_id,
        "truth_id": None,
    }


def compare_counts(catalogue: LoadedItems, cases: list[dict[str, Any]], config: SourceConfig) -> dict[str, dict[str, float]]:
    """Compare users and items with the paper's Table 2 where it has the data set; the deviation is a share, reported and not enforced."""
    found = {"users": len({case["user_id"] for case in cases}), "items": len(catalogue.items)}
    paper = {"users": config.paper_users, "items": config.paper_items}
    return {name: {"found": found[name], "paper": count, "deviation": round(found[name] / count - 1, 4)} for name, count in paper.items() if count}
