"""For tests of the command line: commands run as a user runs them, on images that layersmith did not write."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Files = Mapping[str, bytes | str | None]
"""Of a layer: path to content; a str is a symlink's target, None a directory. ``.wh.`` names are whiteouts."""


@dataclass(frozen=True)
class Cli:
    """Runs ``layersmith`` in a process of its own, on a store of its own."""

    root: Path
    cwd: Path

    def __call__(self, *words: str, stdin: bytes = b"", status: int = 0) -> str:
        """Its standard output; the test fails unless it ends with ``status``."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == status, done.stderr.decode()
        return done.stdout.decode()

    def error(self, *words: str, status: int, stdin: bytes = b"") -> str:
        """Its standard error where it has to fail; never a traceback."""
        done = self.run(*words, stdin=stdin)
        text = done.stderr.decode()
        assert done.returncode == status, text
        assert "Traceback" not in text
        return text

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        # COLUMNS: argparse breaks its lines where the terminal ends.
        env = os.environ | {"LAYERSMITH_ROOT": str(self.root), "COLUMNS": "100"}
        command = [sys.executable, "-m", "layersmith", *words]
        return subprocess.run(command, input=stdin, capture_output=True, env=env, cwd=self.cwd, timeout=60)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "store", tmp_path)


def layer_tar(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.mtime = 1_700_000_000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def docker_archive(name: str, layers: Sequence[Files], **config: Any) -> bytes:
    """What ``docker save`` would write of an image; ``config`` is the inner config object."""
    tars = [layer_tar(files) for files in layers]
    history = [
        {"created": "2023-11-14T22:13:20Z", "created_by": f"RUN step {number}"}
        for number in range(1, len(tars) + 1)
    ]
    history.append({"created": "2023-11-14T22:13:20Z", "created_by": "CMD", "empty_layer": True})
    document = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "created": "2023-11-14T22:13:20.123456789Z",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars],
        },
        "history": history,
    }
    names = [f"{number}/layer.tar" for number in range(len(tars))]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    outer: dict[str, bytes | str | None] = dict(zip(names, tars, strict=True))
    outer |= {"config.json": json.dumps(document).encode(), "manifest.json": json.dumps(manifest).encode()}
    return layer_tar(outer)


@pytest.fixture
def load(cli: Cli) -> Callable[..., str]:
    """``load(name, *layers, **config)`` puts an image into the store; its digest."""

    def load_image(name: str, *layers: Files, **config: Any) -> str:
        return cli("load", "-q", stdin=docker_archive(name, layers, **config)).strip()

    return load_image
