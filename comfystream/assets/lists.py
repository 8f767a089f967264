"""Lists of models and node packs: the YAML files in configs/, in the keys that existing lists have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from comfystream.errors import ConfigError

__all__ = ["ExtraFile", "ModelEntry", "PackEntry", "chosen", "load_models", "load_packs"]


def _is_web(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    return url


def _is_git(url: str) -> str:
    """Any way that git knows to another machine; no program of git's own (`ext::`), no option."""
    if not re.match(r"(https?|ssh|git|file)://[^-]", url) and not re.match(r"[\w.-]+@[\w.-]+:[\w./-]+$", url):
        raise ValueError("must be the address of a git repository")
    return url


def _is_ref(name: str) -> str:
    if name.startswith("-") or not re.fullmatch(r"[\w./+-]*", name):
        raise ValueError("must name a branch, a tag or a commit")
    return name


Web = Annotated[str, AfterValidator(_is_web)]
Git = Annotated[str, AfterValidator(_is_git)]
Ref = Annotated[str, AfterValidator(_is_ref)]
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExtraFile(_Entry):
    """One more file of a model."""

    url: Web
    path: str = Field(min_length=1)
    sha256: Sha256 = ""


class ModelEntry(_Entry):
    """A model. `path` counts from `models/` of the workspace, or from the workspace if it begins with `custom_nodes/`.

    With `is_directory` the url is a folder of a Hugging Face repository, and `path` the folder for its files.
    """

    name: str = ""
    url: Web
    path: str = Field(min_length=1)
    type: str = ""
    sha256: Sha256 = ""
    size_mb: float | None = Field(None, gt=0)
    extra_files: tuple[ExtraFile, ...] = ()
    is_directory: bool = False


class PackEntry(_Entry):
    """A node pack: a git repository. `commit` (or a `branch` that is one) pins it; `classes` are its nodes."""

    name: str = ""
    url: Git
    branch: Ref = ""
    commit: Ref = ""
    type: str = ""
    dependencies: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """What to check out; empty for the default branch."""
        return self.commit or self.branch

    @property
    def folder(self) -> str:
        """Its folder in `custom_nodes/`."""
        return re.split(r"[/:]", self.url.rstrip("/"))[-1].removesuffix(".git")


Entry = TypeVar("Entry", bound=_Entry)


def load_models(file: Path) -> dict[str, ModelEntry]:
    """A list of models by id.

    Raises:
        ConfigError: no such file, not YAML, or an entry that cannot be used; the message says which.
    """
    return _load(file, "models", ModelEntry)


def load_packs(file: Path) -> dict[str, PackEntry]:
    """A list of node packs by id; raises what `load_models` raises."""
    packs = _load(file, "nodes", PackEntry)
    for id, pack in packs.items():
        if pack.folder in ("", ".", ".."):
            raise ConfigError(f"{file}: nodes.{id}.url: {pack.url} does not name a repository", code="bad_list")
    return packs


def chosen(entries: Mapping[str, Entry], only: Iterable[str]) -> dict[str, Entry]:
    """The entries of these ids; all when there are none.

    Raises:
        ConfigError: an id that is not in the list.
    """
    wanted = list(only)
    for id in wanted:
        if id not in entries:
            near = difflib.get_close_matches(id, entries, n=1)
            raise ConfigError(
                f'the list has no "{id}"',
                code="not_in_list",
                hint=f'did you mean "{near[0]}"?' if near else f"it has: {', '.join(entries)}",
            )
    return {id: entry for id, entry in entries.items() if not wanted or id in wanted}


def _load(file: Path, key: str, model: type[Entry]) -> dict[str, Entry]:
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}", code="no_list") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not YAML: {' '.join(str(error).split())}", code="bad_list") from error
    entries = document.get(key) if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise ConfigError(f'{file}: there is no "{key}:" with entries below it', code="bad_list")
    found = {}
    for id, entry in entries.items():
        try:
            found[str(id)] = model.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in (key, id, *first["loc"]))
            raise ConfigError(f"{file}: {place}: {first['msg']}", code="bad_list") from None
    return found
