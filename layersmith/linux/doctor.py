"""Whether this machine can do what layersmith needs. In: the store's root. Out: `Finding`s, each with what to do about it.

What can be tried is tried: a sandbox is really started on an overlay in the store, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.errors import LayersmithError, SandboxError
from layersmith.linux import binfmt, cgroups, libc, userns
from layersmith.linux.network import HELPERS
from layersmith.linux.runtime import OCI_RUNTIMES

OK, WARNING, PROBLEM = "ok", "warning", "problem"

KERNEL = (5, 12)
"""mount_setattr(2), the newest call that a sandbox can't do without."""

CONTROLLERS = ("memory", "cpu", "cpuset", "pids")
LITTLE_BYTES, LITTLE_INODES = 2 << 30, 100_000
IDS_OF_AN_IMAGE = 65_536
NOT_FOUND = 127


@dataclass(frozen=True, slots=True)
class Finding:
    """``status`` is ``ok``, ``warning`` (something is missing that not everybody needs) or ``problem`` (no sandbox, or no
    store). ``advice`` is what to do, empty where all is well."""

    topic: str
    status: str
    found: str
    advice: str = ""


def examine(root: Path, *, proc: Path = Path("/proc"), etc: Path = Path("/etc")) -> Iterator[Finding]:
    """Every finding, for a store at ``root`` (which need not exist), seen by the calling user."""
    yield kernel(os.uname().release)
    if os.geteuid():
        yield from user_namespaces(proc, etc)
    yield sandbox(root)
    yield seccomp(proc)
    yield control_groups(cgroups.hierarchies(proc=proc))
    yield network()
    yield foreign_programs(os.uname().machine)
    yield oci_runtimes()
    yield disk(root)


def kernel(release: str) -> Finding:
    try:
        libc.require_known_machine()
    except SandboxError as error:
        return Finding("kernel", PROBLEM, error.message, error.hint)
    if libc.kernel_version(release) < KERNEL:
        return Finding("kernel", PROBLEM, f"Linux {release} is too old", "install Linux 5.12 or newer")
    return Finding("kernel", OK, f"Linux {release} on {os.uname().machine}")


def user_namespaces(proc: Path, etc: Path) -> Iterator[Finding]:
    """What an ordinary user needs to be root in a namespace, with all the ids of an image."""
    for path, bad, advice in userns.SWITCHES:
        try:
            if (proc / path).read_text().strip() == bad:
                yield Finding("user namespaces", PROBLEM, f"/proc/{path} is {bad}", advice)
                break
        except OSError:
            continue
    else:
        yield Finding("user namespaces", OK, "ordinary users may have them")
    name = userns.user_name(os.geteuid())
    for file in ("subuid", "subgid"):
        count = userns.subordinate_ids(etc / file, os.geteuid())
        give = f"as root: usermod --add-{file}s 100000-165535 {name}"
        if not count:
            found = f"{name} has no range in /etc/{file}: files can belong to one user only"
            yield Finding(file, WARNING, found, give)
        elif count < IDS_OF_AN_IMAGE:
            found = f"{name} has {count} ids in /etc/{file}: owners from {count + 1} on can't be unpacked"
            yield Finding(file, WARNING, found, give)
        else:
            yield Finding(file, OK, f"{name} has {count} ids")
    for program in ("newuidmap", "newgidmap"):
        found_at = shutil.which(program)
        if found_at is None:
            yield Finding(program, WARNING, "not installed, so ranges can't be used", "install uidmap")
        elif not _privileged(found_at):
            advice = f"as root: chmod u+s {found_at}"
            yield Finding(program, WARNING, f"{found_at} is neither setuid nor has capabilities", advice)
        else:
            yield Finding(program, OK, found_at)


def _privileged(path: str) -> bool:
    status = os.stat(path)
    if status.st_mode & 0o4000 and status.st_uid == 0:
        return True
    try:
        return "security.capability" in os.listxattr(path)
    except OSError:
        return False


