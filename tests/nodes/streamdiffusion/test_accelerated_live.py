"""A running stream on a backend: nothing slow in its ticks, buffers of its own, and no failure that stops it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import pytest
import torch
from fake_backends import FakeEngines, FakeGraphs
from frames import picture, settings_for
from live_graph import Live, graph_of

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.accel.accelerate import How
from comfystream.accel.backend import BuildOptions
from comfystream.accel.cache import EngineCache
from comfystream.errors import ComfyStreamError, EngineError
from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.control import Control, ControlModel
from comfystream_nodes.streamdiffusion.core import Guidance
from comfystream_nodes.streamdiffusion.handover import Handover
from comfystream_nodes.streamdiffusion.lora import with_lora
from comfystream_nodes.streamdiffusion.sampler_node import StreamDiffusionSampler
from comfystream_nodes.streamdiffusion.stream import Stream

NONE = Guidance.of("none", 1.0, 1.0)
DEADLINE_S = 60


@pytest.fixture
def graphs() -> FakeGraphs:
    return FakeGraphs()


@pytest.fixture
def fast(models, graphs):
    return accelerated(models["sd15"], "cuda-graph", max_rows=8, known={"cuda-graph": graphs})


def until(stream: Stream, is_so) -> torch.Tensor:
    """Frames until something is so, which another thread makes."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        made = stream.process(picture())
        if is_so():
            return made
        time.sleep(0.005)
    raise AssertionError("it did not come about")


# --- what a tick does


def test_nothing_is_recorded_in_a_tick(models, fast, graphs) -> None:
    """The first frame records (that is the rehearsal); other rows are recorded on another thread, and kept."""
    base = settings_for(fast, steps=(20, 40), guidance=NONE)
    stream = Stream(fast, base)
    stream.process(picture())
    own = threading.current_thread().name
    assert graphs.threads == [own] * 3
    graphs.threads.clear()
    graphs.gate.clear()
    before = stream.process(picture())
    stream.settings = replace(base, steps=(16, 32, 45))
    for _ in range(3):
        assert torch.allclose(stream.process(picture()), before, atol=1e-5)
        assert stream.delay_frames == 1
    graphs.gate.set()
    until(stream, lambda: stream.delay_frames == 2)
    assert len(graphs.threads) == 1  # the UNet alone: the autoencoder runs one frame as before
    assert own not in graphs.threads
    graphs.threads.clear()
    for steps in ((20, 40), (16, 32, 45)) * 2:
        stream.settings = replace(base, steps=steps)
        stream.process(picture())
        assert stream.delay_frames == len(steps) - 1
    assert graphs.threads == []
    twin = Stream(models["sd15"], stream.settings)
    for number in range(4):
        stream.process(picture(number)), twin.process(picture(number))
    assert torch.allclose(stream.process(picture(9)), twin.process(picture(9)), atol=1e-4)


def test_a_prompt_a_strength_and_a_scale_record_nothing_anew(models, fast, graphs) -> None:
    net = ControlModel("net", tiny.controlnet("sd15"))
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("full", 1.4, 1), controls=(Control(net, 1.0),))
    stream, twin = Stream(fast, base), Stream(models["sd15"], base)
    stream.process(picture()), twin.process(picture())
    graphs.threads.clear()
    dog = fast.prompts.encode("a dog")
    for change in ({"prompt": dog}, {"guidance": Guidance.of("full", 3.0, 1)}, {"seeds": ((5, 1.0),)}):
        stream.settings = twin.settings = replace(base, **change)
        assert torch.allclose(stream.process(picture()), twin.process(picture()), atol=1e-4)
    for strength in (0.3, 0.0):
        stream.settings = twin.settings = replace(base, controls=(Control(net, strength),))
        assert torch.allclose(stream.process(picture()), twin.process(picture()), atol=1e-4)
    assert graphs.threads == []


