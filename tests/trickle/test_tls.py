"""Check 46: certificates are looked at, unless a URL is said to have none worth looking at."""

from __future__ import annotations

from pathlib import Path

import pytest
from on_loop import on_loop
from self_signed import server_context

from comfystream.errors import NetworkError
from comfystream.trickle.reader import TrickleReader
from comfystream.trickle.server import TrickleOptions, TrickleServer
from comfystream.trickle.writer import TrickleWriter


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
        async with TrickleReader(f"{base}/ch") as strict:
            with pytest.raises(NetworkError, match="certificate is not trusted.*--insecure-tls") as caught:
                await strict.next()
            assert (caught.value.code, strict.stats.failures) == ("certificate_not_trusted", 1), "trying on is no use"
        for start in (0, None):
            async with TrickleWriter(f"{base}/other", content_type="x/y", start=start) as refused:
                with pytest.raises(NetworkError, match="certificate is not trusted.*--insecure-tls"):
                    await refused.send(b"secret")
        assert trickle.names == ["ch"]
