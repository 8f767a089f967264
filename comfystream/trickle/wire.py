"""The words of the trickle protocol: header names, statuses, special numbers, and how a channel's URL is built."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from comfystream.errors import ConfigError, NetworkError

__all__ = [
    "CLOSED",
    "CURRENT",
    "EXPECT_CONTENT",
    "LATEST",
    "NEXT",
    "NO_ENTRY",
    "RESET",
    "SEQ",
    "TERMINATED",
    "ChannelOver",
    "channel_url",
    "header_number",
    "segment_url",
]

SEQ = "Lp-Trickle-Seq"  # the number of a segment
LATEST = "Lp-Trickle-Latest"  # the number that is written next; not the last complete one
CLOSED = "Lp-Trickle-Closed"  # there: the channel has ended. Its value means nothing
RESET = "Lp-Trickle-Reset"  # on a POST: the publisher started anew, lower numbers will not go on
EXPECT_CONTENT = "Expect-Content"  # on creation: the MIME type that readers will see
TERMINATED = "terminated"
NO_ENTRY = 470  # the channel is there, this number is not: too old, or too far ahead
NEXT, CURRENT = -1, -2  # numbers with a meaning: the segment that comes next; the newest that has begun


class ChannelOver(NetworkError):
    """The channel that is written to has ended (`is_clean`) or does not exist: nothing can be sent any more.

    Codes: `channel_closed`, `channel_not_found`.
    """

    default_code = "channel_closed"

    @property
    def is_clean(self) -> bool:
        """True when the server closed the channel, False when there was none."""
        return self.code == "channel_closed"


def channel_url(url: str) -> str:
    """A channel's URL without a trailing slash; a query stays at its end.

    Raises:
        ConfigError: `bad_url`, this is no http(s) URL with a channel name in it.
    """
    parts = urlsplit(url)
    path = "/".join(["", *filter(None, parts.path.split("/"))])
    if parts.scheme not in ("http", "https") or not parts.netloc or not path:
        raise ConfigError(
            f'"{url}" is no URL of a trickle channel', code="bad_url", hint="like http://127.0.0.1:2939/camera"
        )
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def segment_url(channel: str, number: int | str) -> str:
    """The URL of a segment, or of `next`, in the channel of a URL that `channel_url` made."""
    parts = urlsplit(channel)
    return urlunsplit(parts._replace(path=f"{parts.path}/{quote(str(number))}"))


def header_number(text: str | None) -> int | None:
    """The number in a header; None when it is missing or no number that a server can mean."""
    try:
        number = int(text) if text is not None else -1
    except ValueError:
        return None
    return number if number >= 0 else None
