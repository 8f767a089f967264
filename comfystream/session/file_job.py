"""A file through a workflow: decoding, graph and encoding each on a thread of their own, with bounded queues between.

    source -> Feeder -> Runner -> Writer -> sink

The caller's thread only watches: it reports progress, and it is where Ctrl-C arrives.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from comfystream.clock import Clock, SystemClock
from comfystream.engine.events import Event, NodeFailed, Progress
from comfystream.engine.protocol import Engine, Runner, RunnerOptions, RunnerStats
from comfystream.errors import ComfyStreamError, EngineError, MediaError, NodeError
from comfystream.media.file_sink import Written
from comfystream.session.crew import Crew
from comfystream.session.ends import Ends, open_ends
from comfystream.session.feeder import Feeder
from comfystream.session.limit import FrameLimit
from comfystream.session.options import FileJobOptions
from comfystream.session.progress import Rate
from comfystream.session.result import FileResult, JobProgress
from comfystream.session.stages import CountingClock, StageClock, stages
from comfystream.session.writer import Writer
from comfystream.workflow.bind import bind
from comfystream.workflow.model import Workflow

__all__ = ["FileJob"]

TICK_S = 0.1
END_S = 30.0
NO_STATS = RunnerStats({}, {}, {}, 0, {}, 0.0, ())


class FileJob:
    """One run of one file.

    Args:
        engine: runs the graph.
        workflow: what to run.
        options: what from, what to and how.
        on_progress: called on the caller's thread about ten times a second; while the workflow is prepared, on a thread
            of the engine when a node says what it does.
        on_event: the engine's events, on its threads.
        clock: paces `realtime`; injected for tests.
    """

    def __init__(
        self,
        engine: Engine,
        workflow: Workflow,
        options: FileJobOptions,
        *,
        on_progress: Callable[[JobProgress], None] = lambda progress: None,
        on_event: Callable[[Event], None] = lambda event: None,
        clock: Clock | None = None,
    ) -> None:
        self._engine = engine
        self._workflow = workflow
        self._options = options
        self._on_progress = on_progress
        self._on_event = on_event
        self._clock = clock or SystemClock()
        self._meter = StageClock()
        self._crew = Crew()
        self._stopped = threading.Event()
        self._written: Written | None = None
        self._is_done = False
        self._stats = NO_STATS
        self._failed_at: int | None = None
        self._is_preparing = True

    def run(self) -> FileResult:
        """Do it. The result is there only when it is complete; Ctrl-C completes what there is so far.

        Raises:
            WorkflowError, NodeError, EngineError: the workflow cannot be prepared, or failed.
            MediaError: the source cannot be read, or the result not be written.
            ConfigError: options that do not go with the workflow.
            KeyboardInterrupt: before there was anything to keep.
        """
        bindings = bind(self._workflow)
        with contextlib.ExitStack() as stack:
            ends = open_ends(self._options, bindings, CountingClock(self._clock, self._meter))
            stack.callback(ends.close)
            writer = Writer(ends.sink, ends.texts, ends.routes, self._meter)
            stack.callback(writer.abort)
            runner = self._engine.open(self._runner_options(ends), writer.put, self._hear)
            stack.callback(runner.close)
            return self._run(ends, writer, runner)

    def _runner_options(self, ends: Ends) -> RunnerOptions:
        return RunnerOptions(
            live=self._options.realtime,
            on_error=self._options.on_error,
            clock_fps=float(self._options.clock_fps),
            clock_ticks=self._options.clock_ticks() if ends.routes.is_clocked else None,
        )

    def _run(self, ends: Ends, writer: Writer, runner: Runner) -> FileResult:
        began = time.monotonic()
        self._on_progress(JobProgress("prepare"))
        limit = FrameLimit(self._options.duration_s, self._options.frames)
        feeder = Feeder(ends.source, runner, limit, self._meter, self._stopped)
        revision = runner.prepare(self._workflow, feeder.first() or ends.size).result()
        self._is_preparing = False
        self._crew.start("encode", lambda: self._encode(writer, feeder))
        runner.activate(revision)
        prepared = time.monotonic()
        self._crew.start("decode", feeder.run, then=writer.close)
        self._watch(ends, writer, runner)
        ended = time.monotonic()
        self._raise_failure(feeder)
        return self._result(ends, feeder, writer, (prepared - began, ended - prepared), revision.prepare_ms)

    # --- threads

    def _hear(self, event: Event) -> None:
        if isinstance(event, NodeFailed):
            self._failed_at = event.frame
        if isinstance(event, Progress) and self._is_preparing:
            self._on_progress(JobProgress("prepare", words=event.message))
        self._on_event(event)

    def _encode(self, writer: Writer, feeder: Feeder) -> None:
        try:
            writer.run()
        except BaseException:
            writer.close(discard=True)
            raise
        is_whole = feeder.broken is None or self._options.keep_partial
        if self._crew.error is None and is_whole and not (self._stopped.is_set() and writer.is_empty):
            self._finish(writer, is_cut=self._stopped.is_set() or feeder.broken is not None)

    def _finish(self, writer: Writer, *, is_cut: bool) -> None:
        self._written = writer.finish(is_cut=is_cut or self._options.is_limited)
        self._is_done = True

    def _watch(self, ends: Ends, writer: Writer, runner: Runner) -> None:
        rate = Rate(ends.total_s)
        while True:
            try:
                if self._crew.wait(TICK_S):
                    break
                self._report(rate, writer, runner)
                if self._crew.error is not None:
                    self._end(writer, runner)
            except KeyboardInterrupt:
                if self._stopped.is_set():
                    raise
                self._stopped.set()
                self._note_stats(runner)
                runner.close()
        self._note_stats(runner)

    def _end(self, writer: Writer, runner: Runner) -> None:
        """Something failed: nobody may wait for anybody any more."""
        writer.close(discard=True)
        runner.close()
        self._crew.join(END_S)

    def _note_stats(self, runner: Runner) -> None:
        if self._stats is NO_STATS:
            with contextlib.suppress(ComfyStreamError):
                self._stats = runner.stats()

    def _report(self, rate: Rate, writer: Writer, runner: Runner) -> None:
        rate.add(time.monotonic(), writer.frames, writer.media_s)
        dropped = sum(runner.stats().dropped.values()) if self._options.realtime and not self._stopped.is_set() else 0
        phase = "finish" if self._stopped.is_set() else "run"
        self._on_progress(
            JobProgress(phase, writer.frames, writer.media_s, rate.total, rate.per_second, rate.left_s, dropped)
        )

    # --- the end

    def _raise_failure(self, feeder: Feeder) -> None:
        error = self._crew.error
        if isinstance(error, NodeError) and self._failed_at is not None:
            error.message += f" (at frame {self._failed_at})"
        if isinstance(error, ComfyStreamError):
            raise error
        if error is not None:
            raise EngineError(f"{type(error).__name__}: {error}", hint="this is a defect of ComfyStream") from error
        if feeder.broken is not None and not self._options.keep_partial:
            raise _with_keep_hint(feeder.broken) from feeder.broken
        if not self._is_done and self._stopped.is_set():
            raise KeyboardInterrupt

    def _result(
        self, ends: Ends, feeder: Feeder, writer: Writer, took_s: tuple[float, float], prepare_ms: float
    ) -> FileResult:
        prepare_s, run_s = took_s
        made = self._written
        return FileResult(
            target=self._options.target,
            texts=tuple(self._options.text_files(list(ends.texts))),
            width=writer.size[0],
            height=writer.size[1],
            frames=writer.frames,
            sound=made.audio if made is not None else "",
            duration_s=made.duration_s if made is not None and made.frames else writer.media_s,
            size_bytes=made.size if made is not None else 0,
            prepare_s=prepare_s,
            run_s=run_s,
            stages=stages(
                self._meter,
                self._stats,
                prepare_ms=prepare_ms,
                run_ms=run_s * 1000,
                read=feeder.read,
                written=writer.frames,
            ),
            nodes=self._stats.nodes,
            dropped={reason: count for reason, count in self._stats.dropped.items() if count},
            failed=self._stats.failed,
            interrupted=self._stopped.is_set(),
            broken=str(feeder.broken or ""),
        )


def _with_keep_hint(error: MediaError) -> MediaError:
    hints = filter(None, (error.hint, "--keep-partial keeps what can be read"))
    return MediaError(error.message, code=error.code, hint="; ".join(hints))
