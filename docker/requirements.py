"""Print the packages that ComfyStream and some of its extras need, one a line, read off pyproject.toml.

    python requirements.py PYPROJECT EXTRA,EXTRA

So the image's packages are a layer of their own, which only a change of pyproject.toml makes anew.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """The packages.

    Args:
        pyproject: text of the file.
        extras: names of optional groups.

    Raises:
        SystemExit: there is no extra of such a name.
    """
    project = tomllib.loads(pyproject)["project"]
    optional = project["optional-dependencies"]
    unknown = sorted(set(extras) - set(optional))
    if unknown:
        raise SystemExit(f"pyproject.toml has no extra {', '.join(unknown)}; it has {', '.join(optional)}")
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


if __name__ == "__main__":
    chosen = [name for name in sys.argv[2].split(",") if name]
    print("\n".join(requirements(Path(sys.argv[1]).read_text("utf-8"), chosen)))
