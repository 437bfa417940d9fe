"""`layersmith.dataclass` behaves as the standard library's."""

from __future__ import annotations

import dataclasses
import pickle
from typing import ClassVar

import pytest

from layersmith import dataclass as ours


def family(library):  # type: ignore[no-untyped-def]
    """The same classes, made by ``library``."""

    @library.dataclass(frozen=True, slots=True)
    class Base:
        """A base."""

        kind: ClassVar[str] = "base"
        a: int
        note: str = library.field(default="", compare=False, repr=False, kw_only=True)

    @library.dataclass(frozen=True, slots=True)
    class Derived(Base):
        """With more."""

        b: tuple[int, ...] = ()
        c: dict[str, int] = library.field(default_factory=dict, compare=False)

        def total(self) -> int:
            """Of all numbers."""
            return self.a + sum(self.b)

    @library.dataclass(slots=True)
    class Mutable:
        """Counts."""

        count: int = 0
        inner: object = None

    @library.dataclass(frozen=True, slots=True, eq=False)
    class Unequal:
        """Compared by identity."""

        a: int

    @library.dataclass(frozen=True)
    class Open:
        """Has a __dict__."""

        a: int = 3

    return Base, Derived, Mutable, Unequal, Open


@ours.dataclass(frozen=True, slots=True)
class Pickled:
    """Pickle finds classes by name."""

    a: int
    b: str = "x"


def behaviour(library) -> list[object]:  # type: ignore[no-untyped-def]
    base, derived, mutable, unequal, opened = family(library)
    one, other = derived(1, (2, 3), note="n"), derived(1, b=(2, 3), c={"x": 1})
    counted = mutable(inner=[one])
    counted.count += 1
    return [
        repr(one).partition(".")[2],
        repr(base(4, note="hidden")),
        one == other,
        hash(one) == hash(other),
        one == base(1),
        one.total(),
        one.note,
        other.c,
        derived(1).c is derived(1).c,
        [field.name for field in library.fields(derived)],
        library.replace(one, a=9, c={}).total(),
        library.asdict(counted)["inner"],
        counted == mutable(1, [one]),
        mutable.__hash__,
        unequal(1) == unequal(1),
        base.__match_args__,
        derived.__match_args__,
        hasattr(one, "__dict__"),
        opened().a,
        vars(opened(5)),
        opened.a,
        library.is_dataclass(one),
        library.is_dataclass(3),
        derived.__doc__,
        base.kind,
    ]


def test_behaves_as_the_standard_librarys() -> None:
    """Equality, hash, repr, defaults, inheritance, slots, replace, fields and asdict are the same."""
    for mine, theirs in zip(behaviour(ours), behaviour(dataclasses), strict=True):
        assert repr(mine).replace("behaviour", "") == repr(theirs).replace("behaviour", "")


@pytest.mark.parametrize("library", [ours, dataclasses])
def test_refuses_what_the_standard_library_refuses(library) -> None:  # type: ignore[no-untyped-def]
    """No assignment to a frozen instance, no unknown or missing argument, no hash of a mutable one."""
    base, derived, mutable, _, _ = family(library)
    with pytest.raises(AttributeError, match="cannot assign to field 'a'"):
        base(1).a = 2
    with pytest.raises(AttributeError, match="cannot delete field 'a'"):
        del base(1).a
    for wrong in ({}, {"a": 1, "d": 2}):
        with pytest.raises(TypeError):
            derived(**wrong)
    with pytest.raises(TypeError):
        base(1, "note is named")
    with pytest.raises(TypeError):
        library.replace(base(1), unknown=1)
    with pytest.raises(TypeError):
        hash(mutable())


def test_pickles() -> None:
    """An instance goes to another process and comes back equal."""
    assert pickle.loads(pickle.dumps(Pickled(3))) == Pickled(3)
