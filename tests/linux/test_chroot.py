"""Working from inside a chroot, as in a CI job that only has one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

IN_A_CHROOT = """
set -eu
for name in usr bin sbin lib lib64 etc root home opt proc dev; do
    [ -d "/$name" ] || continue
    [ -L "/$name" ] && { cp -a "/$name" "$1/$name"; continue; }
    mkdir "$1/$name"; mount --rbind "/$name" "$1/$name"
done
mkdir -p "$1/tmp" "$1$3"; mount --bind "$3" "$1$3"
exec chroot "$1" "$2" -c '
import sys
sys.path.insert(0, sys.argv[1])
from layersmith.linux.userns import enter
from layersmith.linux.overlay import Overlay, overlay
import os
os.chdir("/tmp")
enter()
assert os.getcwd() == "/tmp"
mounts = {line.split()[4] for line in open("/proc/self/mountinfo")}
assert {"/", "/proc"} <= mounts, mounts
os.makedirs("/tmp/lower"); os.makedirs("/tmp/merged"); open("/tmp/lower/file", "w").close()
with overlay(Overlay(("/tmp/lower",)), "/tmp/merged"):
    assert os.listdir("/tmp/merged") == ["file"]
print("fine")
' "$3"
"""


@pytest.mark.root
@pytest.mark.skipif(
    all(line.split()[4] != "/" for line in Path("/proc/self/mountinfo").read_text().splitlines()),
    reason="is in a chroot itself, where unshare(1) can't help",
)
def test_a_chroot_becomes_the_root_of_its_own_namespace(tmp_path: Path) -> None:
    """Where ``/`` is no mount, isolation works all the same, paths stay what they were, and nothing shows outside."""
    before = Path("/proc/self/mountinfo").read_text()
    project = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", IN_A_CHROOT, "sh", tmp_path, sys.executable, project],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")
    assert Path("/proc/self/mountinfo").read_text() == before
