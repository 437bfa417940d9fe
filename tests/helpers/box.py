"""``layersmith`` as root, as an ordinary user with and without subordinate ids, and with an OCI runtime: a `Box`."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard
from unfinished import unfinished

PROJECT = Path(__file__).parents[2]
NOBODY = 65534
BUSYBOX = shutil.which("busybox")
MODES = ("root", "rootless", "single", "crun", "runc")


def options_for(mode: str) -> dict[str, Any]:
    """What makes subprocess run as the user that ``mode`` means; skips where there is none."""
    if mode in ("root", "crun", "runc"):
        if os.geteuid():
            pytest.skip("needs root: real mounts, device nodes and owners")
        if mode != "root" and not shutil.which(mode):
            pytest.skip(f"needs {mode}, which is not installed")
        return {}
    if mode == "single":
        if os.geteuid():
            pytest.skip("needs root to become a user without subordinate ids")
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    uid = user_with_ranges()
    if uid is None or shutil.which("newuidmap") is None:
        pytest.skip("needs a user with ranges in /etc/subuid, and newuidmap")
    return {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}


def user_with_ranges() -> int | None:
    try:
        names = [line.split(":")[0] for line in Path("/etc/subuid").read_text().splitlines()]
    except OSError:
        return None
    if os.geteuid():
        return os.geteuid() if pwd.getpwuid(os.geteuid()).pw_name in names else None
    for name in names:
        with contextlib.suppress(KeyError):
            if pwd.getpwnam(name).pw_uid:
                return pwd.getpwnam(name).pw_uid
    return None


def interpreter(options: dict[str, Any], env: dict[str, str]) -> str:
    """A Python that the user can execute, with what this one has: not one below root's home, say."""
    check = "import sys, zstandard, layersmith; assert sys.version_info >= (3, 11)"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            if not subprocess.run(
                [candidate, "-c", check], capture_output=True, env=env, cwd="/", **options
            ).returncode:
                return candidate
    pytest.skip("the user who is to be tested can't execute any Python 3.11 with this package")


@dataclass
class Box:
    """`layersmith` as one user, with a store that holds the image ``busybox``."""

    mode: str
    home: Path
    python: str
    env: dict[str, str]
    options: dict[str, Any] = field(repr=False)

    def argv(self, *words: str) -> list[str]:
        if words[0] in ("run", "build") and self.mode in ("crun", "runc"):
            words = (words[0], f"--isolation=oci:{self.mode}", *words[1:])
        return [self.python, "-m", "layersmith", *words]

    def popen(self, *words: str, **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.argv(*words), env=self.env, cwd=self.home, **self.options, **more)

    def raw(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            timeout=60,
            env=self.env,
            cwd=self.home,
            **self.options,
        )

    def __call__(self, *words: str, stdin: bytes = b"", status: int = 0) -> str:
        """Its standard output; the test fails unless it ends with ``status``."""
        done = self.raw(*words, stdin=stdin)
        assert done.returncode == status, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()

    def error(self, *words: str, status: int, stdin: bytes = b"") -> str:
        """Its standard error where it has to fail; never a traceback."""
        done = self.raw(*words, stdin=stdin)
        text = done.stderr.decode()
        assert done.returncode == status, text
        assert "Traceback" not in text
        return text

    def own(self, path: Path) -> Path:
        """Give ``path`` to the user."""
        if "user" in self.options:
            os.chown(path, self.options["user"], self.options["group"])
        return path

    @property
    def root(self) -> Path:
        return self.home / "store"


def busybox_tar() -> bytes:
    """A root file system of nothing but a static busybox, with a user who is not root."""
    assert BUSYBOX is not None
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, check=True).stdout.decode().split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, mode: int, data: bytes | None = None, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = mode, 1_700_000_000
            if data is not None:
                info.size = len(data)
            else:
                info.type = tarfile.SYMTYPE if link else tarfile.DIRTYPE
                info.linkname = link
            tar.addfile(info, None if data is None else io.BytesIO(data))

        for directory in ("bin", "etc", "root", "home", "home/app", "var"):
            add(directory, 0o755)
        add("tmp", 0o1777)
        add("bin/busybox", 0o755, Path(BUSYBOX).read_bytes())
        for applet in applets:
            if applet != "busybox":
                add(f"bin/{applet}", 0o777, link="busybox")
        add("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
        add("etc/group", 0o644, b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
        add("etc/motd", 0o644, b"hello from the image\n")
    return buffer.getvalue()


def make_box(mode: str) -> Box:
    options = options_for(mode)
    home = Path(tempfile.mkdtemp(prefix="layersmith-run-"))
    home.chmod(0o755)
    site = Path(zstandard.__file__).parents[1]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LAYERSMITH_ROOT": str(home / "store"),
        "PYTHONPATH": f"{PROJECT}:{site}",
        "PYTHONPYCACHEPREFIX": str(home / "pyc"),
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
    }
    box = Box(mode, home, interpreter(options, env), env, options)
    box.own(home)
    box("import", "-", "busybox", "-c", 'CMD ["sh"]', "-c", "ENV FROM=image", stdin=busybox_tar())
    return box


@contextlib.contextmanager
def boxed(mode: str) -> Iterator[Box]:
    box = make_box(mode)
    try:
        yield box
    finally:
        names = box("ps", "-aq").split()
        if names:
            box("rm", "-f", *names)
        # Files of subordinate ids are beyond the user's own reach.
        if box.options and "user" not in box.options:
            box.raw("prune", "-a")
        shutil.rmtree(box.home, ignore_errors=True)


def dead_groups() -> set[str]:
    """Control groups whose maker is gone."""
    while True:
        # A group that goes while the tree is read ends the reading: then begin again.
        with contextlib.suppress(FileNotFoundError):
            return {
                f"control group {path}"
                for path in Path("/sys/fs/cgroup").glob("**/layersmith/*.*.*")
                if path.is_dir() and not Path("/proc", path.name.partition(".")[0]).exists()
            }


def leftovers(box: Box, *, seconds: float = 5, known: Set[str] = frozenset()) -> list[str]:
    """What of ``box`` is still there: processes, mounts, control groups, files in tmp/ and containers/."""
    deadline = time.monotonic() + seconds
    while found := [what for what in _leftovers(box) if what not in known]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.05)
    return []


def _leftovers(box: Box) -> Iterator[str]:
    root = os.fsencode(box.root)
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if root in (path / "environ").read_bytes() and (path / "cmdline").read_bytes():
                yield f"process {path.name}: {(path / 'cmdline').read_bytes()!r}"
            elif root in (path / "mountinfo").read_bytes():
                yield f"process {path.name} with mounts: {(path / 'cmdline').read_bytes()!r}"
    if str(box.root) in Path("/proc/self/mountinfo").read_text():
        yield "a mount on the host"
    yield from dead_groups()
    yield from map(str, [*unfinished(box.root), *(box.root / "containers/names").glob("*")])
