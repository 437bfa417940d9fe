"""What binfmt_misc says of foreign programs, and what a person is told where it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from layersmith.errors import SandboxError
from layersmith.linux.binfmt import elf_head, require

AARCH64 = """\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
"""As the kernel shows what Debian's qemu-user-static registers."""

PYTHON = "enabled\ninterpreter /usr/bin/python3\nflags: \nextension .pyc\n"


@pytest.fixture
def binfmt(tmp_path: Path) -> Path:
    (tmp_path / "register").touch()
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "python3").write_text(PYTHON)
    return tmp_path


def test_the_machines_own_programs_need_no_emulator(tmp_path: Path) -> None:
    """Nor do those of its 32-bit mode; of architectures that we know nothing of, the kernel decides."""
    for architecture in ("amd64", "386", "wasm"):
        require(architecture, machine="x86_64", directory=tmp_path / "none")


def test_a_registered_emulator_is_found_by_what_programs_begin_with(binfmt: Path) -> None:
    """Whatever the registration is called."""
    (binfmt / "any name").write_text(AARCH64)
    require("arm64", machine="x86_64", directory=binfmt)
    with pytest.raises(SandboxError, match="no emulator for riscv64 is registered") as caught:
        require("riscv64", machine="x86_64", directory=binfmt)
    assert "qemu-user-static" in caught.value.hint
    assert "mount" not in caught.value.hint


def test_where_binfmt_misc_is_not_mounted_the_hint_says_how(tmp_path: Path) -> None:
    """As in containers and small virtual machines."""
    with pytest.raises(SandboxError, match="no emulator") as caught:
        require("arm64", machine="x86_64", directory=tmp_path)
    assert "mount -t binfmt_misc" in caught.value.hint


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [("POF", "OP", "without the flag F"), ("enabled\n", "disabled\n", "switched off")],
)
def test_an_emulator_that_would_not_work_is_told(binfmt: Path, before: str, after: str, message: str) -> None:
    """One without F is looked for inside the image, where it is not."""
    (binfmt / "qemu").write_text(AARCH64.replace(before, after))
    with pytest.raises(SandboxError, match=message):
        require("arm64", machine="x86_64", directory=binfmt)
    (binfmt / "working").write_text(AARCH64)
    require("arm64", machine="x86_64", directory=binfmt)


def test_elf_heads() -> None:
    """e_machine stands in the byte order of the architecture."""
    assert elf_head("arm64")[16:] == b"\x02\x00\xb7\x00"
    assert elf_head("s390x")[4:6] == b"\x02\x02"
    assert elf_head("s390x")[16:] == b"\x00\x02\x00\x16"
