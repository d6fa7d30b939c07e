"""The tables of the pipeline: columns, types and keys of every Parquet file. Read this page first.

Images live inside the tables as `struct<bytes, path>` (the image feature of Hugging Face `datasets`), vectors as
`fixed_size_list<float32>[d]` whose length d is the encoder's and is therefore not fixed here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

SCHEMA_VERSION = "1"

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
STRINGS = pa.list_(pa.string())
VECTOR = "vector"  # stands for fixed_size_list<float16|float32>[d], any d


@dataclass(frozen=True)
class Table:
    """One kind of table: `columns` maps a name to its type, `key` names the columns that it is sorted by and unique in."""

    name: str
    columns: dict[str, pa.DataType | str]
    key: tuple[str, ...]
    nullable: tuple[str, ...] = ()
    open_metrics: bool = False  # further float64 columns are allowed (one per metric)

    def build_schema(self, dims: dict[str, int] | None = None) -> pa.Schema:
        """Build the Arrow schema; `dims` gives the length of every vector column."""
        fields = []
        for name, kind in self.columns.items():
            dtype = pa.list_(pa.float32(), (dims or {})[name]) if kind == VECTOR else kind
            fields.append(pa.field(name, dtype, nullable=name in self.nullable))
        return pa.schema(fields)

    def build_empty(self) -> pa.Table:
        """Build a table without rows, for a stage that has nothing to do; its vectors have length 1."""
        return self.build_schema({name: 1 for name, kind in self.columns.items() if kind == VECTOR}).empty_table()


ITEMS = Table(
    "items",
    {
        "item_id": pa.string(),
        "image": IMAGE,
        "text": pa.string(),
        "category": pa.string(),
        "image_sha256": pa.string(),
    },
    key=("item_id",),
)
INTERACTIONS = Table(
    "interactions",
    {"user_id": pa.string(), "item_id": pa.string(), "position": pa.int32()},
    key=("user_id", "position"),
)
CASES = Table(
    "cases",
    {
        "case_id": pa.string(),
        "user_id": pa.string(),
        "split": pa.string(),  # train | val | test
        "history": STRINGS,  # oldest first
        "reference_id": pa.string(),
        "truth_id": pa.string(),  # the item that the user really wanted to see, where the data set knows it
    },
    key=("case_id",),
    nullable=("truth_id",),
)
LABELS = Table(
    "labels",
    {"item_id": pa.string(), "style": pa.string(), "concept": pa.string()},
    key=("item_id",),
)
CAPTIONS = Table("captions", {"item_id": pa.string(), "caption": pa.string()}, key=("item_id",))
EMBEDDINGS = Table(
    "embeddings",
    {"item_id": pa.string(), "semantic": VECTOR, "visual": VECTOR, "clip_image": VECTOR},
    key=("item_id",),
)
RETRIEVED = Table(
    "retrieved",
    {
        "case_id": pa.string(),
        "rank": pa.int32(),  # 0 = most similar
        "item_id": pa.string(),
        "similarity": pa.float32(),  # cosine
        "weight": pa.float32(),  # of eq. 5; a case's weights sum to 1
    },
    key=("case_id", "rank"),
)
KEYWORDS = Table("keywords", {"item_id": pa.string(), "keywords": STRINGS}, key=("item_id",))
PREFERENCES = Table(
    "preferences",
    {
        "case_id": pa.string(),
        "keywords": STRINGS,  # w', most frequent first
        "counts": pa.list_(pa.float32()),  # items (or weight) that hold the keyword
        "keyword_prompt": pa.string(),  # the reference's text and the whole history's keywords, to compare with
        "retrieved_prompt": pa.string(),  # the reference's text and w', to compare with
        "global_prompt": pa.string(),  # text of E^g
        "detailed_prompt": pa.string(),  # p_g without the [IMG] tokens
    },
    key=("case_id",),
)
LOOKS = Table(  # empty where preference.visual_tokens is 0
    "looks",
    {
        "case_id": pa.string(),
        "item_ids": STRINGS,  # history items whose look counts, the most first
        "weights": pa.list_(pa.float32()),  # of them; they sum to 1
        "tokens": VECTOR,  # look tokens, one behind the other
    },
    key=("case_id",),
)
PSEUDO_WORDS = Table(
    "pseudo_words",
    {
        "user_id": pa.string(),
        "vectors": VECTOR,  # rows of the text encoder's embedding table, one behind the other
        "held_out_loss_before": pa.float64(),  # on images that were not trained on, at the initial word
        "held_out_loss": pa.float64(),
    },
    key=("user_id",),
    nullable=("held_out_loss_before", "held_out_loss"),
)
CASE_PSEUDO_WORDS = replace(  # the same, each learned from a case's retrieved items alone
    PSEUDO_WORDS,
    name="case_pseudo_words",
    columns={"case_id" if name == "user_id" else name: kind for name, kind in PSEUDO_WORDS.columns.items()},
    key=("case_id",),
)
PMG_PREFERENCES = Table(
    "pmg_preferences",
    {
        "case_id": pa.string(),
        "preference_keywords": STRINGS,  # of the user's taste, by the language model
        "target_keywords": STRINGS,  # of the reference
        "soft": VECTOR,  # soft preference embeddings, one behind the other; a single zero where none are used
    },
    key=("case_id",),
)
GENERATED = Table(
    "generated",
    {"method": pa.string(), "case_id": pa.string(), "image": IMAGE},
    key=("method", "case_id"),
)
SCORES = Table(
    "scores",
    {"method": pa.string(), "case_id": pa.string(), "user_id": pa.string()},
    key=("method", "case_id"),
    open_metrics=True,
)
REJECTED = Table(
    "rejected",
    {"stage": pa.string(), "row_key": pa.string(), "reason": pa.string()},
    key=("stage", "row_key"),
)
