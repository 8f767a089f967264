"""`comfystream byoc`: workflows as capabilities of an orchestrator."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comfystream import logs
from comfystream.allocator import keep_few_arenas
from comfystream.errors import ConfigError

from ..byoc.flags import (
    BatchFlags,
    RunnerFlags,
    RunnerMode,
    RunnerOptions,
    StreamFlags,
    WorkerLogFlags,
    WorkerNetworkFlags,
)
from ..comfyui_flags import LoadingFlags
from ..engine_flags import EngineFlags
from ..flags import grouped, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from aiohttp import web

    from comfystream.byoc.capability import Capability, OrchestratorAccess
    from comfystream.byoc.server import StreamServer, Task
    from comfystream.settings import ServerSettings

    from ..byoc.backend import WorkflowBackend

__all__ = ["byoc", "make_server"]


@grouped
def byoc(
    workflow: Annotated[
        Path | None, typer.Option("--workflow", metavar="FILE", help="For streams that bring none.", envvar="WORKFLOW")
    ] = None,
    capability: Annotated[
        list[str] | None,
        typer.Option("--capability", metavar="NAME=FILE", help="Register a workflow under a name; repeat."),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings, as YAML.")] = None,
    *,
    network: WorkerNetworkFlags,
    runner: RunnerFlags,
    streams: StreamFlags,
    batch: BatchFlags,
    engine: EngineFlags,
    comfyui: LoadingFlags,
    log: WorkerLogFlags,
) -> None:
    """Serve workflows to an orchestrator; ORCH_URL, ORCH_SECRET and CAPABILITY_URL say which and from where."""
    from comfystream.settings import load_settings

    given = settings_of(engine) | comfyui.settings
    given |= {
        "workflow_folders": [str(folder) for folder in batch.workflows] if batch.workflows else None,
        "on_error": streams.on_error,
        "log_level": log.log_level,
    }
    settings = load_settings(config, given)
    keep_few_arenas()
    logs.begin(settings.log_level, settings.log_format)
    asyncio.run(
        _serve(
            settings,
            host=network.host,
            port=network.port,
            files=_capabilities(workflow, capability or []),
            capacity=streams.capacity,
            size=streams.size,
            insecure_tls=network.insecure_tls,
            runner=runner.options,
            batch=batch.limits,
        )
    )


async def _serve(settings: ServerSettings, **options: Any) -> None:
    server = make_server(settings, os.environ, **options)
    await server.run_forever()


def _capabilities(workflow: Path | None, given: list[str]) -> dict[str, Path | None]:
    """Name -> file; without any the one of `CAPABILITY_NAME`, with the default workflow."""
    found: dict[str, Path | None] = {}
    for text in given:
        name, _, file = text.partition("=")
        if not name or not file:
            raise ConfigError(f"--capability {text}: NAME=FILE is needed", code="bad_capability")
        found[name] = Path(file)
    if not found:
        found[os.environ.get("CAPABILITY_NAME") or "comfystream"] = workflow
    for path in found.values():
        if path is not None and not path.is_file():
            raise ConfigError(f"{path}: there is no such file", code="no_workflow_file")
    return found


def make_server(
    settings: ServerSettings,
    environ: MutableMapping[str, str],
    *,
    files: dict[str, Path | None],
    host: str = "0.0.0.0",
    port: int = 8000,
    capacity: int | None = None,
    size: tuple[int, int] | None = (512, 512),
    insecure_tls: bool = False,
    runner: RunnerOptions | None = None,
    batch: tuple[int, float, int] | None = (8, 120.0, 64 << 20),
) -> StreamServer:
    """The worker. Secrets are taken out of `environ`, before the engine's process inherits it.

    Raises:
        ConfigError: a setting that cannot be used.
    """
    from comfystream.byoc.capability import capability_from, orchestrator_from, worker_token_from
    from comfystream.byoc.server import StreamServer
    from comfystream.engine.child import ChildEngine
    from comfystream.engine.protocol import FailPolicy
    from comfystream.session.live_options import LiveOptions
    from comfystream.session.live_size import FrameSize, SizeRule

    from ..byoc.backend import WorkflowBackend
    from .serve import engine_options

    token = worker_token_from(environ)
    access = orchestrator_from(environ, token)
    offered = capability_from(environ, f"http://localhost:{port}", capacity or 1)
    most = capacity or offered.capacity
    engine = engine_options(settings)
    live = LiveOptions(on_error=FailPolicy(settings.on_error), size=FrameSize(SizeRule.FOLLOW, *(size or (512, 512))))
    backend = WorkflowBackend(lambda: ChildEngine(engine), live, most, files)
    return StreamServer(
        backend=backend,
        port=port,
        host=host,
        capabilities=tuple(files),
        capacity=most,
        size=size,
        token=token,
        verify_tls=not insecure_tls,
        beside=_ways_in(access, offered, files, insecure_tls, runner),
        more_routes=_more_routes(backend, files, settings, batch),
        register=False,
    )


def _more_routes(
    backend: WorkflowBackend,
    files: dict[str, Path | None],
    settings: ServerSettings,
    batch: tuple[int, float, int] | None,
) -> Callable[[web.Application], None]:
    """Adds the metrics, and the paths of batch requests, on the event loop."""
    from ..batch.routes import Batch, BatchOptions
    from ..batch.tasks import Tasks
    from ..http.metrics import Metrics

    folders = [Path(folder).expanduser() for folder in settings.workflow_folders]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--workflows {folder}: there is no such folder", code="no_folder")
    tasks = Tasks(files, folders)

    def add(app: web.Application) -> None:
        metrics = Metrics(backend.sessions, backend.host, has_stream_label=settings.stream_id_label)
        batches = Batch(backend.host, tasks, tuple(files), BatchOptions(*batch)) if batch is not None else None

        async def scrape(request: web.Request) -> web.Response:
            response = await metrics.handle(request)
            if batches is not None and isinstance(response.body, bytes):
                response.body += batches.figures.text()
            return response

        app.router.add_get("/metrics", scrape)
        if batches is not None:
            batches.add_routes(app)

    return add


def _ways_in(
    access: OrchestratorAccess | None,
    offered: Capability,
    files: dict[str, Path | None],
    insecure_tls: bool,
    runner: RunnerOptions | None,
) -> list[Task]:
    """How orchestrators learn of the capabilities."""
    from comfystream.byoc.registration import Registration

    if access is None:
        if runner is not None:
            words = "--live-runner needs ORCH_URL and ORCH_SECRET"
            hint = "an orchestrator with a list of its own (-liveRunnerConfig) takes the worker without the flag"
            raise ConfigError(words, code="no_orchestrator", hint=hint)
        return []
    access = replace(access, verify_tls=access.verify_tls and not insecure_tls)
    is_one = len(files) == 1
    urls = {name: offered.url if is_one else f"{offered.url}/capability/{name}" for name in files}
    names = [replace(offered, name=name, url=url) for name, url in urls.items()]
    return [Registration(access, names)] if runner is None else _runners(access, names, runner)


def _runners(access: OrchestratorAccess, names: list[Capability], options: RunnerOptions) -> list[Task]:
    from comfystream.byoc.live_runner import PERSISTENT, SINGLE_SHOT, LiveRunner, RunnerPrice

    modes = [PERSISTENT, SINGLE_SHOT] if options.mode is RunnerMode.BOTH else [options.mode.value]
    if options.app and len(names) * len(modes) > 1:
        words = "--runner-app names one runner, and there are several"
        raise ConfigError(words, code="bad_setting", hint="leave it out: they are called after their capabilities")
    price = RunnerPrice(options.price, options.unit.value)
    return [LiveRunner(access, one, price, options.app, mode) for one in names for mode in modes]
