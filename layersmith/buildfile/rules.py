"""PARSE: the rules of ``layersmith check``. In: nothing. Out: `RULES`, and `Finding`, what `lint` reports.

Names, descriptions and messages of the first 22 are BuildKit's (docs.docker.com/reference/build-checks), so that skip
lists and dashboards keep working.
"""

from __future__ import annotations

import re

from layersmith.dataclass import dataclass, field
from layersmith.errors import BuildfileError, BuildfileSyntaxError
from layersmith.source import Source, Span

DOCS = "https://docs.docker.com/go/dockerfile/rule/"


@dataclass(frozen=True, slots=True)
class Rule:
    """A check. ``message`` has ``{}`` for what was found; ``level`` is ``warning`` or ``error``."""

    name: str
    description: str
    message: str
    level: str = "warning"
    experimental: bool = False
    """Runs only where ``# check=experimental=`` names it."""
    ours: bool = False

    @property
    def url(self) -> str:
        """BuildKit's page for one of its rules, else empty."""
        return (
            ""
            if self.ours
            else DOCS + re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name).lower() + "/"
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation, by a rule's name; ``level`` is ``warning`` or ``error``."""

    rule: str
    level: str
    message: str
    span: Span = field(compare=False)
    description: str = ""
    url: str = ""


_RULES = (
    Rule("StageNameCasing", "Stage names should be lowercase", "Stage name '{}' should be lowercase"),
    Rule(
        "FromAsCasing",
        "The 'as' keyword should match the case of the 'from' keyword",
        "'{}' and '{}' keywords' casing do not match",
    ),
    Rule(
        "NoEmptyContinuation",
        "Empty continuation lines will become errors in a future release",
        "Empty continuation line",
    ),
    Rule(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
        "Command '{}' should match the case of the command majority ({})",
    ),
    Rule(
        "DuplicateStageName",
        "Stage names should be unique",
        'Duplicate stage name "{}", stage names should be unique',
    ),
    Rule(
        "ReservedStageName",
        "Reserved words should not be used as stage names",
        'Stage name should not use the same name as reserved stage "{}"',
    ),
    Rule(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
        "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
    ),
    Rule(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
        "Maintainer instruction is deprecated in favor of using label",
    ),
    Rule("UndefinedArgInFrom", "FROM command must use declared ARGs", "FROM argument '{}' is not declared{}"),
    Rule(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the "
        "base image changes",
        'Relative workdir "{}" can have unexpected results if the base image changes',
    ),
    Rule(
        "UndefinedVar", "Variables should be defined before their use", "Usage of undefined variable '${}'{}"
    ),
    Rule(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
        "Multiple {} instructions should not be used in the same stage because only the last one will be used",
    ),
    Rule(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
        '"{0} key=value" should be used instead of legacy "{0} key value" format',
    ),
    Rule(
        "InvalidBaseImagePlatform",
        "Base image platform does not match expected target platform",
        'Base image {} was pulled with platform "{}", expected "{}" for current build',
    ),
    Rule(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
    ),
    Rule(
        "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
        'Do not use ARG or ENV instructions for sensitive data ({} "{}")',
    ),
    Rule(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
        "Default value for ARG {} results in empty or invalid base image name",
    ),
    Rule(
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
        'FROM --platform flag should not use constant value "{}"',
    ),
    Rule(
        "CopyIgnoredFile",
        "Attempting to Copy file that is excluded by .dockerignore",
        'Attempting to {} file "{}" that is excluded by .dockerignore',
    ),
    Rule(
        "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not "
        "intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        "Comment for {} should follow the format: `# {} <description>`",
        experimental=True,
    ),
    Rule(
        "ExposeProtoCasing",
        "Protocol in EXPOSE instruction should be lowercase",
        "Defined protocol '{}' in EXPOSE instruction should be lowercase",
    ),
    Rule(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a "
        "future release",
        "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
    ),
    Rule(
        "ArgAfterEnv",
        "An ARG that follows an ENV of the same name wins in later RUN instructions and expansions, while the image "
        "keeps the ENV's value",
        "ARG {0} hides the value that ENV {0} has in the image",
        ours=True,
    ),
    Rule(
        "InvalidJSONForm",
        "What begins like a JSON array, but is none (single quotes, a missing bracket), is silently read as text or words",
        "{} begins with [, but is no JSON array of strings, and is read as {}",
        ours=True,
    ),
    Rule(
        "DockerfileDialect",
        "A portable Dockerfile has none of layersmith's extensions",
        "{} is an extension that other builders do not know",
        level="error",
        ours=True,
    ),
)

RULES = {rule.name: rule for rule in _RULES}


def finding(rule: str, span: Span, *found: str, error: bool = False) -> Finding:
    """A violation of ``rule`` with its message filled in; ``error`` makes it one whatever the rule's level."""
    known = RULES[rule]
    level = "error" if error else known.level
    return Finding(rule, level, known.message.format(*found), span, known.description, known.url)


def error_finding(error: BuildfileError) -> Finding:
    """What does not parse, or can't be planned, as a finding; its rule is none that could be skipped."""
    span = error.span or Span(Source("", ""), 1, 1, 1, 1)
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, BuildfileSyntaxError):
        rule, description = "SyntaxError", "Every line of a Buildfile is an instruction"
    else:
        rule, description = "PlanError", "Stages, flags and values must mean something that can be built"
    return Finding(rule, "error", message, span, description, "")
