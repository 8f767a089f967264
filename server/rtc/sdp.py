"""Offers from outside: read, checked and limited before anything is built for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc.codecs import CODECS
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import MediaDescription, SessionDescription, candidate_from_sdp, candidate_to_sdp

from comfystream.errors import NetworkError

__all__ = [
    "MALFORMED",
    "SUPPORTED",
    "Fragment",
    "Offer",
    "new_credentials",
    "read_fragment",
    "read_offer",
    "ufrag_of",
    "write_fragment",
]

SUPPORTED: Mapping[str, tuple[str, ...]] = {"video": ("H264", "VP8"), "audio": ("opus",)}  # by the codec names of SDP

_UFRAG, _PASSWORD = _CREDENTIALS = ("a=ice-ufrag", "a=ice-pwd")
MOST_BYTES, MOST_SECTIONS, MOST_CANDIDATES = 128 * 1024, 16, 64

# What aiortc's parser and its state machine are known to raise on text that is no proper description.
MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    StopIteration,
    TypeError,
    ValueError,
    InternalError,
    InvalidAccessError,
    InvalidStateError,
    OperationError,
)


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that can be answered.

    Attributes:
        sdp: what to give to aiortc: without the candidates in `later`.
        kinds: "audio", "video" or "application", one per section.
        later: candidates whose names (mDNS) take time to look up, and that connect without it in most networks.
    """

    sdp: str
    kinds: tuple[str, ...]
    later: tuple[RTCIceCandidate, ...]


def read_offer(sdp: str, kind: str, video_codecs: tuple[str, ...] = ()) -> Offer:
    """Check an offer.

    Args:
        sdp, kind: what came; `kind` has to be "offer".
        video_codecs: those that may be agreed on; empty = all of `SUPPORTED`.

    Raises:
        NetworkError: it is too large ("sdp_too_large"), cannot be read ("bad_sdp"), or asks only for codecs that are
            not known here ("unsupported_codec").
    """
    if kind != "offer":
        raise _bad(f'expected type "offer", got "{kind[:40]}"')
    if len(sdp) > MOST_BYTES:
        limit = f"{MOST_BYTES // 1024} KiB"
        raise NetworkError(f"the offer is larger than {limit}", code="sdp_too_large", hint="is it one SDP offer?")
    try:
        description = SessionDescription.parse(sdp)
    except MALFORMED as error:
        raise _bad("its SDP cannot be read", error) from error
    _check_sections(description.media)
    _check_bundle(description)
    known = SUPPORTED if not video_codecs else {**SUPPORTED, "video": video_codecs}
    for media in description.media:
        _check_section(media, known)
    kinds = tuple(media.kind for media in description.media)
    return Offer(_without_names(sdp), kinds, tuple(_named_candidates(description.media)))


def _bad(why: str, error: BaseException | None = None) -> NetworkError:
    detail = f": {error}" if error is not None and str(error) else ""
    return NetworkError(f"the offer cannot be used: {why}{detail}"[:300], code="bad_sdp", hint="send a WebRTC offer")


def _check_sections(sections: list[MediaDescription]) -> None:
    if not sections:
        raise _bad("it has no media section (m=)")
    if len(sections) > MOST_SECTIONS:
        raise _bad(f"it has {len(sections)} media sections, the limit is {MOST_SECTIONS}")
    if sum(len(media.ice_candidates) for media in sections) > MOST_CANDIDATES * MOST_SECTIONS:
        raise _bad("it has too many ICE candidates")
    mids = [media.rtp.muxId for media in sections]
    if len(set(mids)) != len(mids):
        raise _bad("two media sections have the same mid")
    if sum(media.kind == "application" for media in sections) > 1:
        raise _bad("it has more than one section for data channels")


def _check_bundle(description: SessionDescription) -> None:
    """What is bundled goes over the transport of the first one named (RFC 9143 7.2): it has to be there."""
    mids = {media.rtp.muxId for media in description.media}
    for group in description.group:
        if group.semantic == "BUNDLE" and (unknown := {str(item) for item in group.items} - mids):
            raise _bad(f'the BUNDLE group names the mid "{min(unknown)[:40]}", which no media section has')


def _check_section(media: MediaDescription, supported: Mapping[str, tuple[str, ...]]) -> None:
    if media.kind not in ("audio", "video", "application"):
        raise _bad(f'media of kind "{media.kind[:40]}" is not known; known are audio, video and application')
    if media.ice is None or not media.ice.usernameFragment or not media.ice.password:
        raise _bad(f"the {media.kind} section has no ice-ufrag and ice-pwd")
    if media.dtls is None or not media.dtls.fingerprints:
        raise _bad(f"the {media.kind} section has no fingerprint or setup (DTLS)")
    if media.kind != "application":
        if not media.rtcp_mux:
            raise _bad(f"the {media.kind} section has no rtcp-mux")
        _check_codecs(media, supported[media.kind])


