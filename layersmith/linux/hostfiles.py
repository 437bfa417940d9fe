"""The two files that a container has from its host in spirit: resolv.conf and hosts."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from layersmith.errors import UsageError

STUB_RESOLVERS = frozenset(("127.0.0.53", "127.0.0.54"))
"""Where systemd-resolved listens; it writes the real servers to `UPSTREAM`."""

RESOLV_CONF = Path("/etc/resolv.conf")
UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
PUBLIC_RESOLVERS = ("8.8.8.8", "8.8.4.4")
"""What Docker falls back to where a private network could reach none of the host's servers."""


def resolv_conf(
    dns: tuple[str, ...] = (),
    *,
    private_network: bool = False,
    host: Path = RESOLV_CONF,
    upstream: Path = UPSTREAM,
) -> bytes:
    """The resolv.conf to bind in: the host's, or the one behind its local stub resolver.

    ``dns`` replaces the nameservers (``--dns``). In a ``private_network`` no loopback address can be reached, so
    those are left out. Raises UsageError for a ``dns`` that is no address.
    """
    for address in dns:
        _address(address, "--dns")
    lines = _lines(host)
    if STUB_RESOLVERS & set(_nameservers(lines)) and upstream.is_file():
        lines = _lines(upstream)
    servers = list(dns) or _nameservers(lines)
    if private_network and not dns:
        servers = [s for s in servers if not _is_loopback(s)] or list(PUBLIC_RESOLVERS)
    others = [line for line in lines if not line.lstrip().startswith("nameserver")]
    return "".join(f"{line}\n" for line in (*others, *(f"nameserver {s}" for s in servers))).encode()


def hosts(hostname: str, add_hosts: tuple[str, ...] = ()) -> bytes:
    """An /etc/hosts with localhost, ``hostname`` and each ``name:address`` of ``--add-host``. Raises UsageError."""
    rows = [f"127.0.0.1\tlocalhost {hostname}", f"::1\tlocalhost ip6-localhost ip6-loopback {hostname}"]
    for entry in add_hosts:
        name, _, address = entry.partition(":")
        address = address.removeprefix("[").removesuffix("]")
        if not name or any(c.isspace() for c in name):
            raise UsageError(f"invalid host {entry!r}", hint="write NAME:ADDRESS, such as db:10.0.0.5")
        rows.append(f"{_address(address, '--add-host')}\t{name}")
    return "".join(f"{row}\n" for row in rows).encode()


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip() and line.lstrip()[0] not in "#;"]


def _nameservers(lines: list[str]) -> list[str]:
    return [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _address(text: str, option: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UsageError(f"{option}: {text!r} is no IP address") from None
