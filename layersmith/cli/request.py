"""What ``layersmith build``'s flags ask for. In: parsed flags. Out: a `BuildRequest`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.cli.confine import limits, security_options
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.build import BuildRequest
    from layersmith.lock import Lock
    from layersmith.oci.platform import Platform
    from layersmith.ops import Privileges
    from layersmith.plan import PlanOptions
    from layersmith.solve import Settings
    from layersmith.store import Store

BUILDFILES = ("Buildfile", "Dockerfile", "dockerfile", "Containerfile")


def build_request(args: argparse.Namespace, store: Store) -> tuple[BuildRequest, dict[str, str]]:
    """The request, and those ``--build-context`` that are images."""
    from layersmith.build import BuildRequest
    from layersmith.context import Context
    from layersmith.execute.contexts import is_remote

    root, buildfile = _main_context(args, store)
    if args.file == "-":
        text, name = sys.stdin.buffer.read(), "<stdin>"
    else:
        try:
            text, name = buildfile.read_bytes(), _display(buildfile)
        except OSError as error:
            raise UsageError(f"can't read {buildfile}: {error.strerror}") from None
    contexts: dict[str, Context] = {"main": Context.open(root, buildfile=buildfile)}
    images = {}
    for text_ in args.build_context:
        label, separator, value = text_.partition("=")
        if not separator or not label:
            raise UsageError(
                f"invalid --build-context {text_!r}",
                hint="write NAME=DIRECTORY, NAME=docker-image://…, NAME=oci-layout://… or NAME=https://….git",
            )
        if "://" in value and not is_remote(value):
            images[label.lower()] = value
        else:
            where = _downloaded(value, store) if is_remote(value) else Path(value)
            contexts[label.lower()] = Context.open(where, label=f"context {label}")
    platforms = _platforms(args)
    request = BuildRequest(
        text,
        name,
        contexts,
        _plan_options(args, platforms),
        _settings(args),
        tuple(args.tag),
        _place(buildfile, root),
        platforms,
        _lock(args, buildfile),
        locked=args.locked,
        squash="all" if args.squash_all else "new" if args.squash else "",
    )
    return request, images


def _lock(args: argparse.Namespace, buildfile: Path) -> Lock | None:
    """The lock file beside the Buildfile, if there is one."""
    path = buildfile.with_name(buildfile.name + ".lock")
    found = None
    if args.file != "-" and path.exists():
        from layersmith.lock import Lock

        found = Lock.read(path)
    if found is None and args.locked:
        raise UsageError(f"--locked: there is no {path.name}", hint="`layersmith lock` writes it")
    return found


def _place(buildfile: Path, root: Path) -> str:
    """The Buildfile's path below the context, or just its name if it lies elsewhere."""
    try:
        return buildfile.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return buildfile.name


def _main_context(args: argparse.Namespace, store: Store) -> tuple[Path, Path]:
    """The context's directory, and the Buildfile's path."""
    from layersmith.execute.contexts import directory_from_stream, is_remote

    where = args.context
    if where == "-":
        root = directory_from_stream(sys.stdin.buffer, store.temporary("context") / "files")
    elif is_remote(where):
        root = _downloaded(where, store)
    else:
        root = Path(where)
    return local_context(root, args.file)


def local_context(root: Path, file: str | None) -> tuple[Path, Path]:
    """The context's directory and the Buildfile's path, of a directory or a Buildfile ``root`` and ``--file``."""
    if root.is_file():
        return root.parent, Path(file) if file else root
    if file:
        given = Path(file)
        # As docker does it: relative to where one stands, else to the context.
        return root, given if given.exists() or not (root / given).exists() else root / given
    return root, find_buildfile(root)


def _downloaded(url: str, store: Store) -> Path:
    """The files of a git repository or of an archive, until the store is closed."""
    from layersmith.cli.sources import fetch
    from layersmith.execute.contexts import directory_from_url

    return directory_from_url(url, store.temporary("context") / "files", fetch=fetch)


def find_buildfile(where: Path) -> Path:
    """The Buildfile that ``where`` is, or that lies in it. Raises UsageError."""
    if where.is_file():
        return where
    if not where.is_dir():
        raise UsageError(
            f"{where} is neither a Buildfile nor a directory", hint="name the context's directory"
        )
    for name in BUILDFILES:
        if (where / name).is_file():
            return where / name
    raise UsageError(
        f"there is no Buildfile in {where}",
        hint=f"looked for {', '.join(BUILDFILES)}; name another one with -f",
    )


def _display(path: Path) -> str:
    """How messages call the Buildfile: short where it is below the current directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _platforms(args: argparse.Namespace) -> tuple[Platform, ...]:
    """``--platform``, each once, in the order given; ``local`` is this machine's, as in buildx."""
    from layersmith.oci.platform import native, parse_platform

    words = [word.strip() for text in args.platform for word in text.split(",")] or ["local"]
    return tuple(dict.fromkeys(native() if word == "local" else parse_platform(word) for word in words))


