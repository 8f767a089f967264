"""Tensors of the simulated device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from fake_device import tensors_in
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from .graphs import recording, spoil
from .memory import Block, Lease, leased
from .streams import complete, current, launch, waits

__all__ = ["DeviceTensor", "Generator", "on_device"]

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten
_GENERATORS: dict[int, Generator] = {}
# The host needs what is in the device's memory to go on.
READ_BACK = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "unique_dim"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # they take indices from the host, too


class Generator(torch._C.Generator):
    """See torch.Generator. One of the device gives other numbers than a real GPU's."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls, "cpu")
        made.place = torch.device(device)
        if made.place.type == "cuda":
            _GENERATORS[made._cdata] = made  # C++ forgets what class it is of
        return made

    @property
    def device(self) -> torch.device:
        return self.place


class DeviceTensor(Tensor):
    """A tensor that is on cuda:0.

    Attributes:
        inner: where its values really are.
        lease: of the memory that it is in.
    """

    inner: Tensor
    lease: Lease

    @staticmethod
    def __new__(cls, inner: Tensor, lease: Lease) -> DeviceTensor:
        with torch.inference_mode(False):  # a view of a tensor that is no inference tensor must be none either
            return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined, no-any-return]
                cls,
                inner.size(),
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                layout=inner.layout,
                device=DEVICE,
            )

    def __init__(self, inner: Tensor, lease: Lease) -> None:
        self.inner, self.lease = inner, lease

    @property
    def block(self) -> Block:
        """The memory that it is in."""
        block: Block = self.lease[0]
        return block

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.inner!r} on {DEVICE}"

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                "first."
            )
        return self.cpu().numpy()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def record_stream(self, stream: Any) -> None:
        self.block.kept_for.add(stream.number)

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        if name == "copy_":
            return _copy(*args, **kwargs)
        if name == "_to_copy":
            return _to_copy(args[0], **kwargs)
        if name == "_has_compatible_shallow_copy_type":
            return False
        if name in ("pin_memory", "_pin_memory"):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            return func.decompose(*args, **kwargs)  # inference mode asks for the whole; its parts come here again
        _check_places(name, func, args, kwargs)
        return _run(name, func, args, kwargs)


def on_device(inner: Tensor) -> DeviceTensor:
    """Values that are there from now on, in memory of their own."""
    size = inner.numel() * inner.element_size()
    return DeviceTensor(inner, leased(Block(size, recording() is not None)))


def _check_places(name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    given = [*tensors_in((args, kwargs))]
    hosts = [one for one in given if not isinstance(one, DeviceTensor)]
    if name in INDEXED and hosts:
        _host_waits(f"{name} by indices of the host")
    elif any(one.dim() for one in hosts):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
        )
    if name in INDEXED and any(one.dtype in (torch.bool, torch.uint8) for one in tensors_in(args[1])):
        _host_waits(f"{name} by a mask")
    if name in READ_BACK or (name == "repeat_interleave" and "output_size" not in kwargs and len(given) > 1):
        _host_waits(name)
    generator = kwargs.get("generator")
    if generator is not None and generator._cdata not in _GENERATORS:
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def _host_waits(what: str) -> None:
    if recording() is not None:
        raise RuntimeError(f"operation not permitted when stream is capturing ({what})")
    waits(what)
    complete(current().times)


