"""The small LaVIT's way from pixels to codes to what the U-Net reads: its shape, its loss, its figures; the recipe is `embedded.train_lavit`.

Its eyes are the shipped CLIP's image tower, which stays as it is, as the official one (EVA-CLIP) does, and one more block, which learns: in CLIP's
own last block the class token alone has learnt to say what a picture shows, and LaVIT reads the patches, which can ask it there.
"""

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedded.stickers import Stickers
from embedded.texts import TEXT_WIDTH, encode_texts
from embedded.training import LoopConfig
from pipeline.data.openmoji import STYLES
from pipeline.models.lavit.decoder import LowresDecoder
from pipeline.models.lavit.shape import LavitShape
from pipeline.models.lavit.tokenizer import VisualTokenizer, draw_noise
from pipeline.models.lavit.vision import MEAN, STD, build_vision, see

SHAPE = LavitShape(
    image_size=64,
    patch_size=16,
    width=256,
    heads=8,
    mlp_width=1024,
    vision_layers=5,
    vision_classes=8,
    merger_layers=2,
    decoder_layers=3,
    num_codes=1024,
    code_width=16,
    text_tokens=600,
    lowres_width=TEXT_WIDTH,
    highres_widths=(TEXT_WIDTH, TEXT_WIDTH),
    pooled_width=TEXT_WIDTH,
)


ROUNDS = 2  # how often the states of a caption come, one behind the other: it is shorter than there are places, and attention is the same
CLIP_MEAN, CLIP_STD = 0.5, 0.5  # of the shipped CLIP's pixels
EYES = {"ln_1": "norm1", "attn": "attn", "attn.out_proj": "attn.proj", "ln_2": "norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


@dataclass(frozen=True)
class LavitRecipe:
    """Shapes and recipe of both parts."""

    shape: LavitShape = SHAPE
    keep_share: float = 0.5  # of the patches
    keep_weight: float = 4.0
    commitment: float = 0.25  # of the vectors to their codes
    code_weight: float = 0.5
    apart_weight: float = 0.3
    sharpness: float = 20.0  # of the question which caption of the batch was decoded
    free_steps: int = 400  # at first, in which vectors are decoded and not their codes
    revive_steps: int = 100  # between two searches for codes that nothing uses
    batch_size: int = 64
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=2000, peak_rate=1e-3, warmup_steps=200, ema_decay=0.998, checkpoint_seconds=300, muon=True)
    )
    code_draws: int = 8  # of every picture's codes
    history: int = 5  # pictures at most
    language_batch_size: int = 32
    language_loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=2000, peak_rate=1e-3, warmup_steps=200, ema_decay=0.998, checkpoint_seconds=300)
    )


@dataclass(frozen=True)
class Lessons:
    """Pictures (N, 3, 64, 64), what the U-Net reads of their short captions (N, places, 384) as float16, and which pair each is (N, 2)."""

    images: Tensor
    states: Tensor
    pairs: Tensor


