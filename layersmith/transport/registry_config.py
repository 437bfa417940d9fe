"""What is known of registries beforehand: mirrors, insecure ones, short names and private certificates.

In: ``/etc/layersmith/config.yaml`` and ``$XDG_CONFIG_HOME/layersmith/config.yaml`` (a registry or alias of the latter
replaces the former's), and certs.d directories as Docker and podman know them. Out: a `RegistryConfig`.

    registries:
      docker.io:
        mirrors: [cache.example.com:5000/hub]   # asked first, in this order, for pulls
      registry.example.com:5000:
        insecure: true                          # any certificate, or plain http, will do
    aliases:
      ubi9: registry.access.redhat.com/ubi9     # FROM ubi9, FROM ubi9:9.4
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from layersmith.dataclass import dataclass, field
from layersmith.errors import TransportError, UsageError
from layersmith.oci.reference import DEFAULT_DOMAIN, Reference, parse_reference
from layersmith.transport.config_files import config_files, mapping, user_directory
from layersmith.transport.tls import Trust
from layersmith.transport.urls import is_loopback

HUB = "registry-1.docker.io"
"""The host behind the name docker.io."""


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One entry under ``registries``; ``mirrors`` are ``host[:port][/path]``."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a repository is served: ``host[:port]``, the base URLs to try in order, and the repository's ``path`` there.

    ``domain`` is what credentials are looked up for: docker.io for Docker Hub, else the host.
    """

    domain: str
    host: str
    bases: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """See the module. `load` reads it from the files; the empty one knows nothing but the defaults."""

    registries: Mapping[str, RegistryEntry] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    certs_dirs: tuple[Path, ...] = ()
    cert_dir: Path | None = None
    """The certificates in it are for every registry (``--cert-dir``)."""
    verify: bool = True
    """Off: every registry is insecure (``--tls-verify=false``)."""

    @classmethod
    def load(
        cls, environ: Mapping[str, str] = os.environ, *, insecure: Collection[str] = ()
    ) -> RegistryConfig:
        """Read all files that exist. ``insecure`` adds registries that the command line says are.

        Raises:
            UsageError: a file is not YAML, or says something that is not known.
        """
        user = user_directory(environ)
        registries: dict[str, RegistryEntry] = {}
        aliases: dict[str, str] = {}
        for path, top in config_files(environ):
            more, names = _read(path, top)
            registries |= more
            aliases |= names
        for name in insecure:
            registries[name] = RegistryEntry(registries.get(name, RegistryEntry()).mirrors, insecure=True)
        certs = (user / "layersmith", Path("/etc/layersmith"), user / "containers", Path("/etc/containers"))
        docker = (user / "docker", Path("/etc/docker"))
        return cls(registries, aliases, tuple(directory / "certs.d" for directory in certs + docker))

    def reference(self, text: str) -> Reference:
        """`parse_reference` after aliases: a name without a registry may stand for another one."""
        end = min((at for at in map(text.find, ":@") if at >= 0), default=len(text))
        target = self.aliases.get(text[:end])
        return parse_reference(text if target is None else target + text[end:])

    def is_insecure(self, host: str) -> bool:
        """Whether ``host[:port]`` is marked so, with or without its port."""
        names = (host, _hostname(host), DEFAULT_DOMAIN if host == HUB else host)
        return not self.verify or any(
            name in self.registries and self.registries[name].insecure for name in names
        )

    def trust(self, host: str) -> Trust:
        """How ``host[:port]`` is trusted. Raises TransportError for a client certificate without its key."""
        insecure = self.is_insecure(host)
        authorities, client = self._certificates(host)
        return Trust(
            ca_files=authorities,
            client_cert=client,
            verify=not insecure,
            plain_http=insecure or is_loopback(_hostname(host)),
        )

    def endpoints(self, reference: Reference, *, push: bool = False) -> tuple[Endpoint, ...]:
        """Where to look for ``reference``, best first: its mirrors, then its own registry; only the latter to push."""
        found = []
        entry = self.registries.get(reference.domain)
        for mirror in entry.mirrors if entry and not push else ():
            host, _, prefix = mirror.partition("/")
            path = f"{prefix}/{reference.path}" if prefix else reference.path
            found.append(Endpoint(host, host, self._bases(host), path))
        host = HUB if reference.domain == DEFAULT_DOMAIN else reference.domain
        found.append(Endpoint(reference.domain, host, self._bases(host), reference.path))
        return tuple(found)

    def _bases(self, host: str) -> tuple[str, ...]:
        secure, plain = f"https://{host}", f"http://{host}"
        if self.is_insecure(host):
            return secure, plain
        # Nobody is in between on loopback, and a registry that was given a certificate is meant to be asked for it.
        if is_loopback(_hostname(host)) and not any(self._certificates(host)):
            return plain, secure
        return (secure,)

    def _certificates(self, host: str) -> tuple[tuple[Path, ...], tuple[Path, Path] | None]:
        """``*.crt`` are authorities, ``NAME.cert`` with ``NAME.key`` is ours for that host (docker's certs.d)."""
        authorities: list[Path] = []
        client: tuple[Path, Path] | None = None
        for directory in (*filter(None, [self.cert_dir]), *(certs / host for certs in self.certs_dirs)):
            if not directory.is_dir():
                continue
            authorities += sorted(directory.glob("*.crt"))
            for certificate in sorted(directory.glob("*.cert")):
                key = certificate.with_suffix(".key")
                if not key.is_file():
                    raise TransportError(
                        f"{certificate} has no key beside it", hint=f"its key belongs at {key}"
                    )
                client = client or (certificate, key)
        return tuple(authorities), client


def _hostname(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name.strip("[]") if colon and port.isdigit() else host.strip("[]")


def _read(path: Path, top: dict[Any, Any]) -> tuple[dict[str, RegistryEntry], dict[str, str]]:
    registries = {
        str(name): _entry(value, path, str(name))
        for name, value in mapping(top.get("registries"), path, "registries").items()
    }
    aliases = {}
    for name, target in mapping(top.get("aliases"), path, "aliases").items():
        if not isinstance(target, str):
            raise UsageError(f"{path}: the alias {name} is not a name")
        parse_reference(target)
        aliases[str(name)] = target
    return registries, aliases


def _entry(value: Any, path: Path, name: str) -> RegistryEntry:
    entry = mapping(value, path, f"registries: {name}")
    if unknown := sorted(set(entry) - {"mirrors", "insecure"}):
        raise UsageError(f"{path}: {name}: unknown key {unknown[0]!r}", hint="known are mirrors and insecure")
    mirrors, insecure = entry.get("mirrors") or [], entry.get("insecure", False)
    if not isinstance(mirrors, list) or not all(isinstance(mirror, str) for mirror in mirrors):
        raise UsageError(f"{path}: {name}: mirrors is not a list of host[:port][/path]")
    if not isinstance(insecure, bool):
        raise UsageError(f"{path}: {name}: insecure is neither true nor false")
    for mirror in mirrors:
        if "://" in mirror:
            raise UsageError(
                f"{path}: {name}: the mirror {mirror} has a scheme", hint="write host[:port][/path]"
            )
    return RegistryEntry(tuple(mirror.rstrip("/") for mirror in mirrors), insecure)
