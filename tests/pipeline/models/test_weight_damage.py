"""Weights that are cut, missing, of another kind or of another program. Run: python -m pytest tests/pipeline/models/test_weight_damage.py"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.models.backbone import load_backbone
from pipeline.models.diffusion import load_diffusion
from pipeline.models.judge import load_judge
from pipeline.models.llm import load_language_model
from pipeline.models.references import explain_load_error
from pipeline.weight_files import find_problem
from tests.tiny_models import save_tiny_stable_diffusion

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def replace_by_pointer(folder: Path) -> str:
    (folder / "model.safetensors").write_text(POINTER)
    return f"{folder}/model.safetensors is a Git LFS pointer and not the weights; `git lfs install` and `git lfs pull`"


def leave_half_a_download(folder: Path) -> str:
    (folder / "model.safetensors").rename(folder / "model.safetensors.incomplete")
    return f"{folder}/model.safetensors.incomplete is a download that was not finished; download the model again"


def cut(folder: Path) -> str:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-10])
    return f"{folder}/model.safetensors is cut off: it has {len(data) - 10:,} of {len(data):,} bytes; download it again"


def cut_header(folder: Path) -> str:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5])
    return f"{folder}/model.safetensors is cut off or no safetensors file; download it again"


def nest_header(folder: Path) -> str:
    header = b'{"a":' * 100_000
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return f"{folder}/model.safetensors is no safetensors file; download it again"


def empty(folder: Path) -> str:
    (folder / "model.safetensors").write_bytes(b"")
    return f"{folder}/model.safetensors is empty; download it again"


def remove_weights(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return f"{folder} holds no weights (.safetensors, .bin, .pt, .pth); download the model again"


def dangle(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "blobs" / "gone")
    return f"{folder}/model.safetensors is a link to a file that is gone; download the model again"


def lose_a_shard(folder: Path) -> str:
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    (folder / "model.safetensors").unlink()
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, own in shards.items():
        save_file({name: weights[name] for name in own}, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert find_problem(folder) is None
    (folder / "model-00002-of-00002.safetensors").unlink()
    lost = folder / "model-00002-of-00002.safetensors"
    return f"1 of the parts that model.safetensors.index.json lists are missing, the first is {lost}; download them too"


def name_shards_by_numbers(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": 3}}')
    return f"1 of the parts that model.safetensors.index.json lists are missing, the first is {folder}/3; download them too"


def leave_the_tokenizer_a_pointer(folder: Path) -> str:
    (folder / "tokenizer.json").write_text(POINTER)
    return f"{folder}/tokenizer.json is a Git LFS pointer and not the file; `git lfs install` and `git lfs pull`"


def save_by_torch(folder: Path) -> Path:
    path = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), path)
    (folder / "model.safetensors").unlink()
    return path


def cut_a_file_of_torch(folder: Path) -> str:
    path = save_by_torch(folder)
    assert find_problem(folder) is None
    path.write_bytes(path.read_bytes()[:-500])
    return f"{path} is cut off; download it again"


def download_a_page(folder: Path) -> str:
    path = save_by_torch(folder)
    path.write_text("<!DOCTYPE html><title>Log in</title>")
    return f"{path} is a web page or a message and not the weights; download it again, signed in if it asks for that"


def name_the_folder_above(folder: Path) -> str:
    inside = folder / "snapshots" / "0f"
    inside.mkdir(parents=True)
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(inside / path.name)
    return f"{folder} holds no model itself; did you mean {inside}?"


def take_an_adapter(folder: Path) -> str:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").rename(folder / "adapter_config.json")
    return f"{folder} holds an adapter (LoRA) and not a model; merge it into its base model and name that folder"


def take_the_file_of_another_program(folder: Path) -> str:
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")
    return f"{folder} holds its weights as .gguf alone, which is for other programs; take a copy of the model as safetensors"


def quantize(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}}))
    return f"{folder} holds quantized weights (gptq), for which the package gptqmodel is not installed; take the model that is not quantized"


FILES = [replace_by_pointer, leave_half_a_download, cut, cut_header, nest_header, empty, remove_weights, dangle, lose_a_shard, name_shards_by_numbers]
KINDS = [cut_a_file_of_torch, download_a_page, name_the_folder_above, take_an_adapter, take_the_file_of_another_program, quantize]
DAMAGES = [*FILES, leave_the_tokenizer_a_pointer, *KINDS]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_with_weights_is_one_sentence(copy: Path, damage: Callable[[Path], str]) -> None:
    assert find_problem(copy) is None
    words = damage(copy)
    assert (find_problem(copy) or "").startswith(words)
    with pytest.raises(ValueError, match="cannot be loaded") as raised:
        load_language_model(str(copy))
    said = str(raised.value)
    assert said.startswith(f"The language model '{copy}' cannot be loaded: {words}")
    assert said.count("\n") == 0
    assert said.endswith(".")


class Greedy:
    """A pickle that runs something when it is opened."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("opened"),)


