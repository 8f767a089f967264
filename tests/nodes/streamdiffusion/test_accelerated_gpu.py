"""On a real GPU: streams on every backend that runs there, beside PyTorch as it is."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from backends_here import need_backend
from frames import picture, settings_for

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.accel.accelerate import How
from comfystream.accel.cache import EngineCache
from comfystream.errors import EngineError
from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.control import Control, ControlModel
from comfystream_nodes.streamdiffusion.core import Guidance
from comfystream_nodes.streamdiffusion.loader_nodes import add_image_prompt, style_of
from comfystream_nodes.streamdiffusion.loading.entry import placed
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.stream import Stream

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]
BACKENDS = ("eager", "cuda-graph", "inductor", "tensorrt", "tensorrt-rtx")
DEADLINE_S = 300


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    need_backend(request.param)
    return request.param


@pytest.fixture(scope="module")
def engines(tmp_path_factory) -> EngineCache:
    return EngineCache(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def styled(request, tmp_path_factory, model_folders):
    folder, family = tmp_path_factory.mktemp("adapter"), request.param
    with torch.inference_mode():
        model = placed(load_folder(model_folders[family]), torch.device("cuda"), torch.float16)
        tiny.write_ip_adapter(folder / "adapter.safetensors", tiny.unet(family))
        tiny.image_encoder().save_pretrained(folder / "encoder")
        return add_image_prompt(model, str(folder / "adapter.safetensors"), str(folder / "encoder"))


def settled(stream: Stream, delay: int) -> None:
    """Frames until the settings that were asked for are in force."""
    deadline = time.monotonic() + DEADLINE_S
    while stream.delay_frames != delay:
        assert time.monotonic() < deadline
        stream.process(picture())


def test_the_same_pictures_with_everything_at_once(styled, engines, backend: str) -> None:
    family = str(styled.family)
    net = ControlModel("net", tiny.controlnet(family).to("cuda", torch.float16))
    style = style_of(styled, torch.rand(1, 50, 70, 3), 0.8)
    fast = accelerated(styled, backend, max_rows=8, how=How(cache=engines))
    base = settings_for(styled, steps=(20,), guidance=Guidance.of("none", 1, 1))
    base = replace(base, style=style, controls=(Control(net, 0.7, "soft_edge"),))
    one, two = Stream(styled, base), Stream(fast, base)
    changes = (
        {},
        {"steps": (10, 20, 32, 45), "guidance": Guidance.of("full", 1.4, 1)},
        {"style": None},
        {"controls": ()},
    )
    for change in changes:
        one.settings = two.settings = replace(base, **change)
        two.prepare(picture())
        for number in range(5):
            plain, quick = one.process(picture(number)), two.process(picture(number))
        torch.testing.assert_close(quick, plain, atol=3e-2, rtol=3e-2)


def test_steps_change_beside_the_stream(styled, engines, backend: str) -> None:
    fast = accelerated(styled, backend, max_rows=8, how=How(cache=engines))
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    stream, twin = Stream(fast, base), Stream(styled, base)
    stream.process(picture())
    for steps in ((16, 32, 45), (20, 40), (30,)):
        stream.settings = twin.settings = replace(base, steps=steps)
        settled(stream, len(steps) - 1)
        for number in range(5):
            plain, quick = twin.process(picture(number)), stream.process(picture(number))
        torch.testing.assert_close(quick, plain, atol=3e-2, rtol=3e-2)


def test_a_tick_does_not_wait_for_the_device(styled, engines, backend: str) -> None:
    if backend == "eager":
        pytest.skip("eager NOT RUN: what a model does in PyTorch is its own")
    fast = accelerated(styled, backend, how=How(cache=engines))
    stream = Stream(fast, settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7)))
    frame = picture().cuda()
    stream.process(frame)
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = [stream.process(frame) for _ in range(5)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(one.isfinite().all() for one in made)


@pytest.mark.parametrize("recording", ["cuda-graph", "inductor", "tensorrt", "tensorrt-rtx"])
def test_a_tick_is_one_launch_and_no_edit_records_it_anew(styled, engines, recording: str) -> None:
    need_backend(recording)
    family = str(styled.family)
    net = ControlModel("net", tiny.controlnet(family).to("cuda", torch.float16))
    style = style_of(styled, torch.rand(1, 50, 70, 3), 0.8)
    fast = accelerated(styled, recording, max_rows=8, how=How(cache=engines))
    base = settings_for(styled, steps=(20, 40), guidance=Guidance.of("full", 1.4, 0.7))
    base = replace(base, style=style, controls=(Control(net, 0.7, "soft_edge"),))
    one, two = Stream(styled, base), Stream(fast, base)
    two.prepare(picture())
    assert (two.process(picture()) - one.process(picture())).abs().max() < 0.1
    recorded = two._networks.recorded
    for change in (
        {"prompt": styled.prompts.encode("a dog")},
        {"guidance": Guidance.of("full", 2.5, 0.7)},
        {"steps": (16, 45)},
        {"seeds": ((9, 1.0),)},
        {"controls": (Control(net, 0.2, "soft_edge"),)},
        {"style": replace(style, scale=0.3)},
    ):
        one.settings = two.settings = replace(base, **change)
        for number in range(5):
            plain, quick = one.process(picture(number)), two.process(picture(number))
        torch.testing.assert_close(quick, plain, atol=3e-2, rtol=3e-2)
        assert two._networks.recorded is recorded
    if two.tick_graph != "yes":
        assert recording.startswith("tensorrt"), two.tick_graph
        pytest.skip(f"{recording} NOT RECORDED: {two.tick_graph}")
    two.settings = replace(base, controls=(Control(net, 0.2, "passthrough"),))  # what draws is not recorded
    frame = picture().cuda()
    calls = launched(lambda: two.process(frame))
    assert calls["cudaGraphLaunch"] == 1
    assert sum(count for name, count in calls.items() if "LaunchKernel" in name) < 10, calls


def launched(tick) -> dict[str, int]:
    """How often each function of the CUDA runtime was called."""
    tick()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[*torch.profiler.supported_activities()]) as profile:
        tick()
        torch.cuda.synchronize()
    return {event.key: event.count for event in profile.key_averages()}


def test_what_is_recorded_beside_does_not_disturb_what_runs(styled, engines) -> None:
    """Each layout has buffers of its own: trying one out while another runs changes no picture of it."""
    fast = accelerated(styled, "cuda-graph", max_rows=8, how=How(cache=engines))
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    one, two = Stream(styled, base), Stream(fast, base)
    frame = picture()
    for _ in range(4):
        plain, quick = one.process(frame), two.process(frame)
    two.settings = replace(base, steps=(16, 32, 45))
    deadline = time.monotonic() + DEADLINE_S
    while two.delay_frames == 1 and time.monotonic() < deadline:
        torch.testing.assert_close(quick, plain, atol=3e-2, rtol=3e-2)
        quick = two.process(frame)
        plain = one.process(frame) if two.delay_frames == 1 else plain
    assert two.delay_frames == 2


def test_a_full_gpu_is_told_and_the_stream_goes_on(styled, engines) -> None:
    fast = accelerated(styled, "cuda-graph", max_rows=64, how=How(cache=engines))
    base = settings_for(fast, steps=(20,), guidance=Guidance.of("none", 1, 1))
    stream = Stream(fast, base)
    before = stream.process(picture())
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(max(0.001, (total - free + (8 << 20)) / total))
    try:
        stream.settings = replace(base, steps=tuple(range(40)), size=(1024, 1024))
        with pytest.raises(EngineError, match="out of GPU memory"):
            settled(stream, 39)
        torch.testing.assert_close(stream.process(picture()), before, atol=3e-2, rtol=3e-2)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
