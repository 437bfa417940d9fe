"""The command ``layersmith`` as its users have it: a process with arguments, a store and an exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "layersmith")
FOREIGN = ("LAYERSMITH_", "SOURCE_DATE_EPOCH", "DOCKER_", "BUILDKIT_", "XDG_", "SSH_AUTH_SOCK")

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Layersmith:
    """The command with a store of its own; call it with its arguments."""

    root: Path
    environment: Mapping[str, str]

    @classmethod
    def at(cls, root: Path, home: Path) -> Layersmith:
        """With the store ``root`` and the home directory ``home``, and nothing of the caller's that changes a build."""
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return cls(root, kept | {"HOME": os.fspath(home), "LAYERSMITH_ROOT": os.fspath(root)})

    def with_store(self, root: Path) -> Layersmith:
        return Layersmith(root, {**self.environment, "LAYERSMITH_ROOT": os.fspath(root)})

    def __call__(
        self,
        *words: object,
        status: int = 0,
        timeout: float = 120,
        before: tuple[str, ...] = (),
        cwd: Path | None = None,
        stdin: object = subprocess.DEVNULL,
        umask: int = -1,
        **environment: str,
    ) -> Done:
        """Run it to its end, which must give ``status``. ``before`` are words to put before the command."""
        done = subprocess.run(
            [*before, *COMMAND, *map(str, words)],
            env={**self.environment, **environment},
            stdin=stdin,  # type: ignore[call-overload]
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            cwd=cwd,
            umask=umask,
        )
        shown = f"layersmith {' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == status, shown
        assert "Traceback" not in done.stderr, shown
        return done

    def start(self, *words: object, **environment: str) -> subprocess.Popen[str]:
        """Start it in the background, in a process group of its own; for a ``with`` block."""
        return subprocess.Popen(
            [*COMMAND, *map(str, words)],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def digest(self, name: str) -> str:
        """An image's manifest digest."""
        return self("inspect", "--format", "{{.Id}}", name).stdout.strip()

    def processes(self, marker: str = "") -> list[str]:
        """The command lines of all processes that have this store, or ``marker``, in their arguments or environment."""
        wanted = [os.fsencode(self.root)] + ([marker.encode()] if marker else [])
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                known = line + Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:  # another user's, or gone by now
                continue
            if any(word in known for word in wanted):
                found.append(f"{entry}: {line.replace(bytes(1), b' ').decode(errors='replace')}")
        return found

    def mounts(self) -> list[str]:
        """The mounts of this store's files, or in it, that others than layersmith see."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if os.fspath(self.root) in line]
