"""The video nodes as the engine runs them: a live picture, a clock, edits while it runs, bad ones that stop nothing."""

from __future__ import annotations

import json
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny
import tiny_video

from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import FailPolicy, RunnerOptions
from comfystream.errors import ComfyStreamError
from comfystream.frames import VideoFrame
from comfystream.workflow.read import read_workflow
from comfystream_nodes.streamdiffusion import NODE_CLASS_MAPPINGS

DEADLINE_S = 120
NODES = ("StreamVideoLoadModel", "StreamVideoLoRA", "StreamVideoPrompt", "StreamVideoSampler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_video.write_folder(tmp_path_factory.mktemp("video") / "wan")


def node(cls: str, **inputs) -> dict:
    return {"class_type": cls, "inputs": inputs}


def graph_of(folder: Path, is_live: bool = True, **sampler) -> dict:
    given = {"denoising_steps": "", "noise_scale": 0.7, "seed": 42, "width": 48, "height": 32, **sampler}
    live = {"image": ["in", 0]} if is_live else {}
    tae = {"vae": str(folder / "tae.pth"), "vae_type": "tae"}
    graph = {
        "model": node("StreamVideoLoadModel", pipeline="streamdiffusionv2", model=str(folder), **tae),
        "prompt": node("StreamVideoPrompt", model=["model", 0], text="a cat"),
        "stream": node("StreamVideoSampler", model=["model", 0], prompt=["prompt", 0], **live, **given),
        "out": node("SaveTensor", images=["stream", 0]),
    }
    return {**graph, "in": node("LoadTensor")} if is_live else graph


class Live:
    """A graph on a runner of the engine in this process."""

    def __init__(self, graph: dict, folder: Path, **options) -> None:
        self.graph, self.file = graph, folder / "graph.json"
        self.engine, self.outputs, self.events = LocalEngine(), [], []
        self.arrived = threading.Condition()
        given = RunnerOptions(live=False, on_error=FailPolicy.HOLD, **options)
        self.runner = self.engine.open(given, self._take, self.events.append)
        self.sent = 0
        self.edit({})

    def edit(self, changes: dict[str, dict], **nodes) -> None:
        """Inputs of nodes change, and nodes are added."""
        graph = json.loads(json.dumps({**self.graph, **nodes}))
        for id, inputs in changes.items():
            graph[id]["inputs"].update(inputs)
        self.file.write_text(json.dumps(graph))
        workflow = read_workflow(self.file, self.engine.host.catalog)
        self.runner.activate(self.runner.prepare(workflow, (64, 64)).result(DEADLINE_S))
        self.graph = graph

    def send(self, count: int) -> list[np.ndarray]:
        """Pictures that all differ; waits for what comes out, so that an edit after it is after it."""
        before = len(self.outputs)
        for _ in range(count):
            pixels = np.random.default_rng(self.sent).integers(0, 255, (64, 64, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            self.runner.submit(VideoFrame(self.sent, self.sent, Fraction(1, 30), frame))
            self.sent += 1
            with self.arrived:
                assert self.arrived.wait_for(lambda: len(self.outputs) >= self.sent, DEADLINE_S)
        return [_pixels(frame) for frame in self.outputs[before:]]

    def _take(self, frame) -> None:
        with self.arrived:
            self.outputs.append(frame)
            self.arrived.notify_all()

    def end(self) -> list[np.ndarray]:
        assert self.runner.finish(DEADLINE_S)
        self.stats = self.runner.stats()
        self.runner.close()
        self.engine.close()
        return [_pixels(frame) for frame in self.outputs]


def _pixels(frame: VideoFrame) -> np.ndarray:
    return frame.image.to_ndarray(format="rgb24")


def changes(pictures: list[np.ndarray]) -> list[bool]:
    """Whether each differs from the one before."""
    return [
        one.shape != two.shape or bool((one != two).any()) for one, two in zip(pictures, pictures[1:], strict=False)
    ]


@pytest.mark.parametrize("kind", ["tae", "wan"])
def test_a_live_picture_goes_through(tmp_path, folder, kind: str) -> None:
    graph = graph_of(folder)
    if kind == "wan":
        graph["model"]["inputs"] |= {"vae": "", "vae_type": "wan"}
    live = Live(graph, tmp_path)
    live.send(30)
    pictures = live.end()
    assert (len(pictures), live.stats.failed) == (30, 0)
    assert {one.shape for one in pictures} == {(32, 48, 3)}
    assert [frame.id for frame in live.outputs] == list(range(30))
    assert changes(pictures) == [number >= 3 for number in range(29)], "one new picture per frame, three frames late"


def test_half_precision_and_frames_made_ahead(tmp_path, folder) -> None:
    graph = graph_of(folder, work_ahead=True)
    graph["model"]["inputs"]["dtype"] = "bfloat16"
    live = Live(graph, tmp_path)
    live.send(24)
    pictures = live.end()
    assert (len(pictures), live.stats.failed) == (24, 0)
    assert all(changes(pictures)[8:]), "one new picture per frame, seven frames late"


def test_a_larger_chunk_has_nothing_at_first(tmp_path, folder) -> None:
    graph = graph_of(folder)
    graph["model"]["inputs"]["pipeline"] = "longlive"
    graph["prompt2"] = node("StreamVideoPrompt", model=["model", 0], text="a dog")
    live = Live(graph, tmp_path)
    live.send(40)
    pictures = live.end()
    assert (len(pictures), live.stats.failed, live.stats.dropped["blocked"]) == (40, 0, 8)
    assert {one.shape for one in pictures[8:]} == {(32, 48, 3)}
    assert changes(pictures)[20:] == [True] * 19, "from the second chunk on one new picture per frame"


def test_video_of_a_prompt_by_the_clock(tmp_path, folder) -> None:
    live = Live(graph_of(folder, is_live=False), tmp_path, clock_ticks=14)
    pictures = live.end()
    assert (len(pictures), live.stats.failed) == (14, 0)
    assert {one.shape for one in pictures} == {(32, 48, 3)}
    assert all(changes(pictures)), "a new picture every tick, without a delay"


def test_every_edit_holds_from_the_next_chunk(tmp_path, folder) -> None:
    live = Live(graph_of(folder), tmp_path)
    twin = Live(graph_of(folder), tmp_path)
    live.send(9)
    twin.send(9)
    for change in (
        {"prompt": {"text": "a dog"}},
        {"stream": {"denoising_steps": "900,500,100"}},
        {"stream": {"noise_scale": 0.3}},
        {"stream": {"seed": 9}},
        {"stream": {"kv_cache_attention_bias": 0.1, "manage_cache": False}},
        {"stream": {"reset": 1}},
    ):
        live.edit(change)
        made, plain = live.send(8), twin.send(8)
        assert any((one != other).any() for one, other in zip(made, plain, strict=True)), change
    live.edit({"stream": {"width": 64, "height": 64}})
    assert [one.shape for one in live.send(6)][-1] == (64, 64, 3)
    live.end()
    twin.end()
    assert (live.stats.failed, twin.stats.failed) == (0, 0)


def test_a_bad_edit_is_refused_and_the_stream_goes_on(tmp_path, folder) -> None:
    live = Live(graph_of(folder), tmp_path)
    live.send(6)
    whole = (folder / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 3])
    tiny.unet("sd15").save_pretrained(tmp_path / "sd")
    for change, said in (
        ({"stream": {"width": 500}}, "width is 500"),
        ({"stream": {"denoising_steps": "250,750"}}, "must fall"),
        ({"stream": {"denoising_steps": "many"}}, "'many' is no list of whole numbers"),
        ({"model": {"model": str(cut)}}, "cut.safetensors cannot be read"),
        ({"model": {"model": str(tmp_path / "sd")}}, "sd is no Wan transformer"),
        ({"model": {"model": "nothing/there"}}, "'nothing/there' is not there"),
        ({"model": {"vae": str(folder / "vae")}}, "is no tiny video autoencoder"),
        ({"model": {"acceleration": "tensorrt"}}, "acceleration"),
    ):
        before = live.graph
        with pytest.raises(ComfyStreamError, match=said) as raised:
            live.edit(change)
        assert raised.value.node_id == next(iter(change)), change
        live.graph = before
    foreign = tiny_video.write_lora(tmp_path / "14b.safetensors", "blocks.39.self_attn.q", 24)
    with pytest.raises(ComfyStreamError, match=r"LoRA 14b.safetensors is for another architecture") as raised:
        live.edit(
            {"stream": {"model": ["lora", 0]}},
            lora=node("StreamVideoLoRA", model=["model", 0], lora=str(foreign), strength=1.0),
        )
    assert raised.value.node_id == "lora"
    made = live.send(8)
    assert all(changes(made)), "not a frame is missing"
    live.end()
    assert live.stats.failed == 0


def test_a_lora_comes_in_while_it_runs(tmp_path, folder) -> None:
    live = Live(graph_of(folder), tmp_path)
    before = live.send(9)
    lora = tiny_video.write_lora(tmp_path / "style.safetensors")
    live.edit(
        {"stream": {"model": ["lora", 0]}},
        lora=node("StreamVideoLoRA", model=["model", 0], lora=str(lora), strength=2.0),
    )
    assert (live.send(1)[0] != before[-1]).any()  # another model begins anew: its first picture comes at once
    live.edit({"lora": {"strength": 0.0}})
    live.send(5)
    live.end()
    assert live.stats.failed == 0


def test_a_rehearsal_has_a_stream_of_its_own(folder) -> None:
    import copy

    sampler = NODE_CLASS_MAPPINGS["StreamVideoSampler"]()
    sampler._stream = object()
    assert copy.copy(sampler)._stream is None


def test_the_nodes_are_there() -> None:
    assert set(NODES) <= set(NODE_CLASS_MAPPINGS)
    for name in NODES:
        cls = NODE_CLASS_MAPPINGS[name]
        assert callable(getattr(cls, cls.FUNCTION))
        assert len(cls.RETURN_TYPES) == len(cls.RETURN_NAMES)
