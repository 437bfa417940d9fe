"""PARSE, backwards: instructions as text. In: a `Buildfile`. Out: a text that parses to an equal one.

Comments and layout are gone; `format` keeps them, since it works on the text. This prints what has no text of its own,
such as a Buildfile whose INCLUDEs are resolved.
"""

from __future__ import annotations

import json
import re

from layersmith.buildfile import instructions as ast
from layersmith.buildfile.expansion import SPACE
from layersmith.buildfile.instructions import (
    Buildfile,
    Check,
    Command,
    Directives,
    Heredoc,
    Instruction,
    MountFlag,
)
from layersmith.buildfile.values import format_duration

_BLANK = re.compile(r"[\t\v\f\r ]")
_HEREDOC = re.compile(r"\d*<<-?[^<]*", re.DOTALL)
_FLAG_SPECIAL = re.compile(rf"""[{SPACE}'"\\]""")


def unparse(buildfile: Buildfile) -> str:
    """``buildfile`` as text: one instruction a line, heredoc bodies below."""
    escape = buildfile.directives.escape
    lines = [*_directives(buildfile.directives)]
    lines += [unparse_instruction(instruction, escape) for instruction in buildfile.instructions]
    return "".join(line + "\n" for line in lines)


def unparse_instruction(instruction: Instruction, escape: str = "\\") -> str:
    """One instruction as text, its heredocs included, without the newline at its end."""
    name = type(instruction).__name__.upper()
    head = " ".join([name, *_flags(instruction), *_arguments(instruction)])
    if head.endswith(escape):
        head += "\f"  # or else it would continue on the next line
    heredocs = _heredocs(instruction)
    return head + "".join(f"\n{heredoc.raw}{heredoc.name}" for heredoc in heredocs)


def _directives(directives: Directives) -> list[str]:
    lines = []
    if directives.syntax is not None:
        lines.append(f"# syntax={directives.syntax}")
    if directives.escape != "\\":
        lines.append(f"# escape={directives.escape}")
    if directives.check is not None:
        lines.append(f"# check={_check(directives.check)}")
    return lines


def _check(check: Check) -> str:
    lists = (
        ("skip", check.skip_all, check.skip),
        ("experimental", check.experimental_all, check.experimental),
    )
    options = [
        f"{name}={'all' if every else ','.join(rules)}" for name, every, rules in lists if every or rules
    ]
    return ";".join([*options, f"error={str(check.error).lower()}"])


def _heredocs(instruction: Instruction) -> tuple[Heredoc, ...]:
    if isinstance(instruction, ast.Run):
        return instruction.command.heredocs
    return instruction.heredocs if isinstance(instruction, ast.Copy | ast.Add) else ()


def _flags(instruction: Instruction) -> list[str]:
    match instruction:
        case ast.From():
            return _options(platform=instruction.platform)
        case ast.Run():
            return [
                *(f"--mount={_quoted(_mount(mount))}" for mount in instruction.mounts),
                *_options(network=instruction.network, security=instruction.security),
                *(f"--device={_quoted(device)}" for device in instruction.devices),
                *(["--no-cache"] if instruction.no_cache else []),
                *([f"--retry={instruction.retry}"] if instruction.retry else []),
                *(
                    [f"--timeout={format_duration(round(instruction.timeout * 1e9))}"]
                    if instruction.timeout
                    else []
                ),
            ]
        case ast.Copy() | ast.Add():
            options = _options(chown=instruction.chown, chmod=instruction.chmod)
            options += [f"--exclude={_quoted(pattern)}" for pattern in instruction.excludes]
            options += ["--link"] if instruction.link else []
            if isinstance(instruction, ast.Copy):
                options += _options(from_=instruction.from_)
                options += ["--parents"] if instruction.parents else []
            else:
                options += _options(checksum=instruction.checksum)
                options += _switch("keep-git-dir", value=instruction.keep_git_dir)
                options += _switch("unpack", value=instruction.unpack)
            return options
        case ast.Healthcheck():
            durations = {
                "interval": instruction.interval,
                "timeout": instruction.timeout,
                "start-period": instruction.start_period,
                "start-interval": instruction.start_interval,
            }
            options = [f"--{name}={format_duration(value)}" for name, value in durations.items() if value]
            return options + ([f"--retries={instruction.retries}"] if instruction.retries else [])
    return []


