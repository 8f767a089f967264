"""Whatever is sent: an answer below 500 that is JSON, and the worker goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from batch_harness import batches, coded, png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfystream.engine.child import ChildEngine

PICTURE = coded(png(size=(16, 16)))
NAMES = st.sampled_from(
    ["prompt", "image", "audio", "seed", "width", "height", "values", "params", "format", "workflow", "fps", "quality",
     "stream", "timeout_seconds", "scale", "steps", "x", ""]
)  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
GOOD = st.sampled_from([PICTURE, f"data:image/png;base64,{PICTURE}", "edges", "png", "json", 64, 1.5, True])
TARGETS = st.dictionaries(
    st.sampled_from(["2.sigma", "2.blur_radius", "3.low_threshold", "9.x", "", ".", "a=b.c"]), PLAIN
)
VALUES = GOOD | PLAIN | TARGETS | st.lists(PLAIN, max_size=3)
BODIES = st.dictionaries(NAMES, VALUES, max_size=6)
PATHS = st.sampled_from(
    ["/edges", "/upscale", "/image-to-image", "/text-to-image", "/backdrop", "/", "/capability/test"]
)
KINDS = ["image/png", "audio/wav", "multipart/form-data; boundary=b"]
CALM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@CALM
@given(requests=st.lists(st.tuples(PATHS, BODIES), min_size=4, max_size=4))
def test_documents(shared_engine: ChildEngine, requests: list[tuple[str, dict[str, Any]]]) -> None:
    asyncio.run(
        _send(shared_engine, [(path, json.dumps(body).encode(), "application/json") for path, body in requests])
    )


@CALM
@given(
    data=st.binary(max_size=200), kind=st.sampled_from(["image/png", "audio/wav", "multipart/form-data; boundary=b"])
)
def test_bytes(shared_engine: ChildEngine, data: bytes, kind: str) -> None:
    picture = png(size=(16, 16))
    damaged = picture[: len(data)] + data + picture[2 * len(data) :]
    parts = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + data + b"\r\n--b--\r\n"
    sent = [(path, body, kind) for path, body in (("/edges", data), ("/edges", damaged), ("/edges", parts))]
    asyncio.run(_send(shared_engine, sent))


async def _send(engine: ChildEngine, requests: list[tuple[str, bytes, str]]) -> None:
    async with batches(engine, timeout_s=20) as worker:
        for path, body, kind in requests:
            reply = await worker.post(path, data=body, headers={"Content-Type": kind})
            assert reply.status < 500 or reply.error["code"] == "deadline", (path, body, reply.body)
            if reply.status >= 400:
                assert reply.error["message"], reply.body
        assert (await worker.post("/edges", {"image": PICTURE})).status == 200
