"""Go's template language, as far as docker's users write it in ``--format``. In: text and a JSON value. Out: text.

    {{.Config.Env}}   {{json .Config}}   {{.RootFS.Layers | len}}   {{index .Config.Labels "version"}}
    {{range .Config.Env}}{{.}}{{"\\n"}}{{else}}none{{end}}   {{if .Config.User}}…{{end}}   {{with .Config.Cmd}}…{{end}}

A member that does not exist is an error that names the nearest: a typing mistake in a script should not print nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from layersmith.cli.table import ago
from layersmith.cli.units import human_size
from layersmith.dataclass import dataclass
from layersmith.errors import UsageError


def template(text: str) -> Callable[[Any], str]:
    """What renders a value by the template ``text``.

    Raises:
        UsageError: ``text`` is no template; or, from the function, it does not fit the value.
    """
    nodes = _parse(text)
    return lambda value: _render(nodes, value, value)


def compact(value: Any) -> str:
    """``value`` as JSON on one line."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def go_text(value: Any) -> str:
    """``value`` as Go's ``fmt.Print`` writes it: ``[a b]``, ``map[k:v]``, ``true``, ``<no value>``."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case Mapping():
            return f"map[{' '.join(f'{k}:{go_text(v)}' for k, v in sorted(value.items()))}]"
        case Sequence():
            return f"[{' '.join(map(go_text, value))}]"
    return str(value)


def member(value: Any, name: str, where: str) -> Any:
    """``value[name]``. Raises UsageError that names what there is."""
    if isinstance(value, Mapping) and name in value:
        return value[name]
    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"--format {where!r}: nothing is called {name!r} here")
    import difflib

    lower = {str(key).lower(): str(key) for key in value}
    near = difflib.get_close_matches(name.lower(), lower, 1)
    names = ", ".join(sorted(map(str, value)))
    hint = f"did you mean {lower[near[0]]}? " if near else ""
    raise UsageError(f"--format {where!r}: nothing is called {name!r} here", hint=f"{hint}there are: {names}")


@dataclass(frozen=True, slots=True)
class Block:
    """``{{KIND pipeline}}…{{else}}…{{end}}``; plain actions are of kind ``print``."""

    kind: str
    pipeline: tuple[tuple[str, ...], ...]
    source: str
    body: tuple[Node, ...] = ()
    otherwise: tuple[Node, ...] = ()


Node = str | Block

_ACTION = re.compile(
    r"\{\{(?P<left>- )?(?P<inside>(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`}]|\}(?!\}))*?)(?P<right> -)?\}\}",
    re.S,
)
_WORD = re.compile(
    r"""\s*("(?:\\.|[^"\\])*"|`[^`]*`|\||\$?(?:\.[A-Za-z_][A-Za-z0-9_]*)+|[.$]|-?\d+|[A-Za-z]+)(?=[\s|]|$)"""
)


def _parse(text: str) -> tuple[Node, ...]:
    tokens: list[str | Block] = []
    at = 0
    trim = False
    for action in _ACTION.finditer(text):
        before = text[at : action.start()]
        before = before.lstrip() if trim else before
        tokens.append(before.rstrip() if action["left"] else before)
        tokens.append(_action(action["inside"], action[0]))
        at, trim = action.end(), bool(action["right"])
    rest = text[at:]
    if "{{" in rest:
        raise UsageError(f"--format: {rest!r} is not closed with }}}}")
    tokens.append(rest.lstrip() if trim else rest)
    nodes, _, end = _nest(tokens, 0)
    if end != len(tokens):
        raise UsageError(f"--format {text!r}: an end without a beginning")
    return nodes


def _action(inside: str, source: str) -> Block:
    words = []
    at = 0
    inside = inside.strip()
    if inside.startswith("/*"):
        return Block("comment", (), source)
    while at < len(inside):
        match = _WORD.match(inside, at)
        if match is None:
            raise UsageError(
                f"--format: can't read {inside[at:].strip()!r} in {source}",
                hint='words are members (.Config.Env), functions (json) and "strings"',
            )
        words.append(match[1])
        at = match.end()
    kind = "print"
    if words and words[0] in ("range", "if", "with", "else", "end"):
        kind = words.pop(0)
    pipeline: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            pipeline.append([])
        else:
            pipeline[-1].append(word)
    if (kind in ("else", "end")) != (not words) or (words and not all(pipeline)):
        raise UsageError(f"--format: {source} makes no sense")
    return Block(kind, tuple(map(tuple, pipeline)), source)