def _plan_options(args: argparse.Namespace, platforms: tuple[Platform, ...]) -> PlanOptions:
    from layersmith.plan import PlanOptions

    build_args = build_args_of(args.build_arg)
    allowed = {word for text in args.allow for word in text.split(",")}
    unknown = allowed - {"security.insecure", "network.host"}
    if unknown:
        raise UsageError(
            f"unknown entitlement {', '.join(sorted(unknown))}",
            hint="there are security.insecure and network.host",
        )
    if args.network not in ("default", "none", "host"):
        raise UsageError(f"unknown network {args.network!r}", hint="the networks are default, none and host")
    return PlanOptions(
        target=args.target,
        build_args=build_args,
        labels=tuple(_pair(text, "--label") for text in args.label),
        platform=platforms[0],
        network=args.network,
        hosts=_hosts(args),
        shm_size=_size(args.shm_size, "--shm-size"),
        ulimits=_ulimits(args.ulimit),
        privileges=_privileges(args),
        hostname=build_args.get("BUILDKIT_SANDBOX_HOSTNAME", ""),
        insecure="security.insecure" in allowed,
        no_cache_stages=tuple(name for text in args.no_cache_filter for name in text.split(",")),
    )


def build_args_of(texts: Iterable[str]) -> dict[str, str]:
    """``--build-arg``: a name without a value has that of the environment, and is left out if there is none."""
    build_args = {}
    for text in texts:
        name, value = _pair(text, "--build-arg")
        if "=" in text:
            build_args[name] = value
        elif name in os.environ:
            build_args[name] = os.environ[name]
    return build_args


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or (flag == "--add-host" and not separator):
        raise UsageError(f"invalid {flag} {text!r}", hint=f"write {flag} NAME=VALUE")
    return name, value


def _size(text: str, flag: str) -> int:
    from layersmith.buildfile.values import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def _ulimits(texts: list[str]) -> tuple[str, ...]:
    if texts:
        from layersmith.linux.sandbox import Rlimit

        for text in texts:
            Rlimit.parse(text)
    return tuple(texts)


def _privileges(args: argparse.Namespace) -> Privileges:
    from layersmith.ops import Privileges

    capabilities = None
    if args.cap_add or args.cap_drop:
        from layersmith.linux import caps

        capabilities = tuple(sorted(caps.capabilities(args.cap_add, args.cap_drop)))
    security = security_options(args.security_opt)
    return Privileges(capabilities, security.seccomp, security.no_new_privileges)


def _isolation(name: str) -> str:
    """Refused at once if there is no such thing, though the cache may have all that is to be built."""
    from layersmith.linux.runtime import find

    find(name)
    return name


def _hosts(args: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """``--add-host``: both ``NAME:IP`` and ``NAME=IP``."""
    return tuple(_pair(re.sub("[:=]", "=", text, count=1), "--add-host") for text in args.add_host)


def _settings(args: argparse.Namespace) -> Settings:
    from layersmith.execute.settings import RunSettings
    from layersmith.layer.compress import parse_compression
    from layersmith.solve import Settings

    secrets, ssh = run_secrets(args)
    return Settings(
        jobs=max(1, args.jobs),
        no_cache=args.no_cache,
        keep_going=args.keep_going,
        epoch=_epoch(args),
        compression=parse_compression(args.compression),
        run=RunSettings(
            secrets=secrets,
            ssh=ssh,
            hosts=_hosts(args),
            dns=tuple(args.dns),
            limits=limits(args),
            isolation=_isolation(args.isolation),
        ),
    )


def run_secrets(args: argparse.Namespace) -> tuple[dict[str, Callable[[], bytes]], dict[str, Path]]:
    """``--secret`` and ``--ssh``, as `RunSettings` has them. Raises UsageError."""
    return dict(_secret(text) for text in args.secret), dict(_ssh(text) for text in args.ssh)


def _epoch(args: argparse.Namespace) -> int | None:
    for text in args.build_arg:
        if text.startswith("SOURCE_DATE_EPOCH="):
            return _seconds(text.partition("=")[2])
    text = args.source_date_epoch or os.environ.get("SOURCE_DATE_EPOCH", "")
    return _seconds(text) if text else None


def _seconds(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"invalid SOURCE_DATE_EPOCH {text!r}", hint="it is a number of seconds since 1970"
        ) from None


def _secret(text: str) -> tuple[str, Callable[[], bytes]]:
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    name = fields.get("id") or ""
    if not name:
        raise UsageError(
            f"--secret {text!r} has no id", hint="write --secret id=NAME,src=FILE or id=NAME,env=VARIABLE"
        )
    variable = fields.get("env")
    source = fields.get("src") or fields.get("source")
    if source is None and variable is None and name in os.environ:
        variable = name

    def read() -> bytes:
        if source is None and variable is not None:
            if variable not in os.environ:
                raise UsageError(f"secret {name}: the environment has no {variable}")
            return os.fsencode(os.environ[variable])
        try:
            return Path(source or name).read_bytes()
        except OSError as error:
            raise UsageError(f"secret {name}: can't read {source or name}: {error.strerror}") from None

    return name, read


def _ssh(text: str) -> tuple[str, Path]:
    name, _, socket = text.partition("=")
    path = socket or os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise UsageError(f"--ssh {name}: no agent", hint="start ssh-agent, or write --ssh ID=SOCKET")
    return name, Path(path)
