"""SOLVE: why a step ran. In: its record, and those of earlier builds. Out: `Explained`, the causes and against what.

The nearest earlier step is the one with the fewest differences among the recent builds, of several the newest. What
can be compared are the same operation, the same instruction (its environment may differ), or an edited one in the
same stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from layersmith import ops
from layersmith.dataclass import dataclass
from layersmith.solve.differences import op_causes
from layersmith.solve.history import History, comparable
from layersmith.store.build_record import Build, BuildStep, Cause

if TYPE_CHECKING:
    from layersmith.solve.step import StepState

Listing = Callable[[str], "dict[str, str] | None"]
"""What COPY found in its sources, by the digest of all of it: fingerprints by path. None if that is not known."""

LIKE = 0.5
"""How alike two instructions must be to be taken for one that was edited (`difflib.SequenceMatcher.ratio`)."""
LOOKED_AT = 8
"""How many builds in which the step is found are compared."""
MOST_FILES = 50


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a step ran: `Cause`s, against the step ``BUILD/NUMBER`` (empty: there was none like it)."""

    causes: tuple[Cause, ...]
    against: str = ""


def parts_of(state: StepState, *, complete: bool) -> dict[str, Any]:
    """What goes into the step's key, as a record has it; unless ``complete`` only what is known without waiting."""
    inputs: dict[str, str] = {}
    known = vars(state)
    parts: dict[str, Any] = {
        "op": ops.digest(state.op),
        "identity": ops.to_json(state.op, identity=True),
        "epoch": state.epoch,
        "inputs": inputs,
    }
    if complete or "exact_key" in known:
        parts["parent"] = state.exact_key.parent
        parts["key"] = state.exact_key.key()
        inputs.update(state.exact_key.inputs)
    if "content" in known:
        inputs.update(state.content)
    if state.linked and (complete or "facts" in known):
        parts["facts"] = state.facts
    return parts


def explain(
    step: BuildStep, build: Build, history: History, *, listing: Listing, flag: str = ""
) -> Explained:
    """Why ``step`` of ``build`` ran. ``history`` are the builds before it; ``flag`` made it run."""
    parts = step.parts or {}
    same = None
    if parts.get("parent"):
        same = next((found for found in history.steps_of(parts["op"]) if _is_same(found[1], parts)), None)
    if flag:
        return Explained((Cause("flag", flag),), "" if same is None else _name(same))
    if same is not None:
        return Explained((Cause("evicted"),), _name(same))
    best: tuple[int, Explained] | None = None
    looked_at = 0
    for earlier in history.nearest_first(build):
        found = _counterpart(step, earlier)
        if found is None:
            continue
        causes = tuple(causes_between(found, step, listing=listing))
        if causes and (best is None or len(causes) < best[0]):
            best = len(causes), Explained(causes, f"{earlier.id}/{found.number}")
        if best is not None and best[0] == 1:
            break  # none can be nearer, and of those as near the newest counts
        looked_at += 1
        if looked_at == LOOKED_AT:
            break
    return Explained((Cause("new"),)) if best is None else best[1]


def _name(found: tuple[Build, BuildStep]) -> str:
    return f"{found[0].id}/{found[1].number}"


def _is_same(step: BuildStep, parts: dict[str, Any]) -> bool:
    """Whether nothing that is known of both differs: its record must have gone."""
    theirs = step.parts or {}
    if theirs.get("op") != parts["op"] or theirs.get("epoch") != parts.get("epoch"):
        return False
    if theirs.get("parent") != parts["parent"]:
        return False
    return not _different(theirs.get("inputs", {}), parts["inputs"])


