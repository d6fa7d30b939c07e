"""Image and text encoders of eq. 2 and 4: CLIP through open_clip, ViT through transformers, timm backbones; vectors are L2-normalised.

Departure: a CLIP name with a tag whose weights were trained with QuickGELU gets QuickGELU: open_clip itself only warns, and its
features would be off.

Shapes: B images or texts, H width of the text tower's pooled state, D dimension of the joint space.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.cluster.parcels import remember_call
from pipeline.json_files import read_json
from pipeline.models.backbone import BackboneEncoder, is_backbone, load_backbone, resize_pixels
from pipeline.models.folders import resolve_model
from pipeline.models.references import CHECKED, NO_CODE, check_loaded, choose_variant, explain_load_error, split_revision
from pipeline.models.text_budget import budget_open_clip

if TYPE_CHECKING:
    from PIL import Image

CLIP_CONFIG = "open_clip_config.json"


class VisualEncoder(Protocol):
    """What `load_visual` returns: a CLIP's image tower, a ViT or a timm backbone."""

    dim: int

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode RGB images as (B, dim) float32 unit vectors on the CPU."""
        ...


class ClipEncoder:
    """A frozen open_clip model with its own image transform and tokenizer; weights stay float32, `dtype` is what it computes in."""

    def __init__(self, model: nn.Module, transform: Callable, tokenizer: Callable, *, dtype: torch.dtype = torch.float32) -> None:
        self._model = model.eval().requires_grad_(False)
        self._transform = transform
        self._tokenizer = tokenizer
        self._dtype = dtype
        self.device = next(model.parameters()).device
        self.text_budget = budget_open_clip(tokenizer)
        self.dim = self._measure_dim()

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode RGB images as (B, D) float32 unit vectors on the CPU."""
        if not images:
            return torch.empty(0, self.dim)
        pixel_BCHW = torch.stack([self._transform(image) for image in images]).to(self.device)
        with autocast(self.device, self._dtype):
            return to_unit_rows(self._model.encode_image(pixel_BCHW))

    def see_pixels(self, pixel_BCHW: Tensor) -> Tensor:
        """Encode images in [0, 1] of any size much as `encode_images` does, on the device, differentiable."""
        visual = self._model.visual
        side = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
        mean, std = visual.preprocess_cfg["mean"], visual.preprocess_cfg["std"]
        return F.normalize(self._model.encode_image(scale_pixels(pixel_BCHW.to(self.device), side, mean, std)).float(), dim=-1)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts, cut to the tower's context length, as (B, D) float32 unit vectors on the CPU."""
        if not texts:
            return torch.empty(0, self.dim)
        place_of = {text: place for place, text in enumerate(dict.fromkeys(texts))}  # a catalogue's texts often repeat
        token_BT = self._tokenizer(list(place_of)).to(self.device)
        with autocast(self.device, self._dtype):
            unique_BD = to_unit_rows(self._model.encode_text(token_BT))
        return unique_BD[[place_of[text] for text in texts]]

    def project_text_states(self, pooled_BH: Tensor) -> Tensor:
        """Apply the frozen text projection to pooled text states: (B, H) to (B, D), unnormalised, differentiable in `pooled_BH`."""
        text = getattr(self._model, "text", self._model)
        projection = text.proj if hasattr(text, "proj") else text.text_projection
        width = get_projection_width(projection) or self.dim
        if pooled_BH.shape[-1] != width:
            raise ValueError(f"The text projection takes states of width {width}, but these have {pooled_BH.shape[-1]}.")
        pooled_BH = pooled_BH.to(self.device, torch.float32)
        if isinstance(projection, nn.Parameter):
            return pooled_BH @ projection
        return pooled_BH if projection is None else projection(pooled_BH)

    def _measure_dim(self) -> int:
        with torch.inference_mode():
            return self._model.encode_text(self._tokenizer([""]).to(self.device)).shape[-1]


class VitEncoder:
    """A frozen transformers ViT whose CLS state after the final norm is the feature."""

    def __init__(self, model: nn.Module, processor: Callable, *, dtype: torch.dtype = torch.float32) -> None:
        self._model: Any = model.eval().requires_grad_(False)
        self._processor = processor
        self._dtype = dtype
        self.dim: int = self._model.config.hidden_size

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode RGB images as (B, dim) float32 unit vectors on the CPU."""
        if not images:
            return torch.empty(0, self.dim)
        pixel_BCHW = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._model.device)
        with autocast(self._model.device, self._dtype):
            return to_unit_rows(self._model(pixel_values=pixel_BCHW).last_hidden_state[:, 0])

    def see_pixels(self, pixel_BCHW: Tensor) -> Tensor:
        """Encode images in [0, 1] of any size much as `encode_images` does, on the device, differentiable."""
        processor = self._processor
        pixel_BCHW = scale_pixels(pixel_BCHW.to(self._model.device), self._model.config.image_size, processor.image_mean, processor.image_std)
        return F.normalize(self._model(pixel_values=pixel_BCHW).last_hidden_state[:, 0].float(), dim=-1)


def scale_pixels(pixel_BCHW: Tensor, side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Resize images in [0, 1] to a square and subtract and divide as the encoder wants it."""
    mean_1C11, std_1C11 = (torch.tensor(values, device=pixel_BCHW.device).view(1, -1, 1, 1) for values in (mean, std))
    return (resize_pixels(pixel_BCHW, side) - mean_1C11) / std_1C11


