"""Look tokens: what the pictures that a user likes have in common and words cannot say, as token states beside those of the words.

Not in the paper, whose P^ret (eq. 5, a weighted mean of visual vectors) reaches the picture through a training loss alone. Departures:
1. What an item's text predicts of its visual vector is taken away first, so that what is left is the look and not the content.
2. A nonlinear map reads every item by itself, and the weighted mean is taken after it: a mean of unlike looks is no look.
3. The mean becomes `num_tokens` token states by the layer that IP-Adapter (Ye et al. 2023) calls `image_proj`: a linear layer and a layer norm.

Shapes: B cases, N items, V visual width, C text width, F look width, M look tokens, d token width.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.artifacts import read_tensors, write_tensors
from pipeline.config import Count, config_dataclass
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.lazy import LazyModel
from pipeline.models.look_pair import check_pair
from pipeline.models.references import explain_load_error, read_reference

FILE = "model.safetensors"  # of a look map's folder


@config_dataclass
class LookShape:
    """Geometry of a look map; stored with its weights."""

    visual_dim: Count  # V
    text_dim: Count  # C
    width: Count  # F
    num_tokens: Count  # M
    token_dim: Count  # d


class ImageProjection(nn.Module):
    """The mean look as token states; names and layout are IP-Adapter's."""

    def __init__(self, shape: LookShape) -> None:
        super().__init__()
        self.num_tokens = shape.num_tokens
        self.proj = nn.Linear(shape.width, shape.num_tokens * shape.token_dim)
        self.norm = nn.LayerNorm(shape.token_dim)

    def forward(self, look_BF: Tensor) -> Tensor:
        """Map (B, F) to (B, M, d)."""
        return self.norm(self.proj(look_BF).unflatten(-1, (self.num_tokens, -1)))


class LookMap(nn.Module):
    """From visual and text vectors of items to look vectors, and from their weighted mean to look tokens."""

    def __init__(self, shape: LookShape) -> None:
        super().__init__()
        self.shape = shape
        self.predicted = nn.Linear(shape.text_dim, shape.visual_dim)  # the visual vector that a text leads one to expect
        self.item = nn.Sequential(nn.Linear(shape.visual_dim, shape.width), nn.GELU(), nn.Linear(shape.width, shape.width), nn.GELU())
        self.image_proj = ImageProjection(shape)
        self.no_look_MD = nn.Parameter(torch.zeros(shape.num_tokens, shape.token_dim))  # the tokens that say nothing of a look

    def map_items(self, visual_NV: Tensor, text_NC: Tensor) -> Tensor:
        """Return the look vector of every item (..., N, F); both inputs are unit vectors."""
        surprise_NV = visual_NV - self.predicted(text_NC)
        return self.item(surprise_NV * self.shape.visual_dim**0.5)

    def write_tokens(self, look_BNF: Tensor, weight_BN: Tensor) -> Tensor:
        """Return the look tokens (B, M, d) of the items' weighted mean; the weights of a case sum to one."""
        return self.image_proj(torch.einsum("bn,bnf->bf", weight_BN, look_BNF))


def save_look_map(path: Path, look: LookMap) -> None:
    """Write the weights as safetensors, the shape in its metadata."""
    write_tensors(path, look.state_dict(), {"look": asdict(look.shape)})


def load_look_map(path: Path) -> LookMap:
    """Read a file of `save_look_map`, in eval mode; ValueError if it is another file."""
    tensors, facts = read_tensors(path)
    if "look" not in facts:
        raise ValueError(f"{path} holds no look map.")
    look = LookMap(LookShape(**facts["look"]))
    look.load_state_dict({name: value.float() for name, value in tensors.items()})
    return look.eval()


def unpack_tokens(packed: bytes, no_look_MD: Tensor) -> Tensor:
    """Return a case's look tokens (M, d) from their bytes; where there are none, those that say nothing of a look."""
    return torch.frombuffer(bytearray(packed), dtype=torch.float32).view(no_look_MD.shape) if packed else no_look_MD


def prepare_look_map(params: Path) -> LazyModel[LookMap]:
    """Return the map that `models.look` names, loaded on first use."""
    reference = read_reference(params, "look")
    check_pair(reference, read_reference(params, "diffusion"))

    def load() -> LookMap:
        with explain_load_error("look map", reference):
            return load_look_map(Path(resolve_model(reference)) / FILE)

    return LazyModel(compute_model_revision(reference), load)


@torch.no_grad()
def fit_prediction(look: LookMap, visual_NV: Tensor, text_NC: Tensor, *, ridge: float) -> None:
    """Set what a text predicts by ridge regression with an intercept; `ridge` is in units of the mean squared length of a centred text vector."""
    text_mean_C, visual_mean_V = text_NC.double().mean(0), visual_NV.double().mean(0)
    x_NC, y_NV = text_NC.double() - text_mean_C, visual_NV.double() - visual_mean_V
    gram_CC = x_NC.T @ x_NC
    penalty = ridge * x_NC.square().sum(1).mean()
    weight_CV = torch.linalg.solve(gram_CC + penalty * torch.eye(len(gram_CC), dtype=torch.float64), x_NC.T @ y_NV)
    look.predicted.weight.copy_(weight_CV.T)
    look.predicted.bias.copy_(visual_mean_V - text_mean_C @ weight_CV)
