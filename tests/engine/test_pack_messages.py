from __future__ import annotations

from typing import Any

import pytest

from comfystream.engine.pack_messages import PackMessages


class FakeClock:
    def __init__(self) -> None:
        self.now = 0

    def now_ns(self) -> int:
        return self.now


def messages() -> tuple[PackMessages, FakeClock]:
    clock = FakeClock()
    return PackMessages(clock), clock  # type: ignore[arg-type]


def test_ten_a_second_of_each_name_and_node() -> None:
    kept, clock = messages()
    sent = 0
    for millisecond in range(1000):
        clock.now = millisecond * 1_000_000
        sent += kept.event("progress_text", {"nodeId": "1", "text": "x"}) is not None
    assert sent == 10
    assert kept.event("progress_text", {"nodeId": "2", "text": "x"}) is not None
    assert kept.event("other", {"nodeId": "1"}) is not None


@pytest.mark.parametrize(
    ("data", "node"),
    [({"node": 5}, "5"), ({"node_id": "a"}, "a"), ({"nodeId": "b"}, "b"), ({"node": None, "id": "c"}, "c")]
    + [({}, ""), ("text", ""), (None, "")],
)
def test_the_node_that_it_is_about(data: Any, node: str) -> None:
    event = messages()[0].event("x", data)
    assert event is not None
    assert (event.data, event.node_id) == (data, node)


@pytest.mark.parametrize(("name", "data"), [(1, b"jpeg"), ("x", object()), ("x", {"image": b"bytes"})])
def test_what_has_no_json_is_left_out(name: Any, data: Any) -> None:
    assert messages()[0].event(name, data) is None
