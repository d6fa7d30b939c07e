"""The model profiles in conf/models. Run: `python -m pytest tests/pipeline/models/test_profiles.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.baselines.glide.config import GlideConfig
from pipeline.baselines.lavit.config import LavitConfig
from pipeline.baselines.pmg.config import PmgConfig, RetrievedPmgConfig, SelectionConfig
from pipeline.baselines.sd.config import StableDiffusionConfig
from pipeline.baselines.ti.config import RetrievedInversionConfig, TextualInversionConfig
from pipeline.compose import compose_params
from pipeline.models.encoders import build_clip_request
from pipeline.models.folders import PREFIX, find_recipe
from pipeline.models.references import DTYPES, read_reference
from pipeline.params import load_params
from pipeline.yaml_files import read_yaml_mapping

BASELINES = {
    "sd": StableDiffusionConfig,
    "ti": TextualInversionConfig,
    "ti_retrieved": RetrievedInversionConfig,
    "pmg": PmgConfig,
    "pmg.selection": SelectionConfig,
    "pmg_retrieved": RetrievedPmgConfig,
    "glide": GlideConfig,
    "lavit": LavitConfig,
}
CONF = Path(__file__).resolve().parents[3] / "conf" / "models"


def read_profile(name: str) -> dict[str, Any]:
    """Give the block of an option, on top of the one that it starts from."""
    option = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    base = [other for other in option.get("defaults", []) if other != "_self_"]
    return {**(read_profile(base[0]) if base else {}), **option["models"]}


def test_all_profiles_name_the_same_roles() -> None:
    profiles = {path.stem: read_profile(path.stem) for path in CONF.glob("*.yaml")}
    assert {"paper", "embedded", "artists"} == set(profiles)
    assert len({frozenset(profile) for profile in profiles.values()}) == 1
    names = {name: profile["profile"] for name, profile in profiles.items()}
    assert names == {"paper": "paper", "embedded": "embedded", "artists": "embedded"}
    assert all(profile["dtype"] in DTYPES for profile in profiles.values())


def test_only_the_drawing_model_of_the_artists_is_another_one() -> None:
    artists, embedded = read_profile("artists"), read_profile("embedded")
    assert {role for role in embedded if artists[role] != embedded[role]} == {"diffusion"}


def test_every_embedded_reference_has_a_recipe() -> None:
    for role, reference in [*read_profile("embedded").items(), *read_profile("artists").items()]:
        if role not in ("profile", "dtype", "language_model_dtype", "ip_adapter"):
            named = [name for name in reference.values() if name] if isinstance(reference, dict) else [reference]
            assert named
            for name in named:
                assert name.startswith(PREFIX)
                find_recipe(name.removeprefix(PREFIX))


def test_no_profile_that_we_ship_weights_for_has_an_official_ip_adapter() -> None:
    assert [read_profile(name)["ip_adapter"] for name in ("embedded", "artists")] == [None, None]


def test_the_papers_clips_are_known_to_open_clip_and_its_openai_weights_get_their_activation() -> None:
    paper = read_profile("paper")
    assert build_clip_request(str(paper["clip"]))[1]["force_quick_gelu"] is True
    assert build_clip_request(str(paper["metric_clip"]))[1]["pretrained"] == "laion2b_s32b_b79k"
    assert build_clip_request(str(paper["check_visual"]))[1]["pretrained"] == "laion2b_s13b_b82k_augreg"


@pytest.mark.parametrize("profile", ["embedded", "paper"])
def test_the_baselines_params_are_complete_in_every_profile(profile: str, tmp_path: Path) -> None:
    compose_params([f"models={profile}"], conf=CONF.parent, out=tmp_path / "params.yaml")
    for block, config in BASELINES.items():
        load_params(tmp_path / "params.yaml", block, config)
    assert load_params(tmp_path / "params.yaml", "pmg", PmgConfig).num_target_keywords == 5  # as PMG


@pytest.mark.parametrize("profile", ["embedded", "paper"])
def test_every_method_draws_with_one_frozen_model_and_one_negative_prompt(profile: str, tmp_path: Path) -> None:
    compose_params([f"models={profile}"], conf=CONF.parent, out=tmp_path / "params.yaml")
    params = read_yaml_mapping(tmp_path / "params.yaml")
    assert params["sd"]["lora_rank"] == 0
    assert bool(params["generation"].pop("negative_prompt")) == (profile == "paper")
    assert "negative_prompt" not in str(params)


@pytest.mark.parametrize("value", [None, "", 3])
def test_a_role_without_a_model_is_named(value: object, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"models": {"clip": value}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"models\.clip is .* must name a model"):
        read_reference(path, "clip")