def _nest(tokens: list[str | Block], at: int, opener: str = "") -> tuple[tuple[Node, ...], str, int]:
    """Nodes from ``at`` on up to an ``else`` or ``end`` that is not theirs, which one it is, and where."""
    nodes: list[Node] = []
    while at < len(tokens):
        token = tokens[at]
        if isinstance(token, Block) and token.kind in ("range", "if", "with"):
            body, closer, at = _nest(tokens, at + 1, token.source)
            otherwise: tuple[Node, ...] = ()
            if closer == "else":
                otherwise, closer, at = _nest(tokens, at + 1, token.source)
            if closer != "end":
                raise UsageError(f"--format: {token.source} has no {{{{end}}}}")
            nodes.append(Block(token.kind, token.pipeline, token.source, body, otherwise))
        elif isinstance(token, Block) and token.kind in ("else", "end"):
            return tuple(nodes), token.kind, at
        elif token:
            nodes.append(token)
        at += 1
    if opener:
        raise UsageError(f"--format: {opener} has no {{{{end}}}}")
    return tuple(nodes), "", at


def _render(nodes: tuple[Node, ...], dot: Any, root: Any) -> str:
    return "".join(node if isinstance(node, str) else _block(node, dot, root) for node in nodes)


def _block(block: Block, dot: Any, root: Any) -> str:
    if block.kind == "comment":
        return ""
    value: Any = None
    for number, command in enumerate(block.pipeline):
        value = _command(command, dot, root, (value,) if number else (), block.source)
    match block.kind:
        case "range":
            items = list(value.values()) if isinstance(value, Mapping) else list(value or ())
            parts = [_render(block.body, item, root) for item in items]
            return "".join(parts) if parts else _render(block.otherwise, dot, root)
        case "if":
            return _render(block.body if value else block.otherwise, dot, root)
        case "with":
            return _render(block.body, value, root) if value else _render(block.otherwise, dot, root)
    return go_text(value)


def _command(words: tuple[str, ...], dot: Any, root: Any, piped: tuple[Any, ...], source: str) -> Any:
    if words[0].isalpha() and words[0] not in ("true", "false", "nil"):
        function = FUNCTIONS.get(words[0])
        if function is None:
            raise UsageError(
                f"--format: there is no function {words[0]!r}",
                hint=f"there are: {', '.join(sorted(FUNCTIONS))}",
            )
        arguments = [_operand(word, dot, root, source) for word in words[1:]]
        try:
            return function(*arguments, *piped)
        except (TypeError, ValueError, LookupError, AttributeError):
            raise UsageError(f"--format: {source} does not fit: {words[0]} can't take these values") from None
    if len(words) > 1 or piped:
        raise UsageError(f"--format: {source}: {words[0]!r} is not a function")
    return _operand(words[0], dot, root, source)


def _operand(word: str, dot: Any, root: Any, source: str) -> Any:
    if word.startswith('"'):
        try:
            return json.loads(word)
        except ValueError:
            raise UsageError(f"--format: {word} is not a string") from None
    if word.startswith("`"):
        return word[1:-1]
    if word in ("true", "false", "nil"):
        return {"true": True, "false": False, "nil": None}[word]
    if word.lstrip("-").isdigit():
        return int(word)
    if word[0] not in ".$":
        raise UsageError(f"--format: {word!r} is not a value in {source}")
    value = root if word.startswith("$") else dot
    for name in filter(None, word.lstrip("$").split(".")):
        value = member(value, name, source)
    return value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        else:
            value = value[key]
    return value


def _equal(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "json": compact,
    "join": lambda items, separator: separator.join(map(go_text, items or ())),
    "split": lambda text, separator: text.split(separator),
    "index": _index,
    "len": lambda value: len(value or ()),
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "println": lambda *values: " ".join(map(go_text, values)) + "\n",
    "eq": _equal,
    "ne": lambda a, b: a != b,
    "not": lambda value: not value,
    "and": lambda *values: next((v for v in values if not v), values[-1]),
    "or": lambda *values: next((v for v in values if v), values[-1]),
    "size": human_size,
    "since": ago,
}
"""Go's and docker's, and two of our own: ``size`` writes bytes as ``4.2MB``, ``since`` a time as ``3 days ago``."""