def _different(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """The names of the inputs whose content differs.

    Where the content of another step's files is known of both, it counts and not how they came about (``from N``).
    """
    shared = [name for name in new if name in old]
    contents = [name for name in shared if not name.startswith("from ")]
    if contents and len(contents) == sum(not name.startswith("from ") for name in new):
        shared = contents
    return [name for name in shared if old[name] != new[name]]


def _counterpart(step: BuildStep, earlier: Build) -> BuildStep | None:
    """The step of an earlier build that ``step`` is to be compared with."""
    parts = step.parts or {}
    kind = parts["identity"]["type"]
    candidates = [one for one in comparable(earlier) if (one.parts or {})["identity"]["type"] == kind]
    alike = [
        (same_op, one.stage == step.stage, one)
        for one in candidates
        if (same_op := (one.parts or {})["op"] == parts["op"]) or one.instruction == step.instruction
    ]
    if alike:
        return max(alike, key=lambda found: found[:2])[2]
    import difflib

    best, most = None, LIKE
    for one in candidates:
        if one.stage == step.stage:
            ratio = difflib.SequenceMatcher(None, one.instruction, step.instruction).ratio()
            if ratio > most:
                best, most = one, ratio
    return best


def causes_between(old: BuildStep, new: BuildStep, *, listing: Listing) -> Iterator[Cause]:
    """What differs between two steps."""
    theirs, ours = old.parts or {}, new.parts or {}
    if theirs["op"] != ours["op"]:
        yield from op_causes(theirs["identity"], ours["identity"], {*old.arguments, *new.arguments})
    if theirs.get("epoch") != ours.get("epoch"):
        yield Cause("epoch", "SOURCE_DATE_EPOCH", _text(theirs.get("epoch")), _text(ours.get("epoch")))
    for name in _different(theirs.get("inputs", {}), ours["inputs"]):
        yield from _input_causes(name, theirs["inputs"][name], new, listing)
    if ours.get("parent") and theirs.get("parent") != ours["parent"]:
        yield from _parent_causes(old, new)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _parent_causes(old: BuildStep, new: BuildStep) -> Iterator[Cause]:
    theirs, ours = old.parts or {}, new.parts or {}
    if "facts" in ours and "facts" in theirs:
        # --link: nothing else of the files below counts.
        if theirs["facts"] != ours["facts"]:
            yield Cause("option", "the destination", theirs["facts"], ours["facts"])
        return
    kind, subject = "parent", new.below
    if subject.startswith("FROM "):
        kind, subject = "base", subject.removeprefix("FROM ")
    yield Cause(kind, subject, theirs.get("parent", ""), ours["parent"], step=new.needs[0])


def _input_causes(name: str, old: str, new: BuildStep, listing: Listing) -> Iterator[Cause]:
    digest = (new.parts or {})["inputs"][name]
    if name.startswith("from "):
        step = new.needs[1 + int(name.removeprefix("from "))]
        yield Cause("input", "", old, digest, step=step)
        return
    of = name.removeprefix("mount ") if name.startswith("mount ") else _source(new)
    before, after = listing(old), listing(digest)
    if before is None or after is None:
        yield Cause("file", "", old, digest, of=of)
        return
    changed = sorted(
        path for path in before.keys() | after.keys() if not _alike(before.get(path, ""), after.get(path, ""))
    )
    for path in changed[:MOST_FILES]:
        yield Cause("file", path, before.get(path, ""), after.get(path, ""), of=of)
    if len(changed) > MOST_FILES:
        yield Cause("file", "", new=f"{len(changed) - MOST_FILES} more files", of=of)
    if not changed and before == after:
        yield Cause("file", "", old, digest, of=of)  # the same files, but in another order of sources


def _alike(old: str, new: str) -> bool:
    """Whether two fingerprints are the same but for an owner or a mode that a flag overrides in one of them (``-``)."""
    words = old.split(" "), new.split(" ")
    return len(words[0]) == len(words[1]) and all(
        a == b or (at in (1, 2) and "-" in (a, b)) for at, (a, b) in enumerate(zip(*words, strict=True))
    )


def _source(step: BuildStep) -> str:
    """Where a COPY's files come from, as a person calls it."""
    for source in (step.parts or {})["identity"].get("sources", ()):
        given = source.get("input")
        if given is not None and given["type"] == "ContextInput":
            return "the context" if given["name"] == "main" else f"the context {given['name']}"
        if given is not None:
            return "another stage"
    return ""
