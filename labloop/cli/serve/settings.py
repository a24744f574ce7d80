"""Where the page is served, under which names, to whom, and with what token."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from labloop.errors import LabloopError

SHORTEST = 16
"""Characters that a token of one's own has at least: whoever guesses it can approve plates."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a page is served with."""

    home: Path | None = None
    ledger: str | None = None
    token: str = field(repr=False)
    made_token: bool = False
    """Whether the token was made here, for this run."""
    hosts: frozenset[str]
    """What browsers may write into the header Host; another name leads here by a forged address (DNS rebinding)."""
    origins: frozenset[str]
    """Where forms may come from."""
    address: str = "127.0.0.1"
    """What it listens on, as it stands in a URL."""
    secure: bool = False
    """Whether browsers come by TLS."""
    private: bool = False
    """Whether reading needs a login too, as it does for whoever is not at this computer."""
    largest: int = 64 << 20
    """Bytes of a request."""
    plugins: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where a person finds it."""
        return min(self.origins, key=lambda one: (f"//{self.address}" not in one, len(one), one))


def settings_of(
    *,
    home: Path | None = None,
    ledger: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8791,
    names: Sequence[str] = (),
    tls: tuple[Path | None, Path | None] = (None, None),
    proxied: bool = False,
    largest: int = 64,
    token: str | None = None,
    plugins: tuple[str, ...] = (),
) -> Settings:
    """Check what was asked for.

    Args:
        largest: MB of a request.

    Raises:
        LabloopError: it would be open to more people than was meant, or browsers could not reach it.
    """
    if (tls[0] is None) != (tls[1] is None):
        raise LabloopError("a certificate and its key belong together: give --tls-cert and --tls-key")
    for one in filter(None, tls):
        if not one.is_file():
            raise LabloopError(f"{one}: there is no such file: name the PEM file of --tls-cert and --tls-key")
    local, secure = is_local(host), tls[0] is not None or proxied
    if not local and not secure:
        raise LabloopError(
            f"--host {host} is reached from other computers, and a password would cross the network in clear: give --tls-cert "
            "and --tls-key, or --behind-proxy where a proxy ends TLS"
        )
    if (not local or proxied) and not token:
        raise LabloopError("for other computers it needs a token that you keep: set LABLOOP_SERVE_TOKEN, 16 characters or more")
    if token is not None and len(token) < SHORTEST:
        raise LabloopError(f"LABLOOP_SERVE_TOKEN has {len(token)} characters: take {SHORTEST} or more, at random")
    if not names and (proxied or host in ("0.0.0.0", "::")):
        raise LabloopError("say by which name browsers reach it: --name lab.example.org")
    if not 1 <= largest <= 1024:
        raise LabloopError(f"--largest {largest}: take 1 to 1024 MB")
    address = f"[{host}]" if ":" in host else host
    own = [address, *(["127.0.0.1", "localhost", "[::1]"] if local else [])]
    here = {f"{one}:{port}" for one in own} if host not in ("0.0.0.0", "::") else set()
    known = {one.lower() for one in names}
    if not proxied:
        known = {one if _has_port(one) else f"{one}:{port}" for one in known}
    hosts = {*here, *known, *(_bare(one, 443 if secure else 80) for one in (*here, *known))}
    scheme = "https" if secure else "http"
    reached = known if proxied else {*here, *known}
    return Settings(
        home=home, ledger=ledger, token=token or secrets.token_urlsafe(18), made_token=token is None, hosts=frozenset(hosts),
        origins=frozenset(f"{scheme}://{_bare(one, 443 if secure else 80)}" for one in reached), secure=secure,
        private=not local or proxied, largest=largest << 20, plugins=plugins, address=address,
    )  # fmt: skip


def is_local(host: str) -> bool:
    """Say whether an address is this computer's own, which no other can reach."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_port(name: str) -> bool:
    return name.rpartition(":")[2].isdigit() and name.rpartition(":")[0] != ""


def _bare(name: str, usual: int) -> str:
    """Leave out the port that browsers leave out."""
    return name.removesuffix(f":{usual}")
