"""EXECUTE: RUN. In: an ExecOp, the directories below it, an upper directory. Out: upper holds what the command did.

Translates the op's mounts and the build's secrets into a `Sandbox`, starts it through the spawner, and passes its
output on as events, secrets masked.
"""

from __future__ import annotations

import os
import selectors
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol

from layersmith import ops
from layersmith.dataclass import dataclass, replace
from layersmith.errors import Cancelled, CommandError, StepError
from layersmith.execute.cachemounts import cache_directory
from layersmith.execute.hidden import hiding_overlay
from layersmith.execute.mask import Mask
from layersmith.execute.mountpoints import make_mount_points
from layersmith.execute.settings import RunSettings
from layersmith.execute.tree import Tree
from layersmith.linux import caps, cgroups, hostfiles
from layersmith.linux.fuse import Overlays
from layersmith.linux.mounts import Bind, File, Mount, OverlayAt, Tmpfs
from layersmith.linux.network import Connection, DefaultNetwork
from layersmith.linux.overlay import Overlay
from layersmith.linux.runtime import Runtime, Started
from layersmith.linux.sandbox import DEFAULT_SHM_SIZE, Rlimit, Sandbox
from layersmith.linux.userns import Isolation
from layersmith.progress import Notice, Progress, StepOutput
from layersmith.store import Pending, Store

HOSTNAME = "buildkitsandbox"
MAX_SECRET = 500 * 1024
TAIL_LINES = 20


class StopFlag(Protocol):
    """Tells whether the build is to end, and calls back when it is (`solve.scheduler.Stop`)."""

    def __bool__(self) -> bool: ...
    def add(self, call: Callable[[], None]) -> int: ...
    def remove(self, token: int) -> None: ...


