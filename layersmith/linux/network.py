"""The network ``default``: one private network namespace with a way out, for all steps of a build.

In: a `Spawner` and a directory. Out: a namespace's path for `Sandbox.network`, and its name servers. The way out is a
user-mode network stack, pasta or slirp4netns, started when the first step needs it; it dies with the spawner.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.errors import LayersmithError
from layersmith.linux import libc, netns
from layersmith.linux.spawner import Running, Spawner

NAME_SERVER = "10.0.2.3"
"""Where both programs are told to answer DNS questions, with the host's own resolver."""


@dataclass(frozen=True, slots=True)
class Connection:
    """``network`` for `Sandbox.network`, ``nameservers`` for its resolv.conf (empty: the host's).

    ``notice``: what to tell the user, once, where it is not the private network that was asked for.
    """

    network: str
    nameservers: tuple[str, ...] = ()
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Helper:
    """A program that connects a network namespace: its arguments for the namespace's path."""

    program: str
    arguments: Callable[[str], tuple[str, ...]]
    says_ready: bool
    """It writes to its standard output when it is ready; else it goes to the background then."""


HELPERS = (
    Helper(
        "pasta",
        lambda path: (
            *("--quiet", "--config-net", "--no-map-gw", "--dns-forward", NAME_SERVER, "--runas", "0"),
            *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
            *("--netns", path),
        ),
        says_ready=False,
    ),
    Helper(
        "slirp4netns",
        lambda path: (
            *("--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--ready-fd=1"),
            *("--netns-type=path", path, "tap0"),
        ),
        says_ready=True,
    ),
)


class DefaultNetwork:
    """The one connection of a build. Safe to use from several threads; a context manager."""

    def __init__(
        self,
        spawner: Spawner,
        directory: Path,
        *,
        notify: Callable[[str], None] = lambda _: None,
        helpers: tuple[Helper, ...] = HELPERS,
    ) -> None:
        """``directory``: where the namespace gets a name, in the mount namespace that spawner and caller share;
        ``notify`` hears, once, that the network is not the private one."""
        self._spawner = spawner
        self._path = directory / f"network-{os.getpid()}"
        self._notify = notify
        self._helpers = helpers
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._running: Running | None = None
        self._begun = False

    def prepare(self) -> None:
        """Begin to connect, so that whoever calls `connect` later need not wait as long."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._try, name="network").start()

    def connect(self) -> Connection:
        """The connection, made at the first call. Where it can't be: the host's network, and a notice."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
                if self._connection.notice:
                    self._notify(self._connection.notice)
            return self._connection

    def _try(self) -> None:
        with contextlib.suppress(LayersmithError):  # who needs it will find out, and say where
            self.connect()

    def close(self) -> None:
        """End the helper and let go of the namespace. Idempotent."""
        with self._lock:
            if self._running is not None:
                self._running.close()
                self._running = None
            if self._path.exists():
                libc.umount(os.fspath(self._path), detach=True)
                self._path.unlink()
            self._connection = None

    def __enter__(self) -> DefaultNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> Connection:
        installed = [h for h in self._helpers if shutil.which(h.program)]
        if not installed:
            names = " or ".join(h.program for h in self._helpers)
            return Connection(
                "host", notice=f"steps use the host's network; install {names} for one of their own"
            )
        try:
            netns.make(self._path)
        except OSError as error:
            return Connection("host", notice=f"steps use the host's network: no namespace: {error.strerror}")
        problem = ""
        for helper in installed:
            problem = self._start(helper)
            if not problem:
                return Connection(os.fspath(self._path), (NAME_SERVER,))
        return Connection("host", notice=f"steps use the host's network: {problem}")

    def _start(self, helper: Helper) -> str:
        """Start it and wait until it is ready; what went wrong, else nothing."""
        command = (helper.program, *helper.arguments(os.fspath(self._path)))
        reader, writer = os.pipe2(os.O_CLOEXEC)
        errors = os.memfd_create("network-helper")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            running = self._spawner.run_program(command, stdin=null, stdout=writer, stderr=errors)
            os.close(writer)
            writer = -1
            ready = bool(os.read(reader, 1)) if helper.says_ready else running.wait() == 0
            if ready:
                self._running = running
                return ""
            running.close()
            said = os.pread(errors, 4096, 0).decode(errors="replace").strip().splitlines()
            return f"{helper.program}: {said[-1] if said else 'it ended'}"
        finally:
            for descriptor in (reader, writer, errors, null):
                if descriptor >= 0:
                    os.close(descriptor)
