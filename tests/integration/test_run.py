"""`layersmith run` and the container commands as a person uses them: as root, and as an ordinary user."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tarfile
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import BUSYBOX, Box, boxed, dead_groups, leftovers

pytestmark = [
    pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox"),
    # Its tests look at the whole machine for what is left: one after the other, and beside no other maker of groups.
    pytest.mark.xdist_group("machine"),
]


@pytest.fixture(scope="module", params=["root", "rootless", "single", "crun", "runc"])
def shared(request: pytest.FixtureRequest) -> Iterator[Box]:
    """Each way to run containers."""
    with boxed(request.param) as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Iterator[Box]:
    """The same; after each test there is no container, no process, no mount and nothing unfinished."""
    before = dead_groups()
    yield shared
    names = shared("ps", "-aq").split()
    if names:
        shared("rm", "-f", *names)
    if leftovers(shared, seconds=1, known=before):
        # What was too slow to delete, and control groups of a runtime that was killed, are left to the next command.
        shared("run", "--rm", "busybox", "true")
    # What somebody else's crash had left before is swept by whoever next makes a group, at a time of its own.
    assert leftovers(shared, known=before) == []


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


# The command and its surroundings


def test_runs_a_command(box: Box) -> None:
    """Output, errors and status are the command's; the image's own command is the default."""
    done = box.raw("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert done.stderr.endswith(b"err\n")
    assert box("run", "--rm", "-i", "busybox", stdin=b"echo from $FROM; exit 0\n") == "from image\n"


def test_statuses_of_docker(box: Box) -> None:
    """125: layersmith failed; 126: not executable; 127: not found; 128+n: a signal."""
    assert "not absolute" in box.error("run", "--rm", "-w", "rel", "busybox", "true", status=125)
    assert "no image 'nosuch'" in box.error("run", "--rm", "--pull=never", "nosuch", "true", status=125)
    assert box.error("run", "--rm", "-u", "nosuch", "busybox", "true", status=125)
    assert "did you mean --rm" in box.error("run", "--rmm", "--pull=never", "busybox", status=125)
    box.error("run", "--rm", "busybox", "/etc/motd", status=126)
    box.error("run", "--rm", "busybox", "nosuchprogram", status=127)
    box("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$; true'; exit $?", status=137)
    if box.mode not in ("crun", "runc"):
        box("run", "--rm", "--init", "busybox", "sh", "-c", "kill -TERM $$", status=143)


def test_words_after_the_image_are_the_commands(box: Box) -> None:
    """Options behind IMAGE belong to the command, `--` and -h included."""
    script = 'echo "$@"'
    assert (
        box("run", "--rm", "busybox", "sh", "-c", script, "-", "-it", "--rm", "--", "-h")
        == "-it --rm -- -h\n"
    )


def test_environment_user_and_directory(box: Box) -> None:
    """-e, -w and -u; HOME is the user's, and a missing working directory is made."""
    if box.mode == "single":
        pytest.skip("there are no other users")
    script = "echo $A $FROM $HOME; id -u; id -G; pwd; touch $HOME/f && ls -ln $HOME/f"
    lines = box(
        "run", "--rm", "-e", "A=1", "-e", "FROM", "-w", "/new/dir", "-u", "app", "busybox", "sh", "-c",
        f"cd /new/dir; {script.replace('touch $HOME/f && ls -ln $HOME/f', 'true')}",
    ).splitlines()  # fmt: skip
    assert lines == ["1 /home/app", "1000", "1000 2000", "/new/dir"]
    assert box("run", "--rm", "-u", "12:34", "busybox", "id").startswith("uid=12 gid=34")