class Runner:
    """Runs the RUN steps of one build; safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        network: DefaultNetwork,
        isolation: Isolation,
        settings: RunSettings,
        progress: Progress,
        stop: StopFlag,
    ) -> None:
        self.store = store
        self.runtime = runtime
        self.network = network
        self.isolation = isolation
        self.settings = settings
        self.progress = progress
        self.stop = stop
        self.overlays = Overlays()

    def expect(self, op: ops.ExecOp) -> None:
        """`run` is about to be called with ``op``: what it will need besides its files can be made meanwhile."""
        if op.network == "default":
            self.network.prepare()

    def run(
        self,
        step: int,
        op: ops.ExecOp,
        lowers: tuple[Path, ...],
        pending: Pending,
        trees: Mapping[ops.Input, Tree],
    ) -> None:
        """Run ``op`` on ``lowers`` (topmost first), writing to ``pending``.

        Raises:
            CommandError: the command's status was not 0, or its time was up.
            SandboxError, StepError: it could not be started; the caller attaches the place.
        """
        with self.prepared(op, lowers, pending, trees) as prepared:
            status, tail = self._supervise(step, op, prepared.sandbox, Mask(list(prepared.secrets)))
            out_of_memory = prepared.cgroup.out_of_memory()
        if status:
            raise _command_error(op, status, tail, out_of_memory)
        if out_of_memory:
            self.progress.emit(Notice("warning", f"{_quoted(op)}: {out_of_memory}"))

    @contextmanager
    def prepared(
        self,
        op: ops.ExecOp,
        lowers: tuple[Path, ...],
        pending: Pending,
        trees: Mapping[ops.Input, Tree],
    ) -> Iterator[Prepared]:
        """All that `run` would run ``op`` in, for as long as the block lasts. Raises as `run` does."""
        with ExitStack() as exit_stack:
            cgroup = exit_stack.enter_context(cgroups.create(self.settings.limits))
            root = Overlay(
                (*(os.fspath(p) for p in lowers), os.fspath(self.mount_points)),
                os.fspath(pending.path),
                os.fspath(pending.work),
                userxattr=self.isolation.userxattr,
            )
            root = exit_stack.enter_context(self.overlays.mountable(root, pending.work.parent / "merged"))
            making = _Making(self, op, pending, trees, cgroup, exit_stack)
            yield Prepared(making.sandbox(root), cgroup, tuple(making.secrets))

    @cached_property
    def mount_points(self) -> Path:
        """The directory to put below all layers. Two steps at once may make two, which are the same."""
        return make_mount_points(self.store.temporary("mountpoints"))

    def connect(self, op: ops.ExecOp) -> Connection:
        """The network of ``op``."""
        if op.network != "default":
            return Connection(op.network)
        return self.network.connect()

    def _supervise(self, step: int, op: ops.ExecOp, sandbox: Sandbox, mask: Mask) -> tuple[int, str]:
        """The command's status and the last lines that it wrote."""
        deadline = time.monotonic() + op.timeout if op.timeout else None
        tail = bytearray()

        def emit(stream: int, data: bytes) -> None:
            if data:
                tail.extend(data)
                del tail[: -(64 << 10)]
                self.progress.emit(StepOutput(step, stream, data))

        with ExitStack() as exit_stack:
            pipes = {1: os.pipe2(os.O_CLOEXEC), 2: os.pipe2(os.O_CLOEXEC)}
            for reader, _ in pipes.values():
                exit_stack.callback(os.close, reader)
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                running = self.runtime.run(sandbox, stdin=stdin, stdout=pipes[1][1], stderr=pipes[2][1])
            finally:
                for fd in (stdin, pipes[1][1], pipes[2][1]):
                    os.close(fd)
            exit_stack.enter_context(running)
            token = self.stop.add(running.kill)
            exit_stack.callback(self.stop.remove, token)
            self._pump(
                {reader: stream for stream, (reader, _) in pipes.items()}, running, mask, emit, deadline
            )
            status = running.wait()
        if self.stop and status:
            raise Cancelled("the build was stopped")
        if deadline is not None and time.monotonic() > deadline and status == 137:
            raise CommandError(
                f"{_quoted(op)} was stopped: it ran longer than {op.timeout:g}s",
                status=124,
                tail=_last_lines(tail),
                hint="raise RUN --timeout, or find out what it waits for",
            )
        return status, _last_lines(tail)

    @staticmethod
    def _pump(
        streams: dict[int, int],
        running: Started,
        mask: Mask,
        emit: Callable[[int, bytes], None],
        deadline: float | None,
    ) -> None:
        """Pass on what the command writes, until it has closed both pipes."""
        with selectors.DefaultSelector() as selector:
            for fd in streams:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = selector.select(wait)
                if not ready and deadline is not None:
                    running.kill()
                    deadline = None
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    stream = streams[key.fd]
                    emit(stream, mask.feed(stream, data) if data else mask.flush(stream))
                    if not data:
                        selector.unregister(key.fd)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A RUN ready to be started: its sandbox and control group, and the secrets that no log may show."""

    sandbox: Sandbox
    cgroup: cgroups.Cgroup
    secrets: tuple[bytes, ...]


class _Making:
    """One RUN made ready: its mounts on the host's side exist for as long as ``exit_stack``."""

    def __init__(
        self,
        runner: Runner,
        op: ops.ExecOp,
        pending: Pending,
        trees: Mapping[ops.Input, Tree],
        cgroup: cgroups.Cgroup,
        exit_stack: ExitStack,
    ) -> None:
        self.runner = runner
        self.settings = runner.settings
        self.userxattr = runner.isolation.userxattr
        self.op = op
        self.scratch = pending.work.parent
        self.trees = trees
        self.cgroup = cgroup
        self.exit_stack = exit_stack
        self.secrets: list[bytes] = []
        self.env = dict(op.process.env) | dict(op.passed_env)
        self.mounts = [mount for m in op.mounts for mount in self.mount(m)]
        self.mounts += [File(script.path, script.data, mode=0o755) for script in op.scripts]

    def sandbox(self, root: Overlay) -> Sandbox:
        op, settings = self.op, self.settings
        connection = self.runner.connect(op)
        private = connection.network not in ("host", "none")
        may = op.privileges
        hostname = op.hostname or HOSTNAME
        addresses = dict(settings.hosts)
        added = tuple(f"{name}:{addresses[name]}" for name in op.hosts)
        return Sandbox(
            root,
            replace(op.process, env=tuple(self.env.items())),
            mounts=tuple(self.mounts),
            hostname=hostname,
            network=connection.network,
            capabilities=caps.DEFAULT if may.capabilities is None else frozenset(may.capabilities),
            seccomp=may.seccomp,
            insecure=op.security == "insecure",
            no_new_privileges=may.no_new_privileges or self.runner.isolation.rootless,
            resolv_conf=hostfiles.resolv_conf(
                settings.dns or connection.nameservers, private_network=private
            ),
            hosts=hostfiles.hosts(hostname, added),
            shm_size=op.shm_size or DEFAULT_SHM_SIZE,
            rlimits=tuple(Rlimit.parse(text) for text in op.ulimits),
            cgroups=self.cgroup.directories,
            create_cwd=True,
        )

    def mount(self, mount: ops.Mount) -> list[Mount]:
        match mount:
            case ops.BindMount():
                return [self.bind(mount)]
            case ops.CacheMount():
                source = None if mount.input is None else self.trees[mount.input]
                path = self.exit_stack.enter_context(cache_directory(self.runner.store, mount, source))
                return [Bind(os.fspath(path), mount.target, readonly=mount.readonly)]
            case ops.TmpfsMount():
                return [Tmpfs(mount.target, mount.size)]
            case ops.SecretMount():
                return self.secret(mount)
            case ops.SshMount():
                return self.ssh(mount)

    def bind(self, mount: ops.BindMount) -> Mount:
        tree = self.trees[mount.input]
        lowers: tuple[str, ...] = (os.fspath(tree.root),)
        scratch = self.scratch / f"mount-{mount.target.strip('/').replace('/', '-')}"
        if tree.ignore is not None:
            lowers = (*hiding_overlay(tree.root, tree.ignore, scratch / "hidden"), *lowers)
        if mount.readonly and len(lowers) == 1:
            return Bind(lowers[0], mount.target, readonly=True, inside=mount.source)
        if mount.readonly:
            return OverlayAt(Overlay(lowers, userxattr=self.userxattr), mount.target, mount.source)
        for name in ("upper", "work"):
            (scratch / name).mkdir(parents=True)
        overlay = Overlay(
            lowers,
            os.fspath(scratch / "upper"),
            os.fspath(scratch / "work"),
            userxattr=self.userxattr,
        )
        return OverlayAt(overlay, mount.target, mount.source)

    def secret(self, mount: ops.SecretMount) -> list[Mount]:
        read = self.settings.secrets.get(mount.id)
        if read is None:
            if mount.required:
                raise StepError(
                    f"secret {mount.id}: not found", hint=f"give --secret id={mount.id},src=FILE to the build"
                )
            return []
        data = read()
        if len(data) > MAX_SECRET:
            raise StepError(f"secret {mount.id} is larger than {MAX_SECRET // 1024} KiB")
        self.secrets.append(data)
        if mount.env is not None:
            self.env[mount.env] = data.decode("utf-8", "surrogateescape")
        if mount.target is None:
            return []
        return [File(mount.target, data, mount.mode, mount.uid, mount.gid)]

    def ssh(self, mount: ops.SshMount) -> list[Mount]:
        socket = self.settings.ssh.get(mount.id)
        if socket is None:
            if mount.required:
                raise StepError(
                    f"ssh agent {mount.id}: not given",
                    hint=f"give --ssh {mount.id} to the build, with an agent running ($SSH_AUTH_SOCK)",
                )
            return []
        self.env.setdefault("SSH_AUTH_SOCK", mount.target)
        return [Bind(os.fspath(socket), mount.target)]


def _quoted(op: ops.ExecOp) -> str:
    return (
        f'process "{shlex.join(op.process.args) if len(op.process.args) != 3 else " ".join(op.process.args)}"'
    )


def _command_error(op: ops.ExecOp, status: int, tail: str, out_of_memory: str) -> CommandError:
    hints = {
        126: "126: found, but it can't be executed: is it a program for this machine, with its x bit set?",
        127: "127: not found: is it installed in the image, and on its PATH?",
        137: "137: killed by SIGKILL; by the kernel, if memory ran out",
    }
    return CommandError(
        f"{_quoted(op)} did not complete successfully: exit code: {status}",
        status=status,
        tail=tail,
        hint=out_of_memory or hints.get(status, ""),
    )


def _last_lines(tail: bytearray) -> str:
    lines = bytes(tail).decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])
