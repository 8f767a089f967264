"""The paths of batch requests: `POST {url}/{name}`, for every name that means a workflow."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from comfystream.engine.once_job import OnceDone
from comfystream.errors import BusyError, ComfyStreamError, EngineDied, WorkflowError
from comfystream.session.live_engine import EngineHost
from comfystream.session.loop_bridge import call

from .asked import Asked, read_request
from .events import EventStream, Steps
from .faults import DISK_FULL, NODE_FAILED, NOT_FOUND, TOO_LARGE, Refused, error_response
from .figures import Figures
from .places import Places
from .prepared import Prepared, prepare
from .reply import Form, answer, metadata, wanted_form
from .runs import Runs, Watch
from .tasks import Named, Tasks

__all__ = ["Batch", "BatchOptions"]

_log = logging.getLogger(__name__)
PREFIXES = ("", "/api")
RESTART_S, RETRY_S, LOOK_S = 15.0, 0.25, 10.0
MOST_BESIDE = 4  # requests that are read or answered while others wait and one runs
CLIENT_GONE = 499  # nobody hears it; it is counted


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a worker treats batch requests.

    Attributes:
        most_waiting: how many may wait while one runs.
        timeout_s: until the answer, where a request does not say.
        most_result_bytes, most_results: of one request; a workflow that gives more is stopped there.
        send_s: how long a caller may take for its answer, or for a part of a stream of events.
    """

    most_waiting: int = 8
    timeout_s: float = 120.0
    most_result_bytes: int = 64 << 20
    most_results: int = 1000
    send_s: float = 120.0


