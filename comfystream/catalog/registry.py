"""The node classes that are there, by key."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from comfystream.catalog import standin
from comfystream.catalog.comfyui.checkout import OUR_ROOT, ComfyUIOptions
from comfystream.catalog.loader import attempt, load_pack, run_prestartup
from comfystream.catalog.packs import BrokenPack, LoadedPack, PackSource, find_pack, find_packs
from comfystream.catalog.spec import NodeSpec
from comfystream.catalog.undisturbed import undisturbed
from comfystream.catalog.v1 import spec_from_v1
from comfystream.catalog.v3 import is_v3, spec_from_v3
from comfystream.errors import AssetError, ConfigError

__all__ = ["BUNDLED", "LIVE", "CatalogOptions", "NodeCatalog", "load_catalog"]

_log = logging.getLogger(__name__)
Publish = Callable[[PackSource, Mapping[str, type]], None]

# Named as text: the catalog does not import upward, and without these packs it works as well.
LIVE = PackSource("comfystream", module="comfystream_nodes.stream", python_module="custom_nodes.comfystream")
BUNDLED = (
    PackSource("core", module="comfystream_nodes.core", python_module="nodes"),
    LIVE,
    PackSource("streamdiffusion", module="comfystream_nodes.streamdiffusion", python_module="custom_nodes.comfystream"),
    PackSource("accel", module="comfystream_nodes.accel", python_module="custom_nodes.comfystream"),
)


@dataclass(frozen=True, slots=True)
class CatalogOptions:
    """What to load.

    Attributes:
        pack_folders: folders of packs, such as ComfyUI's `custom_nodes`.
        packs: single packs, a folder or a .py file each.
        bundled: packs that are part of ComfyStream.
        allow: names of packs on disk to load; empty means all.
        block: names of packs on disk to leave out.
        folders: what nodes get from `folder_paths`.
        use_standins: put the stand-ins for ComfyUI's modules in force, unless there is a checkout.
        comfyui: a real ComfyUI to load: its node classes go before the bundled ones of the same name.
    """

    pack_folders: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()
    bundled: tuple[PackSource, ...] = BUNDLED
    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    folders: standin.Folders = field(default_factory=standin.Folders)
    use_standins: bool = True
    comfyui: ComfyUIOptions | None = None


class NodeCatalog:
    """Node classes by key, with the packs they came from and those that broke.

    A class of ComfyUI's own, and a live one of ours, is never replaced by one of a custom pack; among custom packs the
    last one wins.
    """

    def __init__(self) -> None:
        self._specs: dict[str, NodeSpec] = {}
        self._protected: set[str] = set()
        self._packs: list[LoadedPack] = []
        self._broken: list[BrokenPack] = []

    def get(self, class_type: str) -> NodeSpec | None:
        """The class with that key, or None."""
        return self._specs.get(class_type)

    def keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self._specs)

    def specs(self) -> list[NodeSpec]:
        """All classes, sorted by key."""
        return [self._specs[key] for key in self.keys()]

    def packs(self) -> tuple[LoadedPack, ...]:
        """Packs that were loaded, in that order."""
        return tuple(self._packs)

    def broken(self) -> tuple[BrokenPack, ...]:
        """Packs and classes that could not be loaded."""
        return tuple(self._broken)

    def nearest(self, name: str) -> str | None:
        """The key that looks most like `name`; None when none does."""
        folded = {key.lower(): key for key in self._specs}
        found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
        return folded[found[0]] if found else None

    def refresh(self, key: str) -> NodeSpec | None:
        """Read the inputs of a class again (a list of files may have changed), and give the new spec.

        Raises:
            Exception: whatever `INPUT_TYPES` raises; the old spec is then kept.
        """
        spec = self._specs.get(key)
        if spec is None:
            return None
        cls: Any = spec.cls
        self._specs[key] = replace(spec, inputs=cls.INPUT_TYPES())
        return self._specs[key]

    def add(self, pack: LoadedPack | BrokenPack, *, protect: bool = False) -> None:
        """Take in what a pack gave.

        Args:
            pack: from `load_pack`.
            protect: later packs cannot replace its classes.
        """
        if isinstance(pack, BrokenPack):
            self._report(pack)
            return
        before = frozenset(self._protected)
        keys = [spec.key for spec in self._specs_of(pack) if self._put(spec, before, protect)]
        self._packs.append(replace(pack, keys=tuple(keys)))

    def add_missing(self, pack: LoadedPack | BrokenPack) -> None:
        """Take in the classes that are not there yet; later packs may replace them.

        A class of it that does not load is no loss to report: a ComfyUI that is too old for it never had it.
        """
        if isinstance(pack, BrokenPack):
            self._report(pack)
            return
        reported = len(self._broken)
        left = {key: cls for key, cls in pack.v1.items() if key not in self._specs}
        self.add(replace(pack, v1=left))
        for broken in self._broken[reported:]:
            _log.info("bundled node %s is left out: %s", broken.key, broken.message)
        del self._broken[reported:]

    def _specs_of(self, pack: LoadedPack) -> Iterable[NodeSpec]:
        where = {"python_module": pack.source.python_module, "pack": pack.name}
        candidates = [*pack.v1.items(), *(("", cls) for cls in pack.v3)]
        for key, cls in candidates:
            outcome = attempt(pack.name, partial(_read, key, cls, pack, where), key or _name(cls))
            if isinstance(outcome, BrokenPack):
                self._report(outcome)
            else:
                yield outcome

    def _put(self, spec: NodeSpec, protected: frozenset[str], protect: bool) -> bool:
        if spec.key in protected:
            _log.info("node %s of pack %s is left out: another one of that name stays", spec.key, spec.pack)
            return False
        self._specs[spec.key] = spec
        if protect:
            self._protected.add(spec.key)
        return True

    def _report(self, broken: BrokenPack) -> None:
        what = f"node {broken.key} of pack {broken.pack}" if broken.key else f"node pack {broken.pack}"
        _log.warning("%s could not be loaded: %s%s", what, broken.message, f" ({broken.hint})" if broken.hint else "")
        self._broken.append(broken)


def _name(cls: Any) -> str:
    return getattr(cls, "__name__", repr(cls))


def _read(key: str, cls: Any, pack: LoadedPack, where: Mapping[str, str]) -> NodeSpec:
    if is_v3(cls):
        spec = spec_from_v3(cls, **where)
        return replace(spec, key=key) if key and key != spec.key else spec
    return spec_from_v1(key, cls, display_name=pack.display_names.get(key, ""), **where)


def load_catalog(options: CatalogOptions | None = None) -> NodeCatalog:
    """Load what is ComfyUI's own, then the packs on disk. A pack that breaks is reported and never stops the rest.

    Raises:
        ConfigError: stand-ins are asked for while a real ComfyUI is loaded, or the other way round.
        AssetError: the checkout cannot be loaded.
    """
    options = options or CatalogOptions()
    with undisturbed():
        if options.comfyui is not None:
            return _beside_comfyui(options, options.comfyui)
        return _on_our_own(options)


def _on_our_own(options: CatalogOptions) -> NodeCatalog:
    catalog = NodeCatalog()
    if options.use_standins:
        standin.install(options.folders)
    for source in options.bundled:
        _take(catalog, source, protect=True)
    _load_disk(catalog, options)
    return catalog


def _beside_comfyui(options: CatalogOptions, comfyui: ComfyUIOptions) -> NodeCatalog:
    """With a checkout: our live nodes stay, then its classes count, and ours fill in what it does not have."""
    from comfystream.catalog.comfyui.compat_loading import load_comfyui, publish

    if standin.is_installed():
        hint = "a process holds either a real ComfyUI or the stand-ins for it, from its start"
        raise ConfigError("the stand-ins for ComfyUI's modules are in force", code="comfyui_loaded", hint=hint)
    loaded = load_comfyui(comfyui, options.folders)
    catalog = NodeCatalog()
    if LIVE in options.bundled:
        _take(catalog, LIVE, protect=True)
    catalog.add(loaded.builtin, protect=True)
    for broken in loaded.broken:
        catalog.add(broken)
    for source in options.bundled:
        if source != LIVE:
            catalog.add_missing(load_pack(source))
    folders = tuple(dict.fromkeys((*loaded.pack_folders, *options.pack_folders)))
    _load_disk(catalog, replace(options, pack_folders=folders), publish)
    return catalog


def _load_disk(catalog: NodeCatalog, options: CatalogOptions, publish: Publish | None = None) -> None:
    sources = _on_disk(catalog, options)
    for source in sources:
        failed = run_prestartup(source)
        if failed is not None:
            catalog.add(replace(failed, message=f"prestartup_script.py: {failed.message}"))
    for source in sources:
        _take(catalog, source, protect=False)
        if publish is not None:
            publish(source, {spec.key: spec.cls for spec in catalog.specs() if spec.pack == source.name})


def _take(catalog: NodeCatalog, source: PackSource, *, protect: bool) -> None:
    catalog.add(load_pack(source), protect=protect)
    if standin.is_installed():
        specs = catalog.specs()
        standin.publish({spec.key: spec.cls for spec in specs}, {spec.key: spec.display_name for spec in specs})


def _on_disk(catalog: NodeCatalog, options: CatalogOptions) -> list[PackSource]:
    found: dict[str, PackSource] = {}
    for place, look in (*((f, find_packs) for f in options.pack_folders), *((p, _one) for p in options.packs)):
        try:
            sources = list(look(place))
        except AssetError as error:
            catalog.add(BrokenPack(place, error.message, hint=error.hint))
            continue
        wanted = (source for source in sources if _wanted(source.name, options) and not _is_ours(source))
        found.update({str(source.path): source for source in wanted})
    return list(found.values())


def _one(path: str) -> list[PackSource]:
    return [find_pack(path)]


def _wanted(name: str, options: CatalogOptions) -> bool:
    return name not in options.block and (not options.allow or name in options.allow)


def _is_ours(source: PackSource) -> bool:
    """Whether this is ComfyStream itself: as a pack it is for ComfyUI only, its nodes are here already."""
    return source.path is not None and source.path.resolve() == OUR_ROOT