def test_processes_are_its_own(box: Box) -> None:
    """The command is PID 1, or with --init the init's child, and sees nobody else's processes."""
    assert box("run", "--rm", "busybox", "sh", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l").split()[0] == "1"
    if box.mode in ("crun", "runc"):
        assert "built-in" in box.error("run", "--rm", "--init", "busybox", "true", status=125)
    else:
        assert box("run", "--rm", "--init", "busybox", "sh", "-c", "echo $$") != "1\n"


def test_host_name_and_hosts(box: Box) -> None:
    """--hostname and --add-host; the default is the container's short id."""
    script = "hostname; cat /etc/hostname; grep -w box /etc/hosts >/dev/null; grep db /etc/hosts"
    lines = box(
        "run", "--rm", "--hostname", "box", "--add-host", "db:10.1.2.3", "busybox", "sh", "-c", script
    ).splitlines()
    assert lines[:2] == ["box", "box"]
    assert lines[2].split() == ["10.1.2.3", "db"]
    assert re.fullmatch(r"[0-9a-f]{12}\n", box("run", "--rm", "busybox", "hostname"))


def test_volumes(box: Box) -> None:
    """-v shows the host's directory, changes go there; :ro does not let them."""
    shared = box.own(Path(tempfile.mkdtemp(dir=box.home)))
    (shared / "in").write_text("from outside\n")
    here = str(shared)
    assert box(
        "run", "--rm", "-v", f"{here}:/data", "busybox", "sh", "-c", "cat /data/in; echo x > /data/out"
    ) == ("from outside\n")
    assert (shared / "out").read_text() == "x\n"
    box("run", "--rm", "-v", f"{here}:/data:ro", "busybox", "sh", "-c", "echo y > /data/out", status=1)
    file = f"type=bind,source={here}/in,target=/etc/motd,readonly"
    assert box("run", "--rm", "--mount", file, "busybox", "cat", "/etc/motd") == "from outside\n"
    assert (shared / "out").read_text() == "x\n"
    assert "no named volumes" in box.error("run", "--rm", "-v", "data:/data", "busybox", "true", status=125)


def test_read_only_and_tmpfs(box: Box) -> None:
    """--read-only refuses writes but to --tmpfs, whose options hold."""
    script = "touch /x 2>/dev/null || echo refused; touch /t/x && df -k /t | tail -1; stat -c %a /t"
    lines = box("run", "--rm", "--read-only", "--tmpfs", "/t:size=1m,mode=700", "busybox", "sh", "-c", script)
    assert lines.startswith("refused\n")
    assert lines.split()[2] == "1024"
    assert lines.split()[-1] == "700"


def test_limits_and_shm(box: Box) -> None:
    """--ulimit and --shm-size are what the command sees."""
    script = "ulimit -n; ulimit -c; df -k /dev/shm | tail -1"
    out = box("run", "--rm", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "--shm-size", "2m", "busybox", "sh", "-c", script).split()  # fmt: skip
    assert out[:2] == ["100", "0"]
    assert out[3] == "2048"


def test_network_none_has_only_loopback(box: Box) -> None:
    """--network none: nothing but lo, and that works."""
    script = "ls /sys/class/net; ping -c 1 -w 1 127.0.0.1 >/dev/null && echo up"
    out = box(
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "ip -o link | wc -l; " + script.partition(";")[2],
    )
    assert out.split() == ["1", "up"]


def test_capabilities(box: Box) -> None:
    """Docker's default set; --cap-add, --cap-drop, --privileged."""

    def effective(*options: str) -> int:
        return int(
            box("run", "--rm", *options, "busybox", "grep", "CapEff", "/proc/self/status").split()[1], 16
        )

    default = 0x00000000A80425FB
    assert effective() == default
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "NET_RAW") == default & ~(1 << 13)
    if box.mode != "single":
        assert effective("--cap-add", "SYS_PTRACE") == default | 1 << 19
        assert effective("--privileged") & (1 << 21)


def test_security_options(box: Box) -> None:
    """The seccomp filter is on, and can be turned off; no-new-privileges likewise."""
    fields = "Seccomp:|NoNewPrivs:"

    def status(*options: str) -> list[str]:
        out = box("run", "--rm", *options, "busybox", "grep", "-E", fields, "/proc/self/status")
        return [line.split()[1] for line in sorted(out.splitlines())]

    assert status()[1] == "2"
    assert status("--security-opt", "no-new-privileges")[0] == "1"
    if box.mode == "root":
        assert status("--security-opt", "seccomp=unconfined")[1] == "0"


def test_layers_are_shared_and_uppers_are_not(box: Box) -> None:
    """What one container writes, neither the image nor another container has."""
    box("run", "--rm", "busybox", "sh", "-c", "echo changed > /etc/motd; rm -r /home")
    assert (
        box("run", "--rm", "busybox", "sh", "-c", "cat /etc/motd; ls -d /home")
        == "hello from the image\n/home\n"
    )


