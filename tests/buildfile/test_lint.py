from __future__ import annotations

import pytest

from layersmith.buildfile.instructions import Check
from layersmith.buildfile.lint import LintOptions, lint
from layersmith.buildfile.parser import parse
from layersmith.buildfile.rules import RULES, finding
from layersmith.source import Source, Span


def check(text: str, options: LintOptions | None = None) -> list[tuple[int, str, str]]:
    """(line, rule, message) of each finding."""
    return [(found.span.line, found.rule, found.message) for found in lint(parse(text), options)]


def rules(text: str, options: LintOptions | None = None) -> list[tuple[int, str]]:
    return [(line, rule) for line, rule, _ in check(text, options)]


CLEAN = """# syntax=docker/dockerfile:1
ARG VERSION=3
FROM --platform=$BUILDPLATFORM alpine:$VERSION AS build
ARG TARGETARCH
WORKDIR /src
COPY . .
RUN make ARCH=$TARGETARCH

FROM scratch
COPY --from=build /src/out /
ENV PATH=/bin:$PATH
EXPOSE 80 443/udp
CMD ["/out"]
"""


def test_a_clean_file_has_no_findings() -> None:
    """Whatever the dialect."""
    assert check(CLEAN) == []
    assert check(CLEAN, LintOptions(dialect="dockerfile")) == []


