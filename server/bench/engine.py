"""`bench engine`: what the engine adds per frame to the nodes' own work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from comfystream.catalog.comfyui import ComfyUIOptions, find_checkout
from comfystream.engine.lanes import LaneState
from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import EngineOptions, RunnerOptions
from comfystream.engine.runner import LocalRunner
from comfystream.frames import Lane, VideoFrame
from comfystream.workflow.model import Link, Workflow

from .comfyui import ComfyUI
from .graphs import BUILT_IN, PACK, chain, comfyui_graph, live
from .rows import Goal, Row
from .timing import Contestant, interleaved_cpu_us

__all__ = ["bench_engine"]

LENGTHS = (5, 10, 30)
KINDS = {"V1": "BenchPass", "V3": "BenchPassV3"}
GOAL = Goal("ratio", 1.5)
LOOP = "bare loop"


def bench_engine(*, comfyui: Path | None = None, rounds: int = 200, batch: int = 20) -> Iterator[Row]:
    """Chains of pass-through nodes beside a bare loop that calls the same functions.

    Args:
        comfyui: a ComfyUI checkout to compare with as well.
        rounds: samples per figure.
        batch: calls per sample.

    Raises:
        AssetError: the checkout cannot be loaded with this interpreter.
    """
    options = _options(comfyui)
    with _engine(options) as engine, _comfyui(comfyui) as other:
        for case, nodes in _cases(with_built_in=other is not None):
            with _Chain(engine, live(*nodes)) as measured:
                yield from measured.rows(case, rounds, batch)
                if other is not None:
                    yield from _beside_comfyui(measured, other, case, _for_comfyui(nodes), rounds)


def _for_comfyui(nodes: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The same for ComfyUI. Where nodes only pass, its source and its sink are two of them: as many nodes in all."""
    if nodes == [*BUILT_IN]:
        return comfyui_graph("BenchPicture", *nodes)
    return comfyui_graph("BenchSource", *nodes[2:])


def _options(folder: Path | None) -> ComfyUIOptions | None:
    """What our engine loads of the checkout.

    Raises:
        ConfigError: it is none.
    """
    found = find_checkout(str(folder)) if folder is not None else None
    return ComfyUIOptions(str(found), api_nodes=False) if found is not None else None


def _cases(*, with_built_in: bool) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    for kind, class_type in KINDS.items():
        for length in LENGTHS:
            yield f"{length} {kind} nodes", chain(class_type, length)
    if with_built_in:
        yield f"{len(BUILT_IN)} built-in nodes", [*BUILT_IN]


@contextmanager
def _engine(comfyui: ComfyUIOptions | None) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(packs=(str(PACK),), threads=1, comfyui=comfyui))
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def _comfyui(folder: Path | None) -> Iterator[ComfyUI | None]:
    if folder is None:
        yield None
        return
    with ComfyUI(folder) as other:
        yield other


class _Chain:
    """A prepared run whose ticks are called from here, on a thread set up as a lane's thread is."""

    def __init__(self, engine: LocalEngine, workflow: Workflow) -> None:
        self._host = engine.host
        self._runner = _activated(engine, workflow, profile=True)
        self._unprofiled = _activated(engine, workflow, profile=False)

    def __enter__(self) -> _Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()
        self._unprofiled.close()

    def rows(self, case: str, rounds: int, batch: int) -> Iterator[Row]:
        """The graph alone, and a whole tick, beside the bare loop."""
        contestants = [
            _bare_loop(self._runner),
            _graph(self._runner),
            _graph(self._unprofiled),
            _tick(self._runner),
        ]
        loop, graph, unprofiled, tick = self.on_lane_thread(lambda: interleaved_cpu_us(contestants, rounds, batch))
        yield Row("engine", case, "graph", "us", graph, loop, LOOP, GOAL)
        yield Row("engine", case, "graph, untimed", "us", unprofiled, loop, LOOP)
        yield Row("engine", case, "tick", "us", tick, loop, LOOP, GOAL)
        yield Row("engine", case, "tick without graph", "us", tick - graph)

    def beside(self, other: Callable[[], float], rounds: int) -> tuple[float, list[float]]:
        """Median of our tick in microseconds, and what `other` gave after each of our samples."""
        theirs: list[float] = []
        tick = _tick(self._runner)

        def measure() -> float:
            def theirs_too() -> None:
                theirs.append(other())

            return interleaved_cpu_us([tick, theirs_too], rounds, 1, warm_up=5)[0]

        return self.on_lane_thread(measure), theirs[5:]

    def on_lane_thread(self, work: Callable[[], Any]) -> Any:
        """Run on a fresh thread in inference mode: what a lane does once, for its whole life."""
        answer: Future[Any] = Future()

        def run() -> None:
            self._host.enter_thread()
            try:
                answer.set_result(work())
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                answer.set_exception(error)

        thread = threading.Thread(target=run, name="bench-lane")
        thread.start()
        thread.join()
        return answer.result()