def test_only_what_the_command_changed_is_in_upper(box: Box) -> None:
    """Mount points that the image lacks are gone afterwards, and the directories that hold them are as they were."""
    where = box.own(Path(tempfile.mkdtemp(dir=box.home)))
    mounts = ("-v", f"{where}:/new/deep/point", "-v", f"{where}:/home/app/point", "--tmpfs", "/var/t")
    box(
        "run", "--name", "tidy", *mounts, "busybox", "sh", "-c", "echo x > /root/f; touch /new/deep/point/out"
    )
    assert box("diff", "tidy").splitlines() == ["C /root", "A /root/f"]
    upper = box.root / "containers" / box("ps", "-aq", "--no-trunc").strip() / "upper"
    assert [str(p.relative_to(upper)) for p in sorted(upper.rglob("*"))] == ["root", "root/f"] or box.options


# Streams, signals, terminals


def test_stdin_only_with_i(box: Box) -> None:
    """Without -i standard input is empty."""
    assert box("run", "--rm", "busybox", "cat", stdin=b"secret") == ""
    assert box("run", "--rm", "-i", "busybox", "cat", stdin=bytes(300_000)) == "\0" * 300_000


def test_the_callers_files_are_out_of_reach(box: Box) -> None:
    """The container has pipes: it can't reopen what the caller's output goes to."""
    target = box.own(Path(tempfile.mkdtemp(dir=box.home))) / "out"
    with target.open("wb") as file:
        done = subprocess.run(
            box.argv(
                "run", "--rm", "busybox", "sh", "-c", "readlink /proc/self/fd/1; readlink /proc/self/fd/2"
            ),
            stdout=file,
            stderr=subprocess.PIPE,
            env=box.env,
            cwd=box.home,
            check=True,
            **box.options,
        )
    assert done.returncode == 0
    assert all(line.startswith("pipe:") for line in target.read_text().splitlines())


def test_signals_reach_the_command(box: Box) -> None:
    """SIGTERM to layersmith is SIGTERM to the command, whose status is then layersmith's."""
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with box.popen("run", "--rm", "busybox", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.read() == b"bye\n"
    assert process.returncode == 5


class Terminal:
    """A pseudo-terminal with a program on it, as a person has one."""

    def __init__(self, box: Box, *words: str, size: tuple[int, int] = (24, 80)) -> None:
        self.controller, self.terminal = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.terminal)
        self.output = b""
        self.process = box.popen(
            *words,
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.controller, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.controller, text.encode())

    def expect(self, text: str, seconds: float = 15) -> None:
        """Read until ``text`` comes; what was read goes."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.output:
            ready, _, _ = select.select([self.controller], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self.output!r}"
            self.output += os.read(self.controller, 4096)
        self.output = self.output.partition(text.encode())[2]

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.controller)
        os.close(self.terminal)


def test_terminal(box: Box) -> None:
    """-it: a shell on a terminal of its own, of the right size, resized with ours, Ctrl-C is the shell's; at the end
    our terminal is as it was."""
    with Terminal(box, "run", "--rm", "-it", "-e", "PS1=\\w+ ", "busybox", "sh", size=(30, 100)) as terminal:
        terminal.expect("/+ ")
        terminal.type("tty; stty size\n")
        terminal.expect("/dev/pts/0\r\n30 100\r\n")
        assert not termios.tcgetattr(terminal.terminal)[3] & termios.ECHO
        terminal.resize(40, 120)
        terminal.type("sleep 0.3; stty size\n")
        terminal.expect("40 120")
        terminal.type("sleep 100\n")
        time.sleep(0.3)
        terminal.type("\x03")
        terminal.expect("+ ")
        terminal.type("exit 9\n")
        assert terminal.process.wait(15) == 9
        assert termios.tcgetattr(terminal.terminal) == terminal.before


def test_the_callers_terminal_is_not_the_containers(box: Box) -> None:
    """Without -t, too: what the container has can't be typed into (TIOCSTI)."""
    with Terminal(
        box, "run", "--rm", "-i", "busybox", "sh", "-c", "test -t 0 || test -t 1 || echo none"
    ) as terminal:
        terminal.expect("none\r\n")
        assert terminal.process.wait(15) == 0


def test_it_without_a_terminal_is_refused(box: Box) -> None:
    assert "not a terminal" in box.error("run", "--rm", "-it", "busybox", "true", status=125)


# In the background, and the other commands


