"""`Sandbox` as the process in it finds it."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from layersmith.linux import caps
from layersmith.linux.mounts import Bind, File, Tmpfs
from layersmith.linux.sandbox import Rlimit

Box = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.skipif("not __import__('shutil').which('busybox')", reason="needs a static busybox")


def fields(status: str) -> dict[str, str]:
    """/proc/self/status as a dict."""
    return {k: v.strip() for k, _, v in (line.partition(":") for line in status.splitlines())}


def test_own_namespaces(any_box: Box) -> None:
    """Mount, PID, IPC, UTS and cgroup namespaces differ from the host's; the network is the host's by default."""
    import os

    script = "for n in mnt pid ipc uts cgroup net; do echo $n=$(readlink /proc/self/ns/$n); done"
    inside = dict(line.split("=", 1) for line in any_box(script)["output"].splitlines())
    outside = {name: os.readlink(f"/proc/self/ns/{name}") for name in inside}
    assert {name for name in inside if inside[name] == outside[name]} == {"net"}


def test_first_process_reaps(any_box: Box) -> None:
    """PID 1 is the reaper: a process that lost its parent does not stay a zombie, and its children end with it."""
    script = "(sleep 0.05 & ) ; sleep 0.3; ps -o pid,stat,comm | grep -c ' Z' || true; echo $$"
    assert any_box(script)["output"].split() == ["0", "2"]


def test_without_init_the_command_is_pid_1(any_box: Box) -> None:
    """As docker run without --init."""
    assert any_box("echo $$", init=False)["output"] == "1\n"


def test_capabilities_and_seccomp_are_dockers(any_box: Box) -> None:
    """The default set of Docker 26 in all but the inheritable and ambient sets, and a filter is installed."""
    found = fields(any_box("cat /proc/self/status")["output"])
    assert {found[n] for n in ("CapPrm", "CapEff", "CapBnd")} == {"00000000a80425fb"}
    assert {found[n] for n in ("CapInh", "CapAmb")} == {"0" * 16}
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")


def test_capabilities_of_another_user(any_box: Box) -> None:
    """A user other than root has none, but what a setuid program could regain stays bounded, not empty."""
    if any_box.mode == "single":  # type: ignore[attr-defined]
        pytest.skip("there is no other user")
    found = fields(any_box("cat /proc/self/status", user="7:8")["output"])
    assert [found[n] for n in ("CapPrm", "CapEff", "CapBnd")] == ["0" * 16, "0" * 16, "00000000a80425fb"]
    assert found["Uid"].split() == ["7"] * 4
    assert found["Gid"].split() == ["8"] * 4


def test_added_and_dropped_capabilities(box: Box) -> None:
    """--cap-drop=ALL --cap-add=CHOWN leaves exactly that one."""
    found = fields(box("cat /proc/self/status", capabilities=caps.capabilities(["chown"], ["ALL"]))["output"])
    assert (found["CapEff"], found["CapBnd"]) == ("0000000000000001", "0000000000000001")


def test_insecure_has_everything(box: Box) -> None:
    """--security=insecure: no filter, no masks, mounts work, device nodes work."""
    script = (
        "grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp && echo mounted; "
        "mknod /tmp/z c 1 5 && head -c 3 /tmp/z | wc -c; grep -c ' /proc/' /proc/self/mounts"
    )
    assert box(script, insecure=True)["output"].split() == ["Seccomp:", "0", "mounted", "3", "0"]


def test_no_new_privileges(any_box: Box) -> None:
    """Asked for, it is set."""
    assert fields(any_box("cat /proc/self/status", no_new_privileges=True)["output"])["NoNewPrivs"] == "1"


def test_mounts_are_dockers(box: Box) -> None:
    """Type and options of every kernel file system as Docker 26 mounts them."""
    rows = [line.split() for line in box("cat /proc/self/mounts")["output"].splitlines()]
    options = {row[1]: (row[2], set(row[3].split(","))) for row in rows}
    expected = {
        "/proc": ("proc", {"rw", "nosuid", "nodev", "noexec"}),
        "/dev": ("tmpfs", {"rw", "nosuid", "size=65536k", "mode=755"}),
        "/dev/pts": ("devpts", {"rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"}),
        "/dev/shm": ("tmpfs", {"rw", "nosuid", "nodev", "noexec", "size=65536k"}),
        "/dev/mqueue": ("mqueue", {"rw", "nosuid", "nodev", "noexec"}),
        "/sys": ("sysfs", {"ro", "nosuid", "nodev", "noexec"}),
        "/proc/sys": ("proc", {"ro", "nosuid", "nodev", "noexec"}),
        "/proc/bus": ("proc", {"ro", "nosuid", "nodev", "noexec"}),
        "/sys/firmware": ("tmpfs", {"ro"}),
    }
    assert {t: options[t][0] for t in expected} == {t: kind for t, (kind, _) in expected.items()}
    assert {t: wanted - options[t][1] for t, (_, wanted) in expected.items()} == {t: set() for t in expected}


def test_devices(any_box: Box) -> None:
    """/dev holds Docker's devices and links, they work, and nothing else is there."""
    script = (
        "ls /dev; echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; "
        "echo x 2>/dev/null > /dev/full || echo full; ls /dev/fd/ >/dev/null && echo fd"
    )
    words = any_box(script)["output"].split()
    assert words == [
        *(
            [
                "fd",
                "full",
                "mqueue",
                "null",
                "ptmx",
                "pts",
                "random",
                "shm",
                "stderr",
                "stdin",
                "stdout",
                "tty",
                "urandom",
                "zero",
            ]
        ),
        *("2", "2", "full", "fd"),
    ]


