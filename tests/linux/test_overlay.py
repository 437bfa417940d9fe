"""Overlays: as values, and as the kernel mounts them, by the new API and by the old."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layersmith.errors import SandboxError
from layersmith.linux.overlay import Overlay, open_overlay, refused

Command = Callable[..., dict[str, Any]]


def test_options_keep_the_upper_a_plain_diff() -> None:
    """No redirects, no metacopy, no index; whiteouts' namespace and syncing as asked for."""
    assert dict(Overlay(("/a",), "/u", "/w", userxattr=True).options()) == {
        "redirect_dir": "nofollow",
        "metacopy": "off",
        "index": "off",
        "userxattr": None,
        "volatile": None,
    }
    assert "volatile" not in dict(Overlay(("/a", "/b")).options())
    assert "volatile" not in dict(Overlay(("/a",), "/u", "/w", volatile=False).options())


def test_upper_and_work_come_together() -> None:
    """One without the other is a mistake of the caller."""
    with pytest.raises(ValueError, match="together"):
        open_overlay(Overlay(("/a",), "/u"))


@pytest.mark.parametrize(
    ("number", "lowers", "says"),
    [
        (22, 501, "at most 500 layers"),
        (19, 2, "modprobe overlay"),
        (1, 2, "Linux 5.11"),
        (40, 2, "used twice"),
    ],
)
def test_misleading_errors_are_translated(number: int, lowers: int, says: str) -> None:
    """The hint says what the errno means here."""
    error = refused(Overlay(("/a",) * lowers, "/u", "/w"), OSError(number, "text"))
    assert isinstance(error, SandboxError)
    assert says in error.hint


PROGRAM = """
import json, os, sys, tempfile, shutil
from pathlib import Path
from layersmith.linux import libc, overlay as module, userns
from layersmith.linux.overlay import Overlay, overlay

isolation = userns.enter()
if sys.argv[1] == "classic":
    def unsupported(*_):
        raise NotImplementedError
    module._by_fsconfig = unsupported
base = Path(tempfile.mkdtemp(prefix="ls-"))
found = {}

def stack(count, long=False):
    parent = base / str(len(found)) / ("x" * 100 + ("/" + "y" * 200 if long else "")) / str(count)
    for number in range(count):
        (parent / str(number)).mkdir(parents=True)
        (parent / str(number) / f"file{number}").touch()
        (parent / str(number) / "shared").write_text(str(number))
    return tuple(str(parent / str(number)) for number in range(count))

def look(name, lowers, writable):
    for part in ("upper,:", "work", "merged"):
        shutil.rmtree(base / part, ignore_errors=True)
        (base / part).mkdir()
    layers = Overlay(lowers, str(base / "upper,:"), str(base / "work"), userxattr=isolation.userxattr) if writable \\
        else Overlay(lowers, userxattr=isolation.userxattr)
    merged = base / "merged"
    with overlay(layers, str(merged)) as path:
        assert path == str(merged)
        names = sorted(os.listdir(merged))
        top = (merged / "shared").read_text() if (merged / "shared").exists() else None
        try:
            (merged / "new").write_text("x")
            if lowers:
                (merged / "shared").unlink()
            wrote = True
        except OSError as error:
            wrote = error.strerror
    upper = sorted(os.listdir(base / "upper,:"))
    found[name] = [len(names), top, wrote, upper, os.listdir(merged)]

look("none", (), False)
look("only upper", (), True)
look("one", stack(1), False)
look("one and upper", stack(1), True)
look("two", stack(2), False)
look("300", stack(300), True)
look("long", stack(3, long=True), True)
shutil.rmtree(base)
print(json.dumps(found))
"""


@pytest.mark.parametrize("api", ["new", "classic"])
@pytest.mark.parametrize("mode", ["root", "rootless"])
def test_every_kind_of_stack(linux_command: Command, mode: str, api: str) -> None:
    """0, 1, 2 and 300 lowers, with and without an upper, with paths too long for an option; gone afterwards."""
    done = subprocess.run(
        capture_output=True, text=True, timeout=60, **linux_command(mode, ["-c", PROGRAM, api])
    )
    assert done.stderr == ""
    readonly = "Read-only file system"
    assert json.loads(done.stdout) == {
        "none": [0, None, readonly, [], []],
        "only upper": [0, None, True, ["new"], []],
        "one": [2, "0", readonly, [], []],
        "one and upper": [2, "0", True, ["new", "shared"], []],
        "two": [3, "0", readonly, [], []],
        "300": [301, "0", True, ["new", "shared"], []],
        "long": [4, "0", True, ["new", "shared"], []],
    }
    assert "ls-" not in Path("/proc/self/mounts").read_text()