FOUND = [
    ("FROM x AS Bad", [(1, "StageNameCasing", "Stage name 'Bad' should be lowercase")]),
    ("FROM x as a\nFROM y AS b", [(1, "FromAsCasing", "'as' and 'FROM' keywords' casing do not match")]),
    ("from x AS a\nfrom y as b", [(1, "FromAsCasing", "'AS' and 'from' keywords' casing do not match")]),
    ("FROM x\nCOPY a \\\n\n b", [(3, "NoEmptyContinuation", "Empty continuation line")]),
    (
        "FROM x\ncopy a b\nUSER y",
        [
            (
                2,
                "ConsistentInstructionCasing",
                "Command 'copy' should match the case of the command majority (uppercase)",
            )
        ],
    ),
    (
        "from x\ncopy a b\nUser y",
        [
            (
                3,
                "ConsistentInstructionCasing",
                "Command 'User' should match the case of the command majority (lowercase)",
            )
        ],
    ),
    (
        "FROM x AS b\nFROM y AS b",
        [(2, "DuplicateStageName", 'Duplicate stage name "b", stage names should be unique')],
    ),
    (
        "FROM x AS context",
        [(1, "ReservedStageName", 'Stage name should not use the same name as reserved stage "context"')],
    ),
    (
        "FROM x\nCMD a",
        [
            (
                2,
                "JSONArgsRecommended",
                "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            )
        ],
    ),
    (
        "FROM x\nMAINTAINER me",
        [(2, "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label")],
    ),
    (
        "ARG VERSION=1\nFROM x:1$VERSOIN",
        [(2, "UndefinedArgInFrom", "FROM argument 'VERSOIN' is not declared (did you mean VERSION?)")],
    ),
    ("FROM x${y}", [(1, "UndefinedArgInFrom", "FROM argument 'y' is not declared")]),
    (
        "FROM x\nWORKDIR app",
        [
            (
                2,
                "WorkdirRelativePath",
                'Relative workdir "app" can have unexpected results if the base image changes',
            )
        ],
    ),
    ("FROM scratch\nCOPY $foo /", [(2, "UndefinedVar", "Usage of undefined variable '$foo'")]),
    (
        "FROM x\nENV PATH=$PAHT:/bin",
        [(2, "UndefinedVar", "Usage of undefined variable '$PAHT' (did you mean $PATH?)")],
    ),
    (
        'FROM x\nCMD ["a"]\nCMD ["b"]',
        [
            (
                2,
                "MultipleInstructionsDisallowed",
                "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            )
        ],
    ),
    (
        "FROM x\nLABEL a b",
        [
            (
                2,
                "LegacyKeyValueFormat",
                '"LABEL key=value" should be used instead of legacy "LABEL key value" format',
            )
        ],
    ),
    (
        "FROM --platform=${TARGETPLATFORM} x",
        [
            (
                1,
                "RedundantTargetPlatform",
                "Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
            )
        ],
    ),
    (
        "FROM x\nENV MY_Token=a PUBLIC_KEY=b keyboard=c",
        [
            (
                2,
                "SecretsUsedInArgOrEnv",
                'Do not use ARG or ENV instructions for sensitive data (ENV "MY_Token")',
            )
        ],
    ),
    (
        "ARG TAG\nFROM x:$TAG",
        [
            (
                2,
                "InvalidDefaultArgInFrom",
                "Default value for ARG x:$TAG results in empty or invalid base image name",
            )
        ],
    ),
    (
        "FROM --platform=linux/amd64 x AS y",
        [
            (
                1,
                "FromPlatformFlagConstDisallowed",
                'FROM --platform flag should not use constant value "linux/amd64"',
            )
        ],
    ),
    (
        "FROM x\nEXPOSE 80/TcP",
        [(2, "ExposeProtoCasing", "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase")],
    ),
    (
        "FROM x\nEXPOSE 127.0.0.1:80:80",
        [
            (
                2,
                "ExposeInvalidFormat",
                "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
            )
        ],
    ),
    ("FROM x\nENV a=1\nARG a=2", [(3, "ArgAfterEnv", "ARG a hides the value that ENV a has in the image")]),
    (
        "FROM x\nVOLUME ['/a']",
        [
            (
                2,
                "InvalidJSONForm",
                "VOLUME begins with [, but is no JSON array of strings, and is read as words",
            )
        ],
    ),
]


@pytest.mark.parametrize(("text", "found"), FOUND, ids=[found[0][1] for _, found in FOUND])
def test_rules(text: str, found: list[tuple[int, str, str]]) -> None:
    """Each rule finds its violation, and nothing else does."""
    assert check(text) == found


NOT_FOUND = [
    "FROM --platform=linux/amd64 x AS linux-build",
    'FROM x AS a\nSHELL ["s"]\nFROM a\nCMD b',
    "FROM x AS a\nWORKDIR /a\nFROM a\nWORKDIR b",
    "FROM x\nWORKDIR $HOME/a",
    "FROM x\nCOPY $foo /",
    "FROM x\nCOPY ${foo:-a} /",
    "FROM scratch\nARG foo\nCOPY a$foo /",
    "FROM scratch\nRUN echo $anything",
    "ARG D\nFROM scra${D:-tch}",
    "ARG D=\nFROM scratch${D}",
    'FROM x AS a\nCMD ["a"]\nFROM a\nCMD ["b"]',
    "FROM x\nRUN [ -f y ] || true",
    "FROM x\nEXPOSE $PORTS 80-90/tcp",
    "FROM x\nARG a=1\nENV a=$a",
    "FROM x\nINCLUDE y\nCOPY $foo /",
]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_no_false_alarms(text: str) -> None:
    """What looks like a violation and is none."""
    assert check(text) == []


def test_a_variable_of_a_known_base_is_checked() -> None:
    """Where the base's ENV is at hand, whatever is not in it is undefined."""
    options = LintOptions(base_env=lambda base: {"KNOWN": "1"} if base == "x" else None)
    assert check("FROM x\nCOPY $KNOWN $foo", options) == [
        (2, "UndefinedVar", "Usage of undefined variable '$foo'")
    ]
    assert check("FROM y\nCOPY $KNOWN $foo", options) == []


def test_a_variable_declared_elsewhere_is_undefined() -> None:
    """A global ARG that the stage does not repeat, or one declared too late."""
    assert rules("ARG V=1\nFROM x\nCOPY a$V /\nCOPY $W /\nARG W=1") == [
        (3, "UndefinedVar"),
        (4, "UndefinedVar"),
    ]


def test_an_ignored_source_is_found() -> None:
    """Only sources from the context, with variables expanded."""
    options = LintOptions(ignored=lambda path: path == "a/b")
    text = "FROM x AS s\nENV d=b\nCOPY a/$d .\nADD /a/b /\nCOPY --from=s a/b .\nCOPY . .\nADD https://a/b /"
    assert check(text, options) == [
        (3, "CopyIgnoredFile", 'Attempting to Copy file "a/b" that is excluded by .dockerignore'),
        (4, "CopyIgnoredFile", 'Attempting to Add file "a/b" that is excluded by .dockerignore'),
    ]


DESCRIBED = """
# a the version
ARG a=1
# wrong
ARG b=1
# Base is wrong too
FROM x AS base
# far

ARG c
#
ARG d
# nobody
ARG e f
"""


def test_descriptions_are_an_experimental_rule() -> None:
    """Off unless asked for by name, or all are."""
    assert check(DESCRIBED) == []
    for option in ("experimental=InvalidDefinitionDescription", "skip=all;experimental=all"):
        assert check(f"# check={option}{DESCRIBED}") == [
            (
                5,
                "InvalidDefinitionDescription",
                "Comment for ARG should follow the format: `# b <description>`",
            ),
            (
                7,
                "InvalidDefinitionDescription",
                "Comment for FROM should follow the format: `# base <description>`",
            ),
            (
                14,
                "InvalidDefinitionDescription",
                "Comment for ARG should follow the format: `# <arg_key> <description>`",
            ),
        ]


BAD = "FROM x as a\nMAINTAINER me\nCMD b\n"


def test_check_directives_skip_rules() -> None:
    """All, or those that are named."""
    assert rules(BAD) == [(1, "FromAsCasing"), (2, "MaintainerDeprecated"), (3, "JSONArgsRecommended")]
    assert rules("# check=skip=all\n" + BAD) == []
    assert rules("# check=skip=FromAsCasing, MaintainerDeprecated\n" + BAD) == [(4, "JSONArgsRecommended")]


def test_check_directives_make_errors() -> None:
    """`error=true` raises every finding's level."""
    assert {found.level for found in lint(parse(BAD))} == {"warning"}
    assert {found.level for found in lint(parse("# check=error=true\n" + BAD))} == {"error"}


def test_an_option_stands_above_the_directive() -> None:
    """As BUILDKIT_DOCKERFILE_CHECK does."""
    options = LintOptions(check=Check(skip=("FromAsCasing", "MaintainerDeprecated")))
    assert rules("# check=skip=all\n" + BAD, options) == [(4, "JSONArgsRecommended")]


def test_a_comment_skips_for_one_instruction() -> None:
    """`# check=skip=` right before it."""
    text = "FROM x\nUSER a\n# because\n# check=skip=JSONArgsRecommended\nCMD a\nENTRYPOINT b\n# check=skip=all\nMAINTAINER c\n"
    assert rules(text) == [(6, "JSONArgsRecommended")]


EXTENSIONS = [
    ("FROM x\nINCLUDE a", "INCLUDE"),
    ("FROM x\nUNSET ENV a", "UNSET"),
    ("FROM x\nRUN --no-cache a", "RUN --no-cache"),
    ("FROM x\nRUN --retry=1 a", "RUN --retry"),
    ("FROM x\nRUN --timeout=1s a", "RUN --timeout"),
    ("FROM x\nRUN --mount=from=$a,target=/a a", "a variable in --mount=from="),
    ("FROM x\nARG a=b\nCOPY --from=$a b c", "a variable in COPY --from"),
    ("FROM x\nARG a=b\nCOPY --exclude=$a b c", "a variable in --exclude"),
    ("FROM x\nRUN " + "a" * 70_000, "a line of more than 65535 characters"),
]


@pytest.mark.parametrize(("text", "what"), EXTENSIONS, ids=[what for _, what in EXTENSIONS])
def test_extensions_are_errors_in_a_portable_file(text: str, what: str) -> None:
    """`--dialect=dockerfile` names each; otherwise they are welcome."""
    portable = [
        found
        for found in lint(parse(text), LintOptions(dialect="dockerfile"))
        if found.rule == "DockerfileDialect"
    ]
    assert [(found.level, found.message) for found in portable] == [
        ("error", f"{what} is an extension that other builders do not know")
    ]
    assert "DockerfileDialect" not in {found.rule for found in lint(parse(text))}


def test_the_rules_are_buildkits_and_ours() -> None:
    """22 of BuildKit's, each with its page."""
    buildkits = [rule for rule in RULES.values() if not rule.ours]
    assert len(buildkits) == 22
    assert (
        RULES["JSONArgsRecommended"].url
        == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    )
    assert RULES["SecretsUsedInArgOrEnv"].url.endswith("/secrets-used-in-arg-or-env/")
    assert RULES["ArgAfterEnv"].url == ""


def test_a_platform_that_does_not_match_is_for_the_builder_to_find() -> None:
    """It needs the image; the message is here."""
    span = Span(Source("f", "FROM x"), 1, 1, 1, 7)
    found = finding("InvalidBaseImagePlatform", span, "x", "linux/arm64", "linux/amd64")
    assert found.message == (
        'Base image x was pulled with platform "linux/arm64", expected "linux/amd64" for current build'
    )
