"""Why a GPU cannot be used. Run: python -m pytest tests/pipeline/test_gpu.py"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.gpu import explain_driver, explain_unusable, has_card, is_compiled_for, is_hidden

OLD = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Update it (Triggered internally at x)"


@pytest.fixture(autouse=True)
def _ask_again() -> Iterator[None]:
    explain_unusable.cache_clear()
    yield
    explain_unusable.cache_clear()  # what was answered for an imagined card holds for no later test


def make_card(root: Path, *, vendor: str = "0x10de", kind: str = "0x030200") -> None:
    folder = root / "sys" / "bus" / "pci" / "devices" / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")


def make_file(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()


@pytest.mark.parametrize(("vendor", "kind", "found"), [("0x10de", "0x030000", True), ("0x10de", "0x040300", False), ("0x8086", "0x030000", False)])
def test_a_card_is_an_nvidia_graphics_card(tmp_path: Path, vendor: str, kind: str, found: bool) -> None:
    assert not has_card(tmp_path)
    make_card(tmp_path, vendor=vendor, kind=kind)
    assert has_card(tmp_path) == found


def test_each_reason_is_told_apart(tmp_path: Path) -> None:
    explain = lambda said="": explain_driver(said, built_for="13.2", root=tmp_path)  # noqa: E731
    assert explain(OLD) == "the NVIDIA driver is older than CUDA 13.2, for which torch is built; update the driver"
    assert explain() == "there is no NVIDIA card"
    make_card(tmp_path)
    assert explain().startswith("there is an NVIDIA card, but no driver; install the NVIDIA driver")
    make_file(tmp_path, "proc/driver/nvidia/version")
    assert "there is no /dev/nvidia0; start the container with its GPUs (`--gpus all`)" in explain()
    make_file(tmp_path, "dev/nvidia0")
    assert explain("CUDA unknown error - this may be due to (Triggered internally at x)").startswith(
        "CUDA does not start (CUDA unknown error - this may be due to); does `nvidia-smi`"
    )


def test_the_driver_that_torch_warns_of_is_named_though_warnings_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn() -> bool:
        warnings.warn(OLD, stacklevel=1)
        return False

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert explain_unusable() == "the NVIDIA driver is older than CUDA 13.2, for which torch is built; update the driver"


def test_a_build_without_cuda_and_a_hidden_card_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert explain_unusable() == "CUDA_VISIBLE_DEVICES is '' and hides every GPU; unset it, or set it to 0"
    explain_unusable.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA; `make setup` installs the build with it" in explain_unusable()
    assert [is_hidden(value) for value in ("", "-1", "-1,0", "none", "NoDevFiles", "0", "1,-1", "GPU-12ab")] == [True] * 5 + [False] * 3


def test_a_usable_card_has_kernels_of_its_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    built = ["sm_75", "sm_80", "sm_90a", "compute_90"]
    assert [is_compiled_for(card, built) for card in ((7, 5), (8, 6), (9, 0), (12, 0), (6, 1), (7, 0))] == [True, True, True, True, False, False]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    assert explain_unusable() == "the GPU's generation (sm_61) is not one that this build of torch is compiled for"
    explain_unusable.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    assert explain_unusable() is None
