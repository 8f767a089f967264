"""`comfystream engines`: what is built, building ahead of time, and making room."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comfystream.errors import ComfyStreamError, ConfigError

from ..faults import FAILED, Reported, say_note
from ..workspace import HELP
from .fetch import list_file, workspace_of

if TYPE_CHECKING:
    from comfystream.accel.build import OnBuild
    from comfystream.accel.cache import CacheEntry, EngineCache
    from comfystream.accel.targets import BuildTarget

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Engines of models: list them, build them ahead of time, make room.")

Folder = Annotated[
    Path | None, typer.Option("--folder", help="Where engines are; $COMFYSTREAM_ENGINES, or ComfyStream's own folder.")
]


@app.command("list")
def list_engines(folder: Folder = None) -> None:
    """The engines that are there, last used first."""
    cache = _cache(folder)
    entries = cache.entries()
    for entry in entries:
        print(_line(entry))
    print(f"{len(entries)} engines, {sum(entry.size for entry in entries) / 1e6:.1f} MB: {cache.root}")


@app.command("backends")
def backends() -> None:
    """What runs models on this machine, and why the rest does not."""
    from comfystream.accel.registry import choose, probe_all

    for one in probe_all():
        state = "runs" if one.can_run else "builds only" if one.can_build else "not here"
        hint = f" ({one.hint})" if one.hint and not one.can_run else ""
        print(f"{one.backend:<13} {state:<12} {one.version or '-':<16} {one.reason}{hint}")
    print(choose("auto").reason)
    print(f"frames: {_frames()}")


def _frames() -> str:
    """Where pictures are, and what converts them there."""
    try:
        from comfystream.media.device.backend import where_frames_go
    except ImportError as error:
        return f"on the host: {error}"
    return where_frames_go()


@app.command("build")
def build(
    targets: Annotated[
        str, typer.Option(help="What to build: a file, or the name of one in configs/.")
    ] = "build_targets.yaml",
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ID[,ID]", help="Only these of it; may be repeated.")
    ] = None,
    backend: Annotated[str, typer.Option(help="In place of the backend that each target names.")] = "",
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help=HELP),
    ] = None,
    max_gb: Annotated[float, typer.Option(min=0, help="Make room for them: the most that all engines may take.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be built.")] = False,
    folder: Folder = None,
) -> None:
    """Build the engines of a list. Those that are there are left; one that fails does not stop the others."""
    from comfystream.accel.targets import load_targets

    home = workspace_of(workspace)
    wanted = _chosen(load_targets(list_file(targets), home), only)
    if dry_run:
        for target in wanted:
            print(f"{target.id:<40} {target.kind:<12} {backend or target.backend:<13} {target.model}")
        return
    cache, failed = _cache(folder, max_gb), 0
    with _shown() as on_build:
        for number, target in enumerate(wanted, 1):
            try:
                _build_one(target, home, backend, cache, on_build, f"{number}/{len(wanted)}")
            except ComfyStreamError as error:
                say_note(f"{target.id}: {error}")
                failed += 1
    print(f"{len(wanted) - failed} of {len(wanted)} engines are there: {cache.root}")
    if failed:
        raise Reported(FAILED)


@app.command("prune")
def prune(
    max_gb: Annotated[float, typer.Option(min=0, help="How much may stay.")],
    folder: Folder = None,
) -> None:
    """Remove the engines that were not used for longest, until the rest fits."""
    cache = _cache(folder)
    removed = cache.prune(int(max_gb * (1 << 30)))
    for entry in removed:
        print(f"removed {_line(entry)}")
    left = cache.entries()
    print(f"removed {len(removed)}, {len(left)} left, {sum(entry.size for entry in left) / 1e6:.1f} MB: {cache.root}")


def _build_one(
    target: BuildTarget, home: Path, backend: str, cache: EngineCache, on_build: OnBuild, place: str
) -> None:
    from comfystream.accel.build import build_all
    from comfystream.accel.target_jobs import job_of_target, put_output

    prepared = job_of_target(target, home, backend)
    was_there = cache.find(prepared.job.key) is not None
    entry = build_all([prepared.job], cache, on_build)[0]
    output = put_output(target, entry.plan, home)
    state = "there" if was_there else f"built in {entry.meta['build_s']:.1f} s"
    named = f" -> {output.relative_to(home)}" if output else ""
    print(f"{place} {target.id}: {prepared.choice.backend.name}, {entry.digest[:12]}, {state}{named}", flush=True)


def _chosen(targets: list[BuildTarget], only: list[str] | None) -> list[BuildTarget]:
    ids = [id.strip() for text in only or () for id in text.split(",") if id.strip()]
    known = [target.id for target in targets]
    for id in ids:
        if id not in known:
            raise ConfigError(f"there is no target {id}", code="no_target", hint=f"there are: {', '.join(known)}")
    return [target for target in targets if not ids or target.id in ids]


def _cache(folder: Path | None, max_gb: float = 0.0) -> EngineCache:
    from comfystream.accel.cache import EngineCache

    return EngineCache(folder, max_gb)


def _line(entry: CacheEntry) -> str:
    key = entry.meta["key"]
    where = key["machine"].get("gpu") or key["machine"].get("processor", "")
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_at))
    how = f"{key['backend']} {key['version']}, {key['spec']['precision']}, {where}"
    return f"{entry.digest[:12]}  {entry.label:<32} {entry.size / 1e6:>9.1f} MB  used {used}  {how}"


@contextmanager
def _shown() -> Iterator[OnBuild]:
    """The running step, on a terminal; elsewhere the line per engine is enough."""
    from rich.console import Console

    from comfystream.accel.build import BuildProgress

    with Console(stderr=True).status("loading") as status:

        def on_build(progress: BuildProgress) -> None:
            status.update(str(progress))

        yield on_build
