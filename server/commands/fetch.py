"""`comfystream fetch`: models and node packs off the lists in configs/, before a workflow needs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comfystream.errors import ConfigError

from ..faults import FAILED, Reported, say_note
from ..workspace import HELP, find_workspace

if TYPE_CHECKING:
    from comfystream.assets.models import Fetched, ModelFile
    from comfystream.assets.packs import PackState

__all__ = ["app"]

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"

app = typer.Typer(no_args_is_help=True, help="Fetch models and node packs, before a workflow needs them.")

Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="ID[,ID]", help="Only these of the list; may be repeated.")
]
Workspace = Annotated[Path | None, typer.Option(metavar="FOLDER", help=HELP)]
Mirror = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Take everything from here, nothing from the web.")
]


@app.command("models")
def models(
    only: Only = None,
    config: Annotated[str, typer.Option(help="A list: a file, or the name of one in configs/.")] = "models.yaml",
    workspace: Workspace = None,
    mirror: Mirror = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is there and what is missing.")] = False,
) -> None:
    """Fetch the models of a list. What is there is checked and left; what was cut off goes on where it was."""
    from comfystream.assets.lists import chosen, load_models
    from comfystream.assets.lock import Lock
    from comfystream.assets.models import Outcome, fetch_models, files_of, state_of
    from comfystream.assets.transfer import Transfer

    entries = chosen(load_models(list_file(config)), _ids(only))
    home = workspace_of(workspace)
    lock, transfer = Lock(home), Transfer(_folder(mirror))
    files = list(files_of(entries, home, transfer))
    if dry_run:
        for file in files:
            print(f"{state_of(file, lock) or 'there':<10} {file.target.relative_to(home)}")
        return
    with _shown() as (start, progress):
        ended = []
        for one in fetch_models(files, lock, transfer, start, progress):
            _tell(one, home)
            ended.append(one)
    counts = {outcome: sum(one.outcome is outcome for one in ended) for outcome in Outcome}
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f": {home}")
    if counts[Outcome.FAILED]:
        raise Reported(FAILED)


@app.command("nodes")
def nodes(
    only: Only = None,
    config: Annotated[str, typer.Option(help="A list: a file, or the name of one in configs/.")] = "nodes.yaml",
    workspace: Workspace = None,
    mirror: Mirror = None,
    update: Annotated[bool, typer.Option("--update", help="Also fetch newer commits of packs that are there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look whether all fits together; change nothing.")] = False,
    pin: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Afterwards write the list again, each pack at its commit.")
    ] = None,
) -> None:
    """Fetch the node packs of a list and install what they ask for: all of it, or nothing if it does not fit."""
    from comfystream.assets.lists import chosen, load_packs
    from comfystream.assets.lock import Lock
    from comfystream.assets.packs import Packs

    entries = chosen(load_packs(list_file(config)), _ids(only))
    home = workspace_of(workspace)
    packs = Packs(entries, home, Lock(home), _folder(mirror))
    installed = packs.fetch(print, update=update, is_trial=dry_run)
    if installed:
        print(f"{'would install' if dry_run else 'installed'}: {', '.join(installed)}")
    if dry_run:
        print("nothing was changed")
        return
    for state in packs.states():
        print(f"{state.commit[:12] or 'not a clone':<12} {state.folder.relative_to(home)}")
    if pin is not None:
        write_pinned(pin, packs.states())


def write_pinned(file: Path, states: Sequence[PackState]) -> None:
    """The list as it is now, for another machine to get the same."""
    import yaml

    entries = {}
    for state in states:
        entry = state.entry.model_dump(exclude_defaults=True, mode="json")
        entries[state.id] = entry | ({"commit": state.commit} if state.commit else {})
    file.write_text(yaml.safe_dump({"nodes": entries}, sort_keys=False), "utf-8")


def list_file(name: str) -> Path:
    """The file of a list: a path, or a name in configs/ with or without its ending.

    Raises:
        ConfigError: there is none.
    """
    for path in (Path(name), CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.name for path in CONFIGS.glob("*.yaml"))) or "none"
    raise ConfigError(f"there is no list {name}", code="no_list", hint=f"a file, or one of {known}")


def workspace_of(given: Path | None) -> Path:
    """The folder that models and packs go to: where they are looked for. ComfyStream's own is made.

    Raises:
        ConfigError: the one that is named is not there, or it cannot be made.
    """
    path = find_workspace(given or "")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}", code="no_workspace") from error
    return path


def _folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise ConfigError(f"--mirror: {path} is not a folder", code="no_mirror")
    return path


def _ids(only: list[str] | None) -> list[str]:
    return [id.strip() for text in only or () for id in text.split(",") if id.strip()]


def _tell(one: Fetched, home: Path) -> None:
    if one.error is not None:
        say_note(f"{one.file.id}: {one.error}")
    elif one.outcome == "fetched":
        print(f"fetched    {one.file.target.relative_to(home)}")


@contextlib.contextmanager
def _shown() -> Iterator[tuple[Callable[[ModelFile, str], None], Callable[[int, int | None], None]]]:
    """Progress for people: a bar on a terminal; elsewhere the line per file is enough."""
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, visible=False)

        def start(file: ModelFile, why: str) -> None:
            bars.reset(task, description=f"{file.target.name} ({why})", total=None, visible=True)

        def progress(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total)

        yield start, progress