def test_life_of_a_container(box: Box) -> None:
    """run -d, ps, logs, exec, stop, wait, start, kill, rm."""
    script = 'trap "echo bye; exit 3" TERM; echo out; echo err >&2; while :; do sleep 0.05; done'
    identity = box("run", "-d", "--name", "web", "-l", "tier=front", "busybox", "sh", "-c", script).strip()
    assert re.fullmatch("[0-9a-f]{64}", identity)
    (line,) = box("ps", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.State}}").splitlines()
    assert line == f"{identity[:12]} web busybox running"
    assert box("ps", "-q", "--filter", "label=tier=front").strip() == identity[:12]
    wait_for(lambda: "err" in box.raw("logs", "web").stderr.decode())
    assert box("logs", "web") == "out\n"
    assert box("exec", "-e", "B=2", "web", "sh", "-c", "echo $$ $FROM $B; exit 0").split()[1:] == [
        "image",
        "2",
    ]
    box("exec", "web", "sh", "-c", "exit 11", status=11)
    box.error("exec", "web", "nosuchprogram", status=127)
    assert "is running" in box.error("rm", "web", status=1)
    assert box("start", "web") == "web\n"
    assert box("stop", "web") == "web\n"
    assert box("logs", "web") == "out\nbye\n"
    assert box("wait", "web") == "3\n"
    assert box("ps", "-a", "--format", "{{.State}} {{.ExitCode}}") == "exited 3\n"
    assert "not running" in box.error("exec", "web", "true", status=125)
    assert box("start", "web") == "web\n"
    assert box("ps", "-q").strip() == identity[:12]
    assert box("kill", "web") == "web\n"
    assert box("wait", "web") == "137\n"
    assert box("rm", "web") == "web\n"
    assert box("ps", "-aq") == ""
    assert "no container" in box.error("logs", "web", status=5)


def test_detached_shell_with_terminal_stays(box: Box) -> None:
    """run -dit: a shell waits on its terminal, and what it is told by exec it does."""
    box("run", "-dit", "--name", "shell", "busybox", "sh")
    assert box("exec", "shell", "readlink", "/proc/1/fd/0") == "/dev/pts/0\n"
    assert box("stop", "-t", "0", "shell") == "shell\n"
    assert box("wait", "shell") == "137\n"


