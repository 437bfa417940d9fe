"""One build for several platforms: RUN through an emulator, an index in the store, at a registry, and in files."""

from __future__ import annotations

import io
import json
import platform
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from program import Layersmith

from layersmith.errors import SandboxError
from layersmith.linux.binfmt import require
from layersmith.transport.registry.fake import FakeRegistry

BUILDFILE = """\
FROM tiny
ARG TARGETARCH TARGETPLATFORM BUILDPLATFORM
COPY greeting /for-$TARGETARCH
LABEL target=$TARGETPLATFORM build=$BUILDPLATFORM
RUN ["/bin/machine"]
CMD ["/bin/machine"]
"""
BOTH = "linux/amd64,linux/arm64"

AARCH64 = struct.pack(
    "<18I",
    0xD10803FF,  # sub sp, sp, #512
    0x910003E0,  # mov x0, sp
    0xD2801408,  # mov x8, #160 (uname)
    0xD4000001,  # svc #0
    0x92800C60,  # mov x0, #-100
    0x100001A1,  # adr x1, path
    0xD2800822,  # mov x2, #0x41 (O_WRONLY | O_CREAT)
    0xD2803483,  # mov x3, #0644
    0xD2800708,  # mov x8, #56 (openat)
    0xD4000001,
    0x910413E1,  # add x1, sp, #260 (utsname.machine)
    0xD28000C2,  # mov x2, #6
    0xD2800808,  # mov x8, #64 (write)
    0xD4000001,
    0xD2800000,  # mov x0, #0
    0xD2800BA8,  # mov x8, #93 (exit)
    0xD4000001,
    0xD503201F,  # nop
)
X86_64 = bytes.fromhex(
    "4881ec00020000"  # sub rsp, 512
    "4889e7 b83f000000 0f05"  # uname(rsp)
    "488d3d30000000 be41000000 baa4010000 b802000000 0f05"  # open(path, O_WRONLY | O_CREAT, 0644)
    "89c7 488db42404010000 ba06000000 b801000000 0f05"  # write(fd, utsname.machine, 6)
    "31ff b83c000000 0f05"  # exit(0)
)


def program(machine: int, code: bytes) -> bytes:
    """An ELF executable that writes the first six letters of what uname says of the machine to /machine."""
    body = code + b"/machine\0"
    size = 120 + len(body)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000) + body


