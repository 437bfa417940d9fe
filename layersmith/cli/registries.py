"""The flags of every command that speaks with registries: credentials and trust. In: parsed flags. Out: a `Registry`."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.dataclass import replace
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.progress import Progress
    from layersmith.transport.auth import Credentials, Keychain
    from layersmith.transport.registry import Registry
    from layersmith.transport.registry_config import RegistryConfig


def registry_arguments(parser: ArgumentParser) -> None:
    """The options of `open_registry`."""
    parser.add_argument("--creds", metavar="USER:PASSWORD", help="log in so, this time only")
    trust_arguments(parser)


def trust_arguments(parser: ArgumentParser) -> None:
    """The same, but for ``--creds``."""
    parser.add_argument(
        "--authfile",
        metavar="FILE",
        help="where logins are kept (default: where Docker and podman keep them)",
    )
    parser.add_argument(
        "--tls-verify",
        nargs="?",
        const="true",
        default="true",
        choices=("true", "false"),
        help="false: any certificate, or plain http, will do",
    )
    parser.add_argument(
        "--cert-dir", metavar="DIR", help="certificates (*.crt, *.cert, *.key) for every registry"
    )


def open_registry(
    args: Namespace, progress: Progress | None = None, *, insecure: Iterable[str] = ()
) -> Registry:
    """What speaks with registries, as ``args`` say; close it. The registries of the names ``insecure`` need no TLS."""
    from layersmith.transport.auth import parse_credentials
    from layersmith.transport.registry import Registry

    override = parse_credentials(args.creds) if args.creds else None
    return Registry(_config(args, insecure), keychain(args, override), progress=progress)


def _config(args: Namespace, insecure: Iterable[str]) -> RegistryConfig:
    from layersmith.transport.registry_config import RegistryConfig

    config = RegistryConfig.load()
    if domains := {config.reference(name).domain for name in insecure}:
        config = RegistryConfig.load(insecure=domains)
    if args.cert_dir and not Path(args.cert_dir).is_dir():
        raise UsageError(f"--cert-dir {args.cert_dir}: there is no such directory")
    return replace(
        config, cert_dir=Path(args.cert_dir) if args.cert_dir else None, verify=args.tls_verify == "true"
    )


def keychain(args: Namespace, override: Credentials | None = None) -> Keychain:
    """Where logins are kept, by ``--authfile``."""
    from layersmith.transport.auth import Keychain

    environ = {**os.environ, **({"REGISTRY_AUTH_FILE": args.authfile} if args.authfile else {})}
    return Keychain(environ, override=override)
