"""What a sandbox costs, against a bare fork and exec and against OCI runtimes: medians of interleaved runs.

    python tests/benchmarks/bench_sandbox.py [--runs 50] [--network host|none]

As root, with a static busybox on PATH. Each run executes ``/bin/true`` on a fresh overlay of two layers. crun and runc
get the same sandbox as a bundle: namespaces, mounts, masks, capabilities, seccomp filter, on an overlay that this
program mounts for them outside of the measured time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from layersmith.linux import caps, libc, seccomp, syscalls, userns
from layersmith.linux.mounts import kernel_mounts
from layersmith.linux.overlay import Overlay, overlay
from layersmith.linux.sandbox import MASKED_PATHS, READONLY_PATHS, Sandbox
from layersmith.linux.spawner import Spawner
from layersmith.oci.process import Process

MOUNT_OPTIONS = {0x1: "ro", 0x2: "nosuid", 0x4: "nodev", 0x8: "noexec"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--network", default="host", choices=("host", "none"))
    args = parser.parse_args()
    isolation = userns.enter()
    hide_hybrid_cgroups()
    with tempfile.TemporaryDirectory() as scratch, Spawner.start() as spawner, ExitStack() as cleanup:
        base = Path(scratch)
        rootfs = base / "rootfs"
        make_rootfs(rootfs)
        (base / "top").mkdir()
        contenders: dict[str, Callable[[int], None]] = {
            "fork+exec": lambda _: run([os.fspath(rootfs / "bin/busybox"), "true"]),
            "layersmith": sandboxed(spawner, base, args.network, args.runs, userxattr=isolation.userxattr),
            "layersmith, no init": sandboxed(
                spawner, base, args.network, args.runs, userxattr=isolation.userxattr, init=False
            ),
        }
        for runtime in ("crun", "runc"):
            if shutil.which(runtime):
                bundle = base / runtime
                make_bundle(bundle, args.network)
                for name in ("upper", "work", "rootfs"):
                    (bundle / name).mkdir()
                stack = Overlay((f"{base}/top", os.fspath(rootfs)), f"{bundle}/upper", f"{bundle}/work")
                cleanup.enter_context(overlay(stack, f"{bundle}/rootfs"))
                contenders[runtime] = runtime_run(runtime, bundle)
        report(measure(contenders, args.runs))


def hide_hybrid_cgroups() -> None:
    """crun refuses to start where cgroup v1 and v2 are both mounted; here that is this process' own affair."""
    if Path("/sys/fs/cgroup/unified").is_mount():
        libc.umount("/sys/fs/cgroup/unified", detach=True)


def measure(contenders: dict[str, Callable[[int], None]], runs: int) -> dict[str, list[float]]:
    """Milliseconds of each run; the contenders take turns, so that a busy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-2, runs):
        for name, once in contenders.items():
            begin = time.perf_counter()
            once(number)
            if number >= 0:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return times


def report(times: dict[str, list[float]]) -> None:
    bare = statistics.median(times["fork+exec"])
    for name, values in times.items():
        median, low, high = statistics.median(values), min(values), sorted(values)[int(len(values) * 0.9)]
        print(f"{name:22} {median:7.2f} ms  (+{median - bare:6.2f})   min {low:7.2f}   p90 {high:7.2f}")


def make_rootfs(rootfs: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("a static busybox is needed")
    for name in ("bin", "proc", "sys", "dev", "etc"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy(busybox, rootfs / "bin/busybox")
    (rootfs / "bin/true").symlink_to("busybox")


def sandboxed(
    spawner: Spawner, base: Path, network: str, runs: int, *, userxattr: bool, init: bool = True
) -> Callable[[int], None]:
    """Its directories are made beforehand, as those of the runtimes are."""
    sandboxes = {}
    for number in range(-2, runs):
        upper, work = base / f"upper{number}{init}", base / f"work{number}{init}"
        upper.mkdir()
        work.mkdir()
        overlay = Overlay(
            (f"{base}/top", f"{base}/rootfs"), os.fspath(upper), os.fspath(work), userxattr=userxattr
        )
        sandboxes[number] = Sandbox(overlay, Process(("/bin/true",)), network=network, init=init)

    def once(number: int) -> None:
        with spawner.run(sandboxes[number], stdin=0, stdout=1, stderr=2) as running:
            if running.wait():
                raise SystemExit("the sandbox failed")

    return once


def run(command: list[str]) -> None:
    pid = os.posix_spawn(command[0], command, os.environ)
    os.waitpid(pid, 0)


def runtime_run(runtime: str, bundle: Path) -> Callable[[int], None]:
    def once(number: int) -> None:
        name = f"bench-{runtime}-{os.getpid()}-{number}"
        # Control groups cost a runtime time that this sandbox does not spend unless asked to.
        options = ["--cgroup-manager=disabled"] if runtime == "crun" else []
        subprocess.run([runtime, *options, "run", "--bundle", os.fspath(bundle), name], check=True)

    return once


def make_bundle(bundle: Path, network: str) -> None:
    """The same sandbox as a runtime-spec bundle."""
    bundle.mkdir()
    mounts = []
    for mount in kernel_mounts(devpts_gid=True, bound_devices=False, sys_writable=False, shm_size=64 << 20):
        kind = getattr(mount, "kind", "sysfs" if mount.target == "/sys" else "tmpfs")
        options = [text for bit, text in MOUNT_OPTIONS.items() if getattr(mount, "attributes", 0xE) & bit]
        extra = [k if v is None else f"{k}={v}" for k, v in getattr(mount, "options", ())]
        mounts.append({"destination": mount.target, "type": kind, "source": kind, "options": options + extra})
    mounts[1]["options"] = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    names = ["mount", "pid", "ipc", "uts", "cgroup"] + (["network"] if network == "none" else [])
    granted = sorted(caps.DEFAULT)
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": granted, "effective": granted, "permitted": granted},
        },
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": name} for name in names],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
            "seccomp": seccomp_section(),
        },
    }
    (bundle / "config.json").write_text(json.dumps(config))


def seccomp_section() -> dict[str, object]:
    """This package's filter as runtime-spec writes one; libseccomp leaves out what it does not know."""
    machine = platform.machine()
    names = {name for arch in seccomp.COMPATIBLE[machine] for name in syscalls.numbers(arch)}
    special = {"clone", "personality", "socket", "ioctl"}
    allow = "SCMP_ACT_ALLOW"
    masked = {"index": 0, "value": seccomp.NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rules: list[dict[str, object]] = [
        {"names": sorted(names - special - seccomp.refused(caps.DEFAULT)), "action": allow},
        {"names": ["clone"], "action": allow, "args": [masked]},
        {"names": ["socket"], "action": allow, "args": [argument(0, seccomp.AF_VSOCK, "SCMP_CMP_NE")]},
        {"names": ["ioctl"], "action": allow, "args": [argument(1, seccomp.TIOCSTI, "SCMP_CMP_NE")]},
    ]
    for value in seccomp.PERSONALITIES:
        rules.append({"names": ["personality"], "action": allow, "args": [argument(0, value, "SCMP_CMP_EQ")]})
    architectures = [
        f"SCMP_ARCH_{name.upper().replace('I386', 'X86')}" for name in seccomp.COMPATIBLE[machine]
    ]
    return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": architectures, "syscalls": rules}


def argument(index: int, value: int, op: str) -> dict[str, object]:
    return {"index": index, "value": value, "op": op}


if __name__ == "__main__":
    main()
