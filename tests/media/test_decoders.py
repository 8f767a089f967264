from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from comfystream.errors import MediaError
from comfystream.media import decoders
from comfystream.media.decoders import accelerator, choose_decoder, prove_nvdec
from comfystream.media.file_source import FileSource
from comfystream.media.planes import byte_planes


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A "GPU" that decodes in software, and what it does to the pictures."""
    state = SimpleNamespace(is_hwaccel=True, spoil=lambda images: images)

    class FakeHardware:
        def __init__(self) -> None:
            self._inner = av.CodecContext.create("h264", "r")
            self.is_hwaccel = state.is_hwaccel

        def decode(self, packet: Any) -> Any:
            return state.spoil([image.reformat(format="nv12") for image in self._inner.decode(packet)])

    monkeypatch.setattr(decoders, "_hardware", FakeHardware)
    prove_nvdec.cache_clear()
    yield state
    prove_nvdec.cache_clear()


def _blacken(images: list[av.VideoFrame]) -> list[av.VideoFrame]:
    for image in images:
        np.frombuffer(image.planes[0], np.uint8)[:] = 16
    return images


def test_a_decoder_is_proved_by_what_it_decodes(fake_gpu: SimpleNamespace) -> None:
    assert prove_nvdec() == ""
    assert choose_decoder("auto") == "nvdec"
    assert choose_decoder("nvdec") == "nvdec"


@pytest.mark.parametrize(
    ("spoil", "is_hwaccel", "reason"),
    [
        (_blacken, True, "other ones came out"),
        (lambda images: images[:0], True, "other ones came out"),
        (lambda images: images, False, "in software"),
    ],
    ids=["black", "none", "software"],
)
def test_one_that_gives_something_else_is_not_used(
    fake_gpu: SimpleNamespace, spoil: Any, is_hwaccel: bool, reason: str
) -> None:
    fake_gpu.spoil, fake_gpu.is_hwaccel = spoil, is_hwaccel
    assert reason in prove_nvdec()
    assert choose_decoder("auto") == "software"
    assert accelerator("auto") is None
    with pytest.raises(MediaError, match="NVDEC does not work on this machine") as raised:
        choose_decoder("nvdec")
    assert raised.value.code == "no_decoder"


def test_software_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "prove_nvdec", lambda: pytest.fail("it was asked"))
    assert accelerator("software") is None


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(MediaError, match='"vaapi" is no decoder'):
        choose_decoder("vaapi")


def test_a_file_is_refused_when_the_decoder_that_was_named_does_not_work(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "prove_nvdec", lambda: "FFmpeg finds no NVIDIA driver")
    clip = repository / "workflows" / "assets" / "demo.mp4"
    with pytest.raises(MediaError, match="finds no NVIDIA driver"):
        FileSource(clip, decoder="nvdec")
    assert FileSource(clip, decoder="auto").info.video is not None


@pytest.mark.gpu
def test_a_film_by_the_gpu_is_the_film(repository: Path) -> None:
    if reason := prove_nvdec():
        pytest.skip(f"needs a CUDA device with NVDEC: {reason}")
    clip = repository / "workflows" / "assets" / "demo.mp4"
    ours, theirs = FileSource(clip, decoder="nvdec"), FileSource(clip)
    pairs = list(zip(ours.frames(), theirs.frames(), strict=True))
    assert [one.pts for one, _ in pairs] == [other.pts for _, other in pairs]
    for one, other in pairs[:10]:
        assert one.image.format.name == "nv12"  # type: ignore[union-attr]
        lumas = [byte_planes(f.image.reformat(format="yuv420p"))[0] for f in (one, other)]  # type: ignore[union-attr]
        assert np.array_equal(*lumas)
    assert {frame.image.colorspace for frame, _ in pairs} == {frame.image.colorspace for _, frame in pairs}  # type: ignore[union-attr]