def test_shared_memory_has_its_size(any_box: Box) -> None:
    """--shm-size."""
    found = any_box("df -k /dev/shm | tail -1", shm_size=3 << 20)["output"].split()
    assert found[1] == "3072"


def test_masked_and_readonly_paths(any_box: Box) -> None:
    """Masked files read empty, masked directories are empty, and /proc/sys is read-only."""
    script = (
        "for f in /proc/keys /proc/timer_list /proc/interrupts; do [ -e $f ] && cat $f; done; ls /sys/firmware "
        "/proc/scsi /proc/acpi 2>/dev/null | grep -v :; echo 1 > /proc/sys/kernel/printk"
    )
    output = any_box(script)["output"]
    assert "Read-only file system" in output
    assert output.count("\n") == 1 + output.count("\n\n") * 2 or output.strip().count("\n") <= 2


def test_the_upper_holds_what_the_command_did_and_nothing_else(any_box: Box) -> None:
    """Mount points made for /proc, /dev, /sys, resolv.conf and hosts are gone, with no trace in the parents."""
    result = any_box(
        "echo x > /made; cat /etc/resolv.conf",
        directories=("etc",),
        resolv_conf=b"nameserver 192.0.2.1\n",
        hosts=b"127.0.0.1 localhost\n",
        mounts=(Tmpfs("/a/b/c"), File("/run/secrets/x", b"s")),
    )
    assert result["output"] == "nameserver 192.0.2.1\n"
    assert sorted(result["upper"]) == [".", "made"]


def test_stubs_in_a_directory_that_the_command_changed(box: Box) -> None:
    """/etc was copied up for resolv.conf, then written to by the command: its file stays, the stub goes."""
    result = box("echo x > /etc/mine; chmod 700 /etc", resolv_conf=b"")
    assert sorted(result["upper"]) == [".", "etc", "etc/mine"]
    assert stat.S_IMODE(result["upper"]["etc"][0]) == 0o700


def test_the_parent_of_a_stub_keeps_its_time(box: Box) -> None:
    """A directory that stays for another reason has the mtime from before the stub."""
    result = box("chmod 711 /etc", resolv_conf=b"", hosts=b"")
    assert result["upper"]["etc"][3] == 10**9


def test_a_stub_that_was_used_stays(box: Box) -> None:
    """What the command put into a stub's place is its own: here a mount point replaced after umount (insecure)."""
    result = box("umount /made; echo data > /made/file", mounts=(Tmpfs("/made"),), insecure=True)
    assert sorted(result["upper"]) == [".", "made", "made/file"]


def test_stubs_in_a_plain_directory(box: Box) -> None:
    """A root file system that is no overlay is left as it was, too."""
    result = box(":", plain=True, directories=(), resolv_conf=b"x", prepare="return {}")
    again = box("ls /", plain=True, directories=(), resolv_conf=b"x")
    assert result["status"] == 0
    assert again["output"].split() == ["bin", "dev", "etc", "proc", "sys"]


def test_dangling_link_as_mount_point(box: Box) -> None:
    """/etc/resolv.conf -> ../run/systemd/… of many images: the target is made, inside, and gone afterwards."""
    prepare = "(base / 'lower/etc/resolv.conf').symlink_to('../../../run/systemd/stub.conf')"
    result = box("cat /etc/resolv.conf /run/systemd/stub.conf", resolv_conf=b"here\n", prepare=prepare)
    assert result["output"] == "here\nhere\n"
    assert sorted(result["upper"]) == ["."]


def test_links_of_the_image_stay_inside(box: Box, tmp_path: Any) -> None:
    """A mount point behind an absolute or climbing symlink lands in the image, never on the host."""
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    prepare = f"(base / 'lower/out').symlink_to('{tmp_path}')"
    result = box(f"cat /out/canary {canary}", mounts=(File("/out/canary", b"inside\n"),), prepare=prepare)
    assert result["output"] == "inside\ninside\n"
    assert canary.read_text() == "untouched"


