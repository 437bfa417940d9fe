"""`Platform`: what an image runs on. Normalisation and matching as containerd/platforms does them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from layersmith.dataclass import dataclass
from layersmith.errors import UsageError
from layersmith.oci.document import Fields

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_ARCHITECTURES = {
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "ppc64el": ("ppc64le", ""),
    "mipsel": ("mipsle", ""),
    "mips64el": ("mips64le", ""),
    "loongarch64": ("loong64", ""),
}
_KNOWN_ARCHITECTURES = frozenset(
    [
        "386",
        "amd64",
        "arm",
        "arm64",
        "loong64",
        "mips",
        "mips64",
        "mips64le",
        "mipsle",
        "ppc64",
        "ppc64le",
        "riscv64",
        "s390x",
        "wasm",
    ]
)
_KNOWN_SYSTEMS = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "illumos",
        "ios",
        "js",
        "linux",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "wasip1",
        "windows",
    ]
)
_IMPLIED_VARIANT = {"arm": "v7", "arm64": "v8", "amd64": "v1"}


@dataclass(frozen=True, slots=True)
class Platform:
    """``os``/``architecture``[/``variant``], in the names of Go's GOOS and GOARCH."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def to_json(self) -> dict[str, Any]:
        """The object that a descriptor's ``platform`` is, and part of a config."""
        value: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            value["os.version"] = self.os_version
        if self.os_features:
            value["os.features"] = list(self.os_features)
        if self.variant:
            value["variant"] = self.variant
        return value

    @classmethod
    def from_fields(cls, fields: Fields) -> Platform:
        """Read leniently: old images lack an architecture, attestations say ``unknown/unknown``."""
        return cls(
            os=fields.text("os"),
            architecture=fields.text("architecture"),
            variant=fields.text("variant"),
            os_version=fields.text("os.version"),
            os_features=fields.texts("os.features"),
        )

    def normalized(self) -> Platform:
        """With aliases resolved and variants that say nothing (arm64/v8, amd64/v1) left out."""
        architecture, variant = self.architecture.lower(), self.variant.lower()
        system = {"macos": "darwin"}.get(self.os.lower(), self.os.lower())
        if architecture in _ARCHITECTURES:
            architecture, implied = _ARCHITECTURES[architecture]
            variant = variant or implied
        if variant.isdigit():
            variant = "v" + variant
        if architecture == "arm":
            variant = variant or "v7"
        elif variant == _IMPLIED_VARIANT.get(architecture):
            variant = ""
        return Platform(system, architecture, variant, self.os_version, self.os_features)


def parse_platform(text: str) -> Platform:
    """``os/arch[/variant]``, or ``os`` or ``arch`` alone with the rest taken from this machine; normalised.

    Raises:
        UsageError: ``text`` is none of these.
    """
    parts = text.strip().split("/")
    if not 1 <= len(parts) <= 3 or not all(_WORD.fullmatch(part) for part in parts):
        raise UsageError(f"{text!r} is not a platform", hint="write os/architecture[/variant]: linux/arm64")
    here = native()
    if len(parts) > 1:
        return Platform(parts[0], parts[1], parts[2] if len(parts) > 2 else "").normalized()
    word = Platform(parts[0], parts[0]).normalized()
    if word.os in _KNOWN_SYSTEMS:
        return Platform(word.os, here.architecture, here.variant)
    if word.architecture in _KNOWN_ARCHITECTURES:
        return Platform(here.os, word.architecture, word.variant)
    raise UsageError(
        f"{text!r} is neither an operating system nor an architecture", hint="for example linux/arm64"
    )


def native() -> Platform:
    """The platform of this machine. (A 32-bit Python on a 64-bit kernel counts as 64-bit, as uname says.)"""
    return Platform("linux", os.uname().machine).normalized()


def _variants(platform: Platform) -> tuple[str, ...]:
    """Variants that run on ``platform``, best first."""
    variant = platform.variant or _IMPLIED_VARIANT.get(platform.architecture, "")
    number = variant[1:]
    if not number.isdigit():
        return (variant,)
    lowest = {"arm": 5, "arm64": 8, "amd64": 1}.get(platform.architecture, int(number))
    return tuple(f"v{n}" for n in range(int(number), min(lowest, int(number)) - 1, -1))


def matches(want: Platform, have: Platform) -> bool:
    """Whether an image for ``have`` can be used where ``want`` is asked for."""
    return _rank(want.normalized(), have.normalized()) is not None


def best(want: Platform, haves: Sequence[Platform | None]) -> int | None:
    """The index of the entry that fits ``want`` best (the highest variant that still runs), or None."""
    wanted = want.normalized()
    ranked = [
        (rank, number)
        for number, have in enumerate(haves)
        if have is not None and (rank := _rank(wanted, have.normalized())) is not None
    ]
    return min(ranked)[1] if ranked else None


def _rank(want: Platform, have: Platform) -> int | None:
    if (want.os, want.architecture) != (have.os, have.architecture):
        return None
    if want.os_version and want.os_version != have.os_version:
        return None
    variants = _variants(want)
    variant = have.variant or _IMPLIED_VARIANT.get(have.architecture, "")
    return variants.index(variant) if variant in variants else None
