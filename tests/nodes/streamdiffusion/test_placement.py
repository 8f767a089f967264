"""A model's UNet is brought to the device when something runs it, and only the one that is run."""

from __future__ import annotations

import pytest
import torch
from frames import picture, settings_for

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.errors import EngineError
from comfystream_nodes.streamdiffusion import model as model_module
from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.handover import Handover
from comfystream_nodes.streamdiffusion.loader_nodes import add_image_prompt
from comfystream_nodes.streamdiffusion.loading.entry import placed
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.lora import with_lora
from comfystream_nodes.streamdiffusion.model import StreamModel
from comfystream_nodes.streamdiffusion.stream import Stream

HALF = torch.float16


def loaded(folder, device: str = "cpu", dtype: torch.dtype = HALF) -> StreamModel:
    return placed(load_folder(tiny.write_folder(folder)), torch.device(device), dtype)


@pytest.mark.parametrize("backend", [None, "eager"])
def test_it_is_brought_when_a_stream_is_made_ready(tmp_path, backend: str | None) -> None:
    model = loaded(tmp_path / "model")
    used = model if backend is None else accelerated(model, backend)
    assert not used.is_placed
    stream = Stream(used, settings_for(used))
    assert not stream.is_ready(picture())  # so that it is done beside a stream that runs
    stream.prepare(picture())
    assert stream.is_ready(picture())
    assert used.is_placed
    assert Stream(used, settings_for(used)).is_ready(picture())
    assert stream.process(picture()).dtype == HALF


@pytest.mark.parametrize("backend", [None, "eager"])
def test_of_a_model_with_loras_only_the_last_one_is(tmp_path, backend: str | None) -> None:
    base = loaded(tmp_path / "model")
    lora = tiny.write_lora(tmp_path / "style.safetensors")
    first = with_lora(base, lora, 0.5)
    second = with_lora(first, lora, 0.25)
    used = second if backend is None else accelerated(second, backend)
    whole = load_folder(tmp_path / "model")
    wanted = placed(with_lora(whole, lora, 0.75), torch.device("cpu"), HALF)
    made = Stream(used, settings_for(used)).process(picture())
    torch.testing.assert_close(made, Stream(wanted, settings_for(wanted)).process(picture()), atol=5e-3, rtol=1e-2)
    assert [one.is_placed for one in (base, first, second)] == [False, False, True]
    assert all(one.dtype == torch.float32 for one in base.unet.parameters())


def test_an_ip_adapter_s_layers_come_with_it(tmp_path) -> None:
    model = loaded(tmp_path / "model")
    tiny.write_ip_adapter(tmp_path / "adapter.safetensors", model.unet)
    tiny.image_encoder().save_pretrained(tmp_path / "encoder")
    styled = add_image_prompt(model, str(tmp_path / "adapter.safetensors"), str(tmp_path / "encoder"))
    assert not styled.is_placed
    assert Stream(styled, settings_for(styled)).process(picture()).isfinite().all()
    assert styled.is_placed
    assert not model.is_placed


def test_a_model_that_has_no_room_is_refused_and_the_stream_goes_on(tmp_path, monkeypatch) -> None:
    model, handover = loaded(tmp_path / "one", dtype=torch.float32), Handover()
    stream = handover.to(model, lambda: Stream(model, settings_for(model)), picture())
    before = stream.process(picture())
    large = loaded(tmp_path / "two")

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def frames() -> None:
        for _ in range(500):
            assert handover.to(large, lambda: Stream(large, settings_for(large)), picture()) is stream
            assert torch.equal(stream.process(picture()), before)

    monkeypatch.setattr(model_module, "bring", full)
    with pytest.raises(EngineError, match=r"two.*memory"):
        frames()
    assert handover.to(large, lambda: Stream(large, settings_for(large)), picture()) is stream


@pytest.mark.gpu
@pytest.mark.parametrize("backend", [None, "eager", "cuda-graph"])
def test_on_a_gpu_it_is_there_once(tmp_path, backend: str | None) -> None:
    """Not the base, not the LoRA's first stage, and none before something runs."""
    lora = tiny.write_lora(tmp_path / "style.safetensors")

    def held() -> int:
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    base = loaded(tmp_path / "model", "cuda")
    size = sum(one.numel() * 2 for one in base.unet.parameters())
    before = held()
    model = with_lora(with_lora(base, lora, 0.5), lora, 0.25)
    assert held() - before < size / 4  # what it adds to the text encoder
    used = model if backend is None else accelerated(model, backend)
    stream = Stream(used, settings_for(used))
    stream.process(picture())
    on_device = [sum(one.is_cuda for one in module.unet.parameters()) for module in (base, model)]
    assert on_device == [0, len(list(model.unet.parameters()))]
