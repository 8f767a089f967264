"""The examples of a page: fenced blocks, each with the comment that stands right above it.

```sh          commands, a line each; `#` starts a remark
```console     commands after "$ ", with what they print
```python      a program; a ```text block right below it is what it prints

<!-- file: NAME -->            the block is the content of a file that later blocks use
<!-- figures vary -->          what is printed is compared without its numbers and spaces, each line anywhere
<!-- with a worker -->         the block is run by bash or Python beside a worker on port 8000, from then on
<!-- not run: REASON -->       the block is shown only
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks_of"]

_FENCE = re.compile(r"^```(\w*)\s*$")
_COMMENT = re.compile(r"^<!-- (file|figures vary|not run|with a worker)(?:: (.+?))? -->$")
PROGRAMS = ("sh", "console", "python")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: name of the page.
        line: of the opening fence, from 1.
        kind: what stands behind the fence.
        text: between the fences.
        mark, detail: the comment above it, such as ("not run", "needs a camera").
    """

    page: str
    line: int
    kind: str
    text: str
    mark: str = ""
    detail: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_program(self) -> bool:
        return self.kind in PROGRAMS and self.mark != "file"

    @property
    def looks_like_a_command(self) -> bool:
        return any(re.match(r"(\$ )?comfystream\s", line) for line in self.text.splitlines())


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks; indented ones are not looked at."""
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    above, lines = ("", ""), []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened is not None:
            if line.rstrip() != "```":
                lines.append(line)
                continue
            found.append(Block(page.name, *opened, "\n".join(lines), *above))
            opened, above, lines = None, ("", ""), []
        elif fence := _FENCE.match(line):
            opened = number, fence[1]
        elif comment := _COMMENT.match(line.strip()):
            above = comment[1], comment[2] or ""
        elif line.strip():
            above = "", ""
    assert opened is None, f"{page.name}:{opened[0]}: this block has no end"
    return found
