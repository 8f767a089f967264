"""Graphs on a runner of the engine in this process."""

from __future__ import annotations

import json
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from frames import picture

from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import FailPolicy, RunnerOptions
from comfystream.frames import VideoFrame
from comfystream.workflow.read import read_workflow

DEADLINE_S = 170


class Live:
    """A graph on a runner of the engine in this process."""

    def __init__(self, graph: dict, folder: Path) -> None:
        self.graph, self.file = graph, folder / "graph.json"
        self.engine, self.outputs, self.events = LocalEngine(), [], []
        options = RunnerOptions(live=False, on_error=FailPolicy.HOLD)
        self.arrived = threading.Condition()
        self.runner = self.engine.open(options, self._take, self.events.append)
        self.sent = 0
        self.edit()

    def edit(self, **changes) -> None:
        """`edit(lora={"strength": 2})` changes inputs of a node and switches over."""
        graph = json.loads(json.dumps(self.graph))
        for id, inputs in changes.items():
            graph[id]["inputs"].update(inputs)
        self.file.write_text(json.dumps(graph))
        workflow = read_workflow(self.file, self.engine.host.catalog)
        self.runner.activate(self.runner.prepare(workflow, (64, 64)).result(DEADLINE_S))
        self.graph = graph

    def send(self, count: int) -> None:
        """The same picture each time; waits for what comes out, so that an edit after it is after it."""
        for _ in range(count):
            pixels = (picture()[0].numpy() * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            self.runner.submit(VideoFrame(self.sent, self.sent, Fraction(1, 30), frame))
            self.sent += 1
            with self.arrived:
                assert self.arrived.wait_for(lambda: len(self.outputs) >= self.sent, DEADLINE_S)

    def _take(self, frame) -> None:
        with self.arrived:
            self.outputs.append(frame)
            self.arrived.notify_all()

    def end(self) -> list[np.ndarray]:
        assert self.runner.finish(DEADLINE_S)
        self.failed = self.runner.stats().failed
        self.runner.close()
        self.engine.close()
        return [frame.image.to_ndarray(format="rgb24") for frame in self.outputs]


def graph_of(folder: Path, **sampler) -> dict:
    def node(cls: str, **inputs) -> dict:
        return {"class_type": cls, "inputs": inputs}

    given = {"t_index_list": "20,40", "num_inference_steps": 50, "cfg_type": "self", "guidance_scale": 1.2}
    given |= {"delta": 0.7, "seed": 2, **sampler}
    return {
        "in": node("LoadTensor"),
        "model": node("StreamDiffusionLoadModel", model=str(folder)),
        "prompt": node("StreamDiffusionPrompt", model=["model", 0], text="a cat"),
        "stream": node("StreamDiffusionSampler", model=["model", 0], image=["in", 0], prompt=["prompt", 0], **given),
        "out": node("SaveTensor", images=["stream", 0]),
    }
