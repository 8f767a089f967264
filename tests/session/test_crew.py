import threading

from comfystream.session.crew import Crew


def test_the_first_error_is_kept_and_what_follows_is_done():
    crew, followed = Crew(), threading.Event()

    def fail():
        raise ValueError("first")

    crew.start("a", fail, then=followed.set)
    assert crew.join(5)
    assert followed.is_set()
    assert str(crew.error) == "first"


def test_wait_returns_when_a_thread_ends_and_says_whether_all_have():
    crew, gate = Crew(), threading.Event()
    crew.start("waits", lambda: bool(gate.wait(5)) or None)
    crew.start("ends", lambda: None)
    assert not crew.wait(5)
    assert not crew.join(0.01)
    gate.set()
    assert crew.join(5)
    assert crew.wait(5)
    assert crew.error is None
