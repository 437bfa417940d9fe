"""PARSE: what the grammar finds in a logical line, free of lark. In: nothing. Out: `Form`, for `builders` and `format`."""

from __future__ import annotations

from collections.abc import Mapping

from layersmith.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A terminal ``kind`` of the grammar that matched ``text`` at offset ``start`` of the logical line."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Form:
    """An instruction taken apart: the grammar's ``rule``, its words, its flags as (name, value), what ONBUILD holds."""

    rule: str
    words: tuple[Word, ...]
    flags: tuple[tuple[Word, Word | None], ...] = ()
    inner: Form | None = None


@dataclass(frozen=True, slots=True)
class Syntax:
    """What the grammar knows that messages need: for each instruction (``run``) its flags (``--mount``), and whether
    they need a value."""

    flags: Mapping[str, Mapping[str, bool]]


USAGE = {
    "add": "ADD [--chown=…] [--chmod=…] [--link] [--exclude=…] [--checksum=…] [--keep-git-dir] [--unpack] source… destination",
    "arg": "ARG name[=default]…",
    "cmd": 'CMD ["program", "argument"…] or CMD command line',
    "copy": "COPY [--from=…] [--chown=…] [--chmod=…] [--link] [--parents] [--exclude=…] source… destination",
    "entrypoint": 'ENTRYPOINT ["program", "argument"…] or ENTRYPOINT command line',
    "env": "ENV name=value…",
    "expose": "EXPOSE port[/protocol]…",
    "from": "FROM [--platform=…] image [AS name]",
    "healthcheck": "HEALTHCHECK [--interval=…] [--timeout=…] [--start-period=…] [--start-interval=…] [--retries=…] CMD command,"
    " or HEALTHCHECK NONE",
    "include": "INCLUDE path",
    "label": "LABEL key=value…",
    "maintainer": "MAINTAINER name",
    "onbuild": "ONBUILD instruction",
    "run": 'RUN [--mount=…] [--network=…] [--security=…] command line or ["program", "argument"…]',
    "shell": 'SHELL ["program", "argument"…]',
    "stopsignal": "STOPSIGNAL signal",
    "unset": "UNSET ENV|LABEL|EXPOSE|VOLUME name…",
    "user": "USER user[:group]",
    "volume": 'VOLUME path… or VOLUME ["path"…]',
    "workdir": "WORKDIR path",
}
"""Instructions and their forms, for hints."""
