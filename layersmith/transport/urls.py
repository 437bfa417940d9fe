"""URLs: how one is shown without its secrets, whether two go to the same place, and which proxy one goes through.

In: a URL (and the environment). Out: plain values; nothing is sent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit


def split(url: str) -> SplitResult | None:
    """`urlsplit`, or None for a malformed URL."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (a malformed port raises only here)
    except ValueError:
        return None
    return parts


def redacted(url: str) -> str:
    """``url`` fit for a message: without user, password and query (a signed URL's query is a credential)."""
    parts = split(url)
    if parts is None:
        return "a malformed URL"
    return urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "…" if parts.query else "", "")
    )


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port): what credentials for one URL may also be sent to (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", _port(parts)


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """``https_proxy`` or ``http_proxy`` (either case, else ``all_proxy``) unless loopback or in ``no_proxy``.

    The rules are those of Go's httpproxy, which the other builders follow: ``no_proxy`` is a comma-separated list of
    ``*``, addresses, networks (``10.0.0.0/8``), names (subdomains included) and ``.suffixes``, each with an optional port.
    """
    parts = urlsplit(url)
    proxy = _variable(environ, f"{parts.scheme}_proxy") or _variable(environ, "all_proxy")
    host = parts.hostname or ""
    if not proxy or is_loopback(host):
        return None
    if any(_matches(rule.strip(), host, _port(parts)) for rule in _variable(environ, "no_proxy").split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_loopback(host: str) -> bool:
    """``localhost``, its subdomains, 127.0.0.0/8 and ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _variable(environ: Mapping[str, str], name: str) -> str:
    # A CGI script's HTTP_PROXY may come from a client's "Proxy:" header ("httpoxy").
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return environ.get("http_proxy", "")
    return environ.get(name) or environ.get(name.upper()) or ""


def _matches(rule: str, host: str, port: int) -> bool:
    if not rule:
        return False
    if rule == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit():
        if int(number) != port:
            return False
        rule = name.strip("[]")
    if rule == host:
        return True
    suffix = rule.removeprefix("*")
    if suffix.startswith("."):
        return host.endswith(suffix)
    return host.endswith(f".{suffix}")