def test_exec_with_a_terminal(box: Box) -> None:
    """exec -it: a terminal of the container's own, and its size."""
    box("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    with Terminal(box, "exec", "-it", "-e", "PS1=in+ ", "host", "sh", size=(33, 77)) as terminal:
        terminal.expect("in+ ")
        terminal.type("stty size; tty\n")
        terminal.expect("33 77\r\n/dev/pts/")
        terminal.type("exit 4\n")
        assert terminal.process.wait(15) == 4
    box("rm", "-f", "host")


def test_exec_as_another_user(box: Box) -> None:
    """exec -u and -w."""
    if box.mode == "single":
        pytest.skip("there are no other users")
    init = () if box.mode in ("crun", "runc") else ("--init",)
    box("run", "-d", "--name", "host", *init, "busybox", "sleep", "1000")
    assert box("exec", "-u", "app", "-w", "/var", "host", "sh", "-c", "id -u; pwd; echo $HOME").split() == [
        "1000",
        "/var",
        "/home/app",
    ]
    box("rm", "-f", "host")


def test_logs_follow_and_tail(box: Box) -> None:
    """logs -f ends with the container and has all that it wrote; --tail and -t."""
    box(
        "run", "-d", "--name", "count", "busybox", "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.2; done"
    )
    assert box("logs", "-f", "count").split() == ["1", "2", "3", "4"]
    assert box("logs", "--tail", "2", "count").split() == ["3", "4"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z 4\n", box("logs", "-t", "-n", "1", "count"))
    assert box("logs", "--since", "1h", "count").split() == ["1", "2", "3", "4"]
    assert box("logs", "--since", "2999-01-01", "count") == ""


def test_rm_goes_by_itself_in_the_background(box: Box) -> None:
    """run -d --rm: when it ends, nothing is left; wait still learns its status."""
    identity = box("run", "-d", "--rm", "busybox", "sh", "-c", "sleep 0.7; exit 6").strip()
    assert box("wait", identity) == "6\n"
    wait_for(lambda: not (box.root / "containers" / identity).exists())


def test_a_container_that_fails_to_start_in_the_background(box: Box) -> None:
    """run -d reports it, with the status, before it lets go of the terminal."""
    box.error("run", "-d", "--rm", "-u", "nosuch", "busybox", "true", status=125)


def test_names_are_unique(box: Box) -> None:
    """A name can be used once; --cidfile holds the id."""
    file = box.own(Path(tempfile.mkdtemp(dir=box.home))) / "id"
    box("run", "--name", "same", "--cidfile", str(file), "busybox", "true")
    error = box.error("run", "--name", "same", "busybox", "true", status=125)
    assert f"belongs to container {file.read_text()[:12]}" in error
    box("rm", "same")
    box("run", "--rm", "--name", "same", "busybox", "true")


def test_cp(box: Box) -> None:
    """In and out, of a container that runs and of one at rest; as a tar, too."""
    here = box.own(Path(tempfile.mkdtemp(dir=box.home)))
    (here / "f").write_text("data")
    box("run", "-d", "--name", "store", "--tmpfs", "/t", "busybox", "sleep", "1000")
    box("cp", f"{here}/f", "store:/t/g")
    assert box("exec", "store", "cat", "/t/g") == "data"
    box("cp", f"{here}/f", "store:/var")
    box("cp", "store:/etc", str(here))
    assert (here / "etc/motd").read_text() == "hello from the image\n"
    box("kill", "store")
    box("wait", "store")
    box("cp", f"{here}/f", "store:/var/rest")
    with tarfile.open(fileobj=io.BytesIO(box.raw("cp", "store:/var", "-").stdout)) as tar:
        assert sorted(tar.getnames()) == ["var", "var/f", "var/rest"]
        assert {member.uid for member in tar} == {0}
    box("cp", "-", "store:/root", stdin=box.raw("cp", "store:/var", "-").stdout)
    box("start", "store")
    assert box("exec", "store", "sh", "-c", "cat /root/var/rest; stat -c %u /root/var/rest") == "data0\n"
    assert "No such file" in box.error("cp", "store:/nosuch", str(here), status=5)
    box("rm", "-f", "store")


def test_cp_can_not_be_led_outside(box: Box) -> None:
    """A container's symlink to the host's files leads to its own."""
    canary = box.own(Path(tempfile.mkdtemp(dir=box.home)))
    (canary / "secret").write_text("secret")
    (canary / "f").write_text("f")
    box(
        "run",
        "-d",
        "--name",
        "evil",
        "busybox",
        "sh",
        "-c",
        f"ln -s {canary} /l; ln -s /proc/1/root /p; sleep 1000",
    )
    wait_for(lambda: box.raw("exec", "evil", "readlink", "/p").returncode == 0)
    for path in ("l/secret", f"p{canary}/secret"):
        box.error("cp", f"evil:/{path}", f"{canary}/stolen", status=5)
    box.error("cp", f"{canary}/f", "evil:/l/new", status=5)
    box("rm", "-f", "evil")
    assert sorted(os.listdir(canary)) == ["f", "secret"]


def test_commit(box: Box) -> None:
    """What a container changed becomes a layer, its settings the image's; deleted files are gone."""
    script = "echo new > /etc/new; rm /etc/motd; mkdir /srv; chmod 700 /root"
    box(
        "run",
        "--name",
        "work",
        "-e",
        "A=1",
        "-w",
        "/var",
        "-v",
        f"{box.home}:/host",
        "busybox",
        "sh",
        "-c",
        script,
    )
    digest = box("commit", "-m", "by hand", "-c", "CMD cat /etc/new", "work", "made:1").strip()
    assert box("run", "--rm", "made:1") == "new\n"
    assert box("run", "--rm", "made:1", "sh", "-c", "ls -d /etc/motd /host /srv 2>/dev/null; stat -c %a /root; pwd; echo $A") == (
        "/srv\n700\n/var\n1\n"
    )  # fmt: skip
    assert json.loads(box("images", "--format", "json").splitlines()[0])
    assert digest.startswith("sha256:")
    # Twice the same is the same, but for the time.
    again = [box("commit", "--source-date-epoch", "1700000000", "work", f"again:{n}") for n in range(2)]
    assert again[0] == again[1]
    box("rmi", "made:1", "again:0", "again:1")


def test_commit_of_a_running_container(box: Box) -> None:
    """It stands still meanwhile, goes on afterwards, and its mount points are no part of the layer."""
    box("run", "-d", "--name", "live", "busybox", "sh", "-c", "while :; do date > /var/now; done")
    wait_for(lambda: box.raw("exec", "live", "test", "-s", "/var/now").returncode == 0)
    box("commit", "live", "made:live")
    before = box("exec", "live", "cat", "/proc/1/status")
    assert "\nState:\tT" not in before
    layer = box("diff", "made:live").split("\n")
    assert "A /var/now" in layer
    assert not [line for line in layer if re.search(r"A /(proc|sys|dev|etc/hosts|etc/resolv.conf)$", line)]
    box("rm", "-f", "live")
    box("rmi", "made:live")


def limited(box: Box, *options: str) -> bool:
    """Whether this machine and user can set a limit; where not, the message says so."""
    done = box.raw("run", "--rm", *options, "busybox", "true")
    if done.returncode == 0:
        return True
    assert done.returncode == 125
    assert b"control" in done.stderr
    assert b"Traceback" not in done.stderr
    return False


def test_limit_of_memory(box: Box) -> None:
    """What needs more is killed, and that is said with the limit; where it can't be set, that is an error."""
    if not limited(box, "--memory", "16m"):
        return
    script = "head -c 100000000 /dev/zero | tail -c 100000000 | wc -c"
    done = box.raw("run", "--rm", "--memory", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", script)
    assert b"memory ran out" in done.stderr
    assert b"16777216 bytes" in done.stderr


def test_limit_of_processes_holds_for_exec(box: Box) -> None:
    """--pids-limit counts what exec starts, too."""
    limit = ("--pids-limit", "40")  # with room for the threads of runc
    if not limited(box, *limit):
        return
    box("run", "-d", "--name", "few", *limit, "busybox", "sleep", "1000")
    script = "for i in $(seq 50); do sleep 5 & done; wait"
    done = box.raw("exec", "few", "sh", "-c", script)
    assert b"can't fork" in done.stderr
    box("rm", "-f", "few")


def test_limit_of_processors(box: Box) -> None:
    """--cpuset-cpus is what the command may run on; nonsense is refused."""
    if not limited(box, "--cpuset-cpus", "0"):
        return
    out = box(
        "run",
        "--rm",
        "--cpuset-cpus",
        "0",
        "--cpus",
        "0.5",
        "busybox",
        "grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    )
    assert out.split() == ["Cpus_allowed_list:", "0"]
    box.error("run", "--rm", "--cpuset-cpus", "9999", "busybox", "true", status=125)


# However it ends, nothing is left


def test_kill_9_with_limits_is_cleaned_up_by_the_next(box: Box) -> None:
    """A control group can't be removed by who is dead: the next limited run does it."""
    if not limited(box, "--pids-limit", "50"):
        return
    words = ("run", "--rm", "--pids-limit", "50", "busybox", "sh", "-c", "echo ready; sleep 1000")
    with box.popen(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    box("run", "--rm", "--pids-limit", "50", "busybox", "true")


@pytest.mark.parametrize("detached", [False, True])
def test_kill_9_of_the_supervisor_leaves_nothing_running(box: Box, detached: bool) -> None:
    """The container dies with its supervisor, and is then known to be dead; --rm ones are swept."""
    words = ("busybox", "sh", "-c", "(sleep 1000 &) ; echo ready; sleep 1000")
    if detached:
        box("run", "-d", "--name", "victim", *words)
        supervisor = json.loads(
            (next((box.root / "containers").glob("[0-9a-f]*")) / "status").read_text().splitlines()[-1]
        )["supervisor"]
        os.kill(supervisor, signal.SIGKILL)
    else:
        with box.popen("run", "--name", "victim", *words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.kill()
    wait_for(lambda: box("ps", "-q") == "")
    assert (
        box("ps", "-a", "--format", "{{.State}} {{.ExitCode}} {{.Error}}")
        == "exited 137 layersmith was killed\n"
    )
    box("rm", "victim")
    with box.popen("run", "--rm", "--name", "gone", *words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    box("run", "--rm", "busybox", "true")
    assert box("ps", "-aq") == ""


def test_kill_9_at_random_moments(box: Box) -> None:
    """Whenever layersmith is killed, the next run works, and then nothing is left of the ones before."""
    for number in range(12):
        with box.popen("run", "--rm", "busybox", "sh", "-c", "sleep 5", stderr=subprocess.DEVNULL) as process:
            time.sleep(0.02 * number + 0.01)
            process.kill()
    assert box("run", "--rm", "busybox", "echo", "fine") == "fine\n"
    assert box("ps", "-aq") == ""
