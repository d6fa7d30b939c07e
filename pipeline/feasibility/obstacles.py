"""What would end a run in a later stage. Each obstacle is a sentence: what is needed, what there is, which parameter to set to which value.

A rule stands for the `ValueError`s of one stage; a test holds both against each other on many tiny data sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pipeline.data.dataset import SPLITS
from pipeline.feasibility.material import Case, Material, Plan
from pipeline.generation.config import OWN_MODELS
from pipeline.ranker.config import RankerConfig

CHANGES_NO_RESULT = True

MIN_CAPTIONS = 2  # of the mapper: one to learn, one to hold out
# methods that read no preference
UNPROMPTED = frozenset(
    {"original", "truth", "reconstruction", "oracle", "sd", "ip_adapter", "ti", "ti_retrieved", "pmg", "pmg_retrieved", *OWN_MODELS}
)


def find_obstacles(material: Material, plan: Plan) -> list[str]:
    """Return a sentence for everything that would end a run."""
    rules = (check_retrieval, check_baselines, check_splits, check_mapper, check_ranker)
    return [sentence for rule in rules for sentence in rule(material, plan)]


def list_distinct(item_ids: Iterable[str]) -> list[str]:
    """List items in their order, each once."""
    return list(dict.fromkeys(item_ids))


def check_retrieval(material: Material, plan: Plan) -> Iterator[str]:
    """Histories must go beyond the first k where the items behind these are asked for."""
    config, total = plan.configs["retrieval"], len(material.cases)
    allowed = min(config.max_rejected_fraction, plan.configs["preference"].max_rejected_fraction)
    too_short, left_out = total - len(list_retrieved(material, plan)), total - len(list_prompted(material, plan))
    if too_short > config.max_rejected_fraction * total or left_out > plan.configs["preference"].max_rejected_fraction * total:
        lengths = sorted(len(list_distinct(case["history"])) for case in material.cases)
        k = lengths[min(int(allowed * total), total - 1)] - 1
        yield (
            f"retrieval.strategy exp-ret takes what ranks beyond retrieval.k, {config.k}, but {too_short} of {total} histories are no longer; "
            f"set retrieval.{f'k={k}' if k else 'strategy=ret'}."
        )


def list_retrieved(material: Material, plan: Plan) -> Sequence[Case]:
    """List the cases that the stage retrieval does not reject."""
    config = plan.configs["retrieval"]
    k = config.k if config.strategy == "exp-ret" else 0
    return [case for case in material.cases if len(list_distinct(case["history"])) > k] if k else material.cases


def check_baselines(material: Material, plan: Plan) -> Iterator[str]:
    """What is given the retrieved items alone needs some, of nearly every case that is drawn; pmg_retrieved of users to learn from as well."""
    config, drawn = plan.configs["retrieval"], plan.configs["generation"].splits
    total, fed = (Counter(case["split"] for case in cases) for cases in (material.cases, list_retrieved(material, plan) if config.k else ()))
    num_drawn, num_fed = (sum(counts[split] for split in drawn) for counts in (total, fed))
    for stage, learned_from in (("ti", ()), ("pmg", ("train", "val"))):
        hungry = [f"no case of the split {split} has any" for split in learned_from if total[split] and not fed[split]]
        if num_drawn and (not num_fed or num_drawn - num_fed > plan.configs[stage].max_rejected_fraction * num_drawn):
            hungry = [f"{num_drawn - num_fed} of {num_drawn} drawn cases have none"]
        if hungry and f"{stage}_retrieved" in plan.methods:
            yield (
                f"{stage}_retrieved needs retrieved items, but {hungry[0]} (retrieval.k is {config.k}, retrieval.strategy {config.strategy}); "
                f"set retrieval.{'strategy=ret' if config.k else 'k=5'} or comparison.{stage}_retrieved=false."
            )


def list_prompted(material: Material, plan: Plan) -> Sequence[Case]:
    """List the cases that the stage preference does not reject: without any retrieved item of anybody, whole histories count."""
    config, retrieved = plan.configs["preference"], list_retrieved(material, plan)
    return retrieved if retrieved and {config.keywords_from, config.global_from} != {"all"} else material.cases


def check_splits(material: Material, plan: Plan) -> Iterator[str]:
    """Every split that a stage needs must have a user, also where only cases with a preference count."""
    scored, drawn = plan.configs["evaluation"].split, plan.configs["generation"].splits
    needs = list_needs(plan)
    found, prompted = (Counter(case["split"] for case in cases) for cases in (material.cases, list_prompted(material, plan)))
    for split in SPLITS:
        stages, readers = needs[split], [name for name in needs[split] if name in ("reflection", "generation")]
        if stages and not found[split]:
            total, cure = len(material.cases), advise(split, needs, plan)
            yield f"{join_names(stages)} a user of the split {split}, but none of the {total} is in it; {cure}"
        elif readers and not prompted[split]:
            yield (
                f"{join_names(readers)} a user of the split {split} with a history longer than retrieval.k, {plan.configs['retrieval'].k}; "
                "set retrieval.strategy=ret."
            )
    if plan.methods and scored not in drawn:
        yield f"evaluation.split is {scored}, but generation.splits is [{', '.join(drawn)}]; set generation.splits=[{','.join([*drawn, scored])}]."


def list_needs(plan: Plan) -> dict[str, list[str]]:
    """List which stages need which split."""
    asked = {"sd": plan.configs["sd"].lora_rank, "glide": plan.configs["glide"].tuning.num_steps, "pmg": plan.methods & {"pmg", "pmg_retrieved"}}
    trained = ["reflection", *(stage for stage, is_asked in asked.items() if is_asked)]
    needs = {"train": (["mapper"] if plan.configs["mapper"].prompt == "leave_one_out" else []) + trained, "val": trained, "test": []}
    scored = plan.configs["evaluation"].split
    drawing = ["generation"] if plan.methods - UNPROMPTED and scored in plan.configs["generation"].splits else []
    return needs | {scored: [*needs[scored], *drawing, "evaluation"]}


def join_names(stages: Sequence[str]) -> str:
    """Return `a needs`, or `a and b need`."""
    return f"{' and '.join(stages)} need{'s' if len(stages) == 1 else ''}"


def advise(split: str, needs: dict[str, list[str]], plan: Plan) -> str:
    """Say how a split gets a user."""
    shares = dict(zip(SPLITS, plan.shares, strict=False))
    if shares.get(split):
        return f"at least {sum(map(bool, needs.values()))} users are needed, one for each split."
    if not shares:
        return "the data set's own files say who is in it."
    for name in SPLITS:
        if needs[name] and not shares[name]:
            largest = max(shares, key=shares.__getitem__)
            shares[largest], shares[name] = round(shares[largest] - 0.1, 6), 0.1
    return f"set dataset.splits=[{','.join(map(str, shares.values()))}]."


def check_mapper(material: Material, plan: Plan) -> Iterator[str]:
    """The mapper needs two captions of what has been looked at: one to learn, one to hold out."""
    leaves_one_out = plan.configs["mapper"].prompt == "leave_one_out"
    everywhere = {material.digests[item_id] for case in material.cases for item_id in list_distinct(case["history"])}
    left_out = {
        material.digests[item_id]
        for case in material.cases
        if case["split"] == "train" and len(shown := list_distinct(case["history"])) > 1
        for item_id in shown
    }
    found = len(left_out if leaves_one_out else everywhere)
    if leaves_one_out and not any(case["split"] == "train" for case in material.cases):
        return  # check_splits says so
    if found < MIN_CAPTIONS:
        whose = "training users' histories of two items and more" if leaves_one_out else "the histories"
        cure = "set mapper.prompt=detailed" if leaves_one_out and len(everywhere) >= MIN_CAPTIONS else "add items"
        yield f"mapper needs {MIN_CAPTIONS} different pictures in {whose}, one to learn and one to hold out, but there are {found}; {cure}."


def check_ranker(material: Material, plan: Plan) -> Iterator[str]:
    """Somebody must have an item that they have seen and one that they have not."""
    config = plan.configs["ranker"]
    if can_draw(material, config):
        return
    changes = ({"negatives": "all"}, {"validation_items": 0}, {"negatives": "all", "validation_items": 0})
    cure = next((change for change in changes if can_draw(material, replace(config, **change))), None)
    what = "set " + " and ".join(f"ranker.{name}={value}" for name, value in cure.items()) if cure else "add items that not everybody has seen"
    yield (
        "ranker learns from an item that a user has seen and one that they have not, but every user has seen every item that may be drawn "
        f"(ranker.negatives {config.negatives}); {what}."
    )


def can_draw(material: Material, config: RankerConfig) -> bool:
    """Say whether a training pair can be drawn for some user (as pipeline/ranker/interactions.py draws them)."""
    seen: dict[str, set[str]] = {}
    for user_id, history in material.interactions.items():
        known = list_distinct(history)
        seen[user_id] = set(known[: len(known) - max(0, min(config.validation_items, len(known) - 1))])
    if config.include_reference:
        for case in material.cases:
            seen.setdefault(case["user_id"], set()).update(list_distinct([case["reference_id"]]))
    candidates = set().union(*seen.values()) if config.negatives == "interacted" else set(material.digests)
    return any(0 < len(items) < len(candidates) for items in seen.values())
