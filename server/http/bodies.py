"""Bodies of requests that are no control messages."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from comfystream.session.live_size import SizeRule

from ..control.messages import SourceChoice

__all__ = ["Offer", "OfferBody", "Resolution"]


class Offer(BaseModel):
    """A session description as browsers have it."""

    model_config = ConfigDict(frozen=True)

    sdp: str = Field(min_length=1, max_length=256 * 1024)
    type: str = Field("offer", max_length=20)


class Resolution(BaseModel):
    """Size of the pictures to come; with `mode` fit or fill they are brought to it."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(gt=0, le=8192)
    height: int = Field(gt=0, le=8192)
    mode: SizeRule | None = None


class OfferBody(BaseModel):
    """POST /offer. Clients of the first generation send more than we know; that is passed over.

    Attributes:
        prompts: API-format workflow, a list of some, which are joined, or nothing: then frames are echoed.
        offer: from the browser.
        resolution: size of the pictures to come; where the server's own `size_mode` is fit or fill, the size for it.
        workflow: one of the server's workflows by name, in place of `prompts`.
        session: id of a session to come back to.
        source: where frames come from, in place of the viewer.
    """

    model_config = ConfigDict(frozen=True)

    prompts: Any = None
    offer: Offer
    resolution: Resolution | None = None
    workflow: str | None = Field(None, max_length=200)
    session: str | None = Field(None, max_length=100)
    source: SourceChoice | None = None
