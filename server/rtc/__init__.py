"""WebRTC: peers, and WHIP and WHEP over HTTP. aiortc's own limits are dealt with in `compat_aiortc` alone."""

from __future__ import annotations
