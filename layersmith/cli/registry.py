"""Images between the store and registries: ``pull``, ``push``, ``login``, ``logout``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.cli.progress import display, progress_argument
from layersmith.cli.registries import keychain, open_registry, registry_arguments, trust_arguments
from layersmith.cli.stores import open_store, platform_argument, platform_of
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.cli.progress import Display
    from layersmith.oci.descriptor import Descriptor
    from layersmith.store import Store
    from layersmith.store.build_record import Build

JOBS = 6
_BUILDS = 50
"""How many builds back the one is looked for that made what is pushed."""


def _display(args: Namespace) -> AbstractContextManager[Display]:
    return display(args.progress, quiet=args.quiet, ticking=True)


def _transfer_arguments(parser: ArgumentParser) -> None:
    registry_arguments(parser)
    parser.add_argument(
        "--jobs", type=int, default=JOBS, metavar="N", help=f"blobs to transfer at once (default: {JOBS})"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but the image's digest")
    progress_argument(parser)


# pull

PULL_EXAMPLES = """\
examples:
  layersmith pull debian:bookworm
  layersmith pull --platform linux/arm64 registry.example.com/web:1.2
  layersmith pull --all-platforms busybox       the whole index, to push it elsewhere
"""


def pull_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="IMAGE", help="NAME[:TAG] or NAME@DIGEST")
    platform_argument(parser)
    parser.add_argument("--all-platforms", action="store_true", help="take the images of all platforms")
    _transfer_arguments(parser)


def pull(args: Namespace) -> int:
    """Fetch images into the store."""
    names = [name.removeprefix("docker://") for name in args.names]
    platform = platform_of(args)
    digests = []
    with (
        open_store(args, create=True) as store,
        _display(args) as progress,
        open_registry(args, progress) as registry,
    ):
        for name in names:
            reference = registry.config.reference(name)
            found = registry.pull(
                store,
                reference,
                platform=platform,
                all_platforms=args.all_platforms,
                jobs=_jobs(args),
            )
            if reference.tag is None:
                store.refs.keep(found)
            else:
                store.refs.set(reference.with_tag(reference.tag).familiar(), found)
            digests.append(found.digest)
    print(*digests, sep="\n")
    return 0


def _jobs(args: Namespace) -> int:
    if args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: at least one is needed")
    return int(args.jobs)


# push

PUSH_EXAMPLES = """\
examples:
  layersmith push registry.example.com/web:1.2          an image of that name
  layersmith push web registry.example.com/web:1.2      another image, under that name
  layersmith push --compression gzip --force-compression web registry.example.com/web:old
"""


def push_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a name, or the beginning of a digest")
    parser.add_argument(
        "destinations", nargs="*", metavar="NAME[:TAG]", help="what it is called there (default: IMAGE)"
    )
    platform_argument(parser)
    parser.add_argument(
        "--compression", metavar="NAME[:LEVEL]", help="of layers that have none: zstd, gzip or none"
    )
    parser.add_argument("--force-compression", action="store_true", help="of all other layers, too")
    parser.add_argument("--format", choices=("oci", "docker"), help="media types (default: as they are)")
    parser.add_argument("--digestfile", metavar="FILE", help="write the image's digest there to FILE")
    _transfer_arguments(parser)


def push(args: Namespace) -> int:
    """Upload an image; the report of the build that made it shows when."""
    from layersmith.cli.progress.moves import Moves

    names = [name.removeprefix("docker://") for name in args.destinations or [args.image]]
    with open_store(args) as store:
        built = store.refs.resolve(args.image)
        descriptor = _selected(args, store, built)
        with _display(args) as progress:
            moves = Moves(progress)
            with open_registry(args, moves) as registry:
                for name in names:
                    registry.push(store, descriptor, registry.config.reference(name), jobs=_jobs(args))
        moves.note(store, _build_of(store, built))
    if args.digestfile:
        Path(args.digestfile).write_text(descriptor.digest + "\n", encoding="ascii")
    print(descriptor.digest)
    return 0


def _build_of(store: Store, descriptor: Descriptor) -> Build | None:
    """The latest build that made the image."""
    return next((build for build in store.builds.recent(_BUILDS) if build.image == descriptor.digest), None)


def _selected(args: Namespace, store: Store, descriptor: Descriptor) -> Descriptor:
    """The image to push, of ``descriptor``, with the media types and the compression that were asked for."""
    from layersmith.image import select
    from layersmith.layer.compress import parse_compression
    from layersmith.transport import Output, save

    if args.platform:
        descriptor = select(store, descriptor, platform_of(args))
    if not args.format and not args.compression and not args.force_compression:
        return descriptor
    output = Output(
        "image",
        compression=parse_compression(args.compression) if args.compression else None,
        force_compression=args.force_compression,
        oci_media_types={"oci": True, "docker": False}.get(args.format),
    )
    return save(store, descriptor, output)


# login, logout

LOGIN_EXAMPLES = """\
examples:
  layersmith login                                             Docker Hub
  layersmith login -u me registry.example.com
  layersmith login -u me --password-stdin registry.example.com <token.txt
