"""Base images that are unpacked while they arrive: those that commands run on, by a glance at the Buildfile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from layersmith.cli.unpacking import for_build, into, run_on
from layersmith.errors import NotFoundError, SandboxError
from layersmith.linux.userns import Isolation
from layersmith.store import Store


@pytest.mark.parametrize(
    ("text", "images"),
    [
        (b"FROM a\nCOPY x /\n", set()),
        (b"FROM a\nRUN x\n", {b"a"}),
        (b"from --platform=linux/amd64 a AS b\n  run x\nFROM c\nCOPY --from=b /x /\n", {b"a"}),
        (b"FROM a AS b\nFROM B as d\nFROM d\nRUN x\nFROM e\n", {b"a"}),
        (b"FROM a\nONBUILD RUN x\nFROM $b\nRUN y\n", {b"a", b"$b"}),
        (b"FROM a\nRUNNER x\nCMD RUN\n", set()),
        (b"\xff\x00FROM\nRUN \xff", {b""}),
    ],
)
def test_images_that_commands_run_on(text: bytes, images: set[bytes]) -> None:
    """Stages that build on others count for the image at the bottom; what is no Buildfile does no harm."""
    assert run_on(text) == images


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def isolation(*, single_id: bool = False) -> Isolation:
    return Isolation(rootless=single_id, single_id=single_id, userxattr=False, uids=1, gids=1)


def test_isolation_is_for_those_who_need_it(store: Store) -> None:
    """No sandbox is made for an image that is only copied from, nor missed where the kernel refuses one."""
    asked = []

    def isolate():  # type: ignore[no-untyped-def]
        asked.append(1)
        raise SandboxError("refused")

    unpacking = for_build(b"FROM a\nRUN x\nFROM b\n", isolate)
    assert unpacking(store, "b") is None and not asked
    assert unpacking(store, "a") is None and asked
    assert for_build(b"FROM $x\nRUN y\n", lambda: (isolation(), None))(store, "any") is not None  # type: ignore[arg-type,return-value]
    alone = for_build(b"FROM a\nRUN x\n", lambda: (isolation(single_id=True), None))  # type: ignore[arg-type,return-value]
    assert alone(store, "a") is None, "its owners can't be set, which a step says better"


def test_a_layer_that_needs_another_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies below may not have arrived yet; then the layer is unpacked when it is mounted."""
    from layersmith.layer import unpack

    def missing(*_: object, **__: object) -> None:
        raise NotFoundError("a blob below is not here yet")

    monkeypatch.setattr(unpack, "unpack", missing)
    into(isolation())(store, "a")(None, ())  # type: ignore[arg-type]
