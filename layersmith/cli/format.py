"""``--format``: ``json``, a Go template (see `layersmith.cli.template`), or a JSON path. In: text. Out: text.

json   {{.Config.Env}}   .Config.Env[0]   $.Config.Labels["org.example.version"]   Layers[-1].Digest
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from layersmith.cli.template import compact, member, template
from layersmith.errors import UsageError

HELP = "json, a Go template such as '{{.Config.Env}}', or a JSON path such as .Config.Env[0]"


def formatter(text: str) -> Callable[[Any], str]:
    """What writes a value as ``text`` asks for.

    Raises:
        UsageError: ``text`` is no such format; or, from the function, it does not fit the value.
    """
    if text == "json":
        return compact
    if "{{" in text:
        return template(text)
    path = _json_path(text)
    return lambda value: _plain(_follow(path, value, text))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)


_STEP = re.compile(r"""\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(-?\d+)\]|\[(?:"([^"]*)"|'([^']*)')\]""")


def _json_path(text: str) -> tuple[str | int, ...]:
    path: list[str | int] = []
    at = 1 if text.startswith("$") else 0
    if text in (".", "$"):
        return ()
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or (match[1] and path and text[at] != "."):
            raise UsageError(f"--format {text!r}: can't read {text[at:]!r}", hint=f"it takes {HELP}")
        path.append(
            int(match[2]) if match[2] else next(g for g in (match[1], match[3], match[4]) if g is not None)
        )
        at = match.end()
    return tuple(path)


def _follow(path: tuple[str | int, ...], value: Any, text: str) -> Any:
    for step in path:
        if isinstance(step, str):
            value = member(value, step, text)
        elif isinstance(value, Sequence) and not isinstance(value, str) and -len(value) <= step < len(value):
            value = value[step]
        else:
            raise UsageError(f"--format {text!r}: there is no element {step}")
    return value