def test_files_and_binds(any_box: Box) -> None:
    """A File has its mode and owner; a read-only bind can't be written; `inside` is contained in the source."""
    prepare = (
        "from layersmith.linux.mounts import Bind, File\n"
        "source = base / 'source'\n"
        "(source / 'in').mkdir(parents=True)\n"
        "(source / 'in/file').write_text('bound\\n')\n"
        "(source / 'up').symlink_to('/in')\n"
        "return {'mounts': (\n"
        "    File('/secret', b'hush\\n', 0o400),\n"
        "    Bind(str(source), '/part', readonly=True, inside='/up'),\n"
        "    Bind(str(source), '/whole', readonly=True),\n"
        "    Bind(str(source / 'in'), '/in'),\n"
        ")}"
    )
    script = "stat -c '%a %u' /secret; cat /part/file /whole/up/file /secret; touch /in/mine /part/new"
    expected = "400 0\nbound\nbound\nhush\ntouch: /part/new: Read-only file system\n"
    assert any_box(script, prepare=prepare)["output"] == expected


def test_mounts_below_mounts(box: Box) -> None:
    """Outer targets come first, whatever the order in which they are given."""
    mounts = (File("/a/b/file", b"deep\n"), Tmpfs("/a/b"), Tmpfs("/a"))
    assert box("cat /a/b/file", mounts=mounts)["output"] == "deep\n"


def test_read_only_root(any_box: Box) -> None:
    """--read-only: nothing can be written but what is mounted."""
    result = any_box("touch /x; touch /t/x && echo fine", readonly_rootfs=True, mounts=(Tmpfs("/t"),))
    assert result["output"] == "touch: /x: Read-only file system\nfine\n"


def test_network_none_has_a_loopback(any_box: Box) -> None:
    """`none`: the only interface is lo, it is up, and it works."""
    script = "ls /sys/class/net; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo pong"
    assert any_box(script, network="none")["output"] == "lo\npong\n"


def test_hostname(any_box: Box) -> None:
    """Its own, in its own UTS namespace."""
    assert any_box("hostname", hostname="boxed")["output"] == "boxed\n"


def test_resource_limits(any_box: Box) -> None:
    """--ulimit."""
    assert (
        any_box("ulimit -n; ulimit -c", rlimits=(Rlimit("nofile", 77, 99), Rlimit("core", 0, 0)))["output"]
        == "77\n0\n"
    )


def test_user_by_name_gets_all_groups(box: Box) -> None:
    """A name is looked up in the image's own passwd and group."""
    files = {
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\nann:x:100:200::/home/ann:/bin/sh\n",
        "etc/group": b"ann:x:200:\naudio:x:29:bob,ann\nvideo:x:44:ann\nother:x:45:bob\n",
    }
    result = box("id -u; id -g; id -G; echo $HOME", user="ann", files=files)
    assert result["output"] == "100\n200\n200 29 44\n/home/ann\n"


def test_unknown_user(box: Box) -> None:
    """The error names the user and the file."""
    result = box(user="ghost", files={"etc/passwd": b"root:x:0:0::/root:/bin/sh\n"})
    assert result["error"] == "StepError"
    assert "'ghost'" in result["message"]
    assert "/etc/passwd" in result["message"]


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (("nothere",), 127, "exec nothere: not found in PATH (/bin)"),
        (("/bin/nothere",), 127, "exec /bin/nothere: no such file or directory"),
        (
            ("/script",),
            127,
            "exec /script: no such file or directory: its interpreter /bin/nothere is missing",
        ),
        (("/plain",), 126, "exec /plain: permission denied: it has no x bit (chmod +x)"),
        (("/bin",), 126, "exec /bin: it is a directory"),
        (("/text",), 126, "exec /text: exec format error"),
    ],
)
def test_what_cannot_be_executed(boxes: Any, args: tuple[str, ...], status: int, says: str) -> None:
    """126 and 127 as a shell gives them, with a sentence on stderr that says why."""
    request = {
        "args": args,
        "files": {"script": b"#!/bin/nothere\n", "plain": b"x", "text": b"just text"},
        "prepare": "for n in 'script', 'text': (base / 'lower' / n).chmod(0o755)",
    }
    result = boxes("root", request)[0]
    assert result["status"] == status
    assert result["output"].startswith(f"layersmith: {says}")


def test_status_of_a_killed_command(any_box: Box) -> None:
    """128 and the signal's number, as in a shell."""
    assert any_box("kill -9 $$")["status"] == 137


