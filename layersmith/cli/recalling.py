"""``layersmith build``, asked again: the question that its flags and files are. In: parsed flags. Out: `recall`'s key.

No module of the language, the planner or the solver is imported here: that is the point.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith import __version__
from layersmith.oci.digest import digest_of
from layersmith.recall import key, recall, remember

if TYPE_CHECKING:
    from layersmith.build import BuildRequest, Built
    from layersmith.oci.descriptor import Descriptor
    from layersmith.progress import Progress
    from layersmith.store import Store

APART = frozenset(
    {
        "tag",
        "quiet",
        "progress",
        "iidfile",
        "root",
        "jobs",
        "call",
        "keep_going",
        "on_error",
        "load",
        "creds",
        "authfile",
        "tls_verify",
        "cert_dir",
    }
)
"""What does not change the image: another ``-t`` of the same build gets the same image."""

NEVER = frozenset(
    {
        "no_cache",
        "no_cache_filter",
        "pull",
        "push",
        "output",
        "annotation",
        "squash",
        "squash_all",
        "metadata_file",
        "build_context",
        "secret",
        "ssh",
        "cache_from",
        "cache_to",
        "cache_mounts",
        "dry_run",
        "print_graph",
        "explain",
        "locked",
    }
)
"""Where one of these is given, the build is always done: it reads or writes more than a question and an image."""

VARIABLES = ("SOURCE_DATE_EPOCH", "BUILDKIT_SYNTAX")


def question(args: argparse.Namespace) -> str | None:
    """The key of this build's answer; None if there can be none."""
    from layersmith.cli.request import local_context
    from layersmith.context.context import ignore_files

    given = vars(args)
    where = Path(args.context)
    if any(given.get(name) for name in NEVER) or args.file == "-" or not where.exists():
        return None
    root, buildfile = local_context(where, args.file)
    ignore = {str(path): _digest(path) for path in ignore_files(root, buildfile)}
    # A pipe (`-f <(…)`) can be read once only, and that is for the build to do.
    text = _digest(buildfile) if buildfile.is_file() else None
    if (
        text is None
        or (root / "Buildfile.lock").exists()
        or buildfile.with_name(buildfile.name + ".lock").exists()
    ):
        return None
    named = [one for one in args.build_arg if "=" not in one]
    return key(
        {
            "layersmith": __version__,
            "user": os.geteuid(),
            "machine": os.uname().machine,
            "flags": {name: given[name] for name in sorted(given) if name not in APART | NEVER},
            "context": str(root.absolute()),
            "buildfile": str(buildfile.absolute()),
            "directory": os.getcwd(),
            "text": text,
            "ignore": ignore,
            "environment": {name: os.environ.get(name) for name in (*VARIABLES, *named)},
        }
    )


def _digest(path: Path) -> str | None:
    try:
        return digest_of(path.read_bytes())
    except OSError:
        return None


def recalled(
    store: Store, name: str, args: argparse.Namespace, progress: Progress, started: float
) -> Descriptor | None:
    """The image kept under ``name``, with its names set, shown and recorded; None if it has to be built."""
    found = recall(store, name)
    if found is None:
        return None
    for tag in args.tag:
        store.refs.set(tag, found.descriptor)
    if not args.tag:
        store.refs.keep(found.descriptor)
    found.tell(progress, tuple(args.tag), time.time() - started)
    found.record(store, tuple(args.tag), started)
    return found.descriptor


def remembered(store: Store, name: str, request: BuildRequest, built: Built) -> None:
    """Keep the answer to a build, where `layersmith.recall` can."""
    if built.record is None:
        return
    from layersmith.build import built_layers, planned_steps

    images = [variant.image for variant in built.variants]
    remember(
        store,
        name,
        text=request.text,
        record=built.record,
        descriptor=built.descriptor,
        images=[(variant.descriptor, variant.image) for variant in built.variants],
        plan=built.plan,
        contexts={name: context.root for name, context in request.contexts.items()},
        told=(planned_steps(built.plan).steps, built_layers(images, built.solved)),
    )
