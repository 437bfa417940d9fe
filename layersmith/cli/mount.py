"""``mount``: a live overlay of an image's layers, and a shell to look at it from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from layersmith.cli.stores import open_store, platform_argument, platform_of
from layersmith.cli.table import printable
from layersmith.errors import SandboxError, UsageError
from layersmith.linux import libc

if TYPE_CHECKING:
    from layersmith.anatomy.live import Mounted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

MOUNT_EXAMPLES = """\
examples:
  layersmith mount busybox                              a shell beside lower/, upper/, work/ and merged/
  layersmith mount busybox -- sh -c 'mv $MERGED/bin/echo $MERGED/bin/say; ls -l $UPPER/bin'
  layersmith mount busybox -- chroot merged /bin/sh     in the image's files
  layersmith mount --print busybox                      only say where, and stay until Ctrl-C

The mount exists in a mount namespace of its own: nobody else sees it, and it goes with the shell, as do upper and
work. The lower directories are the store's snapshots: look, but don't touch. examples/overlay-tour is a walk.
"""


def mount_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, or the beginning of a digest")
    add("command", nargs="*", metavar="-- COMMAND", help="run this instead of $SHELL, on the host's files")
    add("--print", action="store_true", help="print the four directories, and stay until Ctrl-C or SIGTERM")
    platform_argument(parser)


def mount(args: Namespace) -> int:
    """Mount, run a shell, unmount; its status."""
    from layersmith.anatomy.images import find
    from layersmith.anatomy.live import mounted
    from layersmith.linux.userns import enter

    if args.print and args.command:
        raise UsageError("--print runs no command", hint="leave one of them out")
    isolation = enter()
    with open_store(args) as store:
        _, image = find(store, args.image, platform_of(args))
        with mounted(store, image, isolation) as live:
            if args.print:
                return _print(live)
            if not args.command:
                print(_banner(args.image, live), file=sys.stderr)
            return _run(live, tuple(args.command) or (os.environ.get("SHELL") or "/bin/sh",))


def _print(live: Mounted) -> int:
    """Say where, for a shell to ``eval``; then wait."""
    for name, value in live.environment().items():
        print(f"{name}={value}")
    # Whoever may look at this process can go in by way of /proc, though the mount is in no namespace but ours.
    print(f"OUTSIDE=/proc/{os.getpid()}/root{live.merged}", flush=True)
    print("mounted until Ctrl-C; other processes find merged at $OUTSIDE", file=sys.stderr)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    signal.sigwait(ENDING)
    return 0


def _banner(name: str, live: Mounted) -> str:
    count = len(live.lowers)
    layers = "1 layer" if count == 1 else f"{count} layers, lower/1 the topmost"
    return f"""\
{printable(name)} is mounted in {live.directory}:
  lower/   $LOWER   the image: {layers}, read-only and shared by all that use it
  upper/   $UPPER   what is changed in merged/, and nothing else (docker calls it diff)
  work/    $WORK    overlayfs' own scratch space
  merged/  $MERGED  lower and upper as one
Try: echo hi > merged/new; ls upper      mv merged/bin/echo merged/bin/say; ls -l upper/bin
     chroot merged /bin/sh               findmnt merged
The mount is seen from this shell alone, and goes with it: type exit."""


def _run(live: Mounted, command: tuple[str, ...]) -> int:
    """Run ``command`` in the directory of the mount; its status as a shell gives it."""
    environment = os.environ | live.environment()
    try:
        child = subprocess.Popen(command, cwd=live.directory, env=environment, preexec_fn=_end_with_parent)
    except OSError as error:
        raise SandboxError(
            f"can't run {command[0]}: {error.strerror}", hint="the command is one of this machine's"
        ) from None

    def pass_on(*_: object) -> None:
        child.send_signal(signal.SIGHUP)  # an interactive shell ignores SIGTERM

    # A Ctrl-C reaches the shell by itself, being in the same group of processes, and is its business alone.
    before = {
        number: signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else pass_on)
        for number in ENDING
    }
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _end_with_parent() -> None:
    """In the child: a shell without its layersmith would be left in a directory that the next sweep deletes."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGHUP)
