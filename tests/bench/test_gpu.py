"""What `make bench-gpu` does, on a CPU with tiny models. Run: python -m pytest tests/bench/test_gpu.py"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from typer.testing import CliRunner

from pipeline.compose import compose_params
from tests.bench import gpu
from tests.bench.full_size import NUM_CLIP_PARAMETERS, NUM_QWEN_PARAMETERS, build_blip2, build_clip, build_qwen
from tests.bench.gpu_races import Line, Sizes, TokenCounter
from tests.bench.utilisation import watch_gpu
from tests.configs import REPO
from tests.tiny_encoders import save_tiny_blip2, save_tiny_clip
from tests.tiny_models import LLM_DIM, save_tiny_qwen2, save_tiny_stable_diffusion

TINY = Sizes(captions=2, images=2, keywords=2, pictures=2, loop=1, side=24, interactions=400, items=40, reflection_steps=1)
SAVERS = {
    "captioner": lambda folder, device: save_tiny_blip2(folder),
    "clip": lambda folder, device: save_tiny_clip(folder),
    "language_model": lambda folder, device: save_tiny_qwen2(folder),
    "diffusion": lambda folder, device: save_tiny_stable_diffusion(folder),
}
SMALL = [
    "captioning.num_beams=1",
    "captioning.max_new_tokens=2",
    "keywords.max_new_tokens=3",
    "generation.steps=2",
    "reflection.reward_steps=2",
    "reflection.batch_cases=2",
    "reflection.draw_batch=4",
    "mapper.d_model=16",
    "mapper.ffn_dim=16",
    "mapper.num_img_tokens=2",
    "ranker.embedding_dim=8",
    "ranker.batch_size=128",
    *(f"{stage}.batch_size=2" for stage in ("captioning", "embedding", "keywords", "generation")),
]


def test_every_rate_is_measured_by_the_same_code_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    compiled: list[int] = []
    monkeypatch.setattr(UNet2DConditionModel, "compile_repeated_blocks", lambda unet: compiled.append(len(unet.down_blocks)))
    compose_params(["models=paper", *SMALL], conf=REPO / "conf", out=tmp_path / "params.yaml")
    device = torch.device("cpu")
    lines = list(gpu.measure_all(tmp_path / "params.yaml", tmp_path, device, TINY, savers=SAVERS, llm_dim=LLM_DIM))
    assert compiled == [2]
    assert [line.unit for line in lines] == ["captions/s", "items/s", "tokens/s", "images/s", "steps/s", "pictures/s", "pictures/s", "epochs/s"]
    assert [line.goal for line in lines] == [400, None, 12_500, 2700, None, 7, 7, 2]
    assert all(line.rate > 0 for line in lines)
    assert [line.name for line in lines if line.loop is None] == ["MICRO, 400 interactions, 40 items"]
    assert [line.unit for line in lines if line.decoding is not None] == ["captions/s", "images/s"]
    assert all(line.decoding > 0 for line in lines if line.decoding is not None)
    assert not (tmp_path / "captioner").exists()
    assert not (tmp_path / "language_model").exists()


def test_without_a_gpu_it_is_one_sentence_and_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "explain_unusable", lambda: "there is no card")
    ended = CliRunner().invoke(gpu.app, ["--out", str(tmp_path / "page.md")])
    assert ended.exit_code == 2
    assert ended.stderr == "error: make bench-gpu needs an NVIDIA GPU, and this machine has no usable one: there is no card.\n"
    assert not (tmp_path / "page.md").exists()


def test_the_page_names_goals_and_whether_they_are_reached() -> None:
    lines = [Line("BLIP-2", "captions/s", 412.0, 21.5, 400, 93.4, 0.123), Line("MICRO", "epochs/s", 1.5, None, 2)]
    page = gpu.write_table(lines, "NVIDIA X")
    assert "| BLIP-2 | captions/s | 412 | 21.50 | ≥ 400: reached | 93% | 12% |" in page
    assert "| MICRO | epochs/s | 1.50 | – | ≥ 2: missed | – | – |" in page
    assert "on one NVIDIA X," in page


def test_the_models_have_the_published_sizes() -> None:
    with torch.device("meta"):
        counts = [sum(parameter.numel() for parameter in build().parameters()) for build in (build_clip, build_qwen, build_blip2)]
    assert counts[:2] == [NUM_CLIP_PARAMETERS, NUM_QWEN_PARAMETERS]
    assert counts[2] == pytest.approx(3.745e9, rel=1e-3)


def test_tokens_are_counted_by_rows_of_the_head() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 3)

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.head

    model = Model()
    counter = TokenCounter(model)
    model.head(torch.zeros(5, 2))
    model.head(torch.zeros(1, 1, 2))
    assert counter.count == 6


def test_utilisation_is_the_mean_of_the_samples(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"import pathlib, time; print('20\\n60', flush=True); pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    with watch_gpu([sys.executable, "-c", script]) as watch:
        while not ready.exists():
            time.sleep(0.01)
    assert watch.percent == 40.0
    with watch_gpu(["no-such-command"]) as watch:
        pass
    assert watch.percent is None
