"""The small LaVIT's way from pixels to codes to what the U-Net reads: its shape, its loss, its figures; the recipe is `embedded.train_lavit`.

Its eyes are the shipped CLIP's image tower, which stays as it is, as the official one (EVA-CLIP) does, and one more block, which learns: in CLIP's
own last block the class token alone has learnt to say what a picture shows, and LaVIT reads the patches, which can ask it there.

Its language model never sees a held-out pair of thing and style. So the inner patches are to say what is drawn, alike in every style, and the
outer ones how, alike for every thing: left to itself nearly every code belonged to a thing in a style, and a new pair's could not be written
from known ones.
"""

import math
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedded.lavit_lessons import Lessons
from embedded.texts import TEXT_WIDTH
from embedded.training import LoopConfig
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


CLIP_MEAN, CLIP_STD = 0.5, 0.5  # of the shipped CLIP's pixels
EYES = {"ln_1": "norm1", "attn": "attn", "attn.out_proj": "attn.proj", "ln_2": "norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


@dataclass(frozen=True)
class LavitRecipe:
    """Shapes and recipe of both parts."""

    shape: LavitShape = SHAPE
    inner_share: float = 0.9  # of the inner patches that are kept
    outer_share: float = 0.35  # of the outer ones
    keep_weight: float = 4.0
    commitment: float = 0.25  # of the vectors to their codes
    code_weight: float = 0.5
    apart_weight: float = 0.3
    sharpness: float = 20.0  # of the question which caption of the batch was decoded
    alike_weight: float = 0.5  # of inner patches in two styles, and of outer ones of all things in a style
    mixed_share: float = 0.5  # of the pictures have the outer patches of another one, and its style
    free_steps: int = 400  # at first, in which vectors are decoded and not their codes
    revive_steps: int = 100  # between two searches for codes that nothing uses
    batch_size: int = 64
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=2000, peak_rate=1e-3, warmup_steps=200, ema_decay=0.998, checkpoint_seconds=300, muon=True)
    )
    decoder_loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=2000, peak_rate=1e-3, warmup_steps=100, ema_decay=0.998, checkpoint_seconds=300, muon=True)
    )
    code_draws: int = 8  # of every picture's codes
    history: int = 5  # pictures at most
    language_batch_size: int = 32
    language_loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=2000, peak_rate=1e-3, warmup_steps=200, ema_decay=0.998, checkpoint_seconds=300)
    )


def find_inner(num_patches: int) -> Tensor:
    """Say which patches of a square are inside of its edge -> bool (N,)."""
    side = math.isqrt(num_patches)
    is_inside = torch.zeros(side, dtype=torch.bool)
    is_inside[1:-1] = True
    return (is_inside[:, None] & is_inside).flatten()


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


def mix_codes(code_BN: Tensor, donor_B: Tensor) -> list[Tensor]:
    """Put every picture's inner codes together with its donor's outer ones, in the order of patches; -1 stands where a patch has no code."""
    mixed_BN = torch.where(find_inner(code_BN.shape[1]).to(code_BN.device), code_BN, code_BN[donor_B])
    mixed_BN = torch.where((mixed_BN >= 0).any(dim=1, keepdim=True), mixed_BN, code_BN)  # where neither has any: all of its own
    return [code_N[code_N >= 0] for code_N in mixed_BN]


