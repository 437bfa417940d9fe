"""CONTEXT: what a git URL says. In: its text. Out: `GitUrl`."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from layersmith.context.patterns import clean
from layersmith.dataclass import dataclass, replace
from layersmith.errors import CopyError

_SCP = re.compile(r"(?:[\w.-]+@)[\w.-]+:(?!//)\S+")
_YES = {"": True, "1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class GitUrl:
    """A repository and what of it is wanted. ``ref`` may be empty (the default branch); None is "not said"."""

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str | None = None
    keep_git_dir: bool | None = None
    submodules: bool = True
    commit_time: bool = False
    """Files get the commit's time, not that of the checkout."""

    def with_checksum(self, checksum: str) -> GitUrl:
        """The same, but it must be the commit that starts with ``checksum``."""
        return replace(self, checksum=checksum)


def is_git_url(text: str) -> bool:
    """Whether ``text`` names a repository: git://, ssh://, file:// and http(s) paths that end in .git, git@host:path."""
    parts = urlsplit(text)
    if parts.scheme in ("git", "ssh"):
        return True
    if parts.scheme in ("http", "https", "file"):
        return parts.path.endswith(".git")
    return not parts.netloc and _SCP.match(text.partition("#")[0]) is not None


def parse_git_url(text: str) -> GitUrl:
    """``REMOTE[#ref[:subdir]]`` or ``REMOTE?ref=…&subdir=…`` (branch, tag, checksum, keep-git-dir, submodules, mtime).

    Raises:
        CopyError: an unknown or contradictory query, or a ref or remote that git would take for an option.
    """
    remote, _, fragment = text.partition("#")
    ref, _, subdir = fragment.partition(":")
    values: dict[str, str] = {}
    if "?" in remote and "://" in remote:
        parts = urlsplit(remote)
        values = dict(parse_qsl(parts.query, keep_blank_values=True))
        remote = urlunsplit(parts._replace(query=""))
    named = {key: values.pop(key) for key in ("ref", "tag", "branch") if key in values}
    if len(named) + bool(ref) > 1 or (subdir and "subdir" in values):
        raise CopyError(f"{text}: says twice what to check out", hint="use either #ref:subdir or the query")
    for key, value in named.items():
        ref = {"ref": "", "tag": "refs/tags/", "branch": "refs/heads/"}[key] + value
    checksum = values.pop("checksum", None) or values.pop("commit", None)
    url = GitUrl(
        remote,
        ref,
        clean("/" + values.pop("subdir", subdir)).lstrip("/"),
        checksum,
        _flag(text, values, "keep-git-dir"),
        _flag(text, values, "submodules") is not False,
        values.pop("mtime", "checkout") == "commit",
    )
    values.pop("fetch-by-commit", None)  # we ask for the one commit anyway
    if values:
        raise CopyError(
            f"{text}: unknown query {next(iter(values))!r}",
            hint="ref, tag, branch, subdir, checksum, keep-git-dir, submodules and mtime are known",
        )
    if url.remote.startswith("-") or url.ref.startswith("-"):
        raise CopyError(f"{text}: neither a repository nor a ref starts with a dash")
    return url


def _flag(text: str, values: dict[str, str], key: str) -> bool | None:
    if key not in values:
        return None
    value = values.pop(key).lower()
    if value not in _YES:
        raise CopyError(f"{text}: {key} is true or false, not {value!r}")
    return _YES[value]
