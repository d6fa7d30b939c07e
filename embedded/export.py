"""Write the shipped folders again from the latest checkpoints of the recipes: `python -m embedded.export`.

The recipes export at every checkpoint themselves; this is for a checkpoint that came from elsewhere.
"""

import torch

from embedded import train_captioner, train_clip, train_judge, train_unet, train_vae
from embedded.stickers import DEFAULT_UNIVERSE, load_stickers
from embedded.training import TRAIN_DIR, read_checkpoint
from pipeline.data.openmoji import STYLES, read_concepts
from pipeline.models.judge import JudgeConfig


def read_average(name: str) -> dict[str, torch.Tensor] | None:
    """Give the averaged weights of a recipe's checkpoint, or nothing if there is none."""
    checkpoint = read_checkpoint(TRAIN_DIR / name / "checkpoint.pt")
    return None if checkpoint is None else checkpoint["average"]


def export_captioner(state: dict[str, torch.Tensor]) -> None:
    """Build the captioner around its weights."""
    config, stickers = train_captioner.CaptionerConfig(), load_stickers(DEFAULT_UNIVERSE)
    processor = train_captioner.build_processor(stickers, config)
    model = train_captioner.build_captioner(config, train_clip.ClipConfig(), len(processor.tokenizer))
    train_captioner.export_captioner(state, model, processor)


def export_judge(state: dict[str, torch.Tensor]) -> None:
    """Add the judge's vocabulary."""
    names = tuple(concept.name for concept in read_concepts(DEFAULT_UNIVERSE))
    train_judge.export_judge(state, JudgeConfig(styles=STYLES, concepts=names, width=train_judge.JudgeRecipe().width))


def main() -> None:
    """Export every model that has a checkpoint."""
    exporters = {
        "vae": lambda state: train_vae.export_vae(state, train_vae.VaeConfig(), load_stickers()),
        "clip": lambda state: train_clip.export_clip(state, train_clip.ClipConfig()),
        "captioner": export_captioner,
        "judge": export_judge,
        "unet": lambda state: train_unet.export_unet(state, train_unet.UnetConfig(), train_vae.VaeConfig().latent_channels),
    }
    for name, export in exporters.items():
        state = read_average(name)
        print(f"{name}: {'no checkpoint' if state is None else 'exported'}")
        if state is not None:
            export(state)


if __name__ == "__main__":
    main()
