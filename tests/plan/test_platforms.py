"""Planning for several platforms: one DAG, in which what does not depend on the platform is there once."""

from __future__ import annotations

from layersmith import ops
from layersmith.buildfile.parser import parse
from layersmith.image import SCRATCH, Image
from layersmith.oci.config import History
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.mediatype import OCI_LAYER
from layersmith.oci.platform import Platform
from layersmith.plan import Plan, PlanOptions, plan_platforms

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


class BasesOfEachPlatform:
    """Every name is an image of one layer, another one for each platform."""

    def image(self, name: str, platform: Platform) -> Image:
        digest = digest_of(str(platform).encode())
        layer = Layer(Descriptor(OCI_LAYER, digest, 1), DiffID(digest))
        return SCRATCH(platform).append(layer, History())

    def context(self, name: str, platform: Platform) -> Image | ops.ContextInput | None:
        return None


def planned(text: str) -> tuple[Plan, ...]:
    return plan_platforms(parse(text), PlanOptions(), (AMD64, ARM64), BasesOfEachPlatform())


def commands(plan: Plan) -> list[str]:
    return [step.op.process.args[-1] for step in plan.steps if isinstance(step.op, ops.ExecOp)]


def test_all_plans_hold_the_same_steps_and_end_in_their_own() -> None:
    """So one solver does the work of all of them."""
    first, second = planned("FROM base\nARG TARGETARCH\nRUN one\n")
    assert first.steps == second.steps
    assert commands(first) == ["one", "one"]
    assert first.final != second.final
    envs = [dict(step.op.process.env) for step in first.steps if isinstance(step.op, ops.ExecOp)]
    assert [env["TARGETARCH"] for env in envs] == ["amd64", "arm64"]
    assert [plan.config.platform for plan in (first, second)] == [AMD64, ARM64]


def test_what_does_not_depend_on_the_platform_is_planned_once() -> None:
    """A stage on the build platform runs twice only from where it asks for the target."""
    first, _ = planned(
        "FROM --platform=linux/amd64 tools AS build\nRUN prepare\nARG TARGETARCH\nRUN compile\n"
        "FROM base\nCOPY --from=build /out /\n"
    )
    assert commands(first) == ["prepare", "compile", "compile"]


def test_steps_are_called_by_their_platform_and_counted_within_it() -> None:
    """As BuildKit shows them; with a single platform there is no need to."""
    first, _ = planned(
        "FROM --platform=linux/amd64 a AS tools\nRUN x\nFROM b\nRUN y\nCOPY --from=tools / /\n"
    )
    assert sorted(step.name for step in first.steps if step.created_by) == [
        "[linux/amd64 stage-1 1/2] RUN y",
        "[linux/amd64 stage-1 2/2] COPY --from=tools / /",
        "[linux/amd64 tools 1/1] RUN x",
        "[linux/arm64 stage-1 1/2] RUN y",
        "[linux/arm64 stage-1 2/2] COPY --from=tools / /",
    ]
    (alone,) = plan_platforms(parse("FROM b AS b\nRUN y\n"), PlanOptions(), (ARM64,), BasesOfEachPlatform())
    assert [step.name for step in alone.steps if step.created_by] == ["[b 1/1] RUN y"]
