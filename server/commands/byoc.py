"""`comfystream byoc`: workflows as capabilities of an orchestrator."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comfystream import logs
from comfystream.allocator import keep_few_arenas
from comfystream.errors import ConfigError

from ..comfyui_flags import AllowPacks, BlockPacks, ComfyUIFolder, NoApiNodes, VramMode, comfyui_settings

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from aiohttp import web

    from comfystream.byoc.capability import Capability, OrchestratorAccess
    from comfystream.byoc.server import StreamServer, Task
    from comfystream.settings import ServerSettings

    from ..byoc.backend import WorkflowBackend

__all__ = ["PriceUnit", "RunnerMode", "RunnerOptions", "byoc", "make_server"]

_NET, _WORK, _BATCH, _ENGINE, _LOG = "Network", "Streams", "Batch requests", "Engine", "Log"


class RunnerMode(StrEnum):
    """What a live runner is for."""

    PERSISTENT = "persistent"
    SINGLE_SHOT = "single-shot"
    BOTH = "both"


class PriceUnit(StrEnum):
    """What a price is for."""

    HOUR = "hour"
    HD = "720p"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a worker is offered as a live runner."""

    mode: RunnerMode = RunnerMode.PERSISTENT
    app: str = ""
    price: float = 0.01
    unit: PriceUnit = PriceUnit.HOUR


def byoc(
    workflow: Annotated[
        Path | None, typer.Option("--workflow", metavar="FILE", help="For streams that bring none.", envvar="WORKFLOW")
    ] = None,
    capability: Annotated[
        list[str] | None,
        typer.Option("--capability", metavar="NAME=FILE", help="Register a workflow under a name; repeat."),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings, as YAML.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.", rich_help_panel=_NET)] = "0.0.0.0",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.", rich_help_panel=_NET)] = 8000,
    insecure_tls: Annotated[
        bool,
        typer.Option(
            "--insecure-tls",
            envvar="ORCH_INSECURE_TLS",
            help="Accept any certificate: orchestrators sign their own.",
            rich_help_panel=_NET,
        ),
    ] = False,
    live_runner: Annotated[
        bool, typer.Option("--live-runner", help="Heartbeats in place of registration.", rich_help_panel=_NET)
    ] = False,
    runner_mode: Annotated[
        RunnerMode,
        typer.Option("--runner-mode", help="Offer sessions, single requests, or both.", rich_help_panel=_NET),
    ] = RunnerMode.PERSISTENT,
    runner_app: Annotated[
        str, typer.Option("--runner-app", metavar="NAME", help="Its name, for one capability.", rich_help_panel=_NET)
    ] = "",
    runner_price: Annotated[
        float, typer.Option("--runner-price", help="US dollars, for --live-runner.", rich_help_panel=_NET)
    ] = 0.01,
    runner_price_unit: Annotated[
        PriceUnit, typer.Option("--runner-price-unit", help="Of --runner-price.", rich_help_panel=_NET)
    ] = PriceUnit.HOUR,
    capacity: Annotated[
        int | None, typer.Option("--capacity", metavar="N", help="Streams at once: 1.", rich_help_panel=_WORK, min=1)
    ] = None,
    width: Annotated[
        int, typer.Option("--width", help="Of pictures; 0 leaves them.", rich_help_panel=_WORK, min=0, max=8192)
    ] = 512,
    height: Annotated[
        int, typer.Option("--height", help="Of pictures; 0 leaves them.", rich_help_panel=_WORK, min=0, max=8192)
    ] = 512,
    workflows: Annotated[
        list[Path] | None,
        typer.Option("--workflows", metavar="FOLDER", help="Workflows for batch requests.", rich_help_panel=_BATCH),
    ] = None,
    batch_queue: Annotated[
        int,
        typer.Option("--batch-queue", metavar="N", help="Batch requests that may wait.", rich_help_panel=_BATCH, min=0),
    ] = 8,
    batch_timeout: Annotated[
        float,
        typer.Option("--batch-timeout", metavar="S", help="Of those that do not say.", rich_help_panel=_BATCH, min=1),
    ] = 120.0,
    batch_max_result: Annotated[
        int,
        typer.Option("--batch-max-result", metavar="MIB", help="Of one request.", rich_help_panel=_BATCH, min=1),
    ] = 64,
    no_batch: Annotated[bool, typer.Option("--no-batch", help="Streams only.", rich_help_panel=_BATCH)] = False,
    on_error: Annotated[
        str | None, typer.Option("--on-error", help="hold, slate, passthrough or stop.", rich_help_panel=_WORK)
    ] = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="ComfyUI folder whose packs to use.", rich_help_panel=_ENGINE)
    ] = None,
    nodes: Annotated[
        list[Path] | None, typer.Option("--nodes", metavar="FOLDER", help="Node packs.", rich_help_panel=_ENGINE)
    ] = None,
    comfyui: ComfyUIFolder = "",
    no_api_nodes: NoApiNodes = False,
    vram: VramMode = None,
    allow_pack: AllowPacks = None,
    block_pack: BlockPacks = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads of torch.", rich_help_panel=_ENGINE)] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="INFO.", rich_help_panel=_LOG)] = None,
    disable_frame_skip: Annotated[bool, typer.Option("--disable-frame-skip", hidden=True)] = False,
    comfyui_log_level: Annotated[str | None, typer.Option("--comfyui-log-level", hidden=True)] = None,
    comfyui_inference_log_level: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve workflows to an orchestrator; ORCH_URL, ORCH_SECRET and CAPABILITY_URL say which and from where."""
    from comfystream.settings import load_settings

    flags = {
        "workspace": workspace,
        "node_folders": [str(folder) for folder in nodes] if nodes else None,
        **comfyui_settings(comfyui, no_api_nodes, vram, allow_pack, block_pack),
        "threads": threads,
        "workflow_folders": [str(folder) for folder in workflows] if workflows else None,
        "on_error": on_error,
        "log_level": log_level.upper() if log_level else None,
    }
    settings = load_settings(config, flags)
    keep_few_arenas()
    logs.begin(settings.log_level, settings.log_format)
    if bool(width) != bool(height):
        raise ConfigError("--width and --height are given together, or both are 0", code="bad_setting")
    asyncio.run(
        _serve(
            settings,
            host=host,
            port=port,
            files=_capabilities(workflow, capability or []),
            capacity=capacity,
            size=(width - width % 2, height - height % 2) if width else None,
            insecure_tls=insecure_tls,
            runner=RunnerOptions(runner_mode, runner_app, runner_price, runner_price_unit) if live_runner else None,
            batch=None if no_batch else (batch_queue, batch_timeout, batch_max_result << 20),
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
    from comfystream.session.live import LiveOptions
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