def _options(**values: str | None) -> list[str]:
    return [f"--{name.rstrip('_')}={_quoted(value)}" for name, value in values.items() if value is not None]


def _switch(name: str, *, value: bool | None) -> list[str]:
    return [] if value is None else [f"--{name}={str(value).lower()}"]


def _quoted(value: str) -> str:
    """A flag's value, so that the same comes out of it."""
    return _FLAG_SPECIAL.sub(lambda match: "\\" + match[0], value)


def _mount(mount: MountFlag) -> str:
    fields = (key if value is None else f"{key}={value}" for key, value in mount.fields)
    return ",".join(
        '"' + field.replace('"', '""') + '"' if re.search('[",]', field) else field for field in fields
    )


def _arguments(instruction: Instruction) -> list[str]:
    match instruction:
        case ast.From():
            return [_first(instruction.base), *(["AS", instruction.name] if instruction.name else [])]
        case ast.Run() | ast.Cmd() | ast.Entrypoint():
            return _command(instruction.command)
        case ast.Healthcheck():
            if instruction.command is None:
                return ["NONE"]
            return ["CMD", *_command(instruction.command, first=False)]
        case ast.Label() | ast.Env():
            if instruction.legacy:
                key, value = instruction.pairs[0]
                # One blank behind an escape would be part of the key.
                return [_first(key) + (" " if key[-1] in "\\`" else ""), value]
            first, *others = (f"{key}={value}" for key, value in instruction.pairs)
            return [_first(first), *others]
        case ast.Arg():
            first, *others = (key if value is None else f"{key}={value}" for key, value in instruction.pairs)
            return [_first(first), *others]
        case ast.Copy() | ast.Add():
            return _sources(instruction)
        case ast.Volume():
            return _words(instruction.paths)
        case ast.Expose():
            return [_first(instruction.ports[0]), *instruction.ports[1:]]
        case ast.Shell():
            return [_json(instruction.args)]
        case ast.User():
            return [_first(instruction.user)]
        case ast.Workdir():
            return [_first(instruction.path)]
        case ast.Stopsignal():
            return [_first(instruction.signal)]
        case ast.Maintainer():
            return [_first(instruction.name)]
        case ast.Include():
            return [_first(instruction.path)]
        case ast.Unset():
            return [instruction.kind, *instruction.names]
        case ast.Onbuild():
            return [instruction.trigger]
    raise AssertionError(f"no way to print {type(instruction).__name__}")


def _first(word: str) -> str:
    """A first word that begins like a flag needs ``--`` before it."""
    return f"-- {word}" if word.startswith("--") else word


def _command(command: Command, *, first: bool = True) -> list[str]:
    if not command.shell:
        return [_json(command.args)]
    text = command.text or command.args[0]
    return ([_first(text)] if first else [text]) if text else []


def _sources(instruction: ast.Copy | ast.Add) -> list[str]:
    words = (*instruction.sources, instruction.dest)
    if not instruction.heredocs:
        return [_json(words)] if any(map(_HEREDOC.fullmatch, words)) else _words(words)
    inline = [heredoc.word for heredoc in instruction.heredocs]
    # Heredocs first: a quote that is open at the end of a source would swallow them.
    first, *others = (*inline, *instruction.sources, instruction.dest)
    return [_first(first), *others]


def _words(words: tuple[str, ...]) -> list[str]:
    """``words`` apart, or as JSON where they could not be told apart."""
    if any(not word or _BLANK.search(word) for word in words) or _is_json(" ".join(words)):
        return [_json(words)]
    return [_first(words[0]), *words[1:]]


def _is_json(text: str) -> bool:
    try:
        return text.startswith("[") and isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


def _json(strings: tuple[str, ...]) -> str:
    return json.dumps(list(strings), ensure_ascii=False)
