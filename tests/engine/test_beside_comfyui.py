"""The engine on the node classes of a ComfyUI: what nodes send, what interrupts them, in a process of its own too."""

from __future__ import annotations

from typing import Any

import pytest
from engine_harness import DEADLINE_S, Run, grey, link, node, video, wait_for
from stub_comfyui import write_comfyui

from comfystream.catalog.comfyui import ComfyUIOptions
from comfystream.engine.child import ChildEngine
from comfystream.engine.events import NodeFailed, NodeMessage
from comfystream.engine.protocol import EngineOptions, FailPolicy
from comfystream.errors import EngineError
from comfystream.workflow.read import parse_workflow

STEPS = '''
import sys, threading
import comfy.model_management, comfy.utils
from server import PromptServer

class Base:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"image": ("IMAGE",)}}

class StopsAtWhite(Base):
    """Asks for the prompt to be stopped, as some packs do, and goes on to a place that looks."""
    def run(self, image):
        if image.mean() < 0.9:
            return (image,)
        comfy.model_management.interrupt_current_processing(True)
        comfy.utils.ProgressBar(2).update_absolute(1)
        return (image,)

class Samples(Base):
    """Takes steps until somebody stops it."""
    @classmethod
    def INPUT_TYPES(cls): return {"required": {}}
    def run(self):
        bar, step = comfy.utils.ProgressBar(10), 0
        never = threading.Event()
        while True:
            PromptServer.instance.send_sync(f"step {step}", {"node": "s"})
            bar.update_absolute(step % 10)
            step += 1
            never.wait(0.01)

NODE_CLASS_MAPPINGS = {"StopsAtWhite": StopsAtWhite, "Samples": Samples}
'''


@pytest.fixture(scope="module", params=["Exception", "BaseException"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """One engine per way in which ComfyUI has told interruptions."""
    folder = write_comfyui(tmp_path_factory.mktemp("stub") / "ComfyUI", interrupt_base=request.param)
    (folder / "custom_nodes" / "steps.py").write_text(STEPS)
    hosted = ChildEngine(EngineOptions(threads=1, comfyui=ComfyUIOptions(str(folder))))
    yield hosted
    hosted.close()


def graph(last: str, **nodes: Any) -> dict[str, Any]:
    """Live picture in, what node `last` gives out."""
    return {"in": node("LoadTensor"), **nodes, "out": node("SaveTensor", images=link(last))}


INVERT = graph("a", a=node("ImageInvert", image=link("in")))


def test_its_nodes_run_on_frames_and_what_they_send_comes_as_events(engine: ChildEngine) -> None:
    run = Run(engine)
    run.load(graph("b", a=node("ImageInvert", image=link("in")), b=node("Extra", image=link("a"))))
    run.feed(*(video(i, 255) for i in range(5))).finish()
    assert [(frame.id, grey(frame)) for frame in run.pictures] == [(i, 0) for i in range(5)]
    sent = run.events_of(NodeMessage)
    assert sent
    assert (sent[0].name, sent[0].node_id) == ("extra.ran", "x")
    assert 0 <= sent[0].data["mean"] <= 1
    run.runner.close()


def test_an_interruption_is_a_failure_of_that_node_and_not_the_end_of_the_lane(engine: ChildEngine) -> None:
    run = Run(engine, live=True, on_error=FailPolicy.HOLD)
    run.load(graph("a", a=node("StopsAtWhite", image=link("in"))), video(0, 0))
    run.feed(video(1, 0))
    wait_for(lambda: len(run.pictures) == 1, "the first picture")
    run.feed(video(2, 255))
    (failed,) = wait_for(lambda: run.events_of(NodeFailed), "the interruption")
    assert (failed.node_id, failed.class_type) == ("a", "StopsAtWhite")
    assert "stopped it" in failed.hint
    run.feed(video(3, 0))
    wait_for(lambda: run.pictures[-1].id == 3, "a picture after it")
    run.runner.close()


def test_the_end_of_a_run_stops_a_sampler_at_its_next_step(engine: ChildEngine) -> None:
    run = Run(engine, live=True)
    endless = graph("b", a=node("Samples"), b=node("ImageInvert", image=link("a")))
    preparing = run.runner.prepare(parse_workflow(endless))
    wait_for(lambda: len(run.events_of(NodeMessage)) > 2, "its first steps")
    run.runner.close()
    error = preparing.exception(DEADLINE_S)
    assert isinstance(error, EngineError), error
    other = Run(engine)  # and no other run is hurt
    other.load(INVERT)
    other.feed(video(0)).finish()
    assert len(other.pictures) == 1
    other.runner.close()
