"""PLAN: the build arguments that nobody declares, and the global ones before the first FROM.

In: `PlanOptions`, the global ARGs. Out: name -> value. Rules: REFERENCE of BuildKit's dockerfile2llb/platform.go.
"""

from __future__ import annotations

from collections.abc import Mapping

from layersmith.buildfile.instructions import Arg
from layersmith.buildfile.words import expand
from layersmith.errors import located
from layersmith.oci.platform import Platform, native
from layersmith.plan.model import PlanOptions

PROXIES = tuple(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Usable in RUN without a declaration; then neither in the history nor in a cache key."""

NOT_IN_ENVIRONMENT = frozenset({"BUILDKIT_SBOM_SCAN_STAGE", "BUILDKIT_SBOM_SCAN_CONTEXT"})
"""Arguments that only steer a builder; declaring them changes no RUN."""


def platform_arguments(options: PlanOptions) -> dict[str, str]:
    """BUILDPLATFORM, TARGETARCH and the like, before any ``--build-arg`` overrides them."""

    def of(prefix: str, platform: Platform) -> dict[str, str]:
        return {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}OSVERSION": platform.os_version,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }

    return {
        **of("BUILD", native()),
        **of("TARGET", options.platform),
        "TARGETSTAGE": options.target or "default",
    }


def global_arguments(declared: tuple[Arg, ...], options: PlanOptions, escape: str) -> dict[str, str]:
    """The scope of FROM: platform arguments and the ARGs before the first FROM, ``--build-arg`` applied."""
    scope = override(platform_arguments(options), options.build_args)
    for arg in declared:
        for name, default in arg.pairs:
            if name in options.build_args:
                scope[name] = options.build_args[name]
            elif default is not None:
                with located(arg.span):
                    scope[name] = expand(default, scope, escape=escape)
    return scope


def override(scope: dict[str, str], build_args: Mapping[str, str]) -> dict[str, str]:
    """``scope`` with the values that ``build_args`` has for its names."""
    return {name: build_args.get(name, value) for name, value in scope.items()}


def passed_proxies(build_args: Mapping[str, str], declared: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Proxy variables from ``--build-arg`` that no ARG or ENV has made an ordinary variable."""
    return tuple((n, build_args[n]) for n in PROXIES if n in build_args and n not in declared)
