"""Reflection and generation with look tokens and starts, from the command line. Run: `python -m pytest tests/stages/test_looks_drawn.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.artifacts import read_provenance, read_table, write_table
from pipeline.conditioning.conditioner import load_conditioner
from pipeline.cost import find_cost
from pipeline.schemas import GENERATED, LABELS, LOOKS
from tests.stages.drawing_project import CASE_IDS, ITEM_IDS, Project, repaint, write_looks
from tests.tiny_models import TOKEN_DIM, save_tiny_ip_adapter


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    return Project(tmp_path, models)


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


def test_an_official_ip_adapter_takes_the_place_of_look_tokens_where_one_is_named(project: Project, tmp_path: Path) -> None:
    write_looks(project)
    labels = [{"item_id": item_id, "style": "neon" if place % 2 else "sepia", "concept": item_id} for place, item_id in enumerate(ITEM_IDS)]
    project.write_table(LABELS, labels)
    drawn: dict[tuple[str, object], list[bytes]] = {}
    for adapter in (None, str(save_tiny_ip_adapter(tmp_path / "adapter", Path(project.params["models"]["diffusion"])))):
        project.params["models"]["ip_adapter"] = adapter
        for method in ("ip_adapter", "oracle"):
            for scale in (0.3, 0.9):
                project.params["generation"]["ip_adapter_scale"] = scale
                project.generate(method, embeddings="embeddings.parquet", labels="labels.parquet")
                rows = read_table(project.root / method / "generated.parquet", GENERATED).to_pylist()
                drawn[method, (adapter, scale)] = [row["image"]["bytes"] for row in rows]
            assert "0 computed" in project.generate(method, embeddings="embeddings.parquet", labels="labels.parquet")
        assert (drawn["ip_adapter", (adapter, 0.3)] == drawn["ip_adapter", (adapter, 0.9)]) == (adapter is None)  # the weight is the adapter's
    assert len({image for images in drawn.values() for image in images}) == 3 * (4 + 3)  # look tokens, and two weights; the oracle knows three truths
    assert read_provenance(project.root / "ip_adapter" / "generated.parquet")["identity"]["ip_adapter_scale"] == 0.9


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
