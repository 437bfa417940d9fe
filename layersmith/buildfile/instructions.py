"""PARSE: the Buildfile as values. In: nothing. Out: what `parser` makes, and `plan`, `lint` and `format` read.

Every word is as the user wrote it, variables and quotes included: which of them are expanded, when and with what,
is the plan's business (`words` does it). Only what the language fixes at parse time is already a typed value:
flags' booleans, durations, counts. Names are BuildKit's (frontend/dockerfile/instructions/commands.go).
"""

from __future__ import annotations

from layersmith.dataclass import dataclass, field
from layersmith.source import Source, Span


@dataclass(frozen=True, slots=True)
class Heredoc:
    """An inline document ``<<NAME``.

    ``body`` is its text, leading tabs already removed where ``strip_tabs`` (``<<-``); ``raw`` is as written.
    ``expand`` is off if any part of the delimiter was quoted. ``word`` is the whole ``3<<-"NAME"`` as written.
    """

    name: str
    body: str
    expand: bool = True
    strip_tabs: bool = False
    fd: int = 0
    word: str = field(default="", compare=False)
    raw: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Command:
    """What RUN, CMD, ENTRYPOINT and HEALTHCHECK execute.

    Shell form (``shell``): ``args`` is one text for the stage's SHELL. It is complete: a heredoc that is the whole
    command is its body, any other command with heredocs is rebuilt with them for the shell to read.
    JSON form: ``args`` is argv. Nothing in either is expanded by the builder.
    """

    shell: bool
    args: tuple[str, ...]
    heredocs: tuple[Heredoc, ...] = ()
    text: str = field(default="", compare=False)
    """The command as written, continuations joined, heredoc bodies left out."""
    script: Heredoc | None = None
    """The heredoc that is the whole command. If its body starts with ``#!`` it is to be executed as a file."""


@dataclass(frozen=True, slots=True)
class MountFlag:
    """``RUN --mount=``: its (key, value) fields in order, keys in lower case, value None where there is no ``=``."""

    fields: tuple[tuple[str, str | None], ...]
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Instruction:
    """Base of all: ``span`` covers the instruction with its heredocs, ``text`` is it with continuations joined.

    ``text`` has no comments and no heredoc bodies; ``keyword`` is the instruction's name as written.
    """

    span: Span = field(compare=False, repr=False, kw_only=True)
    text: str = field(compare=False, repr=False, kw_only=True)
    keyword: str = field(default="", compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class From(Instruction):
    """FROM [--platform=] base [AS name]; ``name`` in lower case."""

    base: str
    name: str | None = None
    platform: str | None = None


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    """RUN. ``timeout`` in seconds, 0 for none; ``retry`` counts further attempts."""

    command: Command
    mounts: tuple[MountFlag, ...] = ()
    network: str | None = None
    security: str | None = None
    devices: tuple[str, ...] = ()
    no_cache: bool = False
    retry: int = 0
    timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Instruction):
    command: Command


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    """LABEL: (key, value) as written, both to be expanded. ``legacy``: ``LABEL key rest of the line``."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    """ENV: (key, value) as written, both to be expanded. ``legacy``: ``ENV key rest of the line``."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    """ARG: (name, default or None); the name is literal, the default is to be expanded."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    """EXPOSE: words; an expanded word may split into several."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """COPY. ``heredocs`` are further sources. ``excludes`` are patterns; ``link`` and ``parents`` are never variables."""

    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str | None = None
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Add(Instruction):
    """ADD. ``keep_git_dir`` and ``unpack`` are None where not given."""

    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str | None = None
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True)
class Shell(Instruction):
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopsignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True)
class Healthcheck(Instruction):
    """HEALTHCHECK: ``none`` for ``HEALTHCHECK NONE``. Durations in nanoseconds; 0 where not given."""

    none: bool
    command: Command | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Onbuild(Instruction):
    """ONBUILD: the trigger's text with its heredoc bodies, as stored in an image's config; it is known to parse."""

    trigger: str


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True)
class Include(Instruction):
    """INCLUDE path (an extension): that Buildfile's instructions stand here. Literal, relative to this file."""

    path: str


@dataclass(frozen=True, slots=True)
class Unset(Instruction):
    """UNSET ENV|LABEL|EXPOSE|VOLUME name… (an extension); ``kind`` in upper case, ``names`` to be expanded."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """``# check=``: lint rules to skip (``all`` is every one), to fail on any finding, experimental rules to turn on."""

    skip: tuple[str, ...] = ()
    skip_all: bool = False
    error: bool = False
    experimental: tuple[str, ...] = ()
    experimental_all: bool = False


@dataclass(frozen=True, slots=True)
class Directives:
    """Parser directives at a file's very start. ``syntax`` is noted, never fetched."""

    syntax: str | None = None
    escape: str = "\\"
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Buildfile:
    """One parsed file. An included fragment may have no FROM; whether the whole makes stages, `stages` says."""

    source: Source = field(compare=False, repr=False)
    directives: Directives
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM and what follows up to the next; ``name`` in lower case or None."""

    name: str | None
    from_: From
    instructions: tuple[Instruction, ...]