def sandbox(root: Path) -> Finding:
    """Start one whose command does not exist: that it is not found is what the sandbox itself has told."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            said = _start_sandbox(root)
        except LayersmithError as error:
            said = (PROBLEM, error.message, error.hint)
        except OSError as error:
            said = (PROBLEM, f"{error.filename}: {error.strerror}", "choose another store with --root")
        except BaseException as error:
            said = (PROBLEM, f"{type(error).__name__}: {error}", "")
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    status, found, advice = json.loads(data or b'["problem", "it was killed", ""]')
    return Finding("sandbox", status, found, advice)


def _start_sandbox(root: Path) -> tuple[str, str, str]:
    from layersmith.linux.fuse import Overlays
    from layersmith.linux.overlay import Overlay
    from layersmith.linux.sandbox import Sandbox
    from layersmith.linux.spawner import Spawner
    from layersmith.oci.process import Process

    isolation = userns.enter()
    with (
        Spawner.start() as spawner,
        tempfile.TemporaryDirectory(dir=_existing(root), prefix=".doctor-") as base,
    ):
        for name in ("lower", "upper", "work"):
            os.mkdir(f"{base}/{name}")
        rootfs = Overlay((f"{base}/lower",), f"{base}/upper", f"{base}/work", userxattr=isolation.userxattr)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            with (
                Overlays().mountable(rootfs, Path(base, "merged")) as files,
                spawner.run(
                    Sandbox(files, Process(("/none",))), stdin=null, stdout=null, stderr=null
                ) as running,
            ):
                status = running.wait()
        finally:
            os.close(null)
    if status != NOT_FOUND:
        return PROBLEM, f"a sandbox ended with {status}", "run it again under strace -f, and report it"
    if isolation.single_id:
        return WARNING, "starts, on an overlay, with a single user id", "see subuid, subgid and newuidmap"
    if files.mounted:
        return (
            WARNING,
            "starts, on fuse-overlayfs",
            "a store on another file system, or a newer kernel, is faster",
        )
    return OK, f"starts, on an overlay{', rootless' if isolation.rootless else ''}", ""


def seccomp(proc: Path) -> Finding:
    if (proc / "sys/kernel/seccomp/actions_avail").exists():
        return Finding("seccomp", OK, "system calls can be filtered")
    return Finding(
        "seccomp", PROBLEM, "the kernel can't filter system calls", "use a kernel with CONFIG_SECCOMP_FILTER"
    )


def control_groups(trees: tuple[cgroups.Hierarchy, ...]) -> Finding:
    """Limits are an extra: without them everything runs, unlimited."""
    advice = (
        "for limits as an ordinary user: systemd-run --user --scope -p Delegate=yes layersmith …"
        if os.geteuid()
        else "mount cgroup2 at /sys/fs/cgroup, with these controllers"
    )
    usable = {c for t in trees if os.access(t.directory, os.W_OK) for c in t.controllers}
    missing = [name for name in CONTROLLERS if name not in usable]
    versions = " and ".join(f"v{v}" for v in sorted({t.version for t in trees}))
    if not trees:
        return Finding("control groups", WARNING, "none are mounted: no limits", advice)
    if missing:
        return Finding("control groups", WARNING, f"{versions}, can't limit {', '.join(missing)}", advice)
    return Finding("control groups", OK, f"{versions}, with {', '.join(CONTROLLERS)}")


def network() -> Finding:
    for helper in HELPERS:
        path = shutil.which(helper.program)
        if path and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            return Finding("network", WARNING, f"{path}, but no /dev/net/tun to use", "as root: modprobe tun")
        if path:
            return Finding("network", OK, f"steps get one of their own, by {path}")
    return Finding("network", WARNING, "steps use the host's", "install passt (or slirp4netns)")


def foreign_programs(machine: str) -> Finding:
    """Of the two architectures that most images are for, the one that this machine is not."""
    wanted = "amd64" if machine != "x86_64" else "arm64"
    try:
        binfmt.require(wanted)
    except SandboxError as error:
        return Finding("binfmt", WARNING, f"can't run programs for {wanted}: {error.message}", error.hint)
    return Finding("binfmt", OK, f"programs for {wanted} run, emulated")


def oci_runtimes() -> Finding:
    found = [path for name in OCI_RUNTIMES if (path := shutil.which(name))]
    said = ", ".join(found) if found else "none, which only --isolation=oci needs"
    return Finding("OCI runtimes", OK, said)


def disk(root: Path) -> Finding:
    place = _existing(root)
    free = os.statvfs(place)
    room = free.f_bavail * free.f_frsize
    said = f"{room / (1 << 30):.1f} GiB free at {root}"
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("disk", PROBLEM, f"{place} can't be written to", "choose another store with --root")
    if room < LITTLE_BYTES:
        return Finding("disk", WARNING, said, "make room: layersmith prune")
    if free.f_files > 0 and free.f_favail < LITTLE_INODES:
        return Finding(
            "disk", WARNING, f"{free.f_favail} inodes left at {root}", "make room: layersmith prune"
        )
    return Finding("disk", OK, said)


def _existing(path: Path) -> Path:
    """The nearest directory that exists."""
    return next(parent for parent in (path, *path.parents) if os.path.isdir(parent))
