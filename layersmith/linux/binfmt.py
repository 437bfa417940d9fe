"""Which foreign programs this kernel runs. In: an architecture, binfmt_misc's directory. Out: why not, if it does not.

A static qemu, registered with the flag F (the kernel holds it open), works in any root file system without being in
it: that is what Debian's qemu-user-static does. See Documentation/admin-guide/binfmt-misc.rst.
"""

from __future__ import annotations

import os
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.errors import SandboxError

BINFMT = Path("/proc/sys/fs/binfmt_misc")

_ELF = {
    # architecture: 64 bit, big endian, e_machine
    "386": (False, False, 3),
    "amd64": (True, False, 62),
    "arm": (False, False, 40),
    "arm64": (True, False, 183),
    "loong64": (True, False, 258),
    "mips": (False, True, 8),
    "mipsle": (False, False, 8),
    "mips64": (True, True, 8),
    "mips64le": (True, False, 8),
    "ppc64": (True, True, 21),
    "ppc64le": (True, False, 21),
    "riscv64": (True, False, 243),
    "s390x": (True, True, 22),
}

_NATIVE = {
    "x86_64": ("amd64", "386"),
    "aarch64": ("arm64", "arm"),
    "s390x": ("s390x",),
    "ppc64le": ("ppc64le",),
    "riscv64": ("riscv64",),
}
"""What each machine's processor runs by itself."""

_INSTALL = "install qemu-user-static (`apt-get install qemu-user-static`), which registers an emulator for every program"


@dataclass(frozen=True, slots=True)
class Handler:
    """One registration: bytes at ``offset`` that ``mask`` and ``magic`` tell."""

    interpreter: str
    enabled: bool
    flags: str
    offset: int
    magic: bytes
    mask: bytes

    def takes(self, head: bytes) -> bool:
        """Whether a program that begins with ``head`` is this handler's."""
        part = head[self.offset : self.offset + len(self.magic)]
        return len(part) == len(self.magic) and all(
            (byte ^ wanted) & mask == 0
            for byte, wanted, mask in zip(part, self.magic, self.mask, strict=True)
        )


def require(architecture: str, *, machine: str = os.uname().machine, directory: Path = BINFMT) -> None:
    """Nothing, if programs for ``architecture`` (as in `Platform`) can be executed in a sandbox.

    Raises:
        SandboxError: they can't; its hint says what to install or to switch on.
    """
    if architecture not in _ELF or architecture in _NATIVE.get(machine, ()):
        return
    handler = _handler(architecture, directory)
    if handler is None:
        raise SandboxError(
            f"no emulator for {architecture} is registered with binfmt_misc", hint=_missing(directory)
        )
    if not handler.enabled:
        raise SandboxError(
            f"the emulator for {architecture}, {handler.interpreter}, is switched off",
            hint=f"echo 1 >{directory}/status, and into the handler's own file",
        )
    if "F" not in handler.flags:
        raise SandboxError(
            f"the emulator for {architecture}, {handler.interpreter}, is registered without the flag F, so it would have "
            "to be in the image",
            hint="qemu-user-static registers it with F (fix_binary); qemu-user-binfmt does not",
        )


def _missing(directory: Path) -> str:
    if not (directory / "register").exists():
        return f"{_INSTALL}; then `mount -t binfmt_misc binfmt_misc {directory}` and `systemctl restart systemd-binfmt`"
    return _INSTALL


def _handler(architecture: str, directory: Path) -> Handler | None:
    """The best registration for the architecture's programs: one that works before one that does not."""
    head = elf_head(architecture)
    found = [handler for handler in _handlers(directory) if handler.takes(head)]
    found.sort(key=lambda handler: (handler.enabled, "F" in handler.flags))
    return found[-1] if found else None


def _handlers(directory: Path) -> list[Handler]:
    try:
        paths = sorted(directory.iterdir())
        switched_on = (directory / "status").read_text().strip() == "enabled"
    except OSError:
        return []
    found = []
    for path in paths:
        try:
            found.append(_parsed(path.read_text(), switched_on=switched_on))
        except (OSError, ValueError, KeyError, IndexError):
            continue  # ``register`` and ``status``, handlers by a file name's ending, and one that has just gone
    return found


def _parsed(text: str, *, switched_on: bool) -> Handler:
    first, *lines = text.splitlines()
    fields = {key.rstrip(":"): value for key, _, value in (line.partition(" ") for line in lines)}
    magic = bytes.fromhex(fields["magic"])
    mask = bytes.fromhex(fields["mask"]) if "mask" in fields else b"\xff" * len(magic)
    if len(mask) != len(magic):
        raise ValueError(text)
    enabled = switched_on and first == "enabled"
    return Handler(fields["interpreter"], enabled, fields["flags"], int(fields["offset"]), magic, mask)


def elf_head(architecture: str) -> bytes:
    """How an executable for ``architecture`` begins: e_ident, e_type, e_machine."""
    wide, big, machine = _ELF[architecture]
    order = "big" if big else "little"
    ident = b"\x7fELF" + bytes([2 if wide else 1, 2 if big else 1, 1]) + bytes(9)
    return ident + (2).to_bytes(2, order) + machine.to_bytes(2, order)  # type: ignore[arg-type]
