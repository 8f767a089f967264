"""Every body that crosses the border of a worker, in and out. The shapes are those that orchestrators know already."""

from __future__ import annotations

import math
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError, field_validator, model_validator

from comfystream.errors import ConfigError

__all__ = [
    "Channels",
    "Health",
    "Said",
    "StartBody",
    "Started",
    "StateBody",
    "StreamParams",
    "start_body",
    "stream_params",
]

MOST_SIDE = 8192
MOST_FPS = 60
MOST_URL = 4096
_YES, _NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class StreamParams(BaseModel):
    """`params` of a start, or the body of an update: a few names that every worker knows, the rest is the app's.

    Attributes:
        width, height: size that pictures are brought to before they are processed; both or neither, made even.
        max_framerate: pictures per second that are let in at most.
        detect_out_resolution: False: what comes out is brought to `width` and `height` again.
        show_loading: True shows the loading picture whatever happens, False ends that.
        load_model: an update with it loads the model anew.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    width: int | None = None
    height: int | None = None
    max_framerate: int | None = None
    detect_out_resolution: bool | None = None
    show_loading: bool | None = None
    load_model: Any = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height, if they are given."""
        return None if self.width is None or self.height is None else (self.width, self.height)

    @property
    def rest(self) -> dict[str, Any]:
        """What is the app's."""
        return dict(self.model_extra or {})

    def is_given(self, name: str) -> bool:
        """Whether the caller named it."""
        return name in self.model_fields_set

    @model_validator(mode="before")
    @classmethod
    def _sides_come_together(cls, given: Any) -> Any:
        if isinstance(given, dict) and ("width" in given) != ("height" in given):
            raise ValueError("Both 'width' and 'height' must be provided together")
        return given

    @field_validator("width", "height", mode="before")
    @classmethod
    def _side(cls, value: Any) -> int:
        side = _whole(value)
        if side is None or side <= 0:
            raise ValueError("Width and height must be valid integers or integer strings")
        if side > MOST_SIDE:
            raise ValueError(f"Width and height cannot exceed {MOST_SIDE}")
        return max(2, side - side % 2)

    @field_validator("max_framerate", mode="before")
    @classmethod
    def _rate(cls, value: Any) -> int:
        rate = _whole(value)
        if rate is None:
            raise ValueError("max_framerate must be a valid integer")
        if rate <= 0:
            raise ValueError("max_framerate must be a positive integer")
        if rate > MOST_FPS:
            raise ValueError(f"max_framerate cannot exceed {MOST_FPS} FPS")
        return rate

    @field_validator("detect_out_resolution", mode="before")
    @classmethod
    def _flag(cls, value: Any) -> bool:
        word = value.strip().lower() if isinstance(value, str) else value
        if isinstance(word, str) and word in _YES | _NO:
            return word in _YES
        if isinstance(word, bool | int):
            return bool(word)
        raise ValueError("detect_out_resolution must be a boolean value")

    @field_validator("show_loading", mode="before")
    @classmethod
    def _shown(cls, value: Any) -> bool:
        return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _whole(value: Any) -> int | None:
    """An integer, a number that is cut to one, or a text that is one; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    try:
        return int(value)
    except ValueError:
        return None


class Channels(BaseModel):
    """Where a stream's channels are; one that is not given is left out of the stream."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    subscribe_url: str | None = None
    publish_url: str | None = None
    control_url: str | None = None
    events_url: str | None = None
    data_url: str | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _url(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str):
            raise ValueError("must be a URL")
        url = value.strip()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or len(url) > MOST_URL:
            raise ValueError("must be a http:// or https:// URL")
        return url.rstrip("/")


class StartBody(BaseModel):
    """What starts a stream. Keys that are not known are passed over: orchestrators merge in what gateways say.

    Attributes:
        gateway_request_id: names the stream.
        params: of the stream; None is the same as none.
        model_id: the capability, where one worker serves several and the caller uses the ai-runner path.
        data_as_objects: texts go out as a JSON object per line, as clients of live runners read them, not in arrays.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    gateway_request_id: StrictStr = Field(max_length=512)
    channels: Channels
    params: StreamParams = StreamParams()
    model_id: str = ""
    data_as_objects: bool = False

    def as_objects(self) -> StartBody:
        """The same, with texts as objects."""
        return self.model_copy(update={"data_as_objects": True})

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise ValueError("the body must be a JSON object")
        model = given.get("model_id")
        urls = {name: given.get(name) for name in Channels.model_fields}
        kept = {name: given[name] for name in ("gateway_request_id", "params") if name in given}
        if kept.get("params") is None:
            kept.pop("params", None)
        return {**kept, "channels": urls, "model_id": model if isinstance(model, str) else ""}


def start_body(document: Any) -> StartBody:
    """A start.

    Raises:
        ConfigError: it cannot be used; says why.
    """
    try:
        return StartBody.model_validate(document)
    except ValidationError as error:
        raise _in_words(error) from None


def stream_params(document: Any) -> StreamParams:
    """An update.

    Raises:
        ConfigError: it cannot be used; says why.
    """
    if not isinstance(document, dict):
        raise ConfigError("parameters must be a JSON object", code="bad_params")
    try:
        return StreamParams.model_validate(document)
    except ValidationError as error:
        raise _in_words(error) from None


def _in_words(error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    words = first["msg"].removeprefix("Value error, ")
    place = ".".join(str(part) for part in first["loc"] if part not in ("params", "channels"))
    is_ours = first["type"] == "value_error" and not place.endswith("_url")
    return ConfigError(words if is_ours or not place else f"{place}: {words}", code="bad_params")


Status = Literal["LOADING", "IDLE", "OK", "ERROR"]


class StateBody(BaseModel):
    """How the worker is; `status` and `state` are the same, for two generations of readers."""

    status: Status
    state: Status
    error_message: str | None = None
    pipeline_ready: bool
    active_streams: int
    startup_complete: bool
    pipeline_state: str
    additional_info: dict[str, Any] = {}


class Health(BaseModel):
    """GET /health; the reply is 200 whatever it says."""

    status: Status


class Said(BaseModel):
    """A plain reply."""

    status: Literal["success", "error"]
    message: str
    current_state: StateBody | None = None


class Started(Said):
    """The reply to a start that worked."""

    request_id: str
