"""A docker-registry of our own, for the tests that need a real one."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

USER, PASSWORD = "me", "s3cret"
HTPASSWD = "me:$2b$04$GGd02ACD0zhoTVoRjOPuruau1enDNYysxI8eVyM6znFuMtMLMhNLG\n"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(directory: Path, **settings: object) -> Iterator[str]:
    """A docker-registry of our own; its ``host:port``."""
    port = free_port()
    http = {"addr": f"127.0.0.1:{port}", **dict(settings.pop("http", {}))}  # type: ignore[call-overload]
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
        "http": http,
        **settings,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yml").write_text(json.dumps(config))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log
        )
        try:
            wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def wait_for(port: int) -> None:
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("docker-registry did not start")
