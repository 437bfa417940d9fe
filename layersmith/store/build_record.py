"""`Build`: the record of a build as a value, with its `BuildStep`s and the `Cause`s for which they ran. In: JSON. Out: JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layersmith.dataclass import dataclass
from layersmith.errors import NotFoundError

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Layer

VERSION = 1


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why a step ran: ``subject`` of ``kind`` was ``old`` and is ``new`` (either may be empty).

    Kinds: ``file`` (a path in ``of``), ``env``, ``command``, ``mount``, ``option`` (another field of the
    instruction), ``parent``, ``input`` (another step's files), ``base``, ``epoch``, ``flag``, ``evicted``, ``new``.
    ``of`` is where a file lies (``context``, ``stage build``); ``step`` the number of the parent or input.
    """

    kind: str
    subject: str = ""
    old: str = ""
    new: str = ""
    of: str = ""
    step: int | None = None

    def to_json(self) -> dict[str, Any]:
        fields = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in fields if value not in ("", None)}

    def text(self) -> str:
        """In a line, for a person."""
        from layersmith.store.causes import cause_text

        return cause_text(self)


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A step of a build.

    ``number`` is its index in the plan, the ``#N`` of plain progress. ``outcome`` is one of

    - ``base``: FROM; there was nothing to do
    - ``hit``: the cache had its layer
    - ``ran``
    - ``failed``
    - ``cancelled``: it was stopped, because another failed or somebody asked
    - ``skipped``: it was never begun
    - ``waiting``, ``running``: only in the record of a build that goes on, or was killed

    Times are in seconds since the epoch, None for what did not happen; packing goes on while the next steps run.
    ``worker`` numbers the threads that run steps. ``parts`` is what went into ``key`` (`solve.keys.KeyParts`).
    """

    number: int
    name: str
    """As progress shows it: ``[build 2/5] RUN make``."""
    instruction: str
    stage: str = ""
    platform: str = ""
    source: str = ""
    """``Buildfile:12``."""
    line: int = 0
    needs: tuple[int, ...] = ()
    """The numbers of the steps whose files it stands on (the first) or reads."""
    below: str = ""
    """The name of the step that it stands on."""
    arguments: tuple[str, ...] = ()
    """Which of its environment's variables are from ARG."""
    outcome: str = "waiting"
    key: str = ""
    parts: dict[str, Any] | None = None
    why: tuple[Cause, ...] = ()
    """For a step that ran: against ``against``, the nearest earlier one."""
    against: str = ""
    """``BUILD/STEP``, or empty if there was none like it."""
    started: float | None = None
    finished: float | None = None
    worker: int | None = None
    pack_started: float | None = None
    pack_finished: float | None = None
    layer: Layer | None = None
    """The layer in the image; its descriptor's size is the compressed one."""
    diff_size: int | None = None
    """Bytes of the layer's tar, if it was packed here."""
    reused: bool = False
    """It ran and made what an earlier run had made, times aside: the layer is that one's."""
    error: str = ""
    log: bool = False
    """Whether it wrote anything: see `Builds.log`."""

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for name in self.__slots__:
            field = getattr(self, name)
            if field is not None and field != "" and field != () and field is not False:
                value[name] = field
        if self.why:
            value["why"] = [cause.to_json() for cause in self.why]
        if self.layer is not None:
            value["layer"] = {**self.layer.descriptor.to_json(), "diffID": self.layer.diff_id}
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> BuildStep:
        value = {name: value[name] for name in cls.__slots__ if name in value}
        if "layer" in value:
            value["layer"] = _layer(value["layer"])
        value["needs"] = tuple(value.get("needs", ()))
        value["arguments"] = tuple(value.get("arguments", ()))
        value["why"] = tuple(Cause(**cause) for cause in value.get("why", ()))
        return cls(**value)

    @property
    def file(self) -> str:
        """The name of the file that the step is written in, as errors show it; empty if it is in none."""
        return self.source.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class Moved:
    """A blob or file, and its ``direction``: ``pull``, ``unpack`` or ``push``; bytes, and when, in seconds since the epoch."""

    direction: str
    what: str
    size: int
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class Build:
    """A build: what it was asked, what came of it, and its steps.

    ``result`` is ``running``, ``done``, ``failed``, ``cancelled``, or ``killed``: it went before it could say how.
    """

    id: str
    started: float
    names: tuple[str, ...] = ()
    buildfile: str = ""
    """The Buildfile's path as messages show it."""
    text_digest: str = ""
    context: str = ""
    """The main context's directory, an absolute path."""
    target: str = ""
    platforms: tuple[str, ...] = ()
    bases: tuple[tuple[str, str], ...] = ()
    """(name as FROM has it, ChainID of its layers), each once."""
    jobs: int = 0
    epoch: int | None = None
    finished: float | None = None
    result: str = "running"
    image: str = ""
    """Digest of the image's manifest or index, if one was made."""
    error: str = ""
    warnings: tuple[str, ...] = ()
    steps: tuple[BuildStep, ...] = ()
    moved: tuple[Moved, ...] = ()
    """What was pulled and unpacked for the steps, and pushed after them, by a later ``push``, too."""

    def step(self, number: int) -> BuildStep:
        """Raises NotFoundError."""
        for step in self.steps:
            if step.number == number:
                return step
        raise NotFoundError(
            f"build {self.id} has no step {number}", hint=f"`layersmith builds inspect {self.id}` lists them"
        )

    def to_json(self) -> dict[str, Any]:
        value = {name: getattr(self, name) for name in self.__slots__}
        value = {name: field for name, field in value.items() if field not in ("", (), None)}
        if self.moved:
            value["moved"] = [[getattr(move, name) for name in Moved.__slots__] for move in self.moved]
        return {"version": VERSION, **value, "steps": [step.to_json() for step in self.steps]}

    @classmethod
    def parse(cls, data: bytes) -> Build:
        """A record as it is kept. Raises ValueError on what is none."""
        import json

        try:
            return cls.from_json(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Build:
        """Members that it does not know are left out. Raises KeyError, TypeError, ValueError on what is no record."""
        known = {name: value[name] for name in cls.__slots__ if name in value}
        for name in ("names", "platforms", "warnings"):
            known[name] = tuple(known.get(name, ()))
        known["bases"] = tuple((name, digest) for name, digest in known.get("bases", ()))
        known["moved"] = tuple(Moved(*move) for move in known.get("moved", ()))
        known["steps"] = tuple(BuildStep.from_json(step) for step in known.get("steps", ()))
        return cls(**known)


def _layer(value: dict[str, Any]) -> Layer:
    from layersmith.oci.descriptor import Descriptor, Layer
    from layersmith.oci.digest import DiffID

    return Layer(Descriptor.from_json(value), DiffID(value["diffID"]))
