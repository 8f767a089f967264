"""The engine and its live sessions as a worker's backend: one engine process, one session per stream."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from comfystream.byoc.backend import Modalities, StreamStart
from comfystream.byoc.messages import StreamParams
from comfystream.catalog.spec import Catalog
from comfystream.engine.protocol import Engine
from comfystream.errors import WorkflowError
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_registry import Sessions
from comfystream.session.loop_bridge import call
from comfystream.workflow.bind import bind
from comfystream.workflow.model import Workflow
from comfystream.workflow.read import read_workflow

from ..memory import settle
from .session_pipe import SessionPipe
from .workflows import asked_workflow

__all__ = ["WorkflowBackend"]

COLLECT_S = 2.0
PASSING = frozenset({"video", "audio"})


class WorkflowBackend:
    """Runs workflows.

    Args:
        start_engine: makes the engine, on a thread.
        options: of the sessions.
        capacity: how many streams there may be.
        workflows: the file of each capability, for streams that bring none; None: such streams get their frames back.
    """

    def __init__(
        self,
        start_engine: Callable[[], Engine],
        options: LiveOptions,
        capacity: int,
        workflows: Mapping[str, Path | None],
    ) -> None:
        self.host = EngineHost(start_engine)
        self.sessions = Sessions(self.host, capacity)
        self._options = options
        self._files = dict(workflows)
        self._workflows: dict[str, Workflow] = {}

    async def load(self) -> None:
        """Start the engine, and look at the workflows of the capabilities.

        Raises:
            ComfyStreamError: the engine does not start, or a workflow is none.
        """
        catalog = await self.host.known()
        for name, file in self._files.items():
            if file is not None:
                workflow = read_workflow(file, catalog)
                await self._check(workflow)
                self._workflows[name] = workflow
        await settle(self.host)

    async def _check(self, workflow: Workflow) -> None:
        """Refuse what cannot run, before anything is loaded for it."""
        problems = await call((await self.host.get()).check, workflow)
        errors = [problem for problem in problems if problem.is_error]
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise WorkflowError(f"{errors[0]}{more}", code="workflow_invalid", node_id=errors[0].node_id)

    async def modalities(self, params: StreamParams, capability: str) -> Modalities:
        """Those of the workflow; without one frames come back as they were.

        Raises:
            ComfyStreamError: the workflow cannot run, or the engine is gone.
        """
        workflow = asked_workflow(params.rest, await self.host.known())
        if workflow is not None:
            await self._check(workflow)
        workflow = workflow or self._workflows.get(capability)
        if workflow is None:
            return Modalities(PASSING, PASSING)
        bindings = bind(workflow)
        return Modalities(
            frozenset(live.modality for live in bindings.inputs), frozenset(live.modality for live in bindings.outputs)
        )

    async def open(self, start: StreamStart) -> SessionPipe:
        """A session for a stream, which loads its workflow while the stream runs.

        Raises:
            ComfyStreamError: the workflow cannot run, or the engine is gone.
        """
        catalog: Catalog = await self.host.known()
        workflow = asked_workflow(start.params.rest, catalog)
        if workflow is None:
            workflow = self._workflows.get(start.capability)
        else:
            await self._check(workflow)
        options = self._options
        if start.size is not None:
            width, height = start.size
            options = replace(options, size=replace(options.size, width=width, height=height))
        session = await self.sessions.create(options)
        return SessionPipe(session, workflow, catalog, start.outlet, lambda: self._end(session.id))

    async def _end(self, id: str) -> None:
        """End a session. What a stream was is a knot of objects that holds codecs of several MB: untied a moment later,
        when its channels are closed, too. `settle` makes that a matter of milliseconds.
        """
        await self.sessions.end(id, "its stream has ended")
        asyncio.get_running_loop().call_later(COLLECT_S, gc.collect)

    async def close(self) -> None:
        """End the sessions and the engine."""
        await self.sessions.close()
        await self.host.close()