def write_a_pickle_that_runs_something(folder: Path) -> str:
    save_by_torch(folder)
    torch.save({"model.embed_tokens.weight": Greedy()}, folder / "pytorch_model.bin")
    return "one of its files is no weights but a pickle that asks for more, and is not opened; take the model's safetensors"


def ask_to_run_code(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}))
    (folder / "own.py").write_text("import pathlib\npathlib.Path('opened').touch()\n")
    return f"The repository {folder} contains custom code which must be executed"


def lose_the_tokenizer(folder: Path) -> str:
    for path in folder.glob("*token*"):
        path.unlink()
    return "the files of its tokenizer are missing (tokenizer.json, or those that it is made of)"


def change_a_shape(folder: Path) -> str:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return "1 of its weights are missing or do not fit, the first is model.norm.weight"


@pytest.mark.parametrize("damage", [write_a_pickle_that_runs_something, ask_to_run_code, lose_the_tokenizer, change_a_shape])
def test_what_only_loading_shows_is_one_sentence_and_runs_no_code(copy: Path, damage: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    words = damage(copy)
    with pytest.raises(ValueError, match="cannot be loaded") as raised:
        load_language_model(str(copy))
    assert str(raised.value).startswith(f"The language model '{copy}' cannot be loaded: {words}")
    assert str(raised.value).count("\n") == 0
    assert not (copy / "opened").exists()


def test_a_file_in_a_folders_place_is_named_as_one(copy: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.safetensors' cannot be loaded: that is a file; name the folder of the model\.$"):
        load_language_model(str(copy / "model.safetensors"))


def test_another_kind_of_pipeline_is_refused(tmp_path: Path) -> None:
    index = save_tiny_stable_diffusion(tmp_path) / "model_index.json"
    index.write_text(index.read_text().replace('"StableDiffusionPipeline"', '"StableDiffusionXLPipeline"'))
    with pytest.raises(ValueError, match="it is a StableDiffusionXLPipeline, but it must be a StableDiffusionPipeline, as Stable"):
        load_diffusion(str(tmp_path))


def test_small_models_say_the_same(tmp_path: Path) -> None:
    for load in (lambda: load_backbone(tmp_path, device=torch.device("cpu")), lambda: load_judge(tmp_path)):
        config = {"architecture": "tf_efficientnet_lite0", "styles": ["a"], "concepts": ["b"], "image_size": 8, "width": 2}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_text(POINTER)
        with pytest.raises(ValueError, match=r"model\.safetensors is a Git LFS pointer and not the weights"):
            load()


def test_a_folder_that_is_not_there_is_no_hub_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^The language model '{tmp_path}/gone@v2' cannot be loaded: there is no such folder\.$"):
        load_language_model(f"{tmp_path}/gone@v2")


def test_no_memory_is_no_fault_of_the_weights() -> None:
    with pytest.raises(torch.OutOfMemoryError), explain_load_error("CLIP", "/nowhere"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_the_check_reads_no_more_than_headers(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}).encode()
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (1 << 40))  # a terabyte that takes no room
    started = time.monotonic()
    assert find_problem(tmp_path) is None
    assert time.monotonic() - started < 1
