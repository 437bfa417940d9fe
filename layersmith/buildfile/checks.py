"""PARSE: the rules of ``layersmith check`` that need one instruction or one stage. In: these. Out: results, for `lint`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from layersmith.buildfile import instructions as ast
from layersmith.buildfile.instructions import Arg, From, Instruction, Stage
from layersmith.buildfile.lines import DIRECTIVE
from layersmith.buildfile.parser import Item
from layersmith.dataclass import dataclass
from layersmith.errors import LayersmithError
from layersmith.oci.platform import parse_platform
from layersmith.oci.reference import parse_reference
from layersmith.source import Span

RESERVED_STAGE_NAMES = ("context", "scratch")

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NOT_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_MAPPED_PORT = re.compile(r"[^:/]*:.*")


@dataclass(frozen=True, slots=True)
class Result:
    """A violation of ``rule`` at ``span``, with what its message names."""

    rule: str
    span: Span
    found: tuple[str, ...] = ()


def check_stage_name(start: From) -> Iterator[Result]:
    if start.name is None:
        return
    *_, keyword, name = start.text.split()
    if name != name.lower():
        yield Result("StageNameCasing", start.span, (name,))
    if (start.keyword.islower() and not keyword.islower()) or (
        start.keyword.isupper() and not keyword.isupper()
    ):
        yield Result("FromAsCasing", start.span, (keyword, start.keyword))
    if start.name in RESERVED_STAGE_NAMES:
        yield Result("ReservedStageName", start.span, (start.name,))


def check_platform(start: From) -> Iterator[Result]:
    if start.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        yield Result("RedundantTargetPlatform", start.span, (start.platform,))
    elif start.platform and "$" not in start.platform:
        try:
            platform = parse_platform(start.platform)
        except LayersmithError:
            return
        name = start.name or ""
        if platform.os not in name and platform.architecture not in name:
            yield Result("FromPlatformFlagConstDisallowed", start.span, (start.platform,))


def is_reference(name: str) -> bool:
    try:
        parse_reference(name)
    except LayersmithError:
        return False
    return True


def check_instruction(instruction: Instruction) -> Iterator[Result]:
    """Rules that look at one instruction."""
    name = type(instruction).__name__.upper()
    match instruction:
        case ast.Maintainer():
            yield Result("MaintainerDeprecated", instruction.span)
        case ast.Env() | ast.Label() | ast.Arg():
            if not isinstance(instruction, Arg) and instruction.legacy:
                yield Result("LegacyKeyValueFormat", instruction.span, (name,))
            for key, _ in () if isinstance(instruction, ast.Label) else instruction.pairs:
                if _SECRET.search(key) and not _NOT_SECRET.search(key):
                    yield Result("SecretsUsedInArgOrEnv", instruction.span, (name, key))
        case ast.Expose(ports=ports):
            for port in ports:
                protocol = port.partition("/")[2]
                if "$" not in protocol and protocol != protocol.lower():
                    yield Result("ExposeProtoCasing", instruction.span, (port,))
                if "$" not in port and _MAPPED_PORT.fullmatch(port):
                    yield Result("ExposeInvalidFormat", instruction.span, (port,))


def check_repeated(stage: Stage) -> Iterator[Result]:
    last: dict[type[Instruction], Instruction] = {}
    for instruction in stage.instructions:
        if isinstance(instruction, ast.Cmd | ast.Entrypoint | ast.Healthcheck):
            kind = type(instruction)
            if kind in last:
                # The earlier one, for it is the one that has no effect.
                yield Result("MultipleInstructionsDisallowed", last[kind].span, (kind.__name__.upper(),))
            last[kind] = instruction


def check_arg_after_env(stage: Stage) -> Iterator[Result]:
    set_by_env: set[str] = set()
    for instruction in stage.instructions:
        if isinstance(instruction, ast.Env):
            set_by_env |= {key for key, _ in instruction.pairs}
        elif isinstance(instruction, Arg):
            for name, _ in instruction.pairs:
                if name in set_by_env:
                    yield Result("ArgAfterEnv", instruction.span, (name,))


def described(item: Item) -> tuple[list[str], str]:
    """The names of a FROM's stage or of an ARG, and the comment right before it, which may describe one of them."""
    instruction = item.instruction
    if not item.line.comments or not isinstance(instruction, From | Arg):
        return [], ""
    names = (
        [name for name, _ in instruction.pairs] if isinstance(instruction, Arg) else [instruction.name or ""]
    )
    return names, item.line.comments[-1].text.lstrip("#").strip()


def check_description(item: Item) -> Iterator[Result]:
    instruction = item.instruction
    keys, text = described(item)
    if not text or not keys[0] or text.split()[0] in keys or DIRECTIVE.fullmatch(item.line.comments[-1].text):
        return
    name = type(instruction).__name__.upper()
    yield Result(
        "InvalidDefinitionDescription", instruction.span, (name, keys[0] if len(keys) == 1 else "<arg_key>")
    )


def looks_like_json(item: Item, text: str) -> bool:
    """Was a JSON form meant? A shell's ``[ test ]`` has no quote right behind its bracket in RUN."""
    if not text.startswith("["):
        return False
    if item.form.rule in ("run", "healthcheck"):
        return text[1:].lstrip()[:1] in ("'", '"') and "," in text
    return item.form.rule in ("cmd", "entrypoint", "copy", "add", "volume")


def extensions(instruction: Instruction) -> Iterator[str]:
    match instruction:
        case ast.Include():
            yield "INCLUDE"
        case ast.Unset():
            yield "UNSET"
        case ast.Run():
            yield from (["RUN --no-cache"] if instruction.no_cache else [])
            yield from (["RUN --retry"] if instruction.retry else [])
            yield from (["RUN --timeout"] if instruction.timeout else [])
            for mount in instruction.mounts:
                yield from (
                    "a variable in --mount=from="
                    for key, value in mount.fields
                    if key == "from" and "$" in (value or "")
                )
        case ast.Copy() | ast.Add():
            if isinstance(instruction, ast.Copy) and "$" in (instruction.from_ or ""):
                yield "a variable in COPY --from"
            if any("$" in pattern for pattern in instruction.excludes):
                yield "a variable in --exclude"
