"""The spawner's own side: a loop in a process of its own. In: requests on a socket. Out: sandboxes, and reports on them.

Single-threaded and small, with everything imported and computed that a sandbox needs: the clone of it that becomes the
sandbox has nothing left to load.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import pickle
import select
import signal
import socket
from typing import Never

from layersmith.linux import launch, libc, seccomp
from layersmith.linux.launch import Launch, Streams
from layersmith.linux.machine import Machine
from layersmith.linux.pid1 import shell_status
from layersmith.linux.sandbox import Sandbox
from layersmith.oci.process import Process


def serve_and_exit(requests: socket.socket, parent: int) -> Never:
    """The spawner's life. Never returns into the caller's code, whatever happens."""
    status = 1
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() in (0, parent):  # 0: in its own PID namespace; else the parent died before prctl
            Server(requests).serve()
            status = 0
    finally:
        os._exit(status)


class Server:
    """The loop: takes requests, clones sandboxes, and passes on how they ended."""

    def __init__(self, requests: socket.socket) -> None:
        self.requests = requests
        self.machine = Machine.inspect()
        self.poll = select.poll()
        self.children: dict[int, tuple[int, socket.socket]] = {}
        self.programs: dict[frozenset[str], bytes] = {}

    def serve(self) -> None:
        """Until the parent closes its end. Ctrl-C is for the parent to handle: it knows what to stop."""
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        self.program(Sandbox("/", Process(())))
        gc.disable()
        gc.freeze()
        self.poll.register(self.requests, select.POLLIN)
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor != self.requests.fileno():
                    self.ended(descriptor)
                elif not self.serve_one():
                    return

    def serve_one(self) -> bool:
        """Take one request: b"." with the descriptors of a memfd (kind, sandbox, process), of the socket for reports,
        and of the streams. False at the end of the parent."""
        data, descriptors, _, _ = socket.recv_fds(self.requests, 16, 8)
        if not data:
            return False
        payload, channel, *streams = descriptors
        with os.fdopen(payload, "rb") as file:
            file.seek(0)
            kind, sandbox, process = pickle.load(file)
        replies = socket.socket(fileno=channel)
        try:
            self.start(kind, sandbox, process, replies, streams)
        except OSError as error:
            doing = "clone a process into new namespaces"
            self.tell(replies, "failed", doing, "", error.errno or 0, error.strerror or "")
            self.tell(replies, "exited", 1)
            replies.close()
        finally:
            for descriptor in streams:
                os.close(descriptor)
        return True

    def start(
        self, kind: str, sandbox: Sandbox, process: Process, replies: socket.socket, streams: list[int]
    ) -> None:
        may = launch.privileges(sandbox, self.machine, self.program(sandbox))
        flags = launch.clone_flags(sandbox) if kind == "run" else 0
        pid, pidfd = libc.clone(flags)
        if pid == 0:
            ends = Streams(streams[0], streams[1], streams[2], channel=replies.detach())
            launched = Launch(sandbox, process, self.machine, may, ends)
            if kind == "run":
                launched.launch()
            if kind == "program":
                launched.run_program()
            launched.enter(streams[3])
        self.children[pidfd] = pid, replies
        self.poll.register(pidfd, select.POLLIN)
        self.tell(replies, "cloned", descriptors=(pidfd,))

    def program(self, sandbox: Sandbox) -> bytes:
        """The seccomp filter for a sandbox's capabilities, assembled once."""
        if sandbox.insecure or not sandbox.seccomp:
            return b""
        if sandbox.capabilities not in self.programs:
            self.programs[sandbox.capabilities] = seccomp.program(sandbox.capabilities)
        return self.programs[sandbox.capabilities]

    def ended(self, pidfd: int) -> None:
        """Reap a sandbox and report its status."""
        pid, replies = self.children.pop(pidfd)
        self.poll.unregister(pidfd)
        _, status = os.waitpid(pid, 0)
        self.tell(replies, "exited", shell_status(status))
        os.close(pidfd)
        replies.close()

    def tell(self, replies: socket.socket, *message: str | int, descriptors: tuple[int, ...] = ()) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller has lost interest
            socket.send_fds(replies, [marshal.dumps((message, ()))], descriptors)