"""


def login_arguments(parser: ArgumentParser) -> None:
    _registry_argument(parser)
    parser.add_argument("-u", "--username", metavar="USER", help="(default: asked for)")
    parser.add_argument("-p", "--password", metavar="PASSWORD", help="better leave it to --password-stdin")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    trust_arguments(parser)


def login(args: Namespace) -> int:
    """Check credentials with a registry, and keep them."""
    from layersmith.transport.auth import Credentials

    domain = _domain(args.registry)
    args.creds = None
    username, password = _asked(args, domain)
    credentials = Credentials(username, password)
    with open_registry(args) as registry:
        registry.check_login(domain, credentials)
    place = keychain(args).store(domain, credentials)
    if not place.startswith("docker-credential-"):
        print(
            f"warning: the password is kept unencrypted in {place}; a credential helper would encrypt it",
            file=sys.stderr,
        )
    print("Login Succeeded")
    return 0


def _asked(args: Namespace, domain: str) -> tuple[str, str]:
    """User name and password, from the options or the terminal. Raises UsageError."""
    if args.password_stdin:
        if args.password is not None or not args.username:
            raise UsageError("--password-stdin goes with --username, and without --password")
        return args.username, sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not sys.stdin.isatty() and not (args.username and args.password):
        raise UsageError(
            "there is no terminal to ask for the password", hint="use --username and --password-stdin"
        )
    import getpass

    username = args.username or input(f"User name for {domain}: ").strip()
    password = args.password or getpass.getpass(f"Password for {username} at {domain}: ")
    if not username or not password:
        raise UsageError("a login needs a user name and a password")
    return username, password


LOGOUT_EXAMPLES = """\
examples:
  layersmith logout registry.example.com
"""


def logout_arguments(parser: ArgumentParser) -> None:
    _registry_argument(parser)
    parser.add_argument("--authfile", metavar="FILE", help="where the login is kept")


def logout(args: Namespace) -> int:
    """Forget the credentials for a registry."""
    domain = _domain(args.registry)
    places = keychain(args).erase(domain)
    if not places:
        print(f"Not logged in to {domain}")
    for place in places:
        print(f"Removed the login for {domain} from {place}")
    return 0


def _registry_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "registry",
        nargs="?",
        default="docker.io",
        metavar="REGISTRY",
        help="host[:port] (default: docker.io)",
    )


def _domain(text: str) -> str:
    """A registry as people write it: with a scheme, a path, or one of Docker Hub's old names. Raises UsageError."""
    from layersmith.oci.reference import parse_reference
    from layersmith.transport.auth import HUB_KEYS

    if text in HUB_KEYS:
        return "docker.io"
    host = text.partition("://")[2] or text
    domain = host.partition("/")[0]
    if parse_reference(f"{domain}/name").domain != domain:
        raise UsageError(
            f"{text!r} is not a registry", hint="write host[:port], such as registry.example.com"
        )
    return domain