def tell_apart(decoded_BND: Tensor, states_CND: Tensor, caption_B: Tensor, sharpness: float) -> Tensor:
    """Cross-entropy of which of C captions each one was decoded to, by the cosine of what differs from the captions' mean.

    Most of the squared error is what all captions share; this asks for what they do not.
    """
    mean_ND = states_CND.mean(dim=0)
    decoded_BF, states_CF = (functional.normalize((part - mean_ND).flatten(1), dim=1) for part in (decoded_BND, states_CND))
    return functional.cross_entropy(sharpness * decoded_BF @ states_CF.T, caption_B)


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

    def forward(
        self, images_u8: Tensor, style_B: Tensor, donor_B: Tensor, states_BND: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch as `Lessons` draws it; gradients pass the choice of patches, and of codes, as if they were none.

        `states_BND` are those of each picture's thing in its donor's style.
        """
        recipe, codebook = self.recipe, self.tokenizer.quantize.embedding.weight
        patch_BNW = see(self.vision, scale_pixels(images_u8))
        score_BN2 = self.tokenizer.token_predictor(patch_BNW)
        soft_BN, keep_BN = self.choose(score_BN2, generator)
        vector_BNE = self.tokenizer.encode_patches(patch_BNW, keep_BN.float() + soft_BN - soft_BN.detach())
        with torch.no_grad():
            codebook.copy_(functional.normalize(codebook, dim=-1))
            code_K = self.tokenizer.quantize.find_codes(vector_BNE[keep_BN])
        vector_KE, chosen_KE = vector_BNE[keep_BN], codebook[code_K]
        alike = self.compare(vector_BNE, keep_BN, style_B)
        code_error = 2 - 2 * ((vector_KE.detach() * chosen_KE).sum(-1) + recipe.commitment * (vector_KE * chosen_KE.detach()).sum(-1)).mean()
        is_free = self.num_batches < recipe.free_steps
        passed_KE = vector_KE + (chosen_KE - vector_KE).detach() * ~is_free
        condition = self.decoder(self.mix(passed_KE, keep_BN, donor_B))
        error = functional.mse_loss(condition.states_BND.float(), states_BND.float()) / states_BND.float().var()
        apart = tell_apart(condition.states_BND.float(), states_BND.float(), torch.arange(len(states_BND), device=keep_BN.device), recipe.sharpness)
        share_BN, inner_N = score_BN2.exp()[..., 0], find_inner(keep_BN.shape[1]).to(keep_BN.device)
        shares = (share_BN[:, inner_N].mean() - recipe.inner_share).square() + (share_BN[:, ~inner_N].mean() - recipe.outer_share).square()
        regular = recipe.code_weight * code_error * ~is_free + recipe.keep_weight * shares
        loss = error + recipe.apart_weight * apart + recipe.alike_weight * alike + regular
        self.count_codes(code_K, vector_KE.detach(), generator)
        figures = {"error": error.detach(), "apart": apart.detach(), "alike": alike.detach(), "kept": keep_BN.float().mean()}
        return loss, {**figures, "codes_used": (self.usage > 0.05).float().mean()}

    def compare(self, vector_BNE: Tensor, keep_BN: Tensor, style_B: Tensor) -> Tensor:
        """Measure, from 0 to 2, how far a thing's inner patches differ between the two halves of a batch, and outer ones from their style's mean."""
        inner_N = find_inner(keep_BN.shape[1]).to(keep_BN.device)
        (first_BNE, second_BNE), (first_BN, second_BN) = vector_BNE.chunk(2), keep_BN.chunk(2)
        inner = 1 - (first_BNE * second_BNE).sum(-1)[first_BN & second_BN & inner_N]
        same_BB = (style_B[:, None] == style_B).float()
        weight_BN1 = keep_BN[..., None].float()
        mean_BNE = functional.normalize(torch.einsum("ij,jne->ine", same_BB, (vector_BNE * weight_BN1).detach()), dim=-1)
        outer = 1 - (vector_BNE * mean_BNE).sum(-1)[keep_BN & ~inner_N]
        return torch.stack([part.mean() for part in (inner, outer) if len(part)]).sum() if len(inner) + len(outer) else vector_BNE.new_zeros(())

    def mix(self, passed_KE: Tensor, keep_BN: Tensor, donor_B: Tensor) -> list[Tensor]:
        """Put every picture's inner patches, of those that are kept, together with its donor's outer ones, in the order of patches."""
        inner_N = find_inner(keep_BN.shape[1]).to(keep_BN.device)
        all_BNE = passed_KE.new_zeros((*keep_BN.shape, passed_KE.shape[1])).masked_scatter(keep_BN[..., None], passed_KE)
        mixed_BNE = torch.where(inner_N[:, None], all_BNE, all_BNE[donor_B])
        mixed_BN = torch.where(inner_N, keep_BN, keep_BN[donor_B])
        none = ~mixed_BN.any(dim=1, keepdim=True)  # neither kept any: all of its own
        mixed_BNE, mixed_BN = torch.where(none[..., None], all_BNE, mixed_BNE), torch.where(none, keep_BN, mixed_BN)
        return list(mixed_BNE[mixed_BN].split(mixed_BN.sum(dim=1).tolist()))

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
    def place_codes(self, images_u8: Tensor, seed: int) -> Tensor:
        """Return every picture's codes at their patches, chosen as the pipeline does: (B, N), -1 for patches that are not kept."""
        parts = []
        for start in range(0, len(images_u8), 64):
            patch_BNW = see(self.vision, scale_pixels(images_u8[start : start + 64]))
            count, num_patches = patch_BNW.shape[:2]
            noise_BN2 = draw_noise([torch.Generator().manual_seed(seed + start)], count * num_patches).view(count, num_patches, 2)
            keep_BN = self.tokenizer.choose_patches(patch_BNW, noise_BN2.to(patch_BNW.device))
            code_BN = self.tokenizer.quantize.find_codes(self.tokenizer.encode_patches(patch_BNW, keep_BN).flatten(0, 1)).view(count, num_patches)
            parts.append(torch.where(keep_BN, code_BN, -1))
        return torch.cat(parts)

    def read_codes(self, codes: list[Tensor]) -> list[Tensor]:
        """Return the vectors (K, E) of every picture's codes; that of the first code for a picture without any."""
        return [self.tokenizer.quantize.read_codes(code_K if len(code_K) else code_K.new_zeros(1)) for code_K in codes]

    def write_codes(self, images_u8: Tensor, seed: int) -> list[Tensor]:
        """Return every picture's codes (K,)."""
        return [code_N[code_N >= 0] for code_N in self.place_codes(images_u8, seed)]


class CodeReader(nn.Module):
    """What is trained next: the decoder alone, on the codes as they now are, among all captions at once."""

    def __init__(self, coder: PictureCoder, lessons: Lessons) -> None:
        super().__init__()
        recipe = coder.recipe
        self.recipe, self.decoder, self.read = recipe, coder.decoder, coder.read_codes
        self.codes_DBN = torch.stack([coder.place_codes(lessons.images, seed=1000 * draw) for draw in range(recipe.code_draws)])
        self.captions_CND = lessons.captions.flatten(0, 1).float()

    def forward(self, lessons: Lessons, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch: inner codes of a picture, of some of them the outer ones of another."""
        rows = lessons.draw_rows(self.recipe.batch_size, generator)
        donors = lessons.draw_donors(rows, self.recipe.mixed_share, generator)
        draws = torch.randint(len(self.codes_DBN), (len(rows),), generator=generator, device=rows.device)
        codes = mix_codes(self.codes_DBN[draws, rows], donors)
        vectors = [vector_KE.detach() for vector_KE in self.read(codes)]
        decoded_BND = self.decoder(vectors).states_BND.float()
        caption_B = lessons.pairs[rows, 0] * lessons.row_of.shape[1] + lessons.pairs[rows[donors], 1]
        error = functional.mse_loss(decoded_BND, self.captions_CND[caption_B]) / self.captions_CND[caption_B].var()
        apart = tell_apart(decoded_BND, self.captions_CND, caption_B, self.recipe.sharpness)
        return error + self.recipe.apart_weight * apart, {"error": error.detach(), "apart": apart.detach()}


@torch.no_grad()
def measure_coder(coder: PictureCoder, known: Lessons, held: Lessons) -> dict[str, float]:
    """Decode the codes of held-out pairs, and what a language model should write of them: inner codes of the thing, outer ones of the style.

    Of each how often it is nearest to the right style's, and thing's, caption among the held-out ones.
    """
    wanted = held.find_states(held.pairs).float()
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.nonzero(known.pairs[:, 0] == thing)[:, 0][:1] for thing, _ in held.pairs.tolist()])
    of_style = [torch.nonzero(known.pairs[:, 1] == style)[:, 0] for style in range(held.row_of.shape[1])]
    donors = torch.stack([of_style[style][torch.randint(len(of_style[style]), (), generator=generator)] for _, style in held.pairs.tolist()])
    own = coder.place_codes(held.images, seed=0)
    inner_N = find_inner(own.shape[1])
    known_BN = coder.place_codes(known.images[torch.cat([rows, donors])], seed=1)
    mixed = mix_codes(known_BN, torch.arange(len(known_BN)).roll(-len(rows)))[: len(rows)]
    figures = {"held_out_codes": (own >= 0).sum().item() / len(own), "held_out_inner_codes": (own[:, inner_N] >= 0).sum().item() / len(own)}
    for name, codes in (("", mix_codes(own, torch.arange(len(own)))), ("mixed_", mixed)):
        vectors = coder.read_codes(codes)
        decoded = torch.cat([coder.decoder(vectors[start : start + 64]).states_BND for start in range(0, len(vectors), 64)])
        nearest = torch.cdist(decoded.flatten(1), wanted.flatten(1)).argmin(dim=1)
        same = held.pairs[nearest] == held.pairs
        figures |= {
            f"held_out_{name}error": (functional.mse_loss(decoded, wanted) / wanted.var()).item(),
            f"held_out_{name}style": same[:, 1].float().mean().item(),
            f"held_out_{name}thing": same[:, 0].float().mean().item(),
        }
    return figures
