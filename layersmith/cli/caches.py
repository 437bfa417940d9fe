"""``build``'s flags about caches that are elsewhere: ``--cache-from``, ``--cache-to``, ``--cache-mounts``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layersmith.build import Built
    from layersmith.progress import Progress
    from layersmith.remotecache.borrow import Borrowed
    from layersmith.remotecache.document import SharedMount
    from layersmith.remotecache.options import CacheOption
    from layersmith.store import Store


def cache_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--cache-from",
        action="append",
        default=[],
        metavar="type=TYPE,…|NAME",
        help="use the cache there: registry, local, tar, s3 or fsspec (repeatable)",
    )
    add(
        "--cache-to",
        action="append",
        default=[],
        metavar="type=TYPE,…[,mode=max]|NAME",
        help="write the cache there, or inline; mode=max: of all stages (repeatable)",
    )
    add("--cache-mounts", action="store_true", help="with the content of RUN --mount=type=cache, both ways")


class Caches:
    """The caches of one build, checked before it begins."""

    def __init__(
        self, sources: tuple[CacheOption, ...], targets: tuple[CacheOption, ...], *, mounts: bool
    ) -> None:
        self._sources = sources
        self._targets = targets
        self._mounts = mounts
        self._absent: frozenset[str] = frozenset()

    @property
    def inline(self) -> bool:
        """Whether a cache goes into the image."""
        return any(target.type == "inline" for target in self._targets)

    @contextmanager
    def borrowed(self, store: Store, progress: Progress) -> Iterator[Borrowed | None]:
        """What ``--cache-from`` gives, for a block; None without that."""
        if not self._sources:
            yield None
            return
        from layersmith.remotecache.borrow import borrowed

        with borrowed(store, self._sources, progress) as found:
            if self._mounts:
                from layersmith.remotecache.mounts import restore

                restore(store, found.mounts, progress)
            self._absent = found.absent
            yield found

    @contextmanager
    def known(self, store: Store, progress: Progress, *, scratch: Store) -> Iterator[None]:
        """What ``--cache-from`` would give, for a block, with nothing fetched but its documents, into ``scratch``."""
        if not self._sources:
            yield
            return
        from layersmith.remotecache.borrow import known

        with known(store, self._sources, progress, scratch=scratch):
            yield

    def lend(self, store: Store, built: Built, progress: Progress) -> None:
        """Write what ``--cache-to`` asks for."""
        targets = [target for target in self._targets if target.type != "inline"]
        if not targets:
            return
        from layersmith.errors import TransportError
        from layersmith.progress import Notice
        from layersmith.remotecache.lend import lend

        mounts: tuple[SharedMount, ...] = ()
        if self._mounts:
            from layersmith.remotecache.mounts import mounts_of, packed

            mounts = packed(store, mounts_of(store, (variant.plan for variant in built.variants)))
        images = [variant.image for variant in built.variants]
        for target in targets:
            try:
                lend(store, target, images, progress, mounts, self._absent)
            except TransportError as error:
                if not target.ignore_error:
                    raise
                progress.emit(Notice("warning", f"the cache was not written: {error.message}"))


def caches_of(args: Namespace) -> Caches:
    """The caches that the flags name. Raises UsageError."""
    inline = any(
        text.lower() in ("buildkit_inline_cache=1", "buildkit_inline_cache=true") for text in args.build_arg
    )
    if not (args.cache_from or args.cache_to or inline):
        return Caches((), (), mounts=False)
    from layersmith.remotecache.options import CacheOption, parse_cache_from, parse_cache_to

    targets = [parse_cache_to(text) for text in args.cache_to]
    if inline:
        targets.append(CacheOption("inline"))
    return Caches(
        tuple(parse_cache_from(text) for text in args.cache_from), tuple(targets), mounts=args.cache_mounts
    )
