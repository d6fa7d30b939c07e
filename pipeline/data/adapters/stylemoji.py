"""StyleMoji: OpenMoji stickers in six drawing styles, with users who like another style in each group of things.

A (concept, style) pair is an item. A user likes one style in each of some groups (neon vehicles, pastel animals), so only
the history items that are related to the reference tell the right style. The reference is an unseen concept in the
reference style, the truth is that concept in the style that this user likes for its group: a known right answer.
A tenth of the pairs is held out: no model is trained on them, no history holds them, and the truths of the validation and
test cases come from them.

The paper's own sticker protocol is `protocol: themes`: two random themes (group and style) are merged into a history and
the reference comes from another theme; there is no known truth then.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, Lt, MinLen
from PIL import Image

from pipeline.config import Count, config_dataclass
from pipeline.data.dataset import Dataset, assign_splits, build_interactions, check_shares
from pipeline.data.extra import add_extra_items, place_in_histories
from pipeline.data.images import encode_png
from pipeline.data.items import ItemRows
from pipeline.data.openmoji import STYLES, Concept, is_held_out, read_concepts, render_sticker
from pipeline.data.simulated_users import MAX_TRIES, build_case_row, check_looks, make_user_rng
from pipeline.params import load_params
from pipeline.runtime import progress


@config_dataclass
class StyleMojiConfig:
    """Sizes and protocol of StyleMoji; every field is explained in conf/dataset/stylemoji.yaml."""

    name: str
    raw: Annotated[str, MinLen(1)]
    protocol: Literal["preference", "themes"]
    num_users: Annotated[int, Ge(3)]
    num_concepts: Annotated[int, Ge(4)]
    styles: tuple[str, ...]
    reference_style: str
    image_size: Annotated[int, Ge(16), Le(512)]  # px
    history_length: Annotated[int, Ge(2)]
    groups_per_user: Count
    noise: Annotated[float, Ge(0), Lt(1)]
    splits: tuple[float, ...]

    def __post_init__(self) -> None:
        check_looks(self.styles, STYLES, field="styles", reference=self.reference_style, reference_field="reference_style")
        check_shares(self.splits)


@dataclass(frozen=True)
class ConceptGroups:
    """Which pairs exist and which may be shown: concepts by group, and for a pair whether it is held out."""

    concepts: tuple[Concept, ...]
    groups: dict[str, tuple[Concept, ...]]
    config: StyleMojiConfig

    def list_shown(self, group: str, style: str) -> list[str]:
        """Return the item ids of a group in a style that histories may hold."""
        return [build_item_id(c, style) for c in self.groups[group] if not is_held_out(c.hexcode, style)]


def build_from_params(params: Path, extra: Path, seed: int) -> Dataset:
    """Build StyleMoji as the params' `dataset` block says, with the extra items placed in some histories."""
    config = load_params(params, "dataset", StyleMojiConfig)
    return build_stylemoji(config, extra=extra, seed=seed)


def build_stylemoji(config: StyleMojiConfig, *, extra: Path, seed: int) -> Dataset:
    """Render the items and draw the users; everything depends on the config, the seed and the folder of extra items alone."""
    catalogue = build_catalogue(config)
    items, labels = build_items(catalogue)
    build_case = build_preference_case if config.protocol == "preference" else build_themes_case
    splits = assign_splits(range(config.num_users), config.splits)
    cases = [build_case(catalogue, index, splits[index], seed=seed) for index in range(config.num_users)]
    extras, missing = add_extra_items(extra, items, image_size=config.image_size, image_format="png")
    place_in_histories(cases, extras)
    held_out = sum(is_held_out(label["item_id"].rsplit("-", 1)[0], label["style"]) for label in labels)
    facts = {"concepts": len(catalogue.concepts), "styles": len(config.styles), "held_out_pairs": held_out, "extra_items": len(extras)}
    return Dataset(items, build_interactions(cases), cases, labels, facts, missing)


def build_catalogue(config: StyleMojiConfig) -> ConceptGroups:
    """Read the first `num_concepts` concepts and sort them into their groups."""
    concepts = tuple(read_concepts(config.num_concepts, Path(config.raw)))
    if len(concepts) < config.num_concepts:
        raise ValueError(f"num_concepts is {config.num_concepts}, but there are only {len(concepts)} concepts.")
    groups: dict[str, list[Concept]] = defaultdict(list)
    for concept in concepts:
        groups[concept.group].append(concept)
    if config.groups_per_user > len(groups):
        raise ValueError(f"groups_per_user is {config.groups_per_user}, but the {len(concepts)} concepts fall into {len(groups)} groups.")
    return ConceptGroups(concepts, {name: tuple(members) for name, members in sorted(groups.items())}, config)


def build_item_id(concept: Concept, style: str) -> str:
    """Return the id of a pair's item, e.g. `1F994-pastel`."""
    return f"{concept.hexcode}-{style}"


