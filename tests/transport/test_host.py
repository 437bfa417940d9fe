"""import --host: the image has what its programs need, they run in it, and it is the same every time."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layersmith.errors import NotFoundError, UsageError
from layersmith.image import Image
from layersmith.layer.entry import DIR, SYM
from layersmith.layer.view import View
from layersmith.oci.validate import validate_image
from layersmith.store import Store
from layersmith.transport import ImportOptions, import_host, parse_output, save

EPOCH = 1_700_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as opened:
        yield opened


def exported(store: Store, programs: list[str], into: Path) -> Path:
    descriptor = import_host(store, programs, ImportOptions(epoch=EPOCH))
    assert validate_image(store.blobs.read, descriptor) == []
    save(store, descriptor, parse_output(f"type=local,dest={into}"))
    return into


def test_the_same_programs_give_the_same_image(store: Store, tmp_path: Path) -> None:
    """Two stores, two runs, one digest."""
    options = ImportOptions(epoch=EPOCH)
    with Store.open(tmp_path / "other") as other:
        assert import_host(store, ["sh", "ls"], options) == import_host(other, ["sh", "ls"], options)


def test_the_image_is_ready_to_run(store: Store) -> None:
    """PATH and command are set; users, /tmp and mount points are there; symlinks resolve inside it."""
    image = Image.read(store, import_host(store, ["sh", "cat"], ImportOptions(epoch=EPOCH)))
    assert image.config.cmd is not None and image.config.cmd[0].endswith("/sh")
    assert "/usr/bin" in dict(pair.split("=", 1) for pair in image.config.env)["PATH"].split(":")
    with View(store, image.layers) as view:
        tmp = view.lookup(b"tmp")
        assert tmp is not None and (tmp.kind, tmp.mode) == (DIR, 0o1777)
        assert b"root:x:0:0" in view.read(b"etc/passwd")
        assert view.lookup(view.resolve(b"/bin/sh")) is not None
        assert view.lookup(view.resolve(b"/usr/bin/cat")) is not None
        for entry in view.walk():
            assert (entry.uid, entry.gid) == (0, 0)
            if entry.kind == SYM:
                assert view.lookup(view.resolve(entry.path)) is not None, entry


@pytest.mark.root
@pytest.mark.parametrize("program", ["sh", "ls", "cat", "sed", "env"])
def test_programs_run_in_it(store: Store, tmp_path: Path, program: str) -> None:
    """Nothing that a program needs is missing: it starts, chrooted into the image's files."""
    root = exported(store, ["sh", program], tmp_path / "files")
    result = subprocess.run(
        ["chroot", root, "/bin/sh", "-c", f"{program} --version >/dev/null 2>&1; echo $?"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert result.stdout.strip() not in ("126", "127", ""), result.stderr


@pytest.mark.root
def test_scripts_come_with_their_interpreters(store: Store, tmp_path: Path) -> None:
    """#! lines are followed, through env too; a program outside of PATH gets a link into it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, line in (("direct", f"#!{os.path.realpath('/bin/sh')} -e"), ("indirect", "#!/usr/bin/env sh")):
        (tools / name).write_text(f"{line}\necho {name}\n")
        (tools / name).chmod(0o755)
    root = exported(store, [str(tools / "direct"), str(tools / "indirect")], tmp_path / "files")
    for name in ("direct", "indirect"):
        result = subprocess.run(["chroot", root, f"/usr/bin/{name}"], capture_output=True, text=True)
        assert result.stdout == f"{name}\n", result.stderr


def test_a_directory_comes_whole(store: Store, tmp_path: Path) -> None:
    """All files below it, links as they are, and what its programs need."""
    top = tmp_path / "app"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "data").write_text("x")
    (top / "link").symlink_to("sub/data")
    shutil.copy(shutil.which("cat") or "", top / "sub" / "tool")
    image = Image.read(store, import_host(store, [str(top)], ImportOptions(epoch=EPOCH)))
    assert image.config.cmd is None
    with View(store, image.layers) as view:
        inside = os.fsencode(top).lstrip(b"/")
        assert view.read(inside + b"/link") == b"x"
        assert view.lookup(view.resolve(b"/lib64")) or view.lookup(view.resolve(b"/lib")), (
            "the loader of tool"
        )


def test_setuid_bits_stay_behind(store: Store, tmp_path: Path) -> None:
    """A setuid program of the host is an ordinary one in the image."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o4755)
    image = Image.read(store, import_host(store, [str(tool)], ImportOptions(epoch=EPOCH)))
    with View(store, image.layers) as view:
        entry = view.lookup(os.fsencode(tool).lstrip(b"/"))
        assert entry is not None and entry.mode == 0o755


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    """A program or the interpreter behind env that is missing; and no program at all."""
    with pytest.raises(NotFoundError, match="no-such-program"):
        import_host(store, ["no-such-program"])
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/env no-such-interpreter\n")
    with pytest.raises(NotFoundError, match="no-such-interpreter"):
        import_host(store, [str(script)])
    with pytest.raises(UsageError):
        import_host(store, [])
