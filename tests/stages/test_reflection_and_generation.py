"""Reflection and generation from the command line, with tiny models. Run: `python -m pytest tests/stages/test_reflection_and_generation.py`."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from pipeline.artifacts import build_table, read_provenance, read_table, write_table
from pipeline.conditioning.conditioner import load_conditioner
from pipeline.conditioning.mapper import MapperShape, ModalMapper, save_mapper
from pipeline.cost import find_cost
from pipeline.data.images import decode_image, encode_png
from pipeline.generation.build import list_methods
from pipeline.json_files import read_json
from pipeline.models.look import LookMap, LookShape, save_look_map
from pipeline.ranker.micro import Micro
from pipeline.ranker.scoring import save_ranker
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, GENERATED, ITEMS, LOOKS, PREFERENCES, REJECTED, RETRIEVED, Table
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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_models(tmp_path_factory.mktemp("models"))


def save_models(folder: Path) -> dict[str, str]:
    """Save a tiny model of each kind; give the `models` block that names them."""
    clip = str(save_tiny_clip(folder / "clip"))
    return {
        "dtype": "float32",
        "language_model_dtype": "float32",
        "clip": clip,
        "visual": clip,
        "selection_clip": clip,
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
    from PIL import Image

    return encode_png(Image.fromarray(pixels))


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    return Project(tmp_path, models)


def test_reflection_writes_the_trained_conditioner_its_metrics_and_curves(project: Project) -> None:
    assert "6 rows in, 6 computed, 0 reused, 0 rejected" in project.reflect()
    metrics = read_json(project.root / "reflection" / "metrics.json")
    assert (metrics["num_steps"], metrics["train_cases"], metrics["validation_cases"]) == (3, 4, 2)
    assert set(metrics["before"]) == set(metrics["kept"]) == {"score", "reward", "rank"}
    curves = (project.root / "reflection" / "curves.csv").read_text().splitlines()
    assert len(curves) == 5  # header, the start, three steps
    assert curves[0].startswith("step,loss,loss_rank,loss_calibration,loss_semantic,grad,")
    _, facts = load_conditioner(project.root / "reflection" / "calibrator.safetensors")
    assert {"ranker", "diffusion", "language_model", "params", "seed"} <= set(facts)


def test_reflection_logs_every_step_to_dvclive(project: Project) -> None:
    project.reflect()
    live = project.root / "reflection" / "live"
    logged = {path.stem: path.read_text().splitlines() for path in (live / "plots" / "metrics").glob("*.tsv")}
    columns = (project.root / "reflection" / "curves.csv").read_text().splitlines()[0].split(",")
    assert set(logged) == {*columns} - {"step"}
    assert [line.split("\t")[0] for line in logged["grad_rank"]] == ["step", "1", "2", "3"]
    assert [line.split("\t")[0] for line in logged["validation_score"]] == ["step", "0", "2", "3"]
    assert read_json(live / "metrics.json")["step"] == 3
    assert not (project.root / "dvc.yaml").exists()


def test_reflection_gives_the_same_bytes_again_with_and_without_its_ledger(project: Project) -> None:
    project.reflect()
    first = project.hash_outs("reflection")
    project.reflect()
    assert project.hash_outs("reflection") == first
    shutil.rmtree(project.root / ".work")
    project.reflect()
    assert project.hash_outs("reflection") == first


def test_an_ablation_without_retrieval_needs_no_common_space(project: Project) -> None:
    write_table(project.root / "retrieved.parquet", build_table([], RETRIEVED), RETRIEVED, provenance={})
    project.params["reflection"]["num_perturbations"] = 0
    project.reflect()
    last = (project.root / "reflection" / "curves.csv").read_text().splitlines()[-1].split(",")
    assert last[2:4] == ["", ""]  # neither rank nor calibration loss
    assert float(last[4]) > 0


def test_every_method_draws_every_test_case_or_says_why_not(project: Project) -> None:
    project.reflect()
    calibrator = "reflection/calibrator.safetensors"
    for method in ("original", "truth", "sd", "keywords", "retrieved", "global", "ragar"):
        project.generate(method, calibrator=calibrator)
        table = read_table(project.root / method / "generated.parquet", GENERATED)
        rejected = read_table(project.root / method / "rejected.parquet", REJECTED).to_pylist()
        assert sorted(table["case_id"].to_pylist() + [row["row_key"] for row in rejected]) == CASE_IDS[6:]
        assert set(table["method"].to_pylist()) == {method}
        assert all(decode_image(image["bytes"]).size == (16, 16) for image in table["image"].to_pylist())
        assert [row["row_key"] for row in rejected] == (["c09"] if method == "truth" else [])
        first = project.hash_outs(method)
        assert "0 computed" in project.generate(method, calibrator=calibrator)
        assert project.hash_outs(method) == first
    images = {m: read_table(project.root / m / "generated.parquet", GENERATED)["image"].to_pylist() for m in ("sd", "global", "ragar")}
    assert images["sd"] != images["global"] != images["ragar"]


def test_methods_without_language_model_neither_load_it_nor_depend_on_it(project: Project) -> None:
    project.generate("sd")
    first = project.hash_outs("sd")
    project.params["models"]["language_model"] = str(project.root / "missing")
    assert "0 computed" in project.generate("sd")
    assert project.hash_outs("sd") == first
    project.generate("global")
    facts = read_provenance(project.root / "global" / "generated.parquet")
    assert facts["method"] == "global"
    assert facts["identity"]["steps"] == 2
    assert "language_model" not in facts["identity"]


def test_a_method_that_needs_the_calibrator_says_so(project: Project) -> None:
    assert "needs --calibrator" in project.generate("ragar", fails=True)


def test_an_unknown_method_is_named_with_the_choices(project: Project) -> None:
    assert "global, ip_adapter, keywords, original, pmg, pmg_retrieved, ragar, retrieved, sd, ti, ti_retrieved, truth" in project.generate(
        "dall-e", fails=True
    )


def test_too_many_rejected_cases_end_in_one_clear_error(project: Project) -> None:
    project.params["generation"]["max_rejected_fraction"] = 0.1
    assert "1 of 4 rows were rejected" in project.generate("truth", fails=True)


def test_a_data_set_without_truths_draws_none_and_goes_on(project: Project) -> None:
    project.params["generation"]["max_rejected_fraction"] = 0.1
    path = project.root / "cases.parquet"
    cases = read_table(path, CASES).to_pylist()
    write_table(path, [{**case, "truth_id": None} for case in cases], CASES, provenance={})
    project.generate("truth")
    assert read_table(project.root / "truth" / "rejected.parquet", REJECTED).num_rows == 4
    assert read_table(project.root / "truth" / "generated.parquet", GENERATED).num_rows == 0


def write_looks(project: Project, *, sign: float = 1.0, case_ids: list[str] = CASE_IDS) -> None:
    """Write look tokens for cases, and the map that knows the tokens of no look."""
    torch.manual_seed(0)
    shape = LookShape(visual_dim=CLIP_DIM, text_dim=TOKEN_DIM, width=4, num_tokens=2, token_dim=TOKEN_DIM)
    save_look_map(project.root / "look" / "model.safetensors", LookMap(shape))
    project.params["models"]["look"] = str(project.root / "look")
    tokens = torch.linspace(-2, 2, 2 * TOKEN_DIM).numpy() * sign
    project.write_table(LOOKS, [{"case_id": case_id, "item_ids": ["i00"], "weights": [1.0], "tokens": tokens} for case_id in case_ids])


def draw_ragar(project: Project, **paths: str) -> dict[str, bytes]:
    project.generate("ragar", calibrator="reflection/calibrator.safetensors", **paths)
    table = read_table(project.root / "ragar" / "generated.parquet", GENERATED)
    return {row["case_id"]: row["image"]["bytes"] for row in table.to_pylist()}


def test_look_tokens_move_ragars_images_and_an_empty_table_of_them_none(project: Project) -> None:
    project.reflect()
    plain = draw_ragar(project)
    write_table(project.root / "none.parquet", LOOKS.build_empty(), LOOKS, provenance={})
    assert draw_ragar(project, looks="none.parquet") == plain
    assert "look" not in read_provenance(project.root / "ragar" / "generated.parquet")["identity"]
    write_looks(project)
    first = draw_ragar(project, looks="looks.parquet")
    assert all(first[case_id] != plain[case_id] for case_id in plain)
    identity = read_provenance(project.root / "ragar" / "generated.parquet")["identity"]
    assert (identity["look"][:5], identity["look_scale"]) == ("look-", project.params["generation"]["look_scale"])
    write_looks(project, sign=-1.0)
    other = draw_ragar(project, looks="looks.parquet")
    assert all(other[case_id] != first[case_id] for case_id in first)


def test_a_case_without_a_look_is_drawn_with_the_tokens_that_say_nothing(project: Project) -> None:
    project.reflect()
    write_looks(project, case_ids=CASE_IDS[:8])
    some = draw_ragar(project, looks="looks.parquet")
    project.params["generation"]["look_scale"] = 0.0
    unmoved = draw_ragar(project, looks="looks.parquet")
    assert {case_id for case_id in some if some[case_id] == unmoved[case_id]} == {"c08", "c09"}


def test_ip_adapter_draws_from_the_stages_own_files(project: Project) -> None:
    write_looks(project)
    project.generate("ip_adapter", embeddings="embeddings.parquet")
    table = read_table(project.root / "ip_adapter" / "generated.parquet", GENERATED)
    assert table["case_id"].to_pylist() == CASE_IDS[6:]
    assert find_cost(project.root / "ip_adapter" / "generated.parquet")["seconds_per_row"] > 0
    assert "0 computed" in project.generate("ip_adapter", embeddings="embeddings.parquet")
    project.generate("sd")
    assert table["image"].to_pylist() != read_table(project.root / "sd" / "generated.parquet", GENERATED)["image"].to_pylist()


@pytest.mark.parametrize("method", ["sd", "ip_adapter", "ragar"])
def test_another_picture_of_the_reference_moves_what_is_drawn_over_it_and_nothing_else(project: Project, method: str) -> None:
    project.reflect()
    write_looks(project)
    drawn: dict[str, list[dict[str, bytes]]] = {"noise": [], "reference": []}
    for start, images in drawn.items():
        for shade in (None, 200):
            if shade is not None:
                repaint(project, "i06", shade)
            project.params["generation"] |= {"start": start, "strength": 0.5}
            project.generate(method, calibrator="reflection/calibrator.safetensors", embeddings="embeddings.parquet", looks="looks.parquet")
            rows = read_table(project.root / method / "generated.parquet", GENERATED).to_pylist()
            images.append({row["case_id"]: row["image"]["bytes"] for row in rows})
        project.write_tables()
        write_looks(project)
    assert drawn["noise"][0] == drawn["noise"][1]
    before, after = drawn["reference"]
    assert {case_id for case_id in before if before[case_id] != after[case_id]} == {"c06"}
    assert not any(drawn["noise"][0][case_id] == image for case_id, image in before.items())


def repaint(project: Project, item_id: str, shade: int) -> None:
    """Give an item another picture, of one colour on the left."""
    rows = read_table(project.root / "items.parquet", ITEMS).to_pylist()
    pixels = np.full((16, 16, 3), shade, dtype=np.uint8)
    pixels[:, 8:] = 0
    row = next(row for row in rows if row["item_id"] == item_id)
    row |= {"image": {"bytes": make_png(pixels), "path": None}, "image_sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}
    project.write_table(ITEMS, rows)


def test_reflection_with_look_tokens_trains_their_balance_and_ragar_draws_with_it(project: Project) -> None:
    write_looks(project)
    rows = read_table(project.root / "looks.parquet", LOOKS).to_pylist()
    generator = torch.Generator().manual_seed(4)
    project.write_table(LOOKS, [{**row, "tokens": torch.randn(2 * TOKEN_DIM, generator=generator).numpy()} for row in rows])
    project.params["reflection"] |= {"look_directions": 2, "num_perturbations": 4}
    project.reflect(looks="looks.parquet")
    conditioner, facts = load_conditioner(project.root / "reflection" / "calibrator.safetensors")
    assert conditioner.look.direction_PMD.shape == (2, 2, TOKEN_DIM)
    assert conditioner.look.read.weight.abs().max() > 0
    assert facts["look"].startswith("look-")
    last = (project.root / "reflection" / "curves.csv").read_text().splitlines()[-1].split(",")
    assert all(float(norm) > 0 for norm in last[6:9])  # of all three losses
    trained = draw_ragar(project, looks="looks.parquet")
    project.params["reflection"]["num_steps"] = 0
    project.reflect(looks="looks.parquet")
    assert all(image != trained[case_id] for case_id, image in draw_ragar(project, looks="looks.parquet").items())
    first = project.hash_outs("reflection")
    project.reflect(looks="looks.parquet")
    assert project.hash_outs("reflection") == first