def _activated(engine: LocalEngine, workflow: Workflow, *, profile: bool) -> LocalRunner:
    runner = engine.open(RunnerOptions(live=True, profile=profile), lambda frame: None, lambda event: None)
    runner.activate(runner.prepare(workflow, (64, 64)).result())
    return runner


def _graph(runner: LocalRunner) -> Contestant:
    """The compiled tick of the video lane."""
    running = runner.current
    assert running is not None
    tick = running.activation.lanes[Lane.VIDEO]
    frame = _picture()
    return lambda: tick.run(frame)


def _picture() -> Any:
    import torch

    return torch.zeros((1, 64, 64, 3))


def _tick(runner: LocalRunner) -> Contestant:
    """All that a lane's thread does for a frame; pictures are there as a tensor and as a picture already."""
    import av

    state = runner.new_lane_states([Lane.VIDEO])[Lane.VIDEO]
    _leave_out_conversion(state, _picture(), av.VideoFrame(64, 64, "yuv420p"))
    frame = VideoFrame(0, 0, Fraction(1, 30), av.VideoFrame(64, 64, "yuv420p"))
    return lambda: runner.tick(Lane.VIDEO, frame, state)


class _NoConversion:
    """Stands in for the reader and the writer of pictures, whose cost `bench file` shows."""

    def __init__(self, gives: Any) -> None:
        self._gives = gives

    def read(self, image: Any) -> Any:
        return self._gives

    def write(self, tensor: Any, like: Any) -> Any:
        return self._gives


def _leave_out_conversion(state: LaneState, tensor: Any, image: Any) -> None:
    lane: Any = state
    lane.reader = _NoConversion(tensor)
    lane.emitter._writer = _NoConversion(image)


def _bare_loop(runner: LocalRunner) -> Contestant:
    """The same bound functions in a precompiled list, called one after the other."""
    running = runner.current
    assert running is not None
    activation = running.activation
    steps = activation.lanes[Lane.VIDEO].plan.steps
    place = {step.id: i for i, step in enumerate(steps, 1)}
    program = [
        (
            activation.binder.function(step),
            dict(step.constants),
            [(name, place.get(link.node, 0), link.slot) for name, link in step.links],
            step.spec.api == "v3",
        )
        for step in steps
    ]
    result = activation.lanes[Lane.VIDEO].plan.outputs[0].value
    assert isinstance(result, Link)
    return _loop(program, place[result.node])


Instruction = tuple[Callable[..., Any], dict[str, Any], list[tuple[str, int, int]], bool]


def _loop(program: list[Instruction], result: int) -> Contestant:
    frame = (_picture(),)

    def run() -> Any:
        values: list[Any] = [frame]
        for function, constants, links, is_v3 in program:
            arguments = constants.copy()
            for name, producer, slot in links:
                arguments[name] = values[producer][slot]
            output = function(**arguments)
            values.append(output.args if is_v3 else output)
        return values[result]

    return run


def _beside_comfyui(
    chain: _Chain, other: ComfyUI, case: str, prompt: dict[str, Any], rounds: int
) -> Iterator[Row]:
    for mode in other.modes:
        program = other.load(prompt, mode)
        ours, theirs = chain.beside(program, rounds)
        name = f"ComfyUI {other.version}, {mode} cache"
        yield Row("engine", case, "tick", "us", ours, sorted(theirs)[len(theirs) // 2], name)