def build_lessons(stickers: Stickers, *, held_out: bool) -> Lessons:
    """Collect the pairs that may, or may not, be learnt from."""
    pairs = stickers.list_pairs(held_out=held_out)
    texts = [f"{stickers.names[thing]}, {STYLES[style]}" for thing, style in pairs.tolist()]
    states = encode_texts(texts)[0][:, : SHAPE.num_patches // ROUNDS].repeat(1, ROUNDS, 1)
    return Lessons(stickers.images[pairs[:, 0], pairs[:, 1]], states, pairs)


def copy_eyes(tower: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write the shipped CLIP's image tower under the names of LaVIT's eyes, which scale pixels by other means and spreads."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    tower = {name.removeprefix("visual."): value.float() for name, value in tower.items() if name.startswith("visual.")}
    kernel = tower["conv1.weight"]
    eyes = {
        "cls_token": tower["class_embedding"].view(1, 1, -1),
        "pos_embed": tower["positional_embedding"][None],
        "patch_embed.proj.weight": kernel * std / CLIP_STD,
        "patch_embed.proj.bias": (kernel * (mean - CLIP_MEAN) / CLIP_STD).sum(dim=(1, 2, 3)),
    }
    for name, value in tower.items():
        if match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(in_proj_)?(weight|bias)", name):
            block, (part, kind) = f"blocks.{match[1]}", (EYES[match[2]], match[4])
            if name.endswith("in_proj_bias"):  # that of the keys changes no attention, and LaVIT's eyes have none
                eyes[f"{block}.attn.q_bias"], _, eyes[f"{block}.attn.v_bias"] = value.chunk(3)
            else:
                eyes[f"{block}.{part if not match[3] else 'attn.qkv'}.{kind}"] = value
    return eyes


def scale_pixels(images_u8: Tensor) -> Tensor:
    """Scale uint8 pictures of the right size as `prepare_images` does."""
    mean, std = (torch.tensor(values, device=images_u8.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images_u8.float() / 255 - mean) / std


class PictureCoder(nn.Module):
    """What is trained first: the way from pixels to codes to what a U-Net reads."""

    def __init__(self, recipe: LavitRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.vision = build_vision(recipe.shape).requires_grad_(False)
        self.vision.blocks[-1].requires_grad_(True)
        self.tokenizer = VisualTokenizer(recipe.shape)
        self.decoder = LowresDecoder(recipe.shape)
        for places in (self.decoder.pos_embed, self.decoder.query_embed):
            nn.init.normal_(places, std=0.5)
        self.register_buffer("usage", torch.ones(recipe.shape.num_codes))  # a running mean of how often each code is used in a batch
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def forward(self, images_u8: Tensor, states_BND: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch; gradients pass the choice of patches, and of codes, as if they were none."""
        recipe, codebook = self.recipe, self.tokenizer.quantize.embedding.weight
        patch_BNW = see(self.vision, scale_pixels(images_u8))
        score_BN2 = self.tokenizer.token_predictor(patch_BNW)
        soft_BN, keep_BN = self.choose(score_BN2, generator)
        vector_BNE = self.tokenizer.encode_patches(patch_BNW, keep_BN.float() + soft_BN - soft_BN.detach())
        with torch.no_grad():
            codebook.copy_(functional.normalize(codebook, dim=-1))
            code_K = self.tokenizer.quantize.find_codes(vector_BNE[keep_BN])
        vector_KE, chosen_KE = vector_BNE[keep_BN], codebook[code_K]
        code_error = 2 - 2 * ((vector_KE.detach() * chosen_KE).sum(-1) + recipe.commitment * (vector_KE * chosen_KE.detach()).sum(-1)).mean()
        is_free = self.num_batches < recipe.free_steps
        passed_KE = vector_KE + (chosen_KE - vector_KE).detach() * ~is_free
        condition = self.decoder(passed_KE.split(keep_BN.sum(dim=1).tolist()))
        error = functional.mse_loss(condition.states_BND.float(), states_BND.float()) / states_BND.float().var()
        apart = self.tell_apart(condition.states_BND.float(), states_BND.float())
        share = score_BN2.exp()[..., 0].mean()
        regular = recipe.code_weight * code_error * ~is_free + recipe.keep_weight * (share - recipe.keep_share).square()
        loss = error + recipe.apart_weight * apart + regular
        self.count_codes(code_K, vector_KE.detach(), generator)
        figures = {"error": error.detach(), "apart": apart.detach(), "kept": keep_BN.float().mean()}
        return loss, {**figures, "codes_used": (self.usage > 0.05).float().mean()}

    def tell_apart(self, decoded_BND: Tensor, states_BND: Tensor) -> Tensor:
        """Cross-entropy of which caption of the batch each one was decoded to, by the cosine of what differs from the batch's mean.

        Most of the squared error is what all captions share; this asks for what they do not.
        """
        mean_ND = states_BND.mean(dim=0)
        decoded_BF, states_BF = (functional.normalize((part - mean_ND).flatten(1), dim=1) for part in (decoded_BND, states_BND))
        return functional.cross_entropy(self.recipe.sharpness * decoded_BF @ states_BF.T, torch.arange(len(decoded_BF), device=decoded_BF.device))

    def choose(self, score_BN2: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw which patches are kept -> how much of each, and whether (of a picture at least its first)."""
        noise = -torch.empty_like(score_BN2).exponential_(generator=generator).log()
        soft_BN2 = (score_BN2 + noise).softmax(dim=-1)
        keep_BN = soft_BN2.argmax(dim=-1) == 0
        keep_BN[:, 0] |= ~keep_BN.any(dim=1)
        return soft_BN2[..., 0], keep_BN

    @torch.no_grad()
    def count_codes(self, code_K: Tensor, vector_KE: Tensor, generator: torch.Generator) -> None:
        """Note which codes are used; now and then let those that are not begin anew at vectors of this batch."""
        recipe = self.recipe
        self.usage.lerp_(torch.bincount(code_K, minlength=recipe.shape.num_codes).float(), 0.02)
        self.num_batches += 1
        unused = torch.nonzero(self.usage < 0.05)[:, 0]
        if self.num_batches == recipe.free_steps:
            unused = torch.arange(len(self.usage), device=self.usage.device)
        if self.num_batches >= recipe.free_steps and self.num_batches % recipe.revive_steps == 0 and len(unused):
            rows = torch.randint(len(vector_KE), (len(unused),), generator=generator, device=vector_KE.device)
            self.tokenizer.quantize.embedding.weight[unused] = vector_KE[rows]
            self.usage[unused] = 1.0

    @torch.no_grad()
    def write_codes(self, images_u8: Tensor, seed: int) -> list[Tensor]:
        """Return every picture's codes, drawn as the pipeline does."""
        codes = []
        for start in range(0, len(images_u8), 64):
            pixels = scale_pixels(images_u8[start : start + 64])
            noise = draw_noise([torch.Generator().manual_seed(seed + start)], len(pixels) * self.recipe.shape.num_patches)
            codes += self.tokenizer.tokenize(see(self.vision, pixels), noise.view(len(pixels), -1, 2).to(pixels.device))
        return codes


@torch.no_grad()
def measure_coder(coder: PictureCoder, held: Lessons) -> dict[str, float]:
    """The error on held-out pairs, and how often what is decoded is nearest to the right style's, and thing's, caption among the held-out ones."""
    codes = coder.write_codes(held.images, seed=0)
    vectors = [coder.tokenizer.quantize.read_codes(code_K if len(code_K) else code_K.new_zeros(1)) for code_K in codes]
    decoded = torch.cat([coder.decoder(vectors[start : start + 64]).states_BND for start in range(0, len(vectors), 64)])
    wanted = held.states.float()
    nearest = torch.cdist(decoded.flatten(1), wanted.flatten(1)).argmin(dim=1)
    same = held.pairs[nearest] == held.pairs
    return {
        "held_out_error": (functional.mse_loss(decoded, wanted) / wanted.var()).item(),
        "held_out_style": same[:, 1].float().mean().item(),
        "held_out_thing": same[:, 0].float().mean().item(),
        "held_out_codes": sum(map(len, codes)) / len(codes),
    }
