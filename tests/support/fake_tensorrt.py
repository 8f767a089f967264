"""Stands for TensorRT's runtime on a machine without a GPU: the calls of an engine, and the rules of using them.

Every method that is here is one of the real `ICudaEngine` and `IExecutionContext`; tests/accel/test_nvidia.py compares
the names with the real classes where these are installed. "Device memory" is ordinary memory: an address is a buffer.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from typing import Any

import numpy as np

__all__ = ["FakeContext", "FakeEngine", "TensorIOMode", "TensorLocation"]


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class TensorLocation(Enum):
    DEVICE = 0
    HOST = 1


class DataType(Enum):
    FLOAT = 0
    HALF = 1


class FakeEngine:
    """Doubles its input "x" ([-1, 4], batch 1..4) into "y"."""

    num_io_tensors = 2
    device_memory_size_v2 = 3 << 20

    def __init__(self, has_room: bool = True, tries: int = 0) -> None:
        self.has_room = has_room
        self.tries = tries
        self.place = TensorLocation.DEVICE
        self.contexts: list[FakeContext] = []
        self.configs: list[Any] = []

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 4)

    def get_tensor_location(self, name: str) -> TensorLocation:
        return self.place

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(1, 4), (2, 4), (4, 4)]

    def create_execution_context(self, config: Any = None) -> FakeContext | None:
        self.configs.append(config)
        self.tries -= 1
        if not self.has_room or self.tries >= 0:
            return None
        self.contexts.append(FakeContext())
        return self.contexts[-1]


class FakeContext:
    """Writes down what it is told; runs at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refuses = False
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls.append(("set_input_shape", name, shape))
        self._shape = shape
        return shape[0] <= 4

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.calls.append(("set_tensor_address", name, address))
        self._addresses[name] = address
        return not self.refuses

    def execute_async_v3(self, stream: int) -> bool:
        self.calls.append(("execute_async_v3", stream))
        x, y = (self._at(self._addresses[name]) for name in "xy")
        y[:] = 2 * x
        return True

    def _at(self, address: int) -> np.ndarray[Any, Any]:
        count = int(np.prod(self._shape))
        return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (count,))