def rootfs(path: Path, executable: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("bin/machine")
        info.mode, info.size = 0o755, len(executable)
        tar.addfile(info, io.BytesIO(executable))
    return path


@pytest.fixture
def tiny(layersmith: Layersmith, tmp_path: Path, context: Path) -> Layersmith:
    """A store with ``tiny``, an index of two images of one program; and a context."""
    for architecture, machine, code in (("amd64", 62, X86_64), ("arm64", 183, AARCH64)):
        archive = rootfs(tmp_path / f"{architecture}.tar", program(machine, code))
        layersmith("import", "--platform", f"linux/{architecture}", archive, f"tiny:{architecture}")
    layersmith("manifest", "create", "tiny", "tiny:amd64", "tiny:arm64")
    (context / "Buildfile").write_text(BUILDFILE)
    (context / "greeting").write_text("hello\n")
    return layersmith


@pytest.fixture
def emulator() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("needs an amd64 machine, on which arm64 is foreign")
    try:
        require("arm64")
    except SandboxError as error:
        pytest.skip(f"needs qemu-user-static: {error.message}")


def files(ours: Layersmith, name: str, architecture: str, tmp_path: Path) -> dict[str, bytes]:
    """The files of one of an index's images, without the program."""
    target = tmp_path / f"out-{name.replace(':', '-')}-{architecture}"
    ours("export", "--platform", f"linux/{architecture}", name, "-o", f"type=local,dest={target}")
    return {p.name: p.read_bytes() for p in target.iterdir() if p.is_file()}


@pytest.mark.usefixtures("emulator")
def test_two_platforms_with_a_run_step(tiny: Layersmith, context: Path, tmp_path: Path) -> None:
    """Each variant was built by its own programs, and each runs here."""
    tiny("build", "--platform", BOTH, "-t", "both", context)
    assert files(tiny, "both", "amd64", tmp_path) == {"for-amd64": b"hello\n", "machine": b"x86_64"}
    assert files(tiny, "both", "arm64", tmp_path) == {"for-arm64": b"hello\n", "machine": b"aarch6"}
    for architecture in ("amd64", "arm64"):
        tiny("run", "--rm", "--platform", f"linux/{architecture}", "both")
        labels = tiny(
            "inspect", "--platform", f"linux/{architecture}", "--format", "{{json .Config.Labels}}", "both"
        )
        assert json.loads(labels.stdout) == {"target": f"linux/{architecture}", "build": "linux/amd64"}
    again = tiny("build", "--platform", BOTH, "-t", "again", context)
    assert "4 cached" in again.stderr
    assert tiny.digest("again") == tiny.digest("both")


@pytest.mark.interop
@pytest.mark.needs_skopeo
@pytest.mark.usefixtures("emulator")
def test_one_index_at_a_registry(tiny: Layersmith, context: Path, tmp_path: Path) -> None:
    """Pushed as one, seen by skopeo as both, and a base for both in another store, which then asks nobody."""
    with FakeRegistry() as registry:
        name = f"{registry.host}/both:1"
        tiny("build", "--platform", BOTH, "-t", name, "--push", context)
        for architecture in ("amd64", "arm64"):
            found = subprocess.run(
                [
                    "skopeo",
                    "inspect",
                    "--tls-verify=false",
                    "--override-arch",
                    architecture,
                    f"docker://{name}",
                ],
                capture_output=True,
                check=True,
            )
            assert json.loads(found.stdout)["Architecture"] == architecture
        other = tiny.with_store(tmp_path / "other")
        (context / "further").write_text(f"FROM {name}\nCOPY greeting /\n")
        other("build", "--platform", BOTH, "-t", "further", "-f", context / "further", context)
    other("build", "--platform", BOTH, "-t", "further", "-f", context / "further", context)
    assert files(other, "further", "arm64", tmp_path)["machine"] == b"aarch6"


def test_without_an_emulator_the_error_names_the_package_and_the_step(
    tiny: Layersmith, context: Path
) -> None:
    """On a machine that can't run s390x; nothing is built of what comes before."""
    try:
        require("s390x")
    except SandboxError:
        pass
    else:
        pytest.skip("this machine runs s390x")
    head = b"\x7fELF\x02\x02\x01" + bytes(9) + struct.pack(">HHIQ", 2, 22, 1, 0)
    (context / "machine").write_bytes(head + bytes(100))
    (context / "Buildfile").write_text('FROM scratch\nCOPY --chmod=755 machine /\nRUN ["/machine"]\n')
    failed = tiny("build", "--platform", "linux/s390x", "-t", "other", context, status=8)
    assert "RUN for linux/s390x can't be done on this machine" in failed.stderr
    assert "qemu-user-static" in failed.stderr
    assert ":3:1" in failed.stderr
    assert "other" not in tiny("images", "-q", "--format", "{{.Repository}}").stdout


def test_outputs_of_several_platforms(tiny: Layersmith, context: Path, tmp_path: Path) -> None:
    """A layout has the index; files of each platform have a directory, named as buildx names it; both files say the index."""
    (context / "Buildfile").write_text("FROM tiny\nARG TARGETARCH\nCOPY greeting /for-$TARGETARCH\n")
    tiny(
        *(
            "build",
            "--platform",
            BOTH,
            "--iidfile",
            tmp_path / "iid",
            "--metadata-file",
            tmp_path / "metadata",
        ),
        *("-o", f"type=oci,dest={tmp_path / 'both.tar'}", "-o", tmp_path / "out", context),
    )
    digest = (tmp_path / "iid").read_text()
    metadata = json.loads((tmp_path / "metadata").read_text())
    assert metadata["containerimage.digest"] == digest
    assert metadata["containerimage.descriptor"]["mediaType"].endswith("image.index.v1+json")
    with tarfile.open(tmp_path / "both.tar") as tar:
        listed = json.load(tar.extractfile("index.json") or io.BytesIO())
    assert [entry["digest"] for entry in listed["manifests"]] == [digest]
    for architecture in ("amd64", "arm64"):
        assert (tmp_path / "out" / f"linux_{architecture}" / f"for-{architecture}").read_text() == "hello\n"
    one = tiny(
        "build", "--platform", BOTH, "-o", f"type=docker,dest={tmp_path / 'docker.tar'}", context, status=2
    )
    assert "one platform" in one.stderr