class Batch:
    """Answers batch requests.

    Args:
        host: the engine, which live streams use, too.
        tasks: which workflow a path means.
        capabilities: the worker's names; the first is meant where a path names none.
        options: how requests are treated.
    """

    def __init__(self, host: EngineHost, tasks: Tasks, capabilities: tuple[str, ...], options: BatchOptions) -> None:
        self._host = host
        self._tasks = tasks
        self._capabilities = capabilities
        self._options = options
        self.runs = Runs(host, options.most_waiting)
        self._inside = 0
        self.figures = Figures(lambda: self.runs.waiting, lambda: self.runs.is_busy)

    def add_routes(self, app: web.Application) -> None:
        """All paths; they come after the worker's own, which therefore win."""
        for base in ("", "/capability/{capability}"):
            for prefix in PREFIXES:
                app.router.add_post(f"{base}{prefix}/{{name}}", self.run)
                app.router.add_get(f"{base}{prefix}/{{name}}", self.describe)
            app.router.add_post(base or "/", self.run)
        app.on_cleanup.append(self._close)

    async def _close(self, app: web.Application) -> None:
        await self.runs.close()

    # --- looking

    async def describe(self, request: web.Request) -> web.Response:
        """What a workflow takes."""
        try:
            async with asyncio.timeout(LOOK_S):
                catalog = await self._host.known()
            named = await call(self._tasks.find, request.match_info["name"], self._capability(request), catalog)
            places = Places(named.workflow, catalog, named.declared)
            takes = [*places.names(), *(["image"] if places.picture() else []), *(["audio"] if places.sound() else [])]
        except TimeoutError:
            return error_response(_still_loading())
        except ComfyStreamError as error:
            return error_response(error)
        return web.json_response({"workflow": named.name, "takes": takes, "workflows": self._tasks.names()})

    def _capability(self, request: web.Request) -> str:
        name = request.match_info.get("capability", self._capabilities[0])
        if name not in self._capabilities:
            raise Refused(f'there is no capability "{name[:80]}"', status=NOT_FOUND, code="unknown_capability")
        return name

    # --- running

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Run a workflow once and answer with what it gave."""
        began = time.monotonic()
        status = CLIENT_GONE
        try:
            response = await self._answer(request, began)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            self.figures.answered(status, time.monotonic() - began)

    async def _answer(self, request: web.Request, began: float) -> web.StreamResponse:
        try:
            with self._place():
                return await self._work(request, began)
        except ComfyStreamError as error:
            return error_response(error)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return error_response(_disk_full())

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """From the first byte of a request to the last of its answer: what is read or sent takes memory, too.

        Raises:
            BusyError: there are as many as may be.
        """
        self.runs.check_room()
        if self._inside > self._options.most_waiting + MOST_BESIDE:
            raise BusyError(f"{self._inside} requests are here already", code="queue_full", hint="try again in a while")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _work(self, request: web.Request, began: float) -> web.StreamResponse:
        asked = await read_request(request)
        form = wanted_form(asked.options, request.headers.get("Accept", ""))
        async with _folder() as folder:
            prepared = await self._in_time(self._prepare(request, asked, form, folder), asked)
            if form.is_stream:
                return await self._stream(request, asked, prepared, began)
            done = await self._run(asked, prepared, Watch(), began)
            told = metadata(prepared.named.name, prepared.seed, done, time.monotonic() - began)
            response = await call(answer, form, done, folder, told)
            return await self._send(request, response)

    async def _send(self, request: web.Request, response: web.Response) -> web.Response:
        """Send it now, while its place is taken; a caller that does not read is cut off."""
        try:
            async with asyncio.timeout(self._options.send_s):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            _log.warning("a caller did not take its answer within %.0f s", self._options.send_s)
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _in_time(self, preparing: Awaitable[Prepared], asked: Asked) -> Prepared:
        """While the worker loads, requests wait as long as they may.

        Raises:
            BusyError: it still loads.
        """
        try:
            async with asyncio.timeout(self._limit_s(asked)):
                return await preparing
        except TimeoutError:
            raise _still_loading() from None

    def _limit_s(self, asked: Asked) -> float:
        return asked.options.timeout_seconds or self._options.timeout_s

    async def _prepare(self, request: web.Request, asked: Asked, form: Form, folder: Path) -> Prepared:
        catalog = await self._host.known()
        named: Named
        if asked.options.workflow is None:
            path = request.match_info.get("name", "")
            named = await call(self._tasks.find, path, self._capability(request), catalog)
        else:
            named = await call(self._tasks.given, asked.options.workflow, catalog)
        options = self._options
        wanted = form.wanted(asked.options, options.most_result_bytes, options.most_results)
        return await call(prepare, asked, named, catalog, folder, wanted)

    async def _run(self, asked: Asked, prepared: Prepared, watch: Watch, began: float) -> OnceDone:
        patience = began + min(self._limit_s(asked), RESTART_S)
        while True:
            left = self._limit_s(asked) - (time.monotonic() - began)
            try:
                return await self.runs.run(prepared.job, max(0.001, left), watch)
            except WorkflowError as error:
                raise _whose_fault(error, prepared) from None
            except EngineDied as error:
                is_late = time.monotonic() > patience
                if is_late:
                    self._host.suspect()
                if watch.is_running or is_late:
                    where = f" while node {watch.node} ran" if watch.node else ""
                    hint = "it is being started again"
                    raise EngineDied(f"the engine died{where}", hint=hint, code=error.code) from None
            await asyncio.sleep(RETRY_S)  # it is being started again, and this run has not begun

    async def _stream(self, request: web.Request, asked: Asked, prepared: Prepared, began: float) -> web.StreamResponse:
        steps, stream = Steps(), EventStream(request, self._options.send_s)
        watch = Watch(steps.put)
        self.runs.check_room()
        run = asyncio.create_task(self._run(asked, prepared, watch, began), name="once-run")
        try:
            await asyncio.sleep(0)  # it knows its place in the queue then
            await stream.begin(watch.ahead)
            try:
                done = await stream.follow(run, steps)
            except ComfyStreamError as error:
                await stream.failed(error)
            else:
                told = metadata(prepared.named.name, prepared.seed, done, time.monotonic() - began)
                await stream.results(done, Path(prepared.job.folder), told)
        except ConnectionError:
            _log.info("a caller went away before its results")
        finally:
            run.cancel()
            await asyncio.wait([run])
        return await stream.end()


def _disk_full() -> Refused:
    words = "the worker's disk for temporary files is full"
    return Refused(words, status=DISK_FULL, code="disk_full", hint="its operator makes room, or sets TMPDIR")


def _still_loading() -> BusyError:
    return BusyError("the worker still loads", code="not_ready", hint="try again in a while")


def _whose_fault(error: WorkflowError, prepared: Prepared) -> ComfyStreamError:
    """A value that the request set is the caller's; what was wrong before is the operator's."""
    named = prepared.named
    if error.code == "bad_image":
        return Refused(error.message, field="image", code=error.code)
    if error.code == "result_too_large":
        return Refused(error.message, status=TOO_LARGE, code=error.code, hint=error.hint, node_id=error.node_id)
    if error.code in ("bad_audio", "too_long"):
        return Refused(error.message, field="audio", code=error.code)
    node = named.workflow.nodes.get(error.node_id or "")
    changed = prepared.job.workflow.nodes.get(error.node_id or "")
    if node is not None and node.class_type in ("LoadImage", "LoadAudio") and node == changed:
        field = "image" if node.class_type == "LoadImage" else "audio"
        words = f"{field}: {node.place} needs one"
        return Refused(words, field=field, code="missing_field", hint="base64, or a form's file", node_id=node.id)
    is_ours = named.is_ours and node == changed
    if is_ours:
        words = f'the worker\'s workflow "{named.name}" cannot run: {error.message}'
        return Refused(words, status=NODE_FAILED, code="workflow_broken", hint=error.hint, node_id=error.node_id)
    return Refused(error.message, code=error.code, hint=error.hint, node_id=error.node_id)


@contextlib.asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    """A folder that only this user can look into, gone with the request."""
    path = Path(await call(tempfile.mkdtemp, prefix="comfystream-once-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
