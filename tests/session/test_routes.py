import pytest

from comfystream.errors import ConfigError, MediaError
from comfystream.session.routes import Way, check_source, routes


def ways(takes, gives, *, has_video=True, has_audio=True, writes=True):
    found = routes(takes, gives, has_video=has_video, has_audio=has_audio, writes=writes)
    return found.video, found.audio, found.reads_video, found.reads_audio


@pytest.mark.parametrize(
    ("takes", "gives", "expected"),
    [
        ({"video"}, {"video"}, (Way.GRAPH, Way.SOURCE, True, False)),
        ({"audio"}, {"audio"}, (Way.SOURCE, Way.GRAPH, True, True)),
        ({"video", "audio"}, {"video", "audio"}, (Way.GRAPH, Way.GRAPH, True, True)),
        ({"audio"}, {"text"}, (Way.SOURCE, Way.SOURCE, True, True)),
        ({"video"}, {"text"}, (Way.SOURCE, Way.SOURCE, True, False)),
    ],
)
def test_what_the_workflow_does_not_put_out_goes_through(takes, gives, expected):
    assert ways(takes, gives) == expected


def test_a_source_without_sound_gives_a_result_without():
    assert ways({"video"}, {"video"}, has_audio=False)[1] is Way.NONE


def test_without_a_result_only_what_the_graph_needs_is_read():
    assert ways({"audio"}, {"text"}, writes=False) == (Way.NONE, Way.NONE, False, True)


def test_a_workflow_without_inputs_is_clocked():
    found = routes(set(), {"video"}, has_video=False, has_audio=False)
    assert (found.is_clocked, found.reads_video, found.video) == (True, False, Way.GRAPH)


@pytest.mark.parametrize(("takes", "word"), [({"video"}, "video"), ({"audio"}, "sound")])
def test_a_missing_stream_is_named(takes, word):
    with pytest.raises(MediaError, match=f"takes {word}, but the input has none"):
        routes(takes, {"video"}, has_video=False, has_audio=False)


def test_a_live_workflow_needs_an_input_and_a_clocked_one_has_no_use_for_it():
    with pytest.raises(ConfigError, match="takes audio and video, but there is no input"):
        check_source({"video", "audio"}, has_source=False)
    with pytest.raises(ConfigError, match="would not see the input"):
        check_source(set(), has_source=True)
    check_source({"video"}, has_source=True)
    check_source(set(), has_source=False)
