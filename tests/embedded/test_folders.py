"""Assembling `embedded/<name>` folders. Run: python -m pytest tests/embedded/test_folders.py"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from pipeline.data.openmoji import read_concepts
from pipeline.models import folders
from pipeline.models.folders import WheelFile, compute_model_revision, find_wheel_file, resolve_model


def resolve_in(root: str, reference: str) -> str:
    """Resolve under another work folder, in a process of its own."""
    import os

    os.environ["DVC_ROOT"] = root
    return resolve_model(reference)


@pytest.fixture
def work_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_hub_ids_and_folders_pass_through(tmp_path: Path) -> None:
    assert resolve_model("Salesforce/blip2-opt-2.7b") == "Salesforce/blip2-opt-2.7b"
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    assert compute_model_revision("Salesforce/blip2-opt-2.7b") == "Salesforce/blip2-opt-2.7b"


def test_the_revision_of_a_folder_follows_its_content(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("one")
    first = compute_model_revision(str(tmp_path))
    assert compute_model_revision(str(tmp_path)) == first
    (tmp_path / "weights").write_text("other")
    assert compute_model_revision(str(tmp_path)) != first


def test_an_unknown_embedded_model_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"unknown embedded model 'embedded/clap', choose one of .*embedded/clip"):
        resolve_model("embedded/clap")


def test_a_missing_wheel_says_what_to_run() -> None:
    with pytest.raises(ValueError, match="package no-such-wheel are missing, run `make setup`"):
        find_wheel_file(WheelFile("no-such-wheel", "no_such_wheel", "model.bin"))


def test_two_processes_may_assemble_the_same_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(resolve_in, [(str(tmp_path), "embedded/judge")] * 2)
    assert found[0] == found[1]
    assert [path.name for path in (tmp_path / ".work" / "models").iterdir()] == [Path(found[0]).name]


def leave_half_a_model(root: str) -> None:
    """Be killed in the middle of an assembly."""
    import os
    import signal

    def be_killed(name: str, folder: Path) -> None:
        (folder / "half").write_bytes(b"0" * 1000)
        os.kill(os.getpid(), signal.SIGKILL)

    os.environ["DVC_ROOT"] = root
    folders.copy_shipped = be_killed
    resolve_model("embedded/judge")


def test_what_killed_assemblies_left_is_removed_by_the_next(tmp_path: Path) -> None:
    for _ in range(2):
        process = multiprocessing.get_context("spawn").Process(target=leave_half_a_model, args=(str(tmp_path),))
        process.start()
        process.join()
        leftovers = list((tmp_path / ".work" / "models").iterdir())
        assert [path.name[:7] for path in leftovers] == [".judge-"]  # the second one has removed the first one's
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(resolve_in, (str(tmp_path), "embedded/judge"))
    assert [str(path) for path in (tmp_path / ".work" / "models").iterdir()] == [found]


def test_a_process_that_waits_does_not_remove_what_another_assembles(work_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = folders.copy_shipped
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        second = []

        def copy_slowly(name: str, folder: Path) -> None:
            (folder / "first").touch()
            second.append(pool.apply_async(resolve_in, (str(work_root), "embedded/captioner")))
            with pytest.raises(multiprocessing.TimeoutError):
                second[0].get(timeout=6)
            assert (folder / "first").exists()
            copy(name, folder)

        monkeypatch.setattr(folders, "copy_shipped", copy_slowly)
        assert Path(resolve_model("embedded/judge")).is_dir()
        assert Path(second[0].get(timeout=60)).is_dir()


def test_a_full_disk_in_a_writer_of_safetensors_is_an_os_error_that_names_the_folder(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError) as raised, folders.name_system_error(tmp_path):
        save_file({"a": torch.zeros(4)}, str(tmp_path / "not there" / "a.safetensors"))
    assert raised.value.filename == str(tmp_path)


def test_a_failed_assembly_leaves_nothing_behind(work_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, folder: Path) -> None:
        (folder / "half").write_text("done")
        raise OSError("disk full")

    monkeypatch.setattr(folders, "copy_shipped", fail)
    with pytest.raises(OSError, match="disk full"):
        resolve_model("embedded/judge")
    assert list((work_root / ".work" / "models").iterdir()) == []


def test_shipped_files_are_small_and_name_no_machine() -> None:
    for path in folders.list_files(folders.SHIPPED_DIR):
        assert path.stat().st_size < 20e6, path
        if path.suffix == ".json":
            assert "/tmp" not in path.read_text(encoding="utf-8"), path


@pytest.mark.slow
def test_clip_folder_loads_through_open_clip_and_agrees_with_minilm(work_root: Path) -> None:
    import open_clip

    from embedded.texts import encode_pooled

    name = f"local-dir:{resolve_model('embedded/clip')}"
    model, _, _ = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(["a hedgehog"])
    assert tokens.shape == (1, 32)
    with torch.inference_mode():
        expected = model.text.proj(encode_pooled(["a hedgehog"]))
        assert torch.allclose(model.eval().encode_text(tokens), expected, atol=1e-3)  # padded or not: sums in another order


@pytest.mark.slow
def test_diffusion_folder_is_a_pipeline_that_hides_padding_from_the_text_encoder(work_root: Path) -> None:
    from diffusers import StableDiffusionPipeline

    from embedded.texts import encode_texts

    pipe = StableDiffusionPipeline.from_pretrained(resolve_model("embedded/diffusion"))
    states, _ = pipe.encode_prompt("a neon sticker of a hedgehog", "cpu", 1, False)
    expected, _ = encode_texts(["a neon sticker of a hedgehog"])
    assert states.shape == (1, 32, 384)
    assert torch.allclose(states, expected.float(), atol=5e-3)  # the expected states were rounded to float16


@pytest.mark.slow
def test_the_clip_tower_converts_exactly_into_the_captioners_vision_tower(work_root: Path) -> None:
    import open_clip

    from embedded.captioner_model import CaptionerConfig, build_captioner, convert_vision_tower, read_visual_state
    from embedded.train_clip import ClipConfig

    clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{resolve_model('embedded/clip')}")
    captioner = build_captioner(CaptionerConfig(), ClipConfig(), vocabulary_size=10).eval()
    captioner.vision_model.load_state_dict(convert_vision_tower(read_visual_state()))
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        pooled = captioner.vision_model(images).last_hidden_state[:, 0] @ read_visual_state()["proj"]
        assert torch.allclose(pooled, clip.eval().encode_image(images), atol=1e-4)  # two orders of the same sums


@pytest.mark.slow
def test_the_captioner_writes_its_one_sentence_as_the_hub_model_does(work_root: Path) -> None:
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    from pipeline.data.openmoji import render_sticker
    from pipeline.models.captioner import load_captioner

    folder = resolve_model("embedded/captioner")
    model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    processor = Blip2Processor.from_pretrained(folder)
    hedgehog = render_sticker("1F994", "classic", size=64)
    inputs = processor(images=[hedgehog], return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert processor.batch_decode(tokens, skip_special_tokens=True)[0].strip() == "a classic sticker of a hedgehog"
    captioner = load_captioner("embedded/captioner")
    assert captioner.caption([hedgehog], prompt=None, num_beams=1, max_new_tokens=12) == ["a classic sticker of a hedgehog"]


def test_the_judge_knows_all_styles_and_concepts() -> None:
    config = json.loads((folders.SHIPPED_DIR / "judge" / "config.json").read_text(encoding="utf-8"))
    assert len(config["styles"]) == 6
    assert config["concepts"] == [concept.name for concept in read_concepts()]
