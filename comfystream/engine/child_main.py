"""The engine process: a `LocalEngine` behind a wire. Started by `engine.child`, never by hand."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Client
from typing import Any

from comfystream import logs
from comfystream.allocator import keep_few_arenas
from comfystream.channels import Closed
from comfystream.engine.events import Event
from comfystream.engine.local import LocalEngine
from comfystream.engine.once_job import OnceDone, OnceJob
from comfystream.engine.protocol import RunnerOptions
from comfystream.engine.runner import LocalRunner
from comfystream.engine.shared_frames import PackedFrame, SlotReader, SlotWriter
from comfystream.engine.wire import Call, Feed, Freed, Happened, HappenedOnce, Out, Ready, Reply, Wire
from comfystream.errors import ComfyStreamError, EngineError
from comfystream.frames import Frame, TextCue

__all__ = ["main"]

OUT_SLOTS = 4
# quick ones that frames sent after them rely on; the others may wait
IN_ORDER = {"open", "prepare", "withdraw", "activate", "set_fail_policy", "run_once", "stop_once"}


class _ServedRunner:
    """One run: feeds it from the wire and puts its outputs on the wire."""

    def __init__(self, id: int, wire: Wire, engine: LocalEngine, options: RunnerOptions) -> None:
        self.id = id
        self.name = options.name
        self._wire = wire
        self._reader = SlotReader()
        self.out_slots = SlotWriter(OUT_SLOTS)
        self._inbox: queue.SimpleQueue[PackedFrame | None] = queue.SimpleQueue()
        self.runner: LocalRunner = engine.open(options, self._on_output, self._on_event)
        self._feeder = threading.Thread(target=self._feed, name=f"feed-{id}", daemon=True)
        self._feeder.start()

    def push(self, packed: PackedFrame) -> None:
        """An input has come; how many wait here is bounded by the sender's slots."""
        self._inbox.put(packed)

    def _feed(self) -> None:
        logs.enter(self.name)
        while (packed := self._inbox.get()) is not None:
            frame = self._reader.read(packed)
            if not isinstance(frame, TextCue):
                with contextlib.suppress(Closed):
                    self.runner.submit(frame)
            if packed.slot is not None:  # afterwards: the frame need not wait for this message
                self._wire.send(Freed(self.id, packed.slot))

    def finish(self, timeout_s: float | None) -> bool:
        """All inputs that were sent before are in; wait until all has come out."""
        self._inbox.put(None)
        self._feeder.join(timeout_s)
        return self.runner.finish(timeout_s)

    def _on_output(self, frame: Frame) -> None:
        packed = self.out_slots.write(frame)
        if packed is not None:
            self._wire.send(Out(self.id, packed))

    def _on_event(self, event: Event) -> None:
        self._wire.send(Happened(self.id, event))

    def close(self) -> None:
        """End the run."""
        self.out_slots.close()
        self._inbox.put(None)
        self.runner.close()
        self._reader.close()


class _Server:
    def __init__(self, wire: Wire, engine: LocalEngine) -> None:
        self._wire = wire
        self._engine = engine
        self._runners: dict[int, _ServedRunner] = {}
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="call")

    def serve(self) -> None:
        """Until the other side is gone."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._dispatch(self._wire.receive())

    def _dispatch(self, message: Any) -> None:
        match message:
            case Feed(runner, packed) if runner in self._runners:
                self._runners[runner].push(packed)
            case Freed(runner, slot) if runner in self._runners:
                self._runners[runner].out_slots.free(slot)
            case Call(method=method) if method in IN_ORDER:
                self._answer(message)
            case Call():
                self._pool.submit(self._answer, message)

    def _answer(self, call: Call) -> None:
        try:
            value = self._call(call)
        except Exception as error:  # noqa: BLE001 - request handler: the caller gets it
            self._reply(call.id, error=error)
            return
        if isinstance(value, Future):
            value.add_done_callback(lambda done: self._reply_with(call.id, done))
        else:
            self._reply(call.id, value)

    def _call(self, call: Call) -> Any:
        logs.enter("")
        if call.method == "run_once":
            return self._run_once(call.runner or 0, *call.arguments)
        if call.runner is None:
            return getattr(self._engine, call.method)(*call.arguments)
        if call.method == "open":
            self._runners[call.runner] = _ServedRunner(call.runner, self._wire, self._engine, *call.arguments)
            return None
        served = self._runners[call.runner]
        logs.enter(served.name)
        if call.method == "finish":
            return served.finish(*call.arguments)
        if call.method == "close":
            self._runners.pop(call.runner).close()
            return None
        return getattr(served.runner, call.method)(*call.arguments)

    def _run_once(self, id: int, job: OnceJob) -> Future[OnceDone]:
        def tell(event: Event) -> None:
            with contextlib.suppress(OSError):
                self._wire.send(HappenedOnce(id, event))

        return self._engine.run_once(id, job, tell)

    def _reply_with(self, id: int, done: Future[Any]) -> None:
        if done.cancelled():
            self._reply(id, error=EngineError("the run was closed", code="closed"))
        elif (error := done.exception()) is not None:
            self._reply(id, error=error)
        else:
            self._reply(id, done.result())

    def _reply(self, id: int, value: Any = None, error: BaseException | None = None) -> None:
        with contextlib.suppress(OSError):
            self._wire.send(Reply(id, value, _portable(error) if error is not None else None))

    def close(self) -> None:
        """End all runs."""
        for served in self._runners.values():
            served.close()
        self._engine.close()


def _portable(error: BaseException) -> ComfyStreamError:
    """The error as it can be pickled: its cause, which may hold anything, stays here."""
    if isinstance(error, ComfyStreamError):
        error.__cause__ = error.__context__ = error.__traceback__ = None
        return error
    traceback.print_exception(error)
    return EngineError(f"{type(error).__name__}: {error}")


def main() -> None:
    """Serve the engine until the other side is gone. Standard input says where to connect and what to load."""
    faulthandler.enable()
    keep_few_arenas()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends us in order
    address, key, options, level = pickle.loads(sys.stdin.buffer.read())  # from our parent, over our own pipe
    logs.to_parent(level, sys.stderr)
    wire = Wire(Client(address, authkey=key))
    try:
        engine = LocalEngine(options)
    except ComfyStreamError as error:
        wire.send(Reply(0, error=_portable(error)))
        return
    gc.collect()
    wire.send(Ready())
    server = _Server(wire, engine)
    server.serve()
    server.close()
    sys.stderr.flush()
    os._exit(0)  # threads of node packs must not keep the process of a parent that is gone
