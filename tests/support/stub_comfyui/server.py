"""The parts of ComfyUI's `PromptServer` that packs use, and the endpoints that its editor asks for."""

import asyncio
import json
import os
from pathlib import Path

from aiohttp import WSMsgType, web

import nodes

WHOSE = "ComfyUI"


class PromptServer:
    instance = None

    def __init__(self, loop):
        PromptServer.instance = self
        self.loop = loop
        self.routes = web.RouteTableDef()
        self.app = web.Application(client_max_size=1 << 26)
        self.sockets = set()
        self.object_info = {}

    def send_sync(self, event, data, sid=None):
        self.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self._send(event, data)))

    async def _send(self, event, data):
        for socket in list(self.sockets):
            await socket.send_json({"type": event, "data": data})

    def add_routes(self):
        api = web.RouteTableDef()
        for route in self.routes:
            if isinstance(route, web.RouteDef):
                api.route(route.method, "/api" + route.path)(route.handler)
        self.app.add_routes([*api, *self.routes])
        for name, folder in nodes.EXTENSION_WEB_DIRS.items():
            self.app.add_routes([web.static(f"/extensions/{name}", folder)])

    def add_editor(self, static):
        """Serve the real editor on the fewest answers that it needs."""
        give = {
            "users": {"storage": "server", "migrated": True},
            "settings": {
                "Comfy.TutorialCompleted": True,
                "Comfy.Notification.ShowVersionUpdates": False,
                "Comfy.Workflow.ShowMissingNodesWarning": False,
                "Comfy.UseNewMenu": "Top",
            },
            "features": {},
            "i18n": {},
            "jobs": {"jobs": [], "pagination": {"offset": 0, "limit": 200, "total": 0, "has_more": False}},
            "queue": {"queue_running": [], "queue_pending": []},
            "history": {},
            "global_subgraphs": {},
            "workflow_templates": {},
            "userdata": [],
            "object_info": self.object_info,
            "system_stats": {
                "system": {
                    "os": "posix",
                    "ram_total": 1,
                    "ram_free": 1,
                    "comfyui_version": "0.3.64",
                    "python_version": "3.11",
                    "pytorch_version": "",
                    "embedded_python": False,
                    "argv": ["--disable-api-nodes"],
                },
                "devices": [],
            },
        }
        for name, answer in give.items():
            self.app.router.add_get(f"/api/{name}", self._giver(answer))
        self.app.router.add_get("/api/extensions", self._extensions)
        self.app.router.add_get("/ws", self._socket)
        self.app.router.add_route("*", "/api/{rest:.*}", self._nothing)
        self.app.router.add_get("/user.css", lambda request: self._text(""))
        root = Path(static)

        async def page(request):
            return web.FileResponse(root / "index.html")

        self.app.router.add_get("/", page)
        self.app.router.add_static("/", root)

    def _giver(self, answer):
        async def give(request):
            return web.json_response(answer)

        return give

    async def _text(self, text):
        return web.Response(text=text, content_type="text/css")

    async def _nothing(self, request):
        return web.json_response({"error": "not found"}, status=404 if request.method == "GET" else 200)

    async def _extensions(self, request):
        found = []
        for name, folder in nodes.EXTENSION_WEB_DIRS.items():
            found += [f"/extensions/{name}/{file}" for file in os.listdir(folder) if file.endswith(".js")]
        return web.json_response(found)

    async def _socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        await socket.send_json(
            {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "1"}}
        )
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and json.loads(message.data).get("type") == "feature_flags":
                    await socket.send_json({"type": "feature_flags", "data": {}})
        finally:
            self.sockets.discard(socket)
        return socket


def object_info_of(file):
    return json.loads(Path(file).read_text()) if file and os.path.exists(file) else {}
