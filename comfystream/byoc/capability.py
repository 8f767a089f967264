"""What a worker offers, and to which orchestrator: as flags or as the variables that operators set already."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from comfystream.errors import ConfigError

__all__ = [
    "Capability",
    "OrchestratorAccess",
    "capability_from",
    "orchestrator_from",
    "verify_tls_from",
    "worker_token_from",
]

_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Capability:
    """One entry in an orchestrator's list.

    Attributes:
        name: what gateways ask for.
        url: where the orchestrator reaches this worker for it, without a slash at its end.
        description: for people.
        capacity: how many streams at once.
        price_per_unit, price_scaling: their ratio is the price of a second of compute.
        currency: "wei" (also when empty), "eth", or one that the orchestrator has a price feed for.
    """

    name: str
    url: str
    description: str = ""
    capacity: int = 1
    price_per_unit: int = 0
    price_scaling: int = 1
    currency: str = ""

    def __post_init__(self) -> None:
        """Refuse what an orchestrator would trip over.

        Raises:
            ConfigError: a value that cannot be used.
        """
        if not self.name.strip() or "/" in self.name:
            raise ConfigError(f'capability "{self.name}": a name without slashes is needed', code="bad_capability")
        _check_url(self.url, f'capability "{self.name}"')
        if self.capacity < 1 or self.price_per_unit < 0 or self.price_scaling < 1:
            words = "capacity and price scaling must be at least 1, the price at least 0"
            raise ConfigError(f'capability "{self.name}": {words}', code="bad_capability")

    def body(self, token: str) -> dict[str, object]:
        """The registration; currency and token only where there is one."""
        more = {name: value for name, value in (("currency", self.currency), ("token", token)) if value}
        return {
            "name": self.name,
            "url": self.url.rstrip("/"),
            "description": self.description,
            "capacity": self.capacity,
            "price_per_unit": self.price_per_unit,
            "price_scaling": self.price_scaling,
            **more,
        }


@dataclass(frozen=True, slots=True)
class OrchestratorAccess:
    """How to reach an orchestrator. Its secrets do not show when this is printed.

    Attributes:
        url: of its service address.
        secret: as it was started with.
        token: what it is to present to this worker; empty for none.
        verify_tls: False accepts any certificate: orchestrators sign their own.
    """

    url: str
    secret: SecretStr
    token: SecretStr = field(default_factory=lambda: SecretStr(""))
    verify_tls: bool = True


def _check_url(url: str, what: str) -> None:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(f"{what}: {url!r} is no http:// or https:// URL", code="bad_url")


def worker_token_from(environ: MutableMapping[str, str]) -> str:
    """The token that callers of this worker have to present; it is taken out, so that no child process sees it."""
    return environ.pop("CAPABILITY_TOKEN", "")


def orchestrator_from(environ: MutableMapping[str, str], token: str = "") -> OrchestratorAccess | None:
    """The orchestrator of `ORCH_URL` and `ORCH_SECRET`; None unless both are there. The secret is taken out.

    Raises:
        ConfigError: the URL is none.
    """
    secret = environ.pop("ORCH_SECRET", "").strip()
    url = environ.get("ORCH_URL", "").strip().rstrip("/")
    if not url or not secret:
        return None
    url = url if "://" in url else f"https://{url}"
    _check_url(url, "ORCH_URL")
    return OrchestratorAccess(url, SecretStr(secret), SecretStr(token), verify_tls_from(environ))


def verify_tls_from(environ: Mapping[str, str]) -> bool:
    """Whether certificates are looked at: always, unless `ORCH_INSECURE_TLS` says not to."""
    return environ.get("ORCH_INSECURE_TLS", "").strip().lower() not in _TRUE


def capability_from(environ: MutableMapping[str, str], url: str, capacity: int = 1) -> Capability:
    """What the `CAPABILITY_...` variables say.

    Args:
        environ: of the process.
        url: of this worker, where they do not say.
        capacity: likewise.

    Raises:
        ConfigError: a value that cannot be used.
    """
    given = environ.get
    return Capability(
        name=given("CAPABILITY_NAME") or "comfystream",
        url=(given("CAPABILITY_URL") or url).rstrip("/"),
        description=given("CAPABILITY_DESCRIPTION") or "ComfyUI streaming processor",
        capacity=_whole(environ, "CAPABILITY_CAPACITY", capacity),
        price_per_unit=_whole(environ, "CAPABILITY_PRICE_PER_UNIT", 0),
        price_scaling=_whole(environ, "CAPABILITY_PRICE_SCALING", 1),
        currency=given("CAPABILITY_PRICE_CURRENCY") or "",
    )


def _whole(environ: MutableMapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    try:
        return int(text) if text else default
    except ValueError:
        raise ConfigError(f"{name}: {text[:40]!r} is no whole number", code="bad_setting") from None