@remember_call
def load_clip(reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> ClipEncoder:
    """Load a CLIP from an open_clip folder, `hf-hub:org/name` (or `org/name`), or `architecture/tag` such as `ViT-L-14/openai`."""
    import open_clip

    reference = resolve_model(reference)
    with explain_load_error("CLIP", reference):
        name, options = build_clip_request(reference)
        model, transform = open_clip.create_model_from_pretrained(name, device=device, **options)
        return ClipEncoder(model, transform, open_clip.get_tokenizer(name), dtype=dtype)


@remember_call
def load_visual(reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> VisualEncoder:
    """Load Enc^vis: the image tower of an open_clip model, the folder of a timm backbone (`pipeline/models/backbone.py`), or a transformers ViT."""
    reference = resolve_model(reference)
    if is_clip(reference):
        return load_clip(reference, device=device, dtype=dtype)
    if is_backbone(reference):
        return BackboneEncoder(load_backbone(Path(reference), device=torch.device(device)))
    from transformers import AutoConfig, AutoImageProcessor, ViTModel

    name, revision = split_revision(reference)
    with explain_load_error("visual encoder", reference):
        config = AutoConfig.from_pretrained(name, revision=revision, **NO_CODE)
        if config.model_type != "vit":
            raise ValueError(f"it is a {config.model_type} model, but it must be vit or an open_clip model")
        model, report = ViTModel.from_pretrained(name, revision=revision, add_pooling_layer=False, **CHECKED, **choose_variant(reference))
        check_loaded(report)
        return VitEncoder(model.to(device, torch.float32), AutoImageProcessor.from_pretrained(name, revision=revision), dtype=dtype)


def is_clip(reference: str) -> bool:
    """Say whether a reference names an open_clip model; a plain hub id does not, for its files are elsewhere."""
    return reference.startswith("hf-hub:") or split_tag(reference) is not None or (Path(reference) / CLIP_CONFIG).is_file()


def split_tag(reference: str) -> tuple[str, str] | None:
    """Split `architecture/tag` if open_clip knows the architecture and no folder has that name."""
    import open_clip

    architecture, _, tag = reference.partition("/")
    return (architecture, tag) if tag and architecture in open_clip.list_models() and not Path(reference).is_dir() else None


def build_clip_request(reference: str) -> tuple[str, dict[str, Any]]:
    """Return open_clip's name of the model and the options to create it with."""
    from open_clip.pretrained import get_pretrained_cfg

    folder = Path(reference)
    if folder.is_dir():
        return f"local-dir:{folder.resolve()}", build_folder_options(folder.resolve())
    if tagged := split_tag(reference):
        facts = get_pretrained_cfg(*tagged)
        if not facts:
            raise ValueError(f"open_clip knows no weights {tagged[1]!r} for {tagged[0]}")
        return tagged[0], {"pretrained": tagged[1], "force_quick_gelu": bool(facts.get("quick_gelu"))}
    name, revision = split_revision(reference.removeprefix("hf-hub:"))
    if name.count("/") != 1:
        raise ValueError("it is neither a folder, nor a hub id, nor an open_clip `architecture/tag`")
    return build_clip_request(fetch_snapshot(name, revision)) if revision else (f"hf-hub:{name}", {})


def fetch_snapshot(name: str, revision: str) -> str:
    """Return the folder of a hub model at one commit, without pickled weights; open_clip itself can only take the newest."""
    from huggingface_hub import snapshot_download

    return snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.txt", "*.safetensors"])


def build_folder_options(folder: Path) -> dict[str, Any]:
    """Let a relative `hf_model_name` in the folder's config mean a place inside the folder, so that the folder can be moved."""
    path = folder / CLIP_CONFIG
    if not path.is_file():
        raise ValueError(f"the folder has no {CLIP_CONFIG}")
    text_config = read_json(path)["model_cfg"]["text_cfg"]
    tower = text_config.get("hf_model_name")
    if not tower or not (folder / tower / "config.json").is_file():
        return {}
    return {"text_cfg": {**text_config, "hf_model_name": str(folder / tower), "hf_model_pretrained": False}}


def get_projection_width(projection: nn.Module | Tensor | None) -> int | None:
    """Return the width that a text projection takes; None where it takes any (absent or identity)."""
    if isinstance(projection, Tensor):
        return projection.shape[0]
    layers = [] if projection is None else [layer for layer in projection.modules() if isinstance(layer, nn.Linear)]
    return layers[0].in_features if layers else None


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Compute in `dtype` where that is a half format."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def to_unit_rows(feature_BD: Tensor) -> Tensor:
    """Return float32 rows of length 1 on the CPU; a zero row stays zero."""
    return F.normalize(feature_BD.float(), dim=-1).cpu()
