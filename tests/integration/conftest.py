"""The whole program from outside: a store for each test, and base images to build on."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Layersmith

APPLETS = [
    "[",
    "ash",
    "basename",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "dirname",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "grep",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mknod",
    "mv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "tar",
    "test",
    "touch",
    "tr",
    "true",
    "truncate",
    "uname",
    "wc",
    "xargs",
]

TOOLCHAIN = """\
FROM debian:bookworm AS tools
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the session's workers have in common."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared"
    directory.mkdir(exist_ok=True)
    return directory


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """``path``, made by the worker that comes first and waited for by the others."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f"{path.name}.unfinished")
            make(unfinished)
            unfinished.rename(path)
    return path


@pytest.fixture(scope="session")
def sandboxes() -> None:
    """Skips where the kernel lets this user have no namespaces."""
    flags = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    probe = shutil.which("unshare")
    if probe is None or subprocess.run([probe, *flags, "--mount", "--pid", "--fork", "true"]).returncode:
        pytest.skip("needs namespaces, which the kernel refuses here")


@pytest.fixture
def layersmith(sandboxes: None, tmp_path: Path) -> Layersmith:
    """The command with an empty store."""
    return Layersmith.at(tmp_path / "store", tmp_path / "home")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An empty directory for a Buildfile and its files."""
    directory = tmp_path / "context"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def busybox_tar(shared: Path) -> Path | None:
    """A root file system of one static program; None where this machine has no such busybox."""
    found = shutil.which("busybox")
    program = Path(found).read_bytes() if found else b"ld-linux"
    if b"ld-linux" in program[:4096]:
        return None

    def make(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
                add(archive, name, tarfile.DIRTYPE, mode=mode)
            add(archive, "bin/busybox", data=program, mode=0o755)
            for name in APPLETS:
                add(archive, f"bin/{name}", tarfile.SYMTYPE, linkname="busybox")
            add(archive, "etc/passwd", data=b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
            add(archive, "etc/group", data=b"root:x:0:\nuser:x:1000:\n")

    return once(shared / "busybox.tar", make)


def add(
    archive: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, *, data: bytes = b"", **fields: object
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime = kind, 0o644, len(data), 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="session")
def import_base(busybox_tar: Path | None) -> Callable[[Layersmith], None]:
    """Puts the image ``base``, small and with a shell, into a store; its digest is the same in every store."""

    def run(layersmith: Layersmith) -> None:
        if busybox_tar is not None:
            layersmith("import", busybox_tar, "base", "--source-date-epoch", "0")
        else:
            programs = [name for name in APPLETS if shutil.which(name)]
            layersmith("import", "--host", *programs, "base", "--source-date-epoch", "0")

    return run


@pytest.fixture
def base(layersmith: Layersmith, import_base: Callable[[Layersmith], None]) -> str:
    """The image ``base`` in the test's store."""
    import_base(layersmith)
    return "base"


@pytest.fixture(scope="session")
def debian(sandboxes: None, shared: Path) -> Layersmith:
    """A store with ``debian:bookworm``, piped from mmdebstrap; one for the whole session, as it takes a while."""
    layersmith = Layersmith.at(shared / "debian", shared / "home")

    def make(store: Path) -> None:
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", "-", *debian_mirrors()]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as mmdebstrap:
            layersmith.with_store(store)(
                "import", "-", "debian:bookworm", stdin=mmdebstrap.stdout, timeout=600
            )
        assert mmdebstrap.returncode == 0

    once(layersmith.root, make)
    return layersmith


def debian_mirrors() -> list[str]:
    """Lines of a sources.list, of this machine's own apt; none (mmdebstrap's defaults) where it knows no bookworm."""
    targets = ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(CODENAME) $(COMPONENT)"]
    done = subprocess.run(
        [*targets, "Created-By: Packages", "Origin: Debian"], capture_output=True, text=True
    )
    lines = sorted(set(done.stdout.splitlines()))
    return lines if any(" bookworm " in line for line in lines) else []


@pytest.fixture(scope="session")
def toolchain() -> str:
    """A Buildfile's first stage, ``tools``: Debian with a C compiler and Python, by apt-get."""
    return TOOLCHAIN


@pytest.fixture(scope="session")
def tools(debian: Layersmith, toolchain: str, tmp_path_factory: pytest.TempPathFactory) -> Layersmith:
    """The Debian store, with the bases that the READMEs have mmdebstrap make."""
    context = tmp_path_factory.mktemp("tools")
    (context / "Buildfile").write_text(toolchain)
    debian("build", "-t", "debian:gcc", "-t", "debian:python", context, timeout=600)
    return debian
