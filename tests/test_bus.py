from __future__ import annotations

import queue
import subprocess
import sys

import pytest

from comfystream.bus import FeedQueue, LastValues


def test_the_oldest_item_goes_when_nobody_reads() -> None:
    feed = FeedQueue(2)
    for item in range(5):
        feed.put(item)
    assert (feed.qsize(), feed.fed, feed.dropped) == (2, 5, 3)
    assert [feed.get_nowait(), feed.get_nowait()] == [3, 4]
    with pytest.raises(queue.Empty):
        feed.get_nowait()


def test_clear_forgets_the_stream() -> None:
    feed = FeedQueue(2)
    feed.put_nowait("x")
    feed.clear()
    assert (feed.empty(), feed.fed) == (True, 0)


def test_last_values_are_kept_per_modality() -> None:
    values = LastValues()
    values.put("video", 1)
    values.put("video", 2)
    assert (values.get("video"), values.get("audio")) == (2, None)
    values.clear()
    assert values.get("video") is None


def test_the_bus_is_cheap_to_import() -> None:
    code = "import sys, comfystream.tensor_cache, comfystream.exceptions; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