def _run(name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do it at once: what a stream would do later is found out by its clock."""
    place = kwargs.pop("device", None)
    if kwargs.pop("pin_memory", False):
        raise RuntimeError("only host memory can be pinned")
    if place is not None and torch.device(place).type == "cpu":
        return func(*_inner(args), device="cpu", **_inner(kwargs))
    given: list[Any] = [one for one in tensors_in((args, kwargs)) if isinstance(one, DeviceTensor)]
    inner_args, inner_kwargs = _inner(args), _inner(kwargs)
    is_write = func._schema.is_mutable
    written = {id(one) for one in _written(func, args, kwargs)}
    reads = {one.block for one in given if id(one) not in written}
    writes = {one.block for one in given if id(one) in written}
    graph = recording()
    if graph is not None and is_write:  # recorded, not done
        graph.add(_again(func, inner_args, inner_kwargs), reads, writes)
        return _same(func, args, kwargs)
    now = launch(reads, writes) if graph is None and not func.is_view else None
    made = func(*inner_args, **inner_kwargs)
    if is_write:
        return _same(func, args, kwargs)
    fresh: list[tuple[int, DeviceTensor]] = []
    flat, form = tree_flatten(made)
    for position, inner in enumerate(flat):
        if isinstance(inner, Tensor):
            lease = _shared(inner, given, func.is_view)
            flat[position] = DeviceTensor(inner, lease) if lease is not None else on_device(inner)
            if lease is None:
                fresh.append((position, flat[position]))
    blocks = {one.block for _, one in fresh}
    for block in blocks:
        block.written = now
    if graph is not None and fresh:
        graph.add(_into(func, inner_args, inner_kwargs, [(at, one.inner) for at, one in fresh]), reads, blocks)
        for _, one in fresh:  # it was not done, in truth: that it has a shape is all that is known
            spoil(one.inner)
    return tree_unflatten(flat, form)


def _shared(inner: Tensor, given: list[DeviceTensor], is_view: bool) -> Lease | None:
    """The memory of an argument that a result lies in."""
    if is_view:
        return given[0].lease
    place = inner.untyped_storage().data_ptr() if inner.numel() else None
    return next((one.lease for one in given if one.inner.untyped_storage().data_ptr() == place), None)


def _again(func: Any, args: Any, kwargs: Any) -> Callable[[], None]:
    def work() -> None:
        func(*args, **kwargs)

    return work


def _into(func: Any, args: Any, kwargs: Any, outs: list[tuple[int, Tensor]]) -> Callable[[], None]:
    def work() -> None:
        made, _ = tree_flatten(func(*args, **kwargs))
        for position, out in outs:
            out.copy_(made[position])

    return work


def _inner(value: Any) -> Any:
    return tree_map_only(DeviceTensor, lambda one: one.inner, value)


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    for position, one in enumerate(func._schema.arguments):
        if one.alias_info is not None and one.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(one.name)
            yield from tensors_in(value)


def _same(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation that writes gives what it was given."""
    written = [*_written(func, args, kwargs)]
    returned = len(func._schema.returns)
    for one in written:
        assert isinstance(one, DeviceTensor)
        assert (one.shape, one.stride()) == (one.inner.shape, one.inner.stride()), f"{func} changes a tensor's form"
    return None if not returned else written[0] if returned == 1 else tuple(written)


def _copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    if isinstance(target, DeviceTensor) and isinstance(source, DeviceTensor):
        return _run("copy_", aten.copy_.default, (target, source), {})  # type: ignore[no-any-return]
    if isinstance(target, DeviceTensor):
        if not (non_blocking and source.is_pinned()):  # torch's debug mode lets pass what is not pinned; it waits, too
            _host_waits("copy from the host")
        graph = recording()
        if graph is not None:
            graph.add(lambda: _values(target.inner, source), set(), {target.block})
            return target
        launch((), {target.block}, what="cudaMemcpyAsync")
        _values(target.inner, source)
        return target
    assert isinstance(source, DeviceTensor)
    _to_host(target, source, non_blocking)
    return target


def _to_host(target: Tensor, source: DeviceTensor, non_blocking: bool) -> None:
    if not non_blocking:
        _host_waits("copy to the host")
        launch({source.block}, (), what="cudaMemcpyAsync")
        _values(target, source.inner)
        return
    graph = recording()
    if graph is not None:
        graph.add(lambda: _values(target, source.inner), {source.block}, set())
        return
    snapshot = source.inner.clone()
    spoil(target)
    launch({source.block}, (), lambda: _values(target, snapshot), "cudaMemcpyAsync")


def _values(target: Tensor, source: Tensor) -> None:
    with torch.inference_mode():
        target.copy_(source)


def _to_copy(source: Tensor, *, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> Tensor:
    kwargs.pop("pin_memory", None)
    if device is None or torch.device(device).type == "cuda":
        return _run("_to_copy", aten._to_copy.default, (source,), kwargs)  # type: ignore[no-any-return]
    assert isinstance(source, DeviceTensor)
    target = torch.empty_like(aten._to_copy.default(source.inner, **kwargs))
    _to_host(target, source, non_blocking)
    return target
