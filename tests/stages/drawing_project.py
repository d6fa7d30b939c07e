"""A folder with all that reflection, the baselines and generation start from, and tiny models, in which they run as from a shell."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from pipeline.artifacts import build_table, read_table, write_table
from pipeline.conditioning.mapper import MapperShape, ModalMapper, save_mapper
from pipeline.data.images import encode_png
from pipeline.generation.build import list_methods
from pipeline.models.look import LookMap, LookShape, save_look_map
from pipeline.ranker.micro import Micro
from pipeline.ranker.scoring import save_ranker
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, LOOKS, PREFERENCES, RETRIEVED, Table
from stages import generation, reflection
from tests import configs
from tests.tiny_encoders import CLIP_DIM, save_tiny_clip
from tests.tiny_models import LLM_DIM, NUM_TOKENS, TOKEN_DIM, save_tiny_qwen2, save_tiny_stable_diffusion

ITEM_IDS = [f"i{index:02d}" for index in range(12)]
CASE_IDS = [f"c{index:02d}" for index in range(10)]
SPLITS = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
REFLECTION = replace(
    configs.REFLECTION,
    num_steps=3,
    num_perturbations=2,
    retrieved_feature="visual",
    reward_steps=2,
    reward_guidance=3.0,
    draw_batch=8,
    validation_cases=2,
    keep="last",
)


def save_models(folder: Path) -> dict[str, str]:
    """Save a tiny model of each kind; give the `models` block that names them."""
    clip = str(save_tiny_clip(folder / "clip"))
    return {
        "dtype": "float32",
        "language_model_dtype": "float32",
        "clip": clip,
        "visual": clip,
        "selection_clip": clip,
        "ip_adapter": None,
        "diffusion": str(save_tiny_stable_diffusion(folder / "sd")),
        "language_model": str(save_tiny_qwen2(folder / "qwen2")),
    }


class Project:
    """A folder with params, and the tables and checkpoints that both stages start from."""

    def __init__(self, root: Path, models: dict[str, str]) -> None:
        self.root = root
        self.params: dict[str, Any] = {
            "comparison": dict.fromkeys(list_methods(), True),
            "seed": 3,
            "models": dict(models),
            "runtime": asdict(configs.RUNTIME),
            "mapper": {"states_batch_size": 4},
            "calibrator": asdict(configs.CALIBRATOR),
            "reflection": asdict(REFLECTION),
            "sd": asdict(configs.SD),
            "pmg": asdict(configs.PMG),
            "generation": asdict(replace(configs.GENERATION, steps=2, guidance_scale=3.0)),
        }
        self.write_tables()
        self.write_checkpoints()

    def write_tables(self) -> None:
        """Write items, cases and what earlier stages make of them."""
        generator = torch.Generator().manual_seed(0)
        vectors = torch.nn.functional.normalize(torch.randn(len(ITEM_IDS), CLIP_DIM, generator=generator), dim=1).numpy()
        images = torch.randint(0, 256, (len(ITEM_IDS), 16, 16, 3), generator=generator, dtype=torch.uint8).numpy()
        rows: list[tuple[Table, list[dict[str, Any]]]] = [
            (
                ITEMS,
                [
                    {
                        "item_id": item_id,
                        "image": {"bytes": make_png(image), "path": None},
                        "text": f"thing {item_id}",
                        "category": "",
                        "image_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
                    }
                    for item_id, image in zip(ITEM_IDS, images, strict=True)
                ],
            ),
            (CAPTIONS, [{"item_id": item_id, "caption": f"a {item_id}"} for item_id in ITEM_IDS]),
            (
                EMBEDDINGS,
                [
                    {"item_id": item_id, "semantic": vector, "visual": vector, "clip_image": vector}
                    for item_id, vector in zip(ITEM_IDS, vectors, strict=True)
                ],
            ),
            (
                CASES,
                [
                    {
                        "case_id": case_id,
                        "user_id": f"u{case_id}",
                        "split": split,
                        "history": ITEM_IDS[:3],
                        "reference_id": ITEM_IDS[index],
                        "truth_id": None if index == 9 else ITEM_IDS[index + 1],
                    }
                    for index, (case_id, split) in enumerate(zip(CASE_IDS, SPLITS, strict=True))
                ],
            ),
            (
                PREFERENCES,
                [
                    {
                        "case_id": case_id,
                        "keywords": ["red"],
                        "counts": [2.0],
                        "keyword_prompt": f"{case_id}, red",
                        "retrieved_prompt": f"{case_id}, red",
                        "global_prompt": f"{case_id}, red",
                        "detailed_prompt": f"red {case_id}:",
                    }
                    for case_id in CASE_IDS
                ],
            ),
            (
                RETRIEVED,
                [
                    {"case_id": case_id, "rank": rank, "item_id": ITEM_IDS[rank], "similarity": 0.5, "weight": 0.5}
                    for case_id in CASE_IDS
                    for rank in range(2)
                ],
            ),
        ]
        for table, table_rows in rows:
            dims = dict.fromkeys(("semantic", "visual", "clip_image"), CLIP_DIM) if table is EMBEDDINGS else None
            write_table(self.root / f"{table.name}.parquet", build_table(table_rows, table, dims=dims), table, provenance={})
        self.features = {"image": torch.from_numpy(vectors), "text": torch.from_numpy(vectors)}

    def write_table(self, table: Table, rows: list[dict[str, Any]]) -> None:
        """Write another table."""
        write_table(self.root / f"{table.name}.parquet", rows, table, provenance={})

    def limit_cases(self, case_ids: set[str]) -> None:
        """Keep these cases only."""
        kept = [case for case in read_table(self.root / "cases.parquet", CASES).to_pylist() if case["case_id"] in case_ids]
        self.write_table(CASES, kept)

    def write_checkpoints(self) -> None:
        """Write an untrained ranker and mapper."""
        generator = torch.Generator().manual_seed(1)
        pairs = torch.stack([torch.arange(len(CASE_IDS)).repeat_interleave(3), torch.arange(3).repeat(len(CASE_IDS))], dim=1)
        config = replace(configs.RANKER, num_neighbors=4)
        model = Micro(self.features, pairs, num_users=len(CASE_IDS), config=config, generator=generator)
        users = [f"u{case_id}" for case_id in CASE_IDS]
        save_ranker(self.root / "ranker.safetensors", model, self.features, user_ids=users, item_ids=ITEM_IDS, image_feature="visual")
        shape = MapperShape(
            d_model=16, num_layers=1, num_heads=2, ffn_dim=16, input_dim=LLM_DIM, num_img_tokens=3, num_tokens=NUM_TOKENS, token_dim=TOKEN_DIM
        )
        vectors_LD = torch.randn(3, LLM_DIM, generator=generator)
        facts = {"prompt_format": {"prompt_style": "few_shot", "max_text_tokens": 6}}
        save_mapper(self.root / "mapper.safetensors", ModalMapper(shape, generator=generator), vectors_LD, facts)

    def run(self, stage: Any, *, fails: bool = False, method: str = "", **paths: str) -> str:
        """Run one stage's command and return what it printed, or its error's sentence."""
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        arguments = ["--params", str(self.root / "params.yaml"), *(["--method", method] if method else [])]
        for name, path in paths.items():
            arguments += [f"--{name.replace('_', '-')}", str(self.root / path)]
        result = CliRunner().invoke(stage.app, arguments)
        if fails:
            assert isinstance(result.exception, ValueError)
            return str(result.exception)
        if result.exception:
            raise result.exception
        return result.stdout

    def reflect(self, looks: str = "") -> str:
        """Run the stage reflection, with a table of looks or an empty one."""
        names = ("cases", "preferences", "captions", "embeddings", "retrieved")
        tables = {name: f"{name}.parquet" for name in (*names, "items")}
        if not looks:
            looks = "no_looks.parquet"
            write_table(self.root / looks, LOOKS.build_empty(), LOOKS, provenance={})
        return self.run(reflection, **tables, looks=looks, ranker="ranker.safetensors", mapper="mapper.safetensors", out="reflection")

    def generate(self, method: str, **more: Any) -> str:
        """Run the stage generation."""
        tables = {name: f"{name}.parquet" for name in ("cases", "items", "captions", "preferences")}
        return self.run(generation, method=method, **tables, **more, out=method)

    def hash_outs(self, folder: str) -> dict[str, str]:
        """Return the sha256 of every out."""
        paths = [path for path in sorted((self.root / folder).rglob("*")) if path.is_file()]
        return {path.relative_to(self.root / folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def make_png(pixels: Any) -> bytes:
    return encode_png(Image.fromarray(pixels))


def write_looks(project: Project, *, sign: float = 1.0, case_ids: list[str] = CASE_IDS) -> None:
    """Write look tokens for cases, and the map that knows the tokens of no look."""
    torch.manual_seed(0)
    shape = LookShape(visual_dim=CLIP_DIM, text_dim=TOKEN_DIM, width=4, num_tokens=2, token_dim=TOKEN_DIM)
    save_look_map(project.root / "look" / "model.safetensors", LookMap(shape))
    project.params["models"]["look"] = str(project.root / "look")
    tokens = torch.linspace(-2, 2, 2 * TOKEN_DIM).numpy() * sign
    project.write_table(LOOKS, [{"case_id": case_id, "item_ids": ["i00"], "weights": [1.0], "tokens": tokens} for case_id in case_ids])


def repaint(project: Project, item_id: str, shade: int) -> None:
    """Give an item another picture, of one colour on the left."""
    rows = read_table(project.root / "items.parquet", ITEMS).to_pylist()
    pixels = np.full((16, 16, 3), shade, dtype=np.uint8)
    pixels[:, 8:] = 0
    row = next(row for row in rows if row["item_id"] == item_id)
    row |= {"image": {"bytes": make_png(pixels), "path": None}, "image_sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}
    project.write_table(ITEMS, rows)