def build_items(catalogue: ConceptGroups) -> tuple[ItemRows, list[dict[str, Any]]]:
    """Render every pair; the item's text is the concept's name alone, so only the image tells the style."""
    config = catalogue.config
    items, labels = ItemRows(), []
    for concept in progress(catalogue.concepts, label="drawing concepts", total=len(catalogue.concepts)):
        for style in config.styles:
            item_id = build_item_id(concept, style)
            image = encode_png(Image.fromarray(render_sticker(concept, style, size=config.image_size)))
            items.add(item_id, image, text=concept.name, category=concept.group)
            labels.append({"item_id": item_id, "style": style, "concept": concept.name})
    return items, labels


def build_preference_case(catalogue: ConceptGroups, user_index: int, split: str, *, seed: int) -> dict[str, Any]:
    """Draw a user's groups and liked styles, a history that shows them with noise, and a reference whose truth is held out (train: shown)."""
    config = catalogue.config
    rng = make_user_rng("stylemoji", seed, user_index)
    likeable = [style for style in config.styles if style != config.reference_style]
    for _ in range(MAX_TRIES):
        groups = [str(name) for name in rng.permutation(list(catalogue.groups))[: config.groups_per_user]]
        # different styles in different groups, as long as there are enough styles
        order = [str(style) for style in rng.permutation(likeable)]
        liked = {group: order[i % len(order)] for i, group in enumerate(groups)}
        target_group = groups[int(rng.integers(len(groups)))]  # any of them: the first gets the odd items of the history
        truths = [c for c in catalogue.groups[target_group] if is_held_out(c.hexcode, liked[target_group]) == (split != "train")]
        if truths:
            truth = truths[int(rng.integers(len(truths)))]
            history = draw_history(catalogue, liked, exclude=truth, rng=rng)
            if history is not None:
                reference_id, truth_id = build_item_id(truth, config.reference_style), build_item_id(truth, liked[target_group])
                return build_case_row(f"{user_index:05d}", split, history, reference_id, truth_id)
    raise ValueError(
        f"StyleMoji cannot draw user {user_index}: no group has a {'held-out' if split != 'train' else 'shown'} truth and enough items; "
        f"raise dataset.num_concepts ({config.num_concepts}) or lower dataset.history_length ({config.history_length})."
    )


def draw_history(catalogue: ConceptGroups, liked: dict[str, str], *, exclude: Concept, rng: np.random.Generator) -> list[str] | None:
    """Draw a shuffled history: shares of liked items from each group in turn, and noise of any group and style; None if there are too few."""
    config = catalogue.config
    num_noise = round(config.noise * config.history_length)
    pools = {group: [str(x) for x in rng.permutation(catalogue.list_shown(group, style))] for group, style in liked.items()}
    for pool in pools.values():
        pool[:] = [item_id for item_id in pool if not item_id.startswith(f"{exclude.hexcode}-")]
    chosen: list[str] = []
    groups = list(liked)
    for place in range(config.history_length - num_noise):
        pool = pools[groups[place % len(groups)]]
        if not pool:
            return None
        chosen.append(pool.pop())
    while len(chosen) < config.history_length:
        concept = catalogue.concepts[int(rng.integers(len(catalogue.concepts)))]
        style = config.styles[int(rng.integers(len(config.styles)))]
        item_id = build_item_id(concept, style)
        if concept != exclude and not is_held_out(concept.hexcode, style) and item_id not in chosen:
            chosen.append(item_id)
    return [str(item_id) for item_id in rng.permutation(chosen)]


def build_themes_case(catalogue: ConceptGroups, user_index: int, split: str, *, seed: int) -> dict[str, Any]:
    """Merge two random themes (group and style) into a history and take the reference from another theme (the paper's protocol)."""
    config = catalogue.config
    rng = make_user_rng("stylemoji", seed, user_index)
    half = (config.history_length + 1) // 2
    themes = [(group, style) for group in catalogue.groups for style in config.styles]
    large = [theme for theme in themes if len(catalogue.list_shown(*theme)) >= half]
    if len(large) < 2:
        raise ValueError(
            f"StyleMoji needs 2 themes of {half} items for protocol themes; "
            f"raise dataset.num_concepts ({config.num_concepts}) or lower dataset.history_length ({config.history_length})."
        )
    first, second = (large[i] for i in rng.permutation(len(large))[:2])
    history = [
        *rng.permutation(catalogue.list_shown(*first))[:half],
        *rng.permutation(catalogue.list_shown(*second))[: config.history_length - half],
    ]
    others = [theme for theme in themes if theme not in (first, second) and catalogue.list_shown(*theme)]
    references = catalogue.list_shown(*others[int(rng.integers(len(others)))])
    reference_id = references[int(rng.integers(len(references)))]
    return build_case_row(f"{user_index:05d}", split, [str(x) for x in rng.permutation(history)], reference_id, None)
