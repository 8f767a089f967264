"""Exit 0 while every service of the container answers its health address, else 1 and say which does not.

The entrypoint writes the addresses, one a line, as it starts the services.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

ADDRESSES = Path(os.environ.get("COMFYSTREAM_RUN_FOLDER", "/run/comfystream")) / "health"
WAIT_S = 4.0


def trouble(address: str) -> str:
    """What is wrong with a service; empty when it is well. A worker says ERROR with status 200."""
    try:
        with urllib.request.urlopen(address, timeout=WAIT_S) as answer:
            text = answer.read(4096).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return f"{address}: status {error.code}"
    except OSError as error:
        return f"{address}: {getattr(error, 'reason', error)}"
    return f"{address}: {text.strip()}" if '"ERROR"' in text else ""


def main() -> int:
    """Look at all of them."""
    try:
        addresses = ADDRESSES.read_text("utf-8").split()
    except OSError:
        print("no service has started")
        return 1
    found = [text for text in map(trouble, addresses) if text]
    print("\n".join(found) or "well")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
