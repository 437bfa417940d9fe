"""``layersmith completion``: what a shell sources to complete layersmith's words; `complete` makes the candidates."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

SHELLS = ("bash", "zsh", "fish")

COMPLETION_EXAMPLES = """\
examples:
  source <(layersmith completion bash)                                      this shell; or put it into ~/.bashrc
  layersmith completion bash >/etc/bash_completion.d/layersmith             everybody's shells
  layersmith completion zsh >"${fpath[1]}/_layersmith"                      before compinit runs
  layersmith completion fish >~/.config/fish/completions/layersmith.fish
"""


def completion_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def completion(args: Namespace) -> int:
    """Print the script."""
    sys.stdout.write((Path(__file__).with_name("shells") / f"layersmith.{args.shell}").read_text())
    return 0
