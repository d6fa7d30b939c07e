"""The judge of drawn styles and concepts. Run: python -m pytest tests/pipeline/models/test_judge.py -q"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.models.judge import Judge, JudgeConfig, JudgeNetwork, Verdict, load_judge

CONFIG = JudgeConfig(styles=("classic", "neon"), concepts=("dog", "cat", "rose"), image_size=16, width=4)


@pytest.fixture
def judge_dir(tmp_path):
    torch.manual_seed(0)
    save_file(JudgeNetwork(CONFIG).state_dict(), tmp_path / "model.safetensors")
    config = {"styles": CONFIG.styles, "concepts": CONFIG.concepts, "image_size": CONFIG.image_size, "width": CONFIG.width}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_every_image_of_any_size_gets_a_style_and_a_concept(judge_dir):
    judge = load_judge(judge_dir)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size=(*size, 3), dtype=np.uint8) for size in ((16, 16), (40, 24), (8, 8))]
    verdicts = judge.name_images(images)
    assert all(verdict.style in CONFIG.styles and sorted(verdict.concepts) == sorted(CONFIG.concepts) for verdict in verdicts)
    assert judge.name_images([images[1]]) == [verdicts[1]]
    assert judge.name_images([]) == []


def test_a_verdict_names_the_largest_logit():
    network = JudgeNetwork(CONFIG)
    with torch.no_grad():
        for head, winner in ((network.style_head, 1), (network.concept_head, 2)):
            head.weight.zero_()
            head.bias.zero_()
            head.bias[winner] = 1.0
    judge = Judge(network, CONFIG, torch.device("cpu"))
    assert judge.name_images([np.zeros((16, 16, 3), dtype=np.uint8)]) == [Verdict("neon", ("rose", "dog", "cat"))]


def test_a_verdict_names_the_five_likeliest_concepts_in_order():
    config = JudgeConfig(styles=("classic",), concepts=tuple("abcdefg"), image_size=16, width=4)
    network = JudgeNetwork(config)
    with torch.no_grad():
        network.concept_head.weight.zero_()
        network.concept_head.bias.copy_(torch.tensor([0.0, 6.0, 2.0, 5.0, 3.0, 1.0, 4.0]))
    (verdict,) = Judge(network, config, torch.device("cpu")).name_images([np.zeros((16, 16, 3), dtype=np.uint8)])
    assert verdict.concepts == ("b", "d", "g", "e", "c")


def test_a_judge_learns_to_tell_dark_from_light():
    torch.manual_seed(0)
    network = JudgeNetwork(CONFIG)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    label_B = torch.arange(16) % 2
    pixel_BCHW = (label_B.view(-1, 1, 1, 1) * 1.0 - 0.5).expand(-1, 3, 16, 16) + 0.1 * torch.randn(16, 3, 16, 16)
    for _ in range(12):
        style_BS, _ = network(pixel_BCHW)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(style_BS, label_B).backward()
        optimizer.step()
    judge = Judge(network, CONFIG, torch.device("cpu"))
    dark, light = (np.full((16, 16, 3), value, dtype=np.uint8) for value in (60, 195))
    assert [verdict.style for verdict in judge.name_images([dark, light])] == ["classic", "neon"]


def test_a_folder_without_weights_or_with_others_is_refused(judge_dir):
    save_file({"wrong": torch.zeros(1)}, judge_dir / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit the judge"):
        load_judge(judge_dir)
    (judge_dir / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load_judge(judge_dir)
