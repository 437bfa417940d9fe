"""``layersmith lock``: writes the lock file beside a Buildfile, or says what has drifted. See `layersmith.lock`."""

from __future__ import annotations

import os
import sys
import tempfile
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.cli.build import build_options
from layersmith.errors import NotFoundError, TransportError, UsageError

if TYPE_CHECKING:
    from layersmith.lock import Resolvers
    from layersmith.oci.descriptor import Descriptor
    from layersmith.progress import Progress
    from layersmith.store import Store

LOCK_EXAMPLES = """\
examples:
  layersmith lock                       write ./Buildfile.lock; what it has already stays as it is
  layersmith lock --update              take what everything means today
  layersmith lock --check               say what means something else today; ends with 1 if anything does
  layersmith build --locked .           build with the lock file, and nothing that is not in it

The file holds the digest of every image that a FROM or --from names (of the index, so for all platforms), of every URL
that ADD downloads, and the commit of every git repository that it clones. Builds use it whenever it is there. It is
called as the Buildfile, with .lock at its end.
"""

WITH_MEANING = frozenset(
    [
        *("file", "build_arg", "build_context", "platform", "help"),
        *("creds", "authfile", "tls_verify", "cert_dir", "quiet", "secret"),
    ]
)
"""Those of build's options that change what names there are, or how they are asked for."""


def lock_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "context", nargs="?", default=".", metavar="BUILDFILE|DIR", help="what to lock (default: .)"
    )
    parser.usage = (
        "layersmith lock [OPTION...] [BUILDFILE|DIR]"  # argparse fails on a group of hidden options
    )
    build_options(parser)
    for action in parser._actions:
        if action.dest not in WITH_MEANING | {"context"}:
            action.help = SUPPRESS
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--update", action="store_true", help="also take anew what is locked already")
    modes.add_argument("--check", action="store_true", help="write nothing; fail if anything has drifted")


def lock(args: Namespace) -> int:
    """Write the lock file."""
    from layersmith.build import read
    from layersmith.cli.build import bases_of
    from layersmith.cli.progress import display
    from layersmith.cli.request import build_request, find_buildfile
    from layersmith.lock import Lock, lock_path, make_lock
    from layersmith.store import Store

    if args.file == "-" or not Path(args.context).exists():
        raise UsageError("only a Buildfile that lies on this machine can be locked")
    with ExitStack() as stack:
        progress = stack.enter_context(display("quiet", quiet=True))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="layersmith-")))
        store = stack.enter_context(Store.open(None if args.root is None else Path(args.root)))
        thrown_away = stack.enter_context(Store.open(directory / "store"))
        path = lock_path(Path(args.file) if args.file else find_buildfile(Path(args.context)))
        before = Lock.read(path)
        request, named = build_request(args, store)
        after = make_lock(
            read(request),
            request.options,
            request.platforms,
            bases_of(args, store, named, progress, preview=thrown_away),
            _resolvers(args, store, thrown_away, directory, progress, request.settings.run.secrets),
            None if args.update or args.check else before,
        )
    changes = (before or Lock({}, {}, {})).differences(after)
    for line in () if args.quiet else changes:
        print(line, file=sys.stdout if args.check else sys.stderr)
    if args.check:
        return 1 if changes or before is None else 0
    if changes or before is None:
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(after.to_json())
        unfinished.replace(path)
    return 0


def _resolvers(
    args: Namespace,
    store: Store,
    thrown_away: Store,
    directory: Path,
    progress: Progress,
    secrets: object,
) -> Resolvers:
    """What asks registries, servers and repositories what names mean."""
    from layersmith.lock import Resolvers

    assert isinstance(secrets, dict)

    def secret(name: str) -> bytes | None:
        read: Callable[[], bytes] | None = secrets.get(name)
        return None if read is None else read()

    def image(name: str) -> str:
        stored = store.refs.get(name)
        try:
            top = _at_registry(args, thrown_away, name, progress)
        except (NotFoundError, TransportError):
            if stored is None:
                raise
            return stored.digest
        if stored is None or args.update or stored.digest in {top.digest, *_listed(thrown_away, top)}:
            return top.digest
        return stored.digest

    def url(text: str) -> str:
        from layersmith.execute.remote import http_headers
        from layersmith.transport.fetch import fetch

        got = fetch(text, directory, headers=http_headers(text, secret))
        assert got is not None, "nothing was known before"
        got.path.unlink()
        return str(got.digest)

    def git(text: str) -> str:
        from layersmith.context.giturl import parse_git_url
        from layersmith.execute.git import checkout, resolve

        parsed = parse_git_url(text)
        commit = resolve(parsed, directory / "git", secrets=secret)
        if commit is None:
            commit = checkout(parsed, directory / "clone", commit=None, keep_git_dir=False, secrets=secret)
        return commit

    return Resolvers(image, url, git)


def _at_registry(args: Namespace, thrown_away: Store, name: str, progress: Progress) -> Descriptor:
    """What the registry has under ``name``: the index, if it is one."""
    from layersmith.cli.registries import open_registry

    with open_registry(args, progress) as registry:
        return registry.fetch_manifest(thrown_away, registry.config.reference(name))


def _listed(store: Store, top: Descriptor) -> tuple[str, ...]:
    """The digests that an index lists; none for an image."""
    from layersmith.oci.manifest import Index, parse_manifest

    document = parse_manifest(store.blobs.read(top), top.media_type)
    return tuple(entry.digest for entry in document.manifests) if isinstance(document, Index) else ()