def test_signals_are_forwarded(any_box: Box) -> None:
    """SIGTERM to the sandbox reaches the command's trap."""
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
    result = any_box(script, signal=15)
    assert (result["status"], result["output"]) == (3, "ready\ncaught\n")


def test_missing_working_directory(box: Box) -> None:
    """An error that names it; with create_cwd it is made, owned by the user, and stays."""
    result = box(cwd="/no/such")
    assert result["message"].startswith("enter the working directory: /no/such: No such file or directory")
    made = box("pwd", cwd="/new/dir", create_cwd=True, user="7:8")
    assert made["output"] == "/new/dir\n"
    assert made["upper"]["new/dir"][1:3] == [7, 8]


def test_no_descriptor_leaks(any_box: Box) -> None:
    """The command has 0, 1 and 2 (and here the directory that it lists), and nothing of the spawner's."""
    assert any_box(args=("/bin/ls", "/proc/self/fd"))["output"].split() == ["0", "1", "2", "3"]


def test_signal_state_is_clean(any_box: Box) -> None:
    """No signal is blocked or ignored: what Python ignores (SIGPIPE, SIGXFSZ) must not reach the command."""
    found = fields(any_box("cat /proc/self/status", args=("/bin/cat", "/proc/self/status"))["output"])
    assert found["SigBlk"] == "0" * 16
    # posix_spawn leaves 32 and 33 ignored, which are libc's own and which it sets up in every program that uses them.
    assert int(found["SigIgn"], 16) & ~(0b11 << 31) == 0


def test_terminal(any_box: Box) -> None:
    """tty: a terminal of the sandbox's own /dev/pts is its standard streams and controls its session."""
    result = any_box("tty; test -t 0 && echo yes; sleep 0.1; stty size; echo x > /dev/tty", tty=True)
    assert result["output"].split() == ["/dev/pts/0", "yes", "24", "80", "x"]


ENTER = """
import base64, os, pickle, sys
from layersmith.linux import spawner, userns
from layersmith.oci.process import Process
pid, worker, data, script = sys.argv[1:]
userns.join(int(worker))
process = Process(("/bin/sh", "-c", script), (("PATH", "/bin"),))
sandbox = pickle.loads(base64.b64decode(data))
with spawner.Spawner.start(contained=False) as spawned:
    with spawned.enter_running(int(pid), sandbox, process, stdin=0, stdout=1, stderr=2) as running:
        sys.exit(running.wait())
"""


@pytest.mark.parametrize("init", [True, False])
def test_entering_a_running_sandbox(any_running: Any, linux_command: Any, init: bool) -> None:
    """exec: another process sees the same files, processes and host name, with the same privileges."""
    script = "cat /tmp/mark; hostname; ps | grep -c 'sleep [2]0'; grep -E 'CapBnd|Seccomp:' /proc/self/status; exit 5"
    start = "echo mark > /tmp/mark; echo ready; sleep 20"
    with any_running(start, hostname="boxed", init=init) as (_, box):
        argv = ["-c", ENTER, str(box["pid"]), str(box["worker"]), box["sandbox"], script]
        done = subprocess.run(capture_output=True, text=True, **linux_command(any_running.args[0], argv))
    assert done.stderr == ""
    assert done.stdout.split() == ["mark", "boxed", "1", "CapBnd:", "00000000a80425fb", "Seccomp:", "2"]
    assert done.returncode == 5


def test_a_failing_mount_says_what_and_where(box: Box) -> None:
    """(operation, path, errno) of set-up reach the caller."""
    result = box(mounts=(Bind("/nonexistent/source", "/x"),))
    assert result["error"] == "SandboxError"
    assert result["message"] == ("bind /nonexistent/source on /x: No such file or directory (ENOENT)")
    assert sorted(result["upper"]) == ["."]


@pytest.mark.parametrize("target", ["/", "//", "/./", "/.."])
def test_nothing_is_mounted_over_the_root(box: Box, target: str) -> None:
    """It would hide the image, and what was set up in it so far."""
    result = box(mounts=(Tmpfs(target),))
    assert result["message"] == f"mount tmpfs on {target}: nothing can be mounted over the root (EINVAL)"


def test_three_hundred_layers(any_box: Box) -> None:
    """A stack of 300 lowers with long paths runs."""
    prepare = (
        "lowers = []\n"
        "for n in range(300):\n"
        "    d = base / ('x' * 120) / str(n)\n"
        "    d.mkdir(parents=True)\n"
        "    (d / f'f{n}').touch()\n"
        "    lowers.append(str(d))\n"
        "return {'lowers': lowers}"
    )
    assert any_box("ls / | grep -c ^f", prepare=prepare)["output"] == "300\n"
