"""The flags of ``build`` and ``run`` that confine what runs: limits, capabilities, isolation. In: a parser, then what it
parsed. Out: `Limits` and the like."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.linux.limits import Limits
    from layersmith.store import Store

LIMIT_FLAGS = (
    ("memory", ("-m", "--memory"), "BYTES", "limit of memory: 512m"),
    ("memory_swap", ("--memory-swap",), "BYTES", "limit of memory and swap together; -1: none"),
    ("cpus", ("--cpus",), "NUMBER", "limit of processor time: 1.5 is one and a half"),
    ("cpu_period", ("--cpu-period",), "MICROSECONDS", "what --cpu-quota is a part of (100000)"),
    ("cpu_quota", ("--cpu-quota",), "MICROSECONDS", "limit of processor time in each period"),
    ("cpu_shares", ("-c", "--cpu-shares"), "NUMBER", "weight where processors are short (1024)"),
    ("cpuset_cpus", ("--cpuset-cpus",), "LIST", "processors to run on: 0-3,6"),
    ("cpuset_mems", ("--cpuset-mems",), "LIST", "memory nodes to use: 0,1"),
    ("pids_limit", ("--pids-limit",), "NUMBER", "limit of processes"),
)


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """What ``--security-opt`` asks for."""

    no_new_privileges: bool = False
    seccomp: bool = True


def limit_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that `limits` reads."""
    for _, names, metavar, text in LIMIT_FLAGS:
        parser.add_argument(*names, default="", metavar=metavar, help=text)


def limits(args: argparse.Namespace) -> Limits:
    """Raises UsageError."""
    from layersmith.linux.limits import NO_LIMITS, Limits

    if not any(getattr(args, name) for name, *_ in LIMIT_FLAGS):
        return NO_LIMITS

    def count(flag: str, text: str) -> int:
        return int(number(text or "0", flag))

    found = Limits(
        memory=size(args.memory or "0", "--memory"),
        memory_swap=size(args.memory_swap or "0", "--memory-swap"),
        cpus=number(args.cpus or "0", "--cpus"),
        cpu_period=count("--cpu-period", args.cpu_period),
        cpu_quota=count("--cpu-quota", args.cpu_quota),
        cpu_shares=count("--cpu-shares", args.cpu_shares),
        cpuset=args.cpuset_cpus,
        cpuset_mems=args.cpuset_mems,
        pids=count("--pids-limit", args.pids_limit),
    )
    found.settings(2)  # what contradicts itself is refused before anything is done
    return found


def layer_size_argument(parser: argparse.ArgumentParser) -> None:
    """The flag that `limit_layers` reads."""
    parser.add_argument(
        "--max-layer-size",
        metavar="BYTES",
        help="refuse layers that are larger, uncompressed (default: 64g)",
    )


def limit_layers(args: argparse.Namespace, store: Store) -> None:
    """Have ``store`` refuse layers as the flag says. Raises UsageError."""
    if args.max_layer_size is not None:
        store.max_layer_size = size(args.max_layer_size, "--max-layer-size")


def security_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of capabilities and of what else a process may do."""

    def repeat(name: str, metavar: str, text: str) -> None:
        parser.add_argument(name, action="append", default=[], metavar=metavar, help=text)

    repeat("--cap-add", "NAME", "add a capability, or ALL")
    repeat("--cap-drop", "NAME", "drop a capability, or ALL")
    repeat("--security-opt", "OPTION", "no-new-privileges, or seccomp=unconfined")
    parser.add_argument(
        "--isolation",
        default="builtin",
        metavar="builtin|oci[:RUNTIME]",
        help="what runs commands: layersmith itself, or oci:crun, oci:runc",
    )


def security_options(texts: Sequence[str]) -> SecurityOptions:
    """Raises UsageError for what is not there. No mandatory access control confines a sandbox, so that to switch it off,
    as scripts for docker and podman do, asks for nothing."""
    no_new_privileges, seccomp = False, True
    for text in texts:
        name, _, value = text.replace(":", "=", 1).partition("=")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            no_new_privileges = value != "false"
        elif (name, value) == ("seccomp", "unconfined"):
            seccomp = False
        elif (name, value) not in (("label", "disable"), ("apparmor", "unconfined")):
            raise UsageError(
                f"unknown --security-opt {text!r}", hint="there are no-new-privileges and seccomp=unconfined"
            )
    return SecurityOptions(no_new_privileges, seccomp)


def size(text: str, flag: str) -> int:
    """Bytes of ``64m``; -1 stays -1."""
    from layersmith.buildfile.values import parse_size

    if text == "-1":
        return -1
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def number(text: str, flag: str) -> float:
    """A number that is not negative; -1 and ``unlimited`` are 0, no limit."""
    if text in ("-1", "unlimited"):
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{flag}: {text!r} is not a number such as 1.5")
    return value
