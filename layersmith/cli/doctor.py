"""``layersmith doctor``: what of this machine is missing, and what to do about it."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

DOCTOR_EXAMPLES = """\
examples:
  layersmith doctor                 status 1 if nothing can be built or run here
  layersmith doctor --format json   a list of {topic, status, found, advice}
"""


def doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--format", default="text", choices=("text", "json"), help="(default: text)")


def doctor(args: Namespace) -> int:
    """Check what of this machine layersmith needs, and say what to do."""
    from layersmith.dataclass import asdict
    from layersmith.linux.doctor import PROBLEM, examine
    from layersmith.store import default_root

    findings = tuple(examine(default_root() if args.root is None else Path(args.root).absolute()))
    if args.format == "json":
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        wide = max(len(finding.topic) for finding in findings)
        for finding in findings:
            print(f"{finding.status:8} {finding.topic:{wide}}  {finding.found}")
            if finding.advice:
                print(f"{'':8} {'':{wide}}  -> {finding.advice}")
    return int(any(finding.status == PROBLEM for finding in findings))
