"""Where sets of values are kept: with a workflow of the library, for a session, and in a folder if there is one."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from comfystream.catalog.spec import Catalog
from comfystream.errors import BusyError, ConfigError, WorkflowError
from comfystream.session.live import LiveSession
from comfystream.session.live_state import Change, PresetsChanged
from comfystream.workflow.edits import Patch
from comfystream.workflow.model import Workflow
from comfystream.workflow.presets import Preset, PresetValue, missing, patches_of
from comfystream.workflow.problem import did_you_mean

from .control.described import PresetInfo
from .control.parameters import parameters
from .library import Library

__all__ = ["PresetFolder", "Presets"]

_log = logging.getLogger(__name__)
MOST_PER_SESSION = 100
MOST_IN_FOLDER = 1000
MOST_BYTES = 1 << 20


class PresetFolder:
    """Presets as files, read once: this server is the only one that writes them.

    Args:
        folder: made when it is not there.

    Raises:
        ConfigError: it cannot be made or read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[tuple[str, str], Preset] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = sorted(folder.glob("*.json"))
        except OSError as error:
            raise ConfigError(f"preset_folder {folder}: {error.strerror or error}", code="no_folder") from error
        for path in files:
            preset = _read(path)
            if preset is not None:
                self._kept[preset.workflow, preset.name] = preset

    def of(self, workflow: str) -> Iterator[Preset]:
        """Those that were saved for a workflow of the library."""
        return (preset for (owner, _), preset in [*self._kept.items()] if owner == workflow)

    def save(self, preset: Preset) -> None:
        """Write a preset; the file is whole or not there at all.

        Raises:
            BusyError: there are too many.
            ConfigError: it cannot be written.
        """
        key = (preset.workflow, preset.name)
        if key not in self._kept and len(self._kept) >= MOST_IN_FOLDER:
            raise BusyError(f"{MOST_IN_FOLDER} presets are kept already", code="too_many_presets", hint="delete some")
        try:
            _write(self._path(key), preset.model_dump_json(indent=1))
        except OSError as error:
            raise ConfigError(
                f'the preset "{preset.name}" was not written: {error.strerror or error}', code="cannot_write"
            ) from error
        self._kept[key] = preset

    def delete(self, workflow: str, name: str) -> bool:
        """Remove a preset; False when there is none.

        Raises:
            ConfigError: the file cannot be removed.
        """
        if (workflow, name) not in self._kept:
            return False
        try:
            self._path((workflow, name)).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f'the preset "{name}" was not removed: {error.strerror or error}', code="cannot_write"
            ) from error
        del self._kept[workflow, name]
        return True

    def _path(self, key: tuple[str, str]) -> Path:
        """A name that any file system takes, whatever people write; the digest keeps them apart."""
        words = re.sub(r"[^a-z0-9]+", "-", "-".join(key).lower()).strip("-")[:60]
        return self._folder / f"{words}-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}.json"


def _read(path: Path) -> Preset | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        return Preset.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        _log.warning("the preset %s was passed over: %s", path.name, reason)
        return None


def _write(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".preset-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Presets:
    """The presets of all sessions.

    Args:
        library: its workflows bring some along.
        folder: where saved ones outlive their session; None keeps them as long as it lasts.
    """

    def __init__(self, library: Library, folder: Path | None = None) -> None:
        self._library = library
        self._folder = PresetFolder(folder) if folder is not None else None
        self._of_session: WeakKeyDictionary[LiveSession, dict[str, Preset]] = WeakKeyDictionary()

    def _saved(self, session: LiveSession) -> dict[str, Preset]:
        kept = self._folder.of(self._name(session)) if self._folder is not None else ()
        return {preset.name: preset for preset in kept} | self._of_session.get(session, {})

    def _name(self, session: LiveSession) -> str:
        return self._library.name_of(session.workflow) if session.workflow is not None else ""

    def _every(self, session: LiveSession) -> dict[str, tuple[Preset, bool]]:
        """By name, those that came along first; a saved one stands before one of the same name that came along."""
        came = {preset.name: (preset, False) for preset in self._library.presets(self._name(session))}
        return came | {name: (preset, True) for name, preset in self._saved(session).items()}

    def listed(self, session: LiveSession, catalog: Catalog) -> list[PresetInfo]:
        """What can be recalled."""
        if session.workflow is None:
            return []
        return [
            PresetInfo(
                name=preset.name,
                origin="saved" if is_saved else "workflow",
                revision=preset.revision,
                fits=not missing(preset, session.workflow, catalog),
            )
            for preset, is_saved in self._every(session).values()
        ]

    async def save(self, session: LiveSession, name: str, catalog: Catalog) -> Change:
        """Keep the values of the session's workflow.

        Raises:
            WorkflowError: there is no workflow, or nothing in it to turn.
            BusyError: too many are kept.
            ConfigError: it cannot be written.
        """
        workflow = _workflow(session)
        values = [
            PresetValue(node=one.node, input=one.input, value=one.value, class_type=one.class_type)
            for one in parameters(workflow, catalog)
        ]
        if not values:
            raise WorkflowError("this workflow has no values to keep", code="no_values")
        preset = Preset(name=name, values=values, workflow=self._name(session), revision=session.revision)
        kept = self._of_session.setdefault(session, {})
        if name not in kept and len(kept) >= MOST_PER_SESSION:
            raise BusyError(f"a session keeps {MOST_PER_SESSION} presets", code="too_many_presets", hint="delete some")
        if self._folder is not None:
            await asyncio.to_thread(self._folder.save, preset)
        kept[name] = preset
        session.tell(PresetsChanged(name))
        return Change(session.revision)

    def patches(self, session: LiveSession, name: str, catalog: Catalog) -> list[Patch]:
        """What to change to recall a preset.

        Raises:
            WorkflowError: there is none of that name, or it does not fit the workflow.
        """
        workflow = _workflow(session)
        every = self._every(session)
        if name not in every:
            raise _unknown(name, every)
        return patches_of(every[name][0], workflow, catalog)

    async def delete(self, session: LiveSession, name: str) -> Change:
        """Forget a saved preset.

        Raises:
            WorkflowError: there is none of that name, or it came with the workflow.
            ConfigError: its file cannot be removed.
        """
        was_kept = self._of_session.get(session, {}).pop(name, None) is not None
        if self._folder is not None:
            was_kept |= await asyncio.to_thread(self._folder.delete, self._name(session), name)
        if not was_kept:
            every = self._every(session)
            if name not in every:
                raise _unknown(name, every)
            raise WorkflowError(f'the preset "{name}" comes with the workflow', code="preset_is_fixed")
        session.tell(PresetsChanged(name))
        return Change(session.revision)


def _workflow(session: LiveSession) -> Workflow:
    if session.workflow is None:
        raise WorkflowError("there is no workflow", code="no_workflow", hint="set one first")
    return session.workflow


def _unknown(name: str, every: dict[str, tuple[Preset, bool]]) -> WorkflowError:
    return WorkflowError(f'there is no preset "{name}"', code="unknown_preset", hint=did_you_mean(name, list(every)))
