"""PLAN: values of single instructions: ports, signals, paths, sources. In: expanded words. Out: what the config holds.

All raise `PlanError` for a value that makes no sense; the caller attaches the place.
"""

from __future__ import annotations

import posixpath
import re
import signal

from layersmith.errors import PlanError, TransportError
from layersmith.oci.digest import Digest, parse_digest

_PORT = re.compile(r"(?:.*:)?(?P<first>\d+)(?:-(?P<last>\d+))?\Z")
_PROTOCOLS = ("tcp", "udp", "sctp")


def ports(word: str) -> list[str]:
    """``8000-8001/TCP`` to ``["8000/tcp", "8001/tcp"]``; a leading ``ip:host:`` is tolerated and dropped."""
    number, _, protocol = word.partition("/")
    protocol = protocol.lower() or "tcp"
    match = _PORT.match(number)
    if not match:
        raise PlanError(
            f"invalid containerPort: {word}", hint="write a port or a range: 80, 8000-8010, 53/udp"
        )
    if protocol not in _PROTOCOLS:
        raise PlanError(f"invalid proto: {protocol}", hint=f"the protocols are {', '.join(_PROTOCOLS)}")
    first = int(match["first"])
    last = int(match["last"] or first)
    if last > 65535 or first > last:
        raise PlanError(
            f"invalid port range: {number}", hint="ports go from 0 to 65535, the smaller one first"
        )
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def stop_signal(word: str) -> str:
    """The signal as written, once it is known to be one: a number, ``TERM``, ``SIGTERM`` or ``RTMIN+3``."""
    name = word.upper().removeprefix("SIG")
    known = {s.name.removeprefix("SIG") for s in signal.Signals}
    realtime = re.fullmatch(r"RTM(?:IN(?:\+(\d+))?|AX(?:-(\d+))?)", name)
    if word.isdigit():
        valid = 0 < int(word) <= 64
    else:
        valid = name in known or bool(realtime and int(realtime[1] or realtime[2] or 0) <= 30)
    if not valid:
        raise PlanError(
            f"invalid signal: {word}", hint="write a name (SIGTERM, QUIT) or a number from 1 to 64"
        )
    return word


def working_dir(current: str, path: str) -> str:
    """``path`` made absolute below ``current`` and cleaned."""
    return _clean(posixpath.join("/", current, path))


def destination(current: str, path: str) -> str:
    """COPY's destination made absolute; it keeps a trailing slash, and ``.`` gets one, for both mean a directory."""
    absolute = working_dir(current, path)
    return absolute + "/" if path in ("", ".") or path.endswith("/") else absolute


def _clean(path: str) -> str:
    # normpath keeps exactly two leading slashes, as POSIX allows.
    return "/" + posixpath.normpath(path).lstrip("/")


def checksum(text: str) -> Digest:
    """What ``ADD --checksum`` wants of a file."""
    try:
        return parse_digest(text)
    except TransportError as error:
        raise PlanError(f"invalid checksum: {error.message}", hint=error.hint) from None


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))
