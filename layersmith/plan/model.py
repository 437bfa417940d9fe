"""What planning takes and gives: `PlanOptions` in, `Plan` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from layersmith import ops
from layersmith.dataclass import dataclass, field
from layersmith.image import Image
from layersmith.oci.config import ImageConfig
from layersmith.oci.platform import Platform, native
from layersmith.source import Span


class Bases(Protocol):
    """Where FROM and ``--from`` find what is not a stage. The fake of the tests answers from a dict."""

    def image(self, name: str, platform: Platform) -> Image:
        """The image ``name`` for ``platform``, fetched if need be (NotFoundError, TransportError)."""

    def context(self, name: str, platform: Platform) -> Image | ops.ContextInput | None:
        """What ``--build-context NAME=…`` gives for ``name``: an image, a local directory, or None."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The build's command line, as far as it changes what is built."""

    target: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()
    platform: Platform = field(default_factory=native)
    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()
    privileges: ops.Privileges = ops.DEFAULT_PRIVILEGES
    hostname: str = ""
    insecure: bool = False
    """``--allow security.insecure`` was given."""
    no_cache_stages: tuple[str, ...] = ()
    """Stages whose steps run again (``--no-cache-filter``)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One op on top of another step's files; the plan's unit of caching and of a layer.

    ``parent`` and `inputs` are indexes into ``Plan.steps``, always smaller than the step's own.
    """

    op: ops.Op
    parent: int | None
    name: str = field(compare=False)
    """As progress shows it: ``[build 2/5] RUN make``."""
    created_by: str = field(default="", compare=False)
    stage: str = field(default="", compare=False)
    platform: Platform | None = field(default=None, compare=False)
    """Its stage's; which files a command finds is the parent's affair, so it is no part of the step's identity."""
    span: Span | None = field(default=None, compare=False)
    no_cache: bool = False
    arguments: tuple[str, ...] = field(default=(), compare=False)
    """Which variables of its environment are from ARG."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """The steps whose files the op reads, besides the parent's."""
        return tuple(i.step for i in ops.inputs(self.op) if isinstance(i, ops.StepInput))

    @property
    def needs(self) -> tuple[int, ...]:
        """All steps that must be done before this one."""
        return self.inputs if self.parent is None else (self.parent, *self.inputs)


@dataclass(frozen=True, slots=True)
class PlanHistory:
    """A line of the image's history: the step that makes its layer (None: config only), and its text."""

    step: int | None
    created_by: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in an order in which they could run, and the image that they end in at ``final``.

    Plans for several platforms share their steps and images; see `planner.plan_platforms`.
    ``config`` is complete but for ``created``, ``history`` and ``diff_ids``, which come with the layers;
    ``base`` is the image below ``history``; ``warnings`` are for a person to read.
    """

    steps: tuple[Step, ...]
    final: int
    config: ImageConfig
    history: tuple[PlanHistory, ...]
    images: Mapping[int, Image]
    """The base image of each step that has a SourceOp."""
    base: Image
    warnings: tuple[str, ...] = ()
