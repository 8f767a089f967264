"""Git, as a program: what fetching a node pack takes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from comfystream.errors import AssetError

__all__ = ["changes_of", "clone", "commit_of", "untracked_of"]

GIT_S = 900


def clone(url: str, ref: str, folder: Path) -> str:
    """Clone into a new folder; its commit.

    Args:
        url: the repository.
        ref: branch, tag or commit; empty for the default branch.
        folder: does not exist yet.

    Raises:
        AssetError: there is no git, no such repository or no such ref.
    """
    _git("init", "--quiet", str(folder))
    try:
        _git("-C", str(folder), "remote", "add", "origin", url)
        return _checkout(ref, folder)
    except AssetError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _checkout(ref: str, folder: Path) -> str:
    """Bring a clone to a ref of its origin; its commit."""
    at = ("-C", str(folder))
    try:
        _git(*at, "fetch", "--quiet", "--depth", "1", "origin", ref or "HEAD")
        found = "FETCH_HEAD"
    except AssetError:
        if not ref:
            raise
        _git(*at, "fetch", "--quiet", "--tags", "origin")  # a server that gives commits only by their branches
        found = _known(at, ref)
    _git(*at, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", found)
    if (folder / ".gitmodules").is_file():
        _git(*at, "submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1")
    return commit_of(folder)


def _known(at: tuple[str, ...], ref: str) -> str:
    for name in (f"refs/remotes/origin/{ref}", f"refs/tags/{ref}", ref):
        try:
            return _git(*at, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        except AssetError:
            continue
    raise AssetError(f"the repository has no branch, tag or commit {ref}", code="no_such_ref")


def commit_of(folder: Path) -> str:
    """The commit that is checked out; empty when it is no clone."""
    if not (folder / ".git").exists():
        return ""
    return _git("-C", str(folder), "rev-parse", "HEAD")


def changes_of(folder: Path) -> list[str]:
    """Files of a clone that somebody changed and did not commit."""
    return _git("-C", str(folder), "status", "--porcelain", "--untracked-files=no").splitlines()


def untracked_of(folder: Path) -> list[str]:
    """Files of a clone that git does not know, ignored ones too, but for what Python leaves behind."""
    listed = _git("-C", str(folder), "ls-files", "--others", "-z").split("\0")
    return [path for path in listed if path and "__pycache__" not in path]


def _git(*arguments: str) -> str:
    environ = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, errors="replace", env=environ, timeout=GIT_S
        )
    except FileNotFoundError:
        raise AssetError("git is not installed", code="no_git", hint="on Debian and Ubuntu: apt install git") from None
    except subprocess.TimeoutExpired:
        raise AssetError(f"git took more than {GIT_S} s", code="git", hint="try again") from None
    if done.returncode:
        said = [line for line in done.stderr.strip().splitlines() if line] or [f"status {done.returncode}"]
        raise AssetError(f"git: {said[-1].removeprefix('fatal: ')}", code="git")
    return done.stdout.strip()