def _check_codecs(media: MediaDescription, known: tuple[str, ...]) -> None:
    try:
        common = find_common_codecs(CODECS[media.kind], media.rtp.codecs)
    except MALFORMED as error:
        raise _bad(f"the codecs of the {media.kind} section cannot be read", error) from error
    if any(codec.name.upper() in map(str.upper, known) for codec in common):
        return
    offered = ", ".join(dict.fromkeys(codec.name for codec in media.rtp.codecs)) or "none"
    detail = " (H264: constrained baseline, packetization-mode 1)" if "H264" in known else ""
    raise NetworkError(
        f"no codec for {media.kind} in common: offered {offered[:200]}; supported {', '.join(known)}{detail}",
        code="unsupported_codec",
        hint=f"offer {' or '.join(known)}",
    )


def _without_names(sdp: str) -> str:
    """Without candidates by name, and without the promise that there will be no more."""
    lines = sdp.splitlines()
    if not any(map(_is_named, lines)):
        return sdp
    kept = [line for line in lines if not _is_named(line) and line.strip() != "a=end-of-candidates"]
    return "\r\n".join(kept) + "\r\n"


def _is_named(line: str) -> bool:
    words = line.split()
    return line.startswith("a=candidate:") and len(words) > 4 and words[4].endswith(".local")


def _named_candidates(sections: list[MediaDescription]) -> Iterator[RTCIceCandidate]:
    for index, media in enumerate(sections):
        for candidate in media.ice_candidates:
            if candidate.ip.endswith(".local"):
                candidate.sdpMid, candidate.sdpMLineIndex = media.rtp.muxId, index
                yield candidate


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a trickle ICE fragment says (RFC 8840).

    Attributes:
        candidates: in its order.
        ufrag, password: the credentials that it names; None where it names none.
        is_last: whether these are all the candidates.
    """

    candidates: tuple[RTCIceCandidate, ...]
    ufrag: str | None
    password: str | None
    is_last: bool


def read_fragment(fragment: str) -> Fragment:
    """Read a trickle ICE fragment, or what an offer says of ICE.

    Raises:
        NetworkError: it cannot be read, or has too many candidates ("bad_sdp").
    """
    candidates: list[RTCIceCandidate] = []
    said: dict[str, str] = {}
    mid, index, is_last = None, -1, False
    for line in fragment.splitlines():
        name, _, value = line.partition(":")
        if line.startswith("m="):
            index, mid = index + 1, None
        elif name == "a=mid":
            mid = value.strip()
        elif name in _CREDENTIALS:
            said[name] = value.strip()
        elif name == "a=candidate":
            candidates.append(_candidate(value, mid, max(index, 0)))
        is_last |= line.strip() == "a=end-of-candidates"
    if len(candidates) > MOST_CANDIDATES:
        raise _bad(f"{len(candidates)} ICE candidates at once, the limit is {MOST_CANDIDATES}")
    return Fragment(tuple(candidates), said.get(_UFRAG), said.get(_PASSWORD), is_last)


def ufrag_of(sdp: str) -> str | None:
    """The first ICE ufrag of a description; of a bundled one, that of all."""
    line = next((line for line in sdp.splitlines() if line.startswith(f"{_UFRAG}:")), "")
    return line.partition(":")[2].strip() or None


def new_credentials(fragment: Fragment) -> tuple[str, str]:
    """The credentials that a fragment asks to go on with: ufrag and password.

    Raises:
        NetworkError: one of them is missing, or is none (RFC 8839 5.4; "bad_sdp").
    """
    for name, value, least in ((_UFRAG, fragment.ufrag, 4), (_PASSWORD, fragment.password, 22)):
        if not re.fullmatch(rf"[A-Za-z0-9+/]{{{least},256}}", value or ""):
            raise _bad(f"an ICE restart needs {name[2:]}, {least} to 256 letters, digits, + or /")
    return fragment.ufrag or "", fragment.password or ""


def write_fragment(sdp: str, ufrag: str, password: str, candidates: Iterable[RTCIceCandidate]) -> str:
    """A fragment for the first section of the description `sdp`, which the others are bundled with (RFC 9725 4.3.3)."""
    lines = sdp.splitlines()
    bundled = [line for line in lines if line.startswith("a=group:BUNDLE")][:1]
    section = [next(line for line in lines if line.startswith(start)) for start in ("m=", "a=mid:")]
    credentials = [f"{_UFRAG}:{ufrag}", f"{_PASSWORD}:{password}"]
    found = [f"a=candidate:{candidate_to_sdp(candidate)}" for candidate in candidates]
    return "\r\n".join([*bundled, *section, *credentials, *found, "a=end-of-candidates", ""])


def _candidate(text: str, mid: str | None, index: int) -> RTCIceCandidate:
    try:
        candidate = candidate_from_sdp(text)
    except MALFORMED as error:
        raise _bad(f'ICE candidate "{text[:80]}" cannot be read', error) from error
    candidate.sdpMid, candidate.sdpMLineIndex = mid, index
    return candidate
