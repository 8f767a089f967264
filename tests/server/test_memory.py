"""What loading made is set aside from the collector, once."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import asyncio, gc, weakref
from comfystream.errors import EngineError
from comfystream.engine.host import settle_memory
from comfystream_server.memory import settle

class Host:
    async def get(self):
        raise EngineError("it does not start")

class Knot:
    def __init__(self):
        self.me = self

asyncio.run(settle(Host()))
aside = gc.get_freeze_count()
assert aside > 10_000, aside
knot = weakref.ref(Knot())
settle_memory()
assert gc.get_freeze_count() <= aside, "what came since was set aside, too"
assert knot() is None, "a knot was not untied"
for _ in range(200_000):
    Knot()
print(gc.get_stats()[2]["collections"])
"""


def test_full_collections_come_soon_and_nothing_is_set_aside_twice() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 4  # the three that were asked for, and one that came by itself
