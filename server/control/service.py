"""What the messages of the control protocol do. Every request gets a reply, whatever is wrong with it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from comfystream.errors import ComfyStreamError
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_sink_state import SinkRules
from comfystream.session.live_size import FrameSize
from comfystream.session.live_state import Change
from comfystream.session.loop_bridge import call
from comfystream.session.source_rules import SourceRules
from comfystream.workflow.api_format import to_api
from comfystream.workflow.model import Workflow
from comfystream.workflow.read import parse_workflow

from ..library import Library
from ..presets import Presets
from . import messages as m
from .described import ProgressInfo, SessionInfo
from .figures import sink_figures
from .parameters import parameters
from .sources import choose, described, field_of

__all__ = ["ControlService", "error_body", "validation_body"]

_log = logging.getLogger(__name__)
_WITH_INFO = (m.Describe, m.SetWorkflow, m.SetSource, m.SavePreset, m.ApplyPreset, m.DeletePreset)


class ControlService:
    """Handles requests for any session.

    Args:
        host: where the node classes are known.
        library: the server's workflows.
        presets: where sets of values are kept.
        sources, sinks: what a session may read, and what may be recorded and pushed.
    """

    def __init__(
        self,
        host: EngineHost,
        library: Library,
        presets: Presets,
        sources: SourceRules | None = None,
        sinks: SinkRules | None = None,
    ) -> None:
        self._host = host
        self._library = library
        self._presets = presets
        self._rules = sources or SourceRules()
        self._sinks = sinks or SinkRules()

    async def handle_text(self, session: LiveSession, text: str, who: str) -> m.Reply:
        """A request as JSON text."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            return refusal(session, None, m.ErrorBody(code="not_json", message=f"this is not JSON: {error}"[:300]))
        return await self.handle_json(session, document, who)

    async def handle_json(self, session: LiveSession, document: Any, who: str) -> m.Reply:
        """A request as parsed JSON."""
        try:
            request = m.request_adapter.validate_python(document)
        except ValidationError as error:
            return refusal(session, _id_of(document), validation_body(error))
        return await self.handle(session, request, who)

    async def handle(self, session: LiveSession, request: m.Request, who: str) -> m.Reply:
        """A request."""
        sink = None
        try:
            if isinstance(request, m.AddSink):
                sink = await self._add_sink(session, request)
            change = await self._do(session, request, who)
            info = await self.describe(session) if isinstance(request, _WITH_INFO) else None
        except ComfyStreamError as error:
            return refusal(session, request.id, error_body(error, field_of(request, error)))
        except RecursionError:
            body = m.ErrorBody(code="too_deep", message="the message is nested too deeply")
            return refusal(session, request.id, body)
        number, first = change.revision, change.first_frame
        return m.Reply(id=request.id, ok=True, revision=number, first_frame=first, info=info, sink=sink)

    async def _do(self, session: LiveSession, request: m.Request, who: str) -> Change:
        match request:
            case m.PatchValues():
                await self._host.known()  # not before a workflow that was set while the engine starts, and waits for it
                return await session.patch(request.patches, base=request.base_revision, who=who)
            case m.SetWorkflow():
                workflow = await self.workflow(request.name, request.workflow)
                return await session.set_workflow(workflow, base=request.base_revision, who=who)
            case m.SetSource():
                return await choose(session, self._rules, request.source, is_keeping=request.is_keeping)
            case m.Undo():
                return await session.undo(base=request.base_revision)
            case m.Redo():
                return await session.redo(base=request.base_revision)
            case m.Cancel():
                return await session.cancel()
            case m.Pause():
                return await session.pause()
            case m.Resume():
                return await session.resume()
            case m.SetFailPolicy():
                return await session.set_fail_policy(request.policy)
            case m.SetSize():
                now = session.options.size
                width, height = request.width or now.width, request.height or now.height
                return session.set_size(FrameSize(request.mode, width, height))
            case m.SavePreset():
                return await self._presets.save(session, request.name, await self._host.known())
            case m.ApplyPreset():
                return await self._apply(session, request, who)
            case m.DeletePreset():
                return await self._presets.delete(session, request.name)
            case m.RemoveSink():
                await session.sinks.remove(request.sink)
                return Change(session.revision)
            case m.Describe() | m.AddSink():
                return Change(session.revision)

    async def _apply(self, session: LiveSession, request: m.ApplyPreset, who: str) -> Change:
        patches = self._presets.patches(session, request.name, await self._host.known())
        return await session.patch(patches, base=request.base_revision, who=who)

    async def _add_sink(self, session: LiveSession, request: m.AddSink) -> str:
        match request.sink:
            case m.RecordTo(name=name):
                return session.sinks.add(await call(self._sinks.recording, session.id, name))
            case m.PushTo(url=url, kbps=kbps):
                return session.sinks.add(self._sinks.push(url, kbps))

    async def workflow(self, name: str | None, document: Any) -> Workflow:
        """One of the server's by name, or else the one in `document`.

        Raises:
            WorkflowError: there is none of that name, or it cannot be read.
        """
        catalog = await self._host.known()
        if name is not None:
            return self._library.read(name, catalog)
        return parse_workflow(document, catalog)

    async def describe(self, session: LiveSession) -> SessionInfo:
        """The session as it is now."""
        catalog = await self._host.known() if session.workflow is not None else None
        workflow, size = session.workflow, session.options.size
        info = SessionInfo(
            session=session.id,
            state=str(session.state),
            revision=session.revision,
            fail_policy=str(session.fail_policy),
            viewers=session.viewers,
            sinks=[sink_figures(one) for one in session.sinks.stats()],
            source=described(session),
            size_mode=size.rule,
            width=size.width,
            height=size.height,
            progress=ProgressInfo(**asdict(session.progress)) if session.progress is not None else None,
        )
        if workflow is None or catalog is None:
            return info
        more: dict[str, Any] = {
            "name": self._library.name_of(workflow),
            "workflow": to_api(workflow),
            "parameters": parameters(workflow, catalog),
            "can_undo": session.edits.can_undo,
            "can_redo": session.edits.can_redo,
            "presets": self._presets.listed(session, catalog),
        }
        return info.model_copy(update=more)


def refusal(session: LiveSession, id: str | int | None, error: m.ErrorBody) -> m.Reply:
    """A reply that says no."""
    return m.Reply(id=id, ok=False, error=error, revision=session.revision)


def error_body(error: ComfyStreamError, field: str | None = None) -> m.ErrorBody:
    """One of our errors; `field` is the place in the message that it is about."""
    text = str(error) if not error.hint else str(error).removesuffix(f" ({error.hint})")
    return m.ErrorBody(code=error.code, message=text, hint=error.hint, field=field, node=error.node_id)


def validation_body(error: ValidationError) -> m.ErrorBody:
    """What a model says about a message; the first complaint and its place."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or None
    return m.ErrorBody(code="bad_message", message=first["msg"], field=place)


def _id_of(document: Any) -> str | int | None:
    id = document.get("id") if isinstance(document, dict) else None
    return id if (isinstance(id, str) and len(id) <= 200) or type(id) is int else None
