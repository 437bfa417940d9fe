"""TLS: how far a host is trusted, as a value and as an SSL context; and why a handshake failed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.errors import TransportError


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a host is trusted: extra CAs, our certificate and key for it, and what it may do without TLS."""

    ca_files: tuple[Path, ...] = ()
    client_cert: tuple[Path, Path] | None = None
    verify: bool = True
    plain_http: bool = False


def ssl_context(trust: Trust) -> ssl.SSLContext:
    """For connections to a host of such ``trust``. Raises TransportError if a file of it can't be used."""
    if trust.verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        for path in trust.ca_files:
            context.load_verify_locations(path)
        if trust.client_cert:
            context.load_cert_chain(*trust.client_cert)
    except (OSError, ValueError) as error:
        names = ", ".join(str(path) for path in (*trust.ca_files, *(trust.client_cert or ())))
        raise TransportError(f"a certificate or key among {names} can't be used: {error}") from None
    return context


def certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """The refused certificate that is at the root of ``error``, if any."""
    return next((e for e in causes(error) if isinstance(e, ssl.SSLCertVerificationError)), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors below ``error``, itself last: urllib3 hides them in arguments, causes and contexts."""
    inner = [a for a in error.args if isinstance(a, BaseException)]
    for below in (*inner, error.__cause__, error.__context__):
        if below is not None:
            yield from causes(below)
    yield error
