from __future__ import annotations

import asyncio
import functools
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rtc_ends import Host, Viewer, run

from comfystream.errors import ComfyStreamError, NetworkError
from comfystream_server.rtc.sdp import MOST_CANDIDATES, new_credentials, read_fragment, read_offer, write_fragment


@functools.cache
def good_offer() -> str:
    """What an aiortc client sends: sound, pictures, messages."""

    async def make() -> str:
        viewer = Viewer()
        viewer.pc.addTransceiver("audio")
        viewer.pc.addTransceiver("video")
        viewer.pc.createDataChannel("control")
        await viewer.pc.setLocalDescription(await viewer.pc.createOffer())
        sdp = viewer.pc.localDescription.sdp
        await viewer.pc.close()
        return sdp

    return asyncio.run(make())


def without(pattern: str) -> str:
    return re.sub(rf"(?m)^{pattern}.*\r?\n", "", good_offer())


def channels() -> str:
    return good_offer()[good_offer().index("m=application") :]


def test_a_good_offer_is_read() -> None:
    offer = read_offer(good_offer(), "offer")
    assert offer.kinds == ("audio", "video", "application")
    assert offer.sdp == good_offer()
    assert offer.later == ()


@pytest.mark.parametrize(
    ("sdp", "words"),
    [
        (lambda: "", "no media section"),
        (lambda: "hello", "no media section"),
        (lambda: without("a=ice-ufrag"), "ice-ufrag"),
        (lambda: without("a=fingerprint"), "fingerprint"),
        (lambda: without("a=setup"), "fingerprint or setup"),
        (lambda: without("a=rtcp-mux"), "rtcp-mux"),
        (lambda: good_offer().replace("a=mid:1", "a=mid:0"), "same mid"),
        (lambda: good_offer().replace("BUNDLE 0", "BUNDLE x 0"), 'mid "x"'),
        (lambda: good_offer().replace("m=audio", "m=smell"), "smell"),
        (lambda: good_offer().replace("a=setup:actpass", "a=setup:sideways"), "cannot be read"),
        (lambda: good_offer() + channels().replace("a=mid:2", "a=mid:9"), "more than one"),
    ],
)
def test_a_bad_offer_says_what_is_bad(sdp, words: str) -> None:
    with pytest.raises(NetworkError, match=re.escape(words)) as caught:
        read_offer(sdp(), "offer")
    assert caught.value.code == "bad_sdp"


def test_an_answer_is_no_offer() -> None:
    with pytest.raises(NetworkError, match='expected type "offer"'):
        read_offer(good_offer(), "answer")


def test_codecs_without_a_match_are_named() -> None:
    sdp = good_offer().replace("opus/48000/2", "MP4A/48000/2").replace("PCM", "XCM").replace("G722", "G999")
    with pytest.raises(NetworkError, match="audio in common: offered MP4A.*supported opus") as caught:
        read_offer(sdp, "offer")
    assert caught.value.code == "unsupported_codec"


def test_candidates_by_name_are_looked_up_later() -> None:
    """A browser without camera permission sends `.local` names; looking for them can take seconds."""
    named = "a=candidate:1 1 udp 2113937151 3f3f3f3f-1111.local 50000 typ host\r\na=end-of-candidates\r\n"
    offer = read_offer(without("a=candidate").replace("a=end-of-candidates\r\n", named), "offer")
    assert ".local" not in offer.sdp
    assert "end-of-candidates" not in offer.sdp, "more will come, or the other end shows up by itself"
    assert {candidate.sdpMid for candidate in offer.later} == {"0", "1", "2"}


def test_fragments() -> None:
    line = "a=candidate:1 1 udp 2113937151 192.0.2.7 50000 typ host\r\n"
    fragment = f"a=ice-ufrag:abcd\r\nm=audio 9 RTP/AVP 0\r\na=mid:7\r\n{line}a=end-of-candidates\r\n"
    said = read_fragment(fragment)
    assert [(c.ip, c.port, c.sdpMid) for c in said.candidates] == [("192.0.2.7", 50000, "7")]
    assert (said.ufrag, said.password, said.is_last) == ("abcd", None, True)
    with pytest.raises(NetworkError, match="limit is 64"):
        read_fragment(line * (MOST_CANDIDATES + 1))


def test_a_fragment_that_is_written_is_read_again() -> None:
    line = "a=candidate:1 1 udp 2113937151 192.0.2.7 50000 typ host"
    text = write_fragment(without("nothing"), "ufrag", "p" * 22, read_fragment(line).candidates)
    assert text.startswith("a=group:BUNDLE ")
    said = read_fragment(text)
    assert (said.ufrag, said.password, said.is_last) == ("ufrag", "p" * 22, True)
    assert [(c.ip, c.sdpMid) for c in said.candidates] == [("192.0.2.7", "0")]
    assert new_credentials(said) == ("ufrag", "p" * 22)


@pytest.mark.parametrize(("ufrag", "password"), [("abc", "p" * 22), ("abcd", "short"), ("ab-d", "p" * 22), ("", "")])
def test_what_is_no_credential_is_refused(ufrag: str, password: str) -> None:
    with pytest.raises(NetworkError, match="an ICE restart needs"):
        new_credentials(read_fragment(f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n"))


def mutated(seed: int) -> str:
    """A good offer, hurt in a few places."""
    dice = random.Random(seed)
    lines = good_offer().splitlines()
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(lines))
        line = lines[at]
        cut = dice.randrange(len(line) + 1)
        junk = "".join(dice.choice("09 =:/;-\x00\u00e9azAZ") for _ in range(dice.randrange(8)))
        lines[at] = dice.choice([line[:cut], line[:cut] + junk + line[cut:], junk, "", line + line, line.swapcase()])
        if dice.random() < 0.3:
            lines.insert(dice.randrange(len(lines)), dice.choice(lines))
        if dice.random() < 0.2:
            del lines[dice.randrange(len(lines))]
    return "\r\n".join(lines) + "\r\n"


async def _answer_or_error(sdp: str) -> None:
    """Bad text is an error of ours; anything else would be a 500."""
    host, code = Host(), ""
    try:
        async with asyncio.timeout(10):
            await host.peer.answer(sdp)
    except ComfyStreamError as error:
        code = error.code
    finally:
        await host.peer.close()
    assert code in ("", "bad_sdp", "unsupported_codec", "sdp_too_large")
    assert host.peer.state == "closed"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.text(max_size=300), st.text(alphabet="mav=:/ 0189\r\n", max_size=300)))
def test_any_text_is_answered_or_refused(text: str) -> None:
    run(_answer_or_error(text))


@settings(max_examples=140, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(min_value=0, max_value=2**32))
def test_a_hurt_offer_is_answered_or_refused(seed: int) -> None:
    run(_answer_or_error(mutated(seed)))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="acndite=:. 0189udphosty\r\n", max_size=200))
def test_any_fragment_is_read_or_refused(text: str) -> None:
    code = ""
    try:
        read_fragment("a=candidate:" + text)
    except ComfyStreamError as error:
        code = error.code
    assert code in ("", "bad_sdp")
