"""Everything that layersmith raises on purpose.

    LayersmithError                 exit  1
    ├── UsageError                  exit  2   the command line or an option's value
    ├── BuildfileError              exit  3   the Buildfile is wrong
    │   ├── BuildfileSyntaxError              it does not parse
    │   ├── ExpansionError                    a ``$variable`` can't be expanded
    │   │   └── RequiredVariableError         it has no value, and ``${name?message}`` wants one
    │   └── PlanError                         it parses, but means nothing buildable
    ├── StepError                   exit  4   a step could not be done
    │   ├── CommandError                      its command ended with a non-zero status
    │   └── CopyError                         a source or destination of COPY, ADD or WORKDIR
    ├── NotFoundError               exit  5   no such image, container, build or blob
    ├── TransportError              exit  6   a registry, an archive or a remote file
    │   ├── HostileInputError                 an archive or layer that tries to leave its root or its limits
    │   └── CacheSourceError                  what ``--cache-from`` promised can't be had, or is something else
    ├── StoreError                  exit  7   the store is damaged, full, locked or newer than this program
    │   └── DigestMismatchError               bytes that are not what their digest says
    ├── SandboxError                exit  8   the kernel refused a mount, a namespace or an exec
    └── Cancelled                   exit 130  Ctrl-C or SIGTERM

Each carries a message (what happened), a hint (what to do about it) and a span (where), and knows its exit code.
Only the command line renders them. `located` puts a span on whatever leaves a block without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from layersmith.source import Span


class LayersmithError(Exception):
    """Base of all deliberate errors: ``message``, ``hint`` (may be empty) and ``span`` (may be None)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", span: Span | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.span = span
        self.told = False
        """Whether it was made known already, so that the command line need not print it."""

    def __str__(self) -> str:
        return f"{self.span}: {self.message}" if self.span else self.message


class UsageError(LayersmithError):
    """The command line, an option's value or a configuration file."""

    exit_code = 2


class BuildfileError(LayersmithError):
    """The Buildfile is wrong. ``others`` holds further errors found in the same run."""

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        span: Span | None = None,
        others: tuple[BuildfileError, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, span=span)
        self.others = others


class BuildfileSyntaxError(BuildfileError):
    """The text does not parse."""


class ExpansionError(BuildfileError):
    """A ``$variable`` in a word can't be expanded."""


class RequiredVariableError(ExpansionError):
    """``${name?message}``: the variable has no value."""


class PlanError(BuildfileError):
    """The text parses, but names a stage, a base or a value that makes no sense."""


class StepError(LayersmithError):
    """A step could not be done."""

    exit_code = 4


class CommandError(StepError):
    """A step's command ended with ``status`` (as a shell reports it); ``tail`` is its last output.

    ``kept`` (``BUILD/STEP``) names what is kept of the files that it left, if anything is.
    """

    def __init__(
        self, message: str, *, status: int, tail: str = "", hint: str = "", span: Span | None = None
    ) -> None:
        super().__init__(message, hint=hint, span=span)
        self.status = status
        self.tail = tail
        self.kept = ""


class CopyError(StepError):
    """A source or a destination of COPY, ADD or WORKDIR."""


class NotFoundError(LayersmithError):
    """No such image, container, build or blob."""

    exit_code = 5


class TransportError(LayersmithError):
    """A registry, an archive or a remote file could not be read or written."""

    exit_code = 6


class HostileInputError(TransportError):
    """An archive or a layer that tries to leave its root, or exceeds its limits."""


class CacheSourceError(TransportError):
    """The layer ``digest`` of a ``--cache-from`` can't be had; without a digest, a cache is wrong. The build does without."""

    def __init__(self, message: str, digest: str, *, hint: str = "", span: Span | None = None) -> None:
        super().__init__(message, hint=hint, span=span)
        self.digest = digest


class StoreError(LayersmithError):
    """The store is damaged, full, locked, or newer than this program."""

    exit_code = 7


class DigestMismatchError(StoreError):
    """Bytes that are not what their digest says."""


class SandboxError(LayersmithError):
    """The kernel refused a mount, a namespace or an exec; says which operation on which path."""

    exit_code = 8


class Cancelled(LayersmithError):
    """Ctrl-C or SIGTERM."""

    exit_code = 130


@contextmanager
def located(span: Span | None) -> Iterator[None]:
    """Put ``span`` on a LayersmithError that leaves this block without one."""
    try:
        yield
    except LayersmithError as error:
        if error.span is None:
            error.span = span
        raise
