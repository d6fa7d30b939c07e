"""A finished run as `make draw` needs it: where its files are, its tables, its params, and whether it is finished and of these params.

Where files are is written in dvc.yaml and read from there: the options of the stages' commands.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.artifacts import read_provenance, read_table
from pipeline.captioning import CaptioningConfig
from pipeline.draw.requests import Defaults, Start
from pipeline.embedding import EmbeddingConfig
from pipeline.fingerprint import compute_fingerprint
from pipeline.generation.config import GenerationConfig
from pipeline.keywords.preference import PreferenceConfig
from pipeline.params import load_params, load_seed, read_section
from pipeline.retrieval.config import RetrievalConfig
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, KEYWORDS, LABELS, LOOKS, PREFERENCES, RETRIEVED, Table
from pipeline.table_images import ImageColumn
from pipeline.yaml_files import read_yaml_mapping

if TYPE_CHECKING:
    from pipeline.evaluation.run import RankerPaths

ITEM_COLUMNS = ["image_sha256", "text", "category"]
FINISH = "finish a run with these params first (`make repro`, or `make exp`)"


def read_options(definition: dict[str, Any], **names: str) -> dict[str, Path]:
    """Return the paths that a stage's command is given, by option without dashes; `names` stand for ${...} in it."""
    command = definition["cmd"]
    for name, value in names.items():
        command = command.replace(f"${{{name.replace('_', '.')}}}", value)
    words = shlex.split(command)
    return {
        word.removeprefix("--").replace("-", "_"): Path(value)
        for word, value in itertools.pairwise(words)
        if word.startswith("--") and not value.startswith("-")
    }


