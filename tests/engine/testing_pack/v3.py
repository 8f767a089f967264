"""Nodes of ComfyUI's newer convention."""

import asyncio

from comfy_api.latest import io


class V3Pass(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Pass", category="testing", inputs=[io.AnyType.Input("value")], outputs=[io.AnyType.Output()]
        )

    @classmethod
    def execute(cls, value) -> io.NodeOutput:
        return io.NodeOutput(value)


class V3Who(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Who",
            category="testing",
            inputs=[io.AnyType.Input("value")],
            outputs=[io.String.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, value) -> io.NodeOutput:
        try:
            cls.leak = 1
            locked = False
        except AttributeError:
            locked = True
        return io.NodeOutput(f"{cls.hidden.unique_id}|{cls.hidden.prompt}|{locked}")


class V3Block(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Block", category="testing", inputs=[io.AnyType.Input("value")], outputs=[io.AnyType.Output()]
        )

    @classmethod
    def execute(cls, value) -> io.NodeOutput:
        return io.NodeOutput(block_execution="blocked on purpose")


class V3Lazy(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Lazy",
            category="testing",
            inputs=[io.Boolean.Input("pick"), io.AnyType.Input("a", lazy=True), io.AnyType.Input("b", lazy=True)],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def check_lazy_status(cls, pick, a=None, b=None):
        return ["b"] if pick else ["a"]

    @classmethod
    def execute(cls, pick, a=None, b=None) -> io.NodeOutput:
        return io.NodeOutput(b if pick else a)


class V3Grow(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        grow = io.Autogrow.TemplatePrefix(io.Float.Input("n"), prefix="n", min=1, max=8)
        return io.Schema(
            node_id="TestV3Grow",
            category="testing",
            inputs=[io.Autogrow.Input("numbers", template=grow)],
            outputs=[io.Float.Output()],
        )

    @classmethod
    def execute(cls, numbers) -> io.NodeOutput:
        return io.NodeOutput(float(sum(numbers.values())))


class V3Async(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3Async", category="testing", inputs=[io.AnyType.Input("value")], outputs=[io.AnyType.Output()]
        )

    @classmethod
    async def execute(cls, value) -> io.NodeOutput:
        await asyncio.sleep(0)
        return io.NodeOutput(value)


NODES = (V3Pass, V3Who, V3Block, V3Lazy, V3Grow, V3Async)