def test_4_a_tick_on_a_backend_reads_nothing_back_and_binds_nothing(fast, monkeypatch) -> None:
    """Defect 4, for the runners of a stream: only copies into buffers that stay, and launches."""
    stream = Stream(fast, settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7)))
    stream.process(picture())
    bound = [one.runner for rows in stream._networks._used.values() for one in rows]
    places = [tensor.data_ptr() for one in bound for tensor in (*one.inputs.values(), *one.outputs.values())]

    def forbidden(self, *args, **kwargs):
        raise AssertionError("a tick waited for the device, or bound something")

    for name in ("item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    for one in bound:
        monkeypatch.setattr(one, "bind", forbidden)
    for number in range(3):
        made = stream.process(picture(number))
    monkeypatch.undo()
    assert torch.isfinite(made).all()
    after = [tensor.data_ptr() for one in bound for tensor in (*one.inputs.values(), *one.outputs.values())]
    assert after == places


def test_what_is_the_same_is_not_copied_again(fast, monkeypatch) -> None:
    stream = Stream(fast, settings_for(fast, steps=(20, 40), guidance=NONE))
    stream.process(picture())
    unet = stream._networks._used["unet"][0].runner
    put: list[str] = []
    copy = unet.put
    monkeypatch.setattr(unet, "put", lambda name, value: (put.append(name), copy(name, value)))
    stream.process(picture(1))
    assert put == ["sample"]
    stream.settings = replace(stream.settings, prompt=fast.prompts.encode("a dog"))
    stream.process(picture(2))
    assert put[1:] == ["encoder_hidden_states", "sample"]


def test_another_size_and_a_first_control_are_built_beside_the_stream(models, tmp_path) -> None:
    engines = FakeEngines()
    how = How(cache=EngineCache(tmp_path))
    model = accelerated(models["sd15"], "tensorrt", how=how, known={"tensorrt": engines})
    base = settings_for(model, steps=(20,), guidance=NONE)
    stream = Stream(model, base)
    stream.prepare(picture())
    net = ControlModel("net", tiny.controlnet("sd15"))
    for change, shape in (({"size": (96, 64)}, (1, 64, 96, 3)), ({"controls": (Control(net, 0.8),)}, (1, 64, 64, 3))):
        before = stream.process(picture()).shape
        engines.gate.clear()
        wanted = stream.settings = replace(base, **change)
        assert stream.process(picture()).shape == before
        engines.gate.set()
        until(stream, lambda wanted=wanted: stream._plan.settings is wanted)
        made = stream.process(picture())
        assert made.shape == shape
        assert torch.allclose(made, Stream(models["sd15"], wanted).process(picture()), atol=1e-4)
    assert threading.current_thread().name in engines.threads[:3]
    assert threading.current_thread().name not in engines.threads[3:]


# --- several streams of one model


@pytest.mark.parametrize("backend", ["eager", "cuda-graph", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_two_streams_of_one_model_do_not_mix(models, graphs, tmp_path, backend: str) -> None:
    """Each has buffers of its own; what they share are the weights, or the engine."""
    known = {"cuda-graph": graphs} if backend == "cuda-graph" else None
    how = How(cache=EngineCache(tmp_path), options=BuildOptions(exporter="legacy"))
    model = accelerated(models["sd15"], backend, how=how, known=known)
    first = settings_for(model, "a cat", steps=(20, 40), guidance=Guidance.of("full", 1.5, 1.0))
    second = settings_for(model, "a dog", steps=(10, 30), guidance=Guidance.of("full", 2.5, 1.0), seeds=((7, 1.0),))
    alone = [[stream.process(picture(n)) for n in range(4)] for stream in (Stream(model, first), Stream(model, second))]
    pair = Stream(model, first), Stream(model, second)
    together = [[], []]
    for number in range(4):
        for stream, made in zip(pair, together, strict=True):
            made.append(stream.process(picture(number)))
    assert all(
        torch.equal(a, b) for one, two in zip(alone, together, strict=True) for a, b in zip(one, two, strict=True)
    )
    bound = [{one.runner.inputs["sample"].data_ptr() for one in stream._networks._used["unet"]} for stream in pair]
    assert not bound[0] & bound[1]


# --- what goes wrong


def test_a_full_device_frees_what_it_took_and_the_stream_goes_on(fast, graphs) -> None:
    base = settings_for(fast, steps=(20, 40), guidance=NONE)
    stream = Stream(fast, base)
    before = stream.process(picture())
    graphs.is_full = True
    stream.settings = replace(base, steps=(16, 32, 45))
    with pytest.raises(EngineError, match=r"unet \(eager in a CUDA graph\): out of GPU memory") as caught:
        until(stream, lambda: False)
    assert caught.value.code == "out_of_memory"
    assert "smaller size" in caught.value.hint
    held = [runner for runner in graphs.runners if runner.inputs]
    assert {runner.spec.name for runner in held} == {"vae_encoder", "unet", "vae_decoder"}
    assert len(held) == 3  # what it runs; the twin that did not fit has let go of its buffers
    for _ in range(3):  # told once
        assert torch.allclose(stream.process(picture()), before, atol=1e-4)
    graphs.is_full = False
    stream.settings = replace(base, steps=(16, 30, 45))
    until(stream, lambda: stream.delay_frames == 2)


def test_another_model_comes_in_when_it_is_ready(models, fast, graphs, tmp_path) -> None:
    """A LoRA that is added to a running stream: the node goes on with the model of before meanwhile."""
    node, prompt = StreamDiffusionSampler(), fast.prompts.encode("a cat")
    more = {"t_index_list": "20", "cfg_type": "none"}
    before = node.sample(fast, picture(), prompt, **more)[0]
    styled = with_lora(fast, tiny.write_lora(tmp_path / "style.safetensors"), 3.0)
    graphs.gate.clear()
    graphs.threads.clear()
    for _ in range(2):
        assert torch.equal(node.sample(styled, picture(), prompt, **more)[0], before)
    graphs.gate.set()
    deadline = time.monotonic() + DEADLINE_S
    while torch.equal(made := node.sample(styled, picture(), prompt, **more)[0], before):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    plain = with_lora(models["sd15"], tmp_path / "style.safetensors", 3.0)
    wanted = StreamDiffusionSampler().sample(plain, picture(), prompt, **more)[0]
    assert torch.allclose(made, wanted, atol=1e-4)
    assert threading.current_thread().name not in graphs.threads


def test_another_model_that_cannot_be_made_ready_is_told_once(models, fast, graphs) -> None:
    settings = settings_for(fast, steps=(20,), guidance=NONE)
    handover = Handover()
    running = handover.to(fast, lambda: Stream(fast, settings), picture())
    running.process(picture())
    graphs.is_full = True
    other = fast.with_parts(name="other")

    def next_stream() -> Stream:
        return handover.to(other, lambda: Stream(other, settings), picture())

    def wait_for_the_next() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            assert next_stream() is running
            time.sleep(0.005)

    with pytest.raises(EngineError, match="out of GPU memory"):
        wait_for_the_next()
    assert next_stream() is running
    assert torch.isfinite(running.process(picture())).all()
    assert handover.to(fast, lambda: Stream(fast, settings), picture()) is running


def refused(monkeypatch, tmp_path, model_folders, break_it) -> tuple[ComfyStreamError, list, Live]:
    """A running graph gets a model with engines that cannot be used."""
    engines = FakeEngines()
    monkeypatch.setattr("comfystream.accel.registry.backends", lambda: {"tensorrt": engines})
    monkeypatch.setenv("COMFYSTREAM_ENGINES", str(tmp_path / "engines"))
    live = Live(graph_of(model_folders["sd15"], t_index_list="20", cfg_type="none"), tmp_path)
    live.send(1)
    inputs = {"model": ["model", 0], "acceleration": "tensorrt", "max_rows": 1, "width": 64, "height": 64}
    before, live.graph = live.graph, json.loads(json.dumps(live.graph))
    live.graph["fast"] = {"class_type": "StreamDiffusionAccelerate", "inputs": inputs}
    break_it(engines, live)
    with pytest.raises(ComfyStreamError) as caught:
        live.edit(stream={"model": ["fast", 0]}, prompt={"model": ["fast", 0]})
    live.graph = before
    live.send(2)
    pictures = live.end()
    assert (len(pictures), live.failed) == (3, 0)
    return caught.value, pictures, live


def test_an_engine_of_another_gpu_is_refused(monkeypatch, tmp_path, model_folders) -> None:
    def break_it(engines: FakeEngines, live: Live) -> None:
        graph, first = live.graph, json.loads(json.dumps(live.graph))
        first["stream"]["inputs"]["model"] = first["prompt"]["inputs"]["model"] = ["fast", 0]
        live.graph = first
        live.edit()
        live.graph = graph
        live.edit()
        live.graph["fast"]["inputs"]["precision"] = "fp32"  # another value for the same engines: it is run again
        engines.gpu = "two"

    error, _, _ = refused(monkeypatch, tmp_path, model_folders, break_it)
    assert error.node_id == "fast"
    assert "refuses this engine: built for another GPU" in str(error)
    assert "build it again here" in str(error)


def test_a_file_has_its_engines_before_its_first_frame(monkeypatch, tmp_path, model_folders) -> None:
    """Its size is known; the stream that they are built by is another one, so that none sees a frame twice."""
    engines = FakeEngines()
    monkeypatch.setattr("comfystream.accel.registry.backends", lambda: {"tensorrt": engines})
    monkeypatch.setenv("COMFYSTREAM_ENGINES", str(tmp_path / "engines"))
    graph = graph_of(model_folders["sd15"])
    plain = Live(graph, tmp_path)
    plain.send(3)
    graph["fast"] = {
        "class_type": "StreamDiffusionAccelerate",
        "inputs": {"model": ["model", 0], "acceleration": "tensorrt"},
    }
    graph["stream"]["inputs"]["model"] = graph["prompt"]["inputs"]["model"] = ["fast", 0]
    live = Live(graph, tmp_path)
    said = [getattr(event, "message", "") for event in live.events]
    assert any(one.startswith("building engine 3/3 (vae_decoder)") for one in said)
    assert [thread.rstrip("_0123456789") for thread in engines.threads] == ["prepare"] * 3
    live.send(3)
    assert len(engines.threads) == 3
    for made, wanted in zip(live.end(), plain.end(), strict=True):
        assert abs(made.astype(int) - wanted.astype(int)).max() <= 1


def test_no_memory_to_build_is_told_with_its_node(monkeypatch, tmp_path, model_folders) -> None:
    def break_it(engines: FakeEngines, live: Live) -> None:
        engines.error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    error, _, live = refused(monkeypatch, tmp_path, model_folders, break_it)
    assert error.node_id == "fast"
    assert "out of GPU memory" in str(error)
    assert list((tmp_path / "engines").glob(".building*")) == []
    said = [event.message for event in live.events if getattr(event, "message", "")]
    assert "building engine 1/3 (vae_encoder): building" in said
