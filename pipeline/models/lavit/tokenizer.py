"""LaVIT's dynamic visual tokenizer: which patches are kept, what the kept ones take over from the others, and their codes.

Which patches are kept is drawn at random (a hard Gumbel softmax), in use as in training: so number and codes of a picture follow from a generator.
Legend: B pictures, N patches, K kept ones of a picture, W width, E width of a code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.lavit.layers import AmongAttention, Mlp, SelfAttention
from pipeline.models.lavit.shape import LavitShape


class TokenPredictor(nn.Module):
    """Log-probabilities that a patch is kept (first column) or dropped, from the patch and the mean of all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, width // 4),
            nn.GELU(),
            nn.Linear(width // 4, 2),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, x_BNW: Tensor) -> Tensor:
        """Score every patch: (B, N, 2)."""
        own_BNW, rest_BNW = self.in_conv(x_BNW).tensor_split(2, dim=-1)
        mean_BNW = rest_BNW.mean(dim=1, keepdim=True).expand_as(rest_BNW)
        return self.out_conv(torch.cat([own_BNW, mean_BNW], dim=-1))


class MergerBlock(nn.Module):
    """Kept patches look back at kept ones, and all at the dropped ones as they came in."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__()
        self.norm0 = nn.LayerNorm(shape.width)
        self.token_causal_attn = SelfAttention(shape.width, shape.heads)
        self.norm1 = nn.LayerNorm(shape.width)
        self.token_cross_attn = AmongAttention(shape.width, shape.heads)
        self.norm2 = nn.LayerNorm(shape.width)
        self.mlp = Mlp(shape.width, shape.mlp_width)

    def forward(self, x_BNW: Tensor, origin_BNW: Tensor, kept_BNN: Tensor, dropped_BNN: Tensor) -> Tensor:
        """Add all three parts to the patches."""
        x_BNW = x_BNW + self.token_causal_attn(self.norm0(x_BNW), kept_BNN)
        x_BNW = x_BNW + self.token_cross_attn(self.norm1(x_BNW), origin_BNW, dropped_BNN)
        return x_BNW + self.mlp(self.norm2(x_BNW))


class TokenMerger(nn.Module):
    """The blocks, with a norm of what comes in and one of what goes out."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MergerBlock(shape) for _ in range(shape.merger_layers))
        self.ln_vision = nn.LayerNorm(shape.width)
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, x_BNW: Tensor, keep_BN: Tensor) -> Tensor:
        """Merge what is dropped into what is kept; `keep_BN` is 1 or 0, and may carry gradients."""
        size = keep_BN.shape[1]
        itself_NN = torch.eye(size, dtype=keep_BN.dtype, device=keep_BN.device)
        keep_B1N = keep_BN[:, None]
        kept_BNN = (keep_B1N + (1 - keep_B1N) * itself_NN).tril()  # a dropped patch is seen by itself alone
        dropped_BNN = (1 - keep_B1N).expand(-1, size, -1)
        origin_BNW = self.ln_vision(x_BNW)
        for block in self.blocks:
            x_BNW = block(x_BNW, origin_BNW, kept_BNN, dropped_BNN)
        return self.norm(x_BNW)


class Codebook(nn.Module):
    """The vectors of the codes, under the name that the weights have them by."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__()
        self.weight = nn.Parameter(functional.normalize(torch.randn(shape.num_codes, shape.code_width), dim=-1))


class Quantiser(nn.Module):
    """Vectors to the codes nearest to their directions, and back."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__()
        self.embedding = Codebook(shape)

    def find_codes(self, vector_KE: Tensor) -> Tensor:
        """Return the nearest code of each vector, scaled to length 1: (K,)."""
        return torch.cdist(functional.normalize(vector_KE, dim=-1), self.embedding.weight, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=-1)

    def read_codes(self, code_K: Tensor) -> Tensor:
        """Return the codes' vectors (K, E)."""
        return functional.embedding(code_K, self.embedding.weight)


class VisualTokenizer(nn.Module):
    """Selection, merger and quantiser; what is seen comes from the vision tower."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__()
        self.token_predictor = TokenPredictor(shape.width)
        self.causal_encoder = TokenMerger(shape)
        self.quantize = Quantiser(shape)
        self.encode_task_layer = nn.Sequential(nn.Linear(shape.width, shape.width), nn.Tanh(), nn.Linear(shape.width, shape.code_width))

    def choose_patches(self, patch_BNW: Tensor, noise_BN2: Tensor) -> Tensor:
        """Draw which patches are kept, in float32 whatever the patches are: bool (B, N)."""
        with torch.autocast(patch_BNW.device.type, enabled=False):
            score_BN2 = self.token_predictor(patch_BNW.float())
        return (score_BN2 + noise_BN2).argmax(dim=-1) == 0

    def encode_patches(self, patch_BNW: Tensor, keep_BN: Tensor) -> Tensor:
        """Return the vectors that are compared with the codes', of all patches: (B, N, E), of length 1."""
        merged_BNW = self.causal_encoder(patch_BNW, keep_BN.to(patch_BNW.dtype))
        return functional.normalize(self.encode_task_layer(merged_BNW).float(), dim=-1)

    def tokenize(self, patch_BNW: Tensor, noise_BN2: Tensor) -> list[Tensor]:
        """Return each picture's codes (K,), in the order of its patches."""
        keep_BN = self.choose_patches(patch_BNW, noise_BN2)
        vector_BNE = self.encode_patches(patch_BNW, keep_BN)
        return [self.quantize.find_codes(vector_NE[keep_N]) for vector_NE, keep_N in zip(vector_BNE, keep_BN, strict=True)]


def draw_noise(generators: Sequence[torch.Generator], num_patches: int) -> Tensor:
    """Draw Gumbel noise for the selection, each picture's from its own CPU generator: (B, N, 2)."""
    return torch.stack([-torch.empty(num_patches, 2).exponential_(generator=generator).log() for generator in generators])
