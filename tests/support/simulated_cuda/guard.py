"""Tell torch's core that the device type CUDA exists: a few lines of C++, against the headers that come with torch."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import torch

__all__ = ["load_guard"]

SOURCE = """
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {
// One device, number 0, that is always the current one; streams are the business of Python.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  using Device = c10::Device;
  using Stream = c10::Stream;
  static constexpr auto kind = c10::DeviceType::CUDA;
  c10::DeviceType type() const override { return kind; }
  Device exchangeDevice(Device) const override { return Device(kind, 0); }
  Device getDevice() const override { return Device(kind, 0); }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const override { return Stream(Stream::DEFAULT, Device(kind, 0)); }
  Stream exchangeStream(Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};
c10::impl::DeviceGuardImplRegistrar registered(c10::DeviceType::CUDA, new Guard());
}
"""


def load_guard() -> None:
    """Compile and load it. The process keeps it until it ends.

    Raises:
        RuntimeError: there is no C++ compiler, or torch's headers do not fit.
    """
    root = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "guard.cpp"), Path(folder, "guard.so")
        source.write_text(SOURCE)
        command = [
            "g++",
            "-std=c++20",
            "-O1",
            "-shared",
            "-fPIC",
            f"-I{root / 'include'}",
            str(source),
            "-o",
            str(made),
        ]
        done = subprocess.run([*command, f"-L{root / 'lib'}", "-lc10"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the simulated GPU needs g++ and torch's headers: {done.stderr[-2000:]}")
        ctypes.CDLL(str(made), mode=ctypes.RTLD_GLOBAL)
