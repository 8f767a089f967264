"""Plain words for what nodes raise."""

from __future__ import annotations

__all__ = ["hint_for"]


def hint_for(error: BaseException) -> str:
    """What a person can do about an exception from a node; empty when the message says it all."""
    name, text = type(error).__name__, str(error)
    if "OutOfMemory" in name or "out of memory" in text:
        return "out of memory: use a smaller picture or model, or fewer sessions"
    if name == "InterruptProcessingException":
        return "a node, or the end of the run, stopped it"
    if isinstance(error, FileNotFoundError):
        return "a file that this node needs is not there"
    if isinstance(error, ModuleNotFoundError):
        return f'the Python package "{error.name}" is not installed'
    if isinstance(error, RuntimeError) and ("size of tensor" in text or "shapes cannot be multiplied" in text):
        return "two inputs differ in size: scale one of them first (ImageScale)"
    if isinstance(error, TypeError) and "unexpected keyword argument" in text:
        return "the workflow sends an input that this version of the node does not know"
    if isinstance(error, TypeError) and "missing" in text and "argument" in text:
        return "an input of this node is not connected"
    if isinstance(error, AttributeError) and "'NoneType'" in text:
        return "the node before it gave nothing"
    return ""
