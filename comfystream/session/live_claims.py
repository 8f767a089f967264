"""Who sends frames into a session: of several that could, one at a time."""

from __future__ import annotations

from collections.abc import Callable

from comfystream.frames import AudioFrame, VideoFrame

__all__ = ["Claim", "Claims"]


class Claim:
    """A source's place in line. Made by `Claims.make`.

    Attributes:
        who: names the source to people.
        is_chosen: somebody asked for this source, so it goes before those that merely came.
    """

    def __init__(self, owner: Claims, who: str, *, is_chosen: bool) -> None:
        self._owner = owner
        self.who = who
        self.is_chosen = is_chosen

    @property
    def is_in_force(self) -> bool:
        """Whether its frames go in."""
        return self._owner.holder is self

    def submit(self, frame: VideoFrame | AudioFrame) -> bool:
        """Send a frame in; False when another source has the place, and nothing happens then."""
        return self._owner.submit(self, frame)

    def release(self) -> None:
        """Give the place up; the source before it has it again. Idempotent."""
        self._owner.release(self)


class Claims:
    """The line of sources: chosen ones go before others, and of equals the one that came last has the place.

    Args:
        submit: takes the frames of the one that has the place.
        on_change: told its name when another one has it; empty for nobody.
    """

    def __init__(self, submit: Callable[[VideoFrame | AudioFrame], None], on_change: Callable[[str], None]) -> None:
        self._submit = submit
        self._on_change = on_change
        self._line: list[Claim] = []
        self.holder: Claim | None = None

    def make(self, who: str, *, is_chosen: bool = False) -> Claim:
        """A place for one more source."""
        claim = Claim(self, who, is_chosen=is_chosen)
        self._line.append(claim)
        self._settle()
        return claim

    def submit(self, claim: Claim, frame: VideoFrame | AudioFrame) -> bool:
        """What `Claim.submit` does."""
        if self.holder is not claim:
            return False
        self._submit(frame)
        return True

    def release(self, claim: Claim) -> None:
        """What `Claim.release` does."""
        if claim in self._line:
            self._line.remove(claim)
            self._settle()

    def _settle(self) -> None:
        first = max(range(len(self._line)), key=lambda at: (self._line[at].is_chosen, at), default=None)
        holder = None if first is None else self._line[first]
        if holder is not self.holder:
            self.holder = holder
            self._on_change(holder.who if holder is not None else "")
