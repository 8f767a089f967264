"""Check 46: certificates are looked at, unless a URL is said to have none worth looking at."""

from __future__ import annotations

from pathlib import Path

import pytest
from on_loop import on_loop
from self_signed import server_context

from comfystream.errors import NetworkError
from comfystream.trickle.reader import ReaderOptions, TrickleReader
from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.writer import TrickleWriter, WriterOptions


@on_loop
async def test_pb46_a_self_signed_server_is_refused_and_can_be_accepted(tmp_path: Path) -> None:
    trickle = TrickleServer(TrickleOptions(auto_create=True))
    async with trickle.serving(tls=server_context(tmp_path)) as base:
        assert base.startswith("https://")
        async with TrickleWriter(f"{base}/ch", content_type="x/y", verify_tls=False) as writer:
            assert await writer.send(b"whole") == 0
            async with TrickleReader(f"{base}/ch", verify_tls=False) as reader:
                segment = await reader.next()
                assert segment is not None
                assert await segment.read() == b"whole"
        strict = TrickleReader(f"{base}/ch", options=ReaderOptions(retry_s=0.001, most_retry_s=0.001))
        async with strict:
            with pytest.raises(NetworkError, match="certificate"):
                await strict.next()
        options = WriterOptions(retry_s=0.001, most_retry_s=0.001)
        async with TrickleWriter(f"{base}/other", content_type="x/y", options=options) as refused:
            with pytest.raises(NetworkError, match="certificate"):
                await refused.send(b"secret")
        assert trickle.names == ["ch"]
