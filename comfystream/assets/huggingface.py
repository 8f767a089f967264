"""The files of a folder on Hugging Face, with their checksums."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

from comfystream.assets.transfer import Remote, Transfer
from comfystream.errors import AssetError

__all__ = ["folder_files"]

_FOLDER = re.compile(r"/(?P<repository>[\w.-]+/[\w.-]+)/(?:tree|blob)/(?P<revision>[^/]+)(?:/(?P<path>.*?))?/?$")
MOST_PAGES = 100


def folder_files(url: str, transfer: Transfer) -> Iterator[tuple[str, Remote]]:
    """Path within the folder, and where the file is, for each file below it.

    Args:
        url: such as https://huggingface.co/OWNER/NAME/tree/main/FOLDER.
        transfer: asks for the list.

    Raises:
        AssetError: it is no such address, or the list cannot be had.
    """
    parts = urlsplit(url)
    match = _FOLDER.match(parts.path)
    if parts.hostname != "huggingface.co" or match is None:
        raise AssetError(
            f"{url}: is_directory needs a folder on Hugging Face",
            code="bad_list",
            hint="https://huggingface.co/OWNER/NAME/tree/main/FOLDER",
        )
    repository, revision, folder = match["repository"], match["revision"], match["path"] or ""
    page = f"https://huggingface.co/api/models/{repository}/tree/{revision}/{folder}?recursive=true"
    for _ in range(MOST_PAGES):
        body, headers = transfer.read(page)
        for entry in _entries(body, page):
            path = str(entry["path"])
            inner = path.removeprefix(f"{folder}/") if folder else path
            address = f"https://huggingface.co/{repository}/resolve/{revision}/{quote(path)}"
            yield inner, Remote(address, (entry.get("lfs") or {}).get("oid", ""), entry.get("size"))
        following = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("link", ""))
        if following is None:
            return
        page = following[1]


def _entries(body: bytes, page: str) -> list[dict[str, Any]]:
    try:
        entries = json.loads(body)
        return [entry for entry in entries if entry["type"] == "file"]
    except (ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{page}: the answer is not a list of files", code="not_fetched") from error