@dataclass
class FinishedRun:
    """The files of the run in `root`, which is the repository's folder or a copy of it; tables are read when they are first needed."""

    root: Path = Path()

    @cached_property
    def _stages(self) -> dict[str, Any]:
        return read_yaml_mapping(self.root / "dvc.yaml")["stages"]

    def locate(self, stage: str, option: str) -> Path:
        """Return the path that a stage's command is given as `--option`."""
        return self.root / read_options(self._stages[stage])[option]

    def list_method_files(self, method: str) -> dict[str, Path]:
        """Return the files that the generation of a method is given, by option."""
        stage = self._stages["generation"]
        options = read_options(stage["do"], key=method, item_arguments=stage["foreach"][method]["arguments"])
        return {name: self.root / path for name, path in options.items() if name not in ("method", "out", "m")}

    def locate_generated(self, method: str) -> Path:
        """Return the table of the images that the run drew by a method."""
        stage = self._stages["generation"]
        return self.root / read_options(stage["do"], key=method, item_arguments="")["out"] / "generated.parquet"

    def list_out_folders(self) -> list[Path]:
        """Return the folders that stages write to."""
        definitions = [stage.get("do", stage) for stage in self._stages.values()]
        outs = [out for definition in definitions for out in definition["outs"]]
        return sorted({(self.root / out.split("${")[0]).resolve() if "${" in out else (self.root / out).resolve().parent for out in outs})

    def list_methods(self) -> list[str]:
        """Return the methods that have a stage."""
        return sorted(self._stages["generation"]["foreach"])

    def build_defaults(self, method: str = "ragar", *, seed: int = -1, num_candidates: int = 1) -> Defaults:
        """Return what counts where a request does not say it: what the run does itself; a seed below 0 is the run's own."""
        config, methods = self.generation, self.list_methods()
        own = self.seed if seed < 0 else seed
        return Defaults(method, own, num_candidates, methods, k=self.retrieval.k, start=config.start, strength=config.strength)

    @property
    def params(self) -> Path:
        """The params of the run."""
        return self.root / "params.yaml"

    @cached_property
    def seed(self) -> int:
        """The run's seed."""
        return load_seed(self.params)

    @cached_property
    def retrieval(self) -> RetrievalConfig:
        """How the run retrieves."""
        return load_params(self.params, "retrieval", RetrievalConfig)

    @cached_property
    def generation(self) -> GenerationConfig:
        """How the run draws."""
        return load_params(self.params, "generation", GenerationConfig)

    @property
    def start(self) -> Start:
        """What the run's pictures begin with."""
        return self.build_defaults().own_start

    @cached_property
    def preference(self) -> PreferenceConfig:
        """How the run makes preferences of keywords."""
        return load_params(self.params, "preference", PreferenceConfig)

    @cached_property
    def captioning(self) -> CaptioningConfig:
        """How the run captions."""
        return load_params(self.params, "captioning", CaptioningConfig)

    @cached_property
    def embedding(self) -> EmbeddingConfig:
        """How the run embeds."""
        return load_params(self.params, "embedding", EmbeddingConfig)

    @cached_property
    def items(self) -> pa.Table:
        """The catalogue without its images."""
        return self._read("evaluation", "items", ITEMS, columns=ITEM_COLUMNS)

    @cached_property
    def images(self) -> ImageColumn:
        """The catalogue's images."""
        return ImageColumn(self.locate("evaluation", "items"))

    @cached_property
    def cases(self) -> pa.Table:
        """All cases."""
        return self._read("evaluation", "cases", CASES)

    @cached_property
    def interactions(self) -> Path:
        """The table of interactions."""
        return self.locate("ranker", "interactions")

    @cached_property
    def labels(self) -> pa.Table:
        """What the data set knows of its items, if it does."""
        return self._read("evaluation", "labels", LABELS)

    @cached_property
    def captions(self) -> pa.Table:
        """The items' captions."""
        return self._read("evaluation", "captions", CAPTIONS)

    @cached_property
    def embeddings(self) -> pa.Table:
        """The items' vectors."""
        return self._read("evaluation", "embeddings", EMBEDDINGS)

    @cached_property
    def keywords(self) -> pa.Table:
        """The items' keywords."""
        return self._read("preference", "keywords", KEYWORDS)

    @cached_property
    def retrieved(self) -> pa.Table:
        """What was retrieved for every case."""
        return self._read("evaluation", "retrieved", RETRIEVED)

    @cached_property
    def preferences(self) -> pa.Table:
        """Keywords and prompts of every case."""
        return self._read("report", "preferences", PREFERENCES)

    @cached_property
    def looks(self) -> pa.Table:
        """Look tokens of every case; empty in a run without them."""
        path = self.list_method_files("ragar")["looks"]
        return read_table(path, LOOKS) if path.is_file() else LOOKS.build_empty()

    @cached_property
    def rankers(self) -> RankerPaths:
        """The ranker that was the reward, and the evaluation ranker, which was none."""
        from pipeline.evaluation.run import RankerPaths  # late: it loads torch

        return RankerPaths(self.locate("evaluation", "ranker"), self.locate("evaluation", "ranker_check"))

    def check(self) -> None:
        """Raise ValueError if there is no finished run here, or if params.yaml is not what it was made with."""
        if not (self.root / "dvc.yaml").is_file():
            raise ValueError(f"{self.root.resolve()} holds no dvc.yaml; run this in the repository's root.")
        for config, section, path in (
            (read_section(self.params, "dataset"), "dataset", self.locate("evaluation", "cases")),
            (self.captioning, "captioning", self.locate("evaluation", "captions")),
            (self.embedding, "embedding", self.locate("evaluation", "embeddings")),
            (self.retrieval, "retrieval", self.locate("evaluation", "retrieved")),
            (self.preference.describe(), "preference", self.locate("report", "preferences")),
        ):
            if not path.is_file():
                raise ValueError(f"{path} does not exist; {FINISH}.")
            if read_provenance(path).get("params") != compute_fingerprint(config):
                raise ValueError(f"{self.params}: the block `{section}` is not what {path} was made with; {FINISH}.")

    def check_identity(self, method: str, identity: object) -> None:
        """Raise ValueError if the run drew its images by a method with other models or params than those at hand."""
        path = self.locate_generated(method)
        known, at_hand = (json.dumps(value, sort_keys=True, default=str) for value in (read_provenance(path).get("identity"), identity))
        if known != at_hand:
            raise ValueError(f"{path} was drawn with other params or models than those of {self.params}; {FINISH}.")

    def _read(self, stage: str, option: str, table: Table, *, columns: Sequence[str] | None = None) -> pa.Table:
        return read_table(self.locate(stage, option), table, columns=columns)
