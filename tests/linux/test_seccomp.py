"""The filter, run by an interpreter of classic BPF: what it says to each call, on each architecture."""

from __future__ import annotations

import errno
import struct

import pytest

from layersmith.linux import caps, seccomp, syscalls

EPERM = seccomp.RET_ERRNO | errno.EPERM
ENOSYS = seccomp.RET_ERRNO | errno.ENOSYS
LONGEST_PROGRAM = 4096


def verdict(program: bytes, architecture: str, number: int, *args: int) -> int:
    """What ``program`` returns for a call: an independent reading of linux/filter.h and struct seccomp_data."""
    data = struct.pack(
        "=iIQ6Q",
        number - (number >> 31 << 32),
        seccomp.AUDIT_ARCH[architecture],
        0,
        *(*args, 0, 0, 0, 0, 0, 0)[:6],
    )
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = at = 0
    while True:
        opcode, true, false, operand = code[at]
        at += 1
        if opcode == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            accumulator = struct.unpack_from("=I", data, operand)[0]
        elif opcode == 0x05:  # BPF_JMP | BPF_JA
            at += operand
        elif opcode == 0x06:  # BPF_RET | BPF_K
            return int(operand)
        else:
            tests = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: accumulator & operand}
            at += true if tests[opcode] else false


def says(
    name: str, *args: int, architecture: str = "x86_64", capabilities: frozenset[str] = caps.DEFAULT
) -> int:
    machine = {"i386": "x86_64", "arm": "aarch64"}.get(architecture, architecture)
    program = seccomp.program(capabilities, machine)
    return verdict(program, architecture, syscalls.numbers(architecture)[name], *args)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_gets_what_the_table_says(machine: str) -> None:
    """For all numbers of both of a machine's architectures: refused names EPERM, known ones allowed, others ENOSYS."""
    program = seccomp.program(caps.DEFAULT, machine)
    refused = seccomp.refused(caps.DEFAULT)
    for architecture in seccomp.COMPATIBLE[machine]:
        names = {number: name for name, number in syscalls.numbers(architecture).items()}
        for number in range(max(n for n in names if n < 1000) + 50):
            name = names.get(number)
            expected = ENOSYS if name in (None, "clone3") else EPERM if name in refused else seccomp.RET_ALLOW
            assert verdict(program, architecture, number) == expected, (architecture, number, name)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_program_is_valid(machine: str) -> None:
    """Short enough, only known opcodes, every jump inside, and a return at the end: the kernel's own checks."""
    program = seccomp.program(frozenset(), machine)
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    assert len(code) <= LONGEST_PROGRAM
    for at, (opcode, true, false, operand) in enumerate(code):
        assert opcode in (0x20, 0x05, 0x06, 0x15, 0x35, 0x45)
        if opcode == 0x20:
            assert operand % 4 == 0 and operand < 64
        elif opcode == 0x05:
            assert at + 1 + operand < len(code)
        elif opcode != 0x06:
            assert at + 1 + max(true, false) < len(code)
    assert code[-1] == (0x06, 0, 0, seccomp.RET_KILL_PROCESS)


@pytest.mark.parametrize("architecture", ["x86_64", "i386", "aarch64", "arm"])
@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("clone", (0x11,), seccomp.RET_ALLOW),
        ("clone", (0x10000011,), EPERM),  # CLONE_NEWUSER
        ("clone", (0x00020011,), EPERM),  # CLONE_NEWNS
        ("clone", (0x003D0F00,), seccomp.RET_ALLOW),  # a thread
        ("clone3", (), ENOSYS),
        ("personality", (0xFFFFFFFF,), seccomp.RET_ALLOW),
        ("personality", (0x40000,), EPERM),  # ADDR_NO_RANDOMIZE
        ("socket", (2,), seccomp.RET_ALLOW),
        ("socket", (40,), EPERM),  # AF_VSOCK
        ("ioctl", (0, 0x5412), EPERM),  # TIOCSTI
        ("ioctl", (0, 0x100005412), EPERM),  # the kernel drops the high half (CVE-2019-10063)
        ("ioctl", (0, 0x5413), seccomp.RET_ALLOW),
        ("mount", (), EPERM),
        ("keyctl", (), EPERM),
        ("bpf", (), EPERM),
        ("unshare", (), EPERM),
        ("setns", (), EPERM),
        ("kexec_load", (), EPERM),
        ("ptrace", (), seccomp.RET_ALLOW),
        ("chroot", (), seccomp.RET_ALLOW),
    ],
)
def test_rules(architecture: str, name: str, args: tuple[int, ...], expected: int) -> None:
    """The calls that matter, on every architecture."""
    assert says(name, *args, architecture=architecture) == expected


def test_capabilities_bring_calls_back() -> None:
    """As in Docker's profile: a call that needs a capability is there for those who have it."""
    everything = caps.ALL
    assert says("mount", capabilities=everything) == seccomp.RET_ALLOW
    assert says("clone", 0x10000000, capabilities=everything) == seccomp.RET_ALLOW
    assert says("clone3", capabilities=everything) == seccomp.RET_ALLOW
    assert says("keyctl", capabilities=everything) == EPERM
    assert says("syslog", capabilities=caps.DEFAULT | {"CAP_SYSLOG"}) == seccomp.RET_ALLOW
    assert says("chroot", capabilities=caps.DEFAULT - {"CAP_SYS_CHROOT"}) == EPERM


def test_other_architectures() -> None:
    """Another architecture's calls kill; x32's, which share x86-64's, do not exist."""
    program = seccomp.program(caps.DEFAULT, "x86_64")
    assert verdict(program, "aarch64", 0) == seccomp.RET_KILL_PROCESS
    assert verdict(program, "x86_64", 0x40000000) == ENOSYS
    assert verdict(program, "x86_64", 0xFFFFFFFF) == ENOSYS
    assert seccomp.program(caps.DEFAULT, "riscv64") == b""


def test_refused_names_exist() -> None:
    """No name in the lists is misspelt: each is a call of some architecture."""
    known = {name for architecture in syscalls.ARCHITECTURES for name in syscalls.numbers(architecture)}
    assert seccomp.refused(frozenset()) <= known
