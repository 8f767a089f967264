"""Node packs: cloned beside their place, looked at together, and only then put in place and installed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from comfystream.assets import git
from comfystream.assets.lists import PackEntry
from comfystream.assets.lock import Lock
from comfystream.assets.requirements import Requirements
from comfystream.errors import AssetError

__all__ = ["PackState", "Packs"]

_COMMIT_LENGTH = 40


@dataclass(frozen=True, slots=True)
class PackState:
    """A pack as it is: `commit` is empty when it is not there; `trouble` says why it cannot be brought up to date."""

    id: str
    entry: PackEntry
    folder: Path
    commit: str
    trouble: str = ""

    @property
    def is_there(self) -> bool:
        """Whether its folder exists."""
        return self.folder.exists()

    @property
    def is_as_wanted(self) -> bool:
        """Whether there is nothing to do: it is there, and at the commit that the list pins, if it pins one."""
        ref = self.entry.ref
        return self.is_there and (len(ref) != _COMMIT_LENGTH or ref == self.commit)


class Packs:
    """The node packs of a workspace.

    Args:
        entries: what is wanted, by id.
        workspace: the folder that has `custom_nodes/`.
        lock: of the workspace.
        mirror: a folder to take all from in place of the web: clones as `MIRROR/HOST/OWNER/NAME` or `MIRROR/NAME`,
            Python packages in `MIRROR/wheels`.
    """

    def __init__(
        self, entries: Mapping[str, PackEntry], workspace: Path, lock: Lock, mirror: Path | None = None
    ) -> None:
        self._entries = entries
        self._home = workspace / "custom_nodes"
        self._lock = lock
        self._mirror = mirror

    def states(self) -> list[PackState]:
        """All of them as they are."""
        return [self._state(id, entry) for id, entry in self._entries.items()]

    def _state(self, id: str, entry: PackEntry) -> PackState:
        folder = self._home / entry.folder
        commit = git.commit_of(folder) if folder.exists() else ""
        trouble = ""
        if folder.exists() and not commit:
            trouble = "it is not a git clone"
        elif commit and (changed := git.changes_of(folder)):
            trouble = f"{len(changed)} of its files were changed by hand"
        return PackState(id, entry, folder, commit, trouble)

    def fetch(self, on_step: Callable[[str], None], *, update: bool = False, is_trial: bool = False) -> list[str]:
        """Bring all packs to what the list says, and install what they ask for.

        Nothing is put in place and nothing installed when one of them cannot be had or their requirements cannot be
        installed together with what is there.

        Args:
            on_step: told what is done.
            update: also ask for newer commits of branches.
            is_trial: stop before anything changes.

        Returns:
            The packages that were (or would be) installed, as "name version".

        Raises:
            AssetError: a pack cannot be had.
            Conflict: the requirements do not fit together.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        staged: dict[str, tuple[PackState, Path, str]] = {}
        with tempfile.TemporaryDirectory(dir=self._home, prefix=".fetch-") as name:
            scratch = Path(name)
            for state in self.states():
                if state.is_as_wanted and not (update and not state.trouble):
                    on_step(f"{state.id}: there" + (f"; left as it is, {state.trouble}" if state.trouble else ""))
                elif state.trouble:
                    on_step(f"{state.id}: left as it is, {state.trouble}")
                else:
                    on_step(f"{state.id}: {state.entry.url} {state.entry.ref}".rstrip())
                    staged[state.id] = (state, *self._stage(state, scratch))
            requirements = self._requirements({id: folder for id, (_, folder, _) in staged.items()})
            on_step("looking whether the requirements fit together")
            planned = requirements.plan(scratch)
            if is_trial:
                return planned
            self._put_in_place(staged, requirements, scratch)
        return planned

    def _stage(self, state: PackState, scratch: Path) -> tuple[Path, str]:
        """A clone at the wanted commit, beside its place."""
        folder = scratch / state.entry.folder
        try:
            return folder, git.clone(self._address(state.entry.url), state.entry.ref, folder)
        except AssetError as error:
            raise AssetError(f"{state.id}: {state.entry.url}: {error}", code=error.code) from error

    def _address(self, url: str) -> str:
        if self._mirror is None:
            return url
        parts = urlsplit(url)
        place = self._mirror / (parts.hostname or "") / parts.path.strip("/").removesuffix(".git")
        for folder in (place, place.with_name(f"{place.name}.git"), self._mirror / place.name):
            if folder.is_dir():
                return folder.resolve().as_uri()
        raise AssetError(f"{self._mirror} has no clone of it", code="not_in_mirror")

    def _requirements(self, folders: Mapping[str, Path]) -> Requirements:
        files = [folder / "requirements.txt" for folder in folders.values()]
        more = [line for id, entry in self._entries.items() if id in folders for line in entry.dependencies]
        wheels = None if self._mirror is None else self._mirror / "wheels"
        return Requirements([file for file in files if file.is_file()], more, wheels)

    def _put_in_place(
        self, staged: Mapping[str, tuple[PackState, Path, str]], requirements: Requirements, scratch: Path
    ) -> None:
        requirements.install(scratch)
        for state, folder, commit in staged.values():
            old = scratch / f"old-{state.entry.folder}"
            if state.is_there:
                state.folder.rename(old)
                _keep_untracked(old, folder)
            folder.rename(state.folder)
            self._lock.put_pack(state.entry.folder, state.entry.url, commit)


def _keep_untracked(old: Path, new: Path) -> None:
    """What a pack has put into its own folder (downloaded models, settings) goes over to the new clone."""
    for path in git.untracked_of(old):
        source, target = old / path, new / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
