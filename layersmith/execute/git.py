"""EXECUTE: git repositories, for ADD and as contexts, through the git command. In: a URL. Out: a checked-out directory.

The repository is a stranger's: git runs without the user's configuration, hooks, prompts or helpers, and may only
use the protocols named in `PROTOCOLS`, in submodules too.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from layersmith.context.giturl import GitUrl
from layersmith.errors import CopyError
from layersmith.linux import libc

PROTOCOLS = "https:http:git:ssh"
PASSED = (
    "PATH", "SSH_AUTH_SOCK", "TMPDIR", "GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
"""Environment variables that git gets to see."""
TIMEOUT = 3600
_HEX = re.compile(r"[0-9a-f]{7,64}")
_REF_FORMS = ("{}", "refs/{}", "refs/tags/{}", "refs/heads/{}")
"""How git completes a name, in this order (gitrevisions(7))."""
_FETCH = ("fetch", "--quiet", "--no-recurse-submodules")


def resolve(
    url: GitUrl,
    directory: Path,
    *,
    secrets: Callable[[str], bytes | None] = lambda _: None,
    protocols: str = PROTOCOLS,
) -> str | None:
    """The commit that ``url`` means now, asked of the remote without fetching it; None if only a clone can tell.

    ``directory`` is where git runs; it need not exist.

    Raises:
        CopyError: git failed, there is no such ref, or the commit is not the one that ``checksum`` names.
    """
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", url.ref):
        return _checked(url, url.ref)
    directory.mkdir(parents=True, exist_ok=True)
    git = _Git(directory, url.remote, secrets, protocols)
    wanted = [form.format(url.ref) for form in _REF_FORMS] if url.ref else ["HEAD"]
    asked = [name for form in wanted for name in (form, form + "^{}")]
    rows = (line.split("\t") for line in git("ls-remote", "--", url.remote, *asked).splitlines())
    refs = {name: commit for commit, name in rows}
    for form in wanted:
        # an annotated tag is an object of its own; ^{} is the commit it is put on
        commit = refs.get(form + "^{}") or refs.get(form)
        if commit is not None:
            return _checked(url, commit)
    if _HEX.fullmatch(url.ref):
        return None  # the start of a commit
    raise CopyError(
        f"{url.remote}: couldn't find remote ref {url.ref or 'HEAD'}",
        hint="is the branch or tag spelled as in the repository?",
    )


def _checked(url: GitUrl, commit: str) -> str:
    if url.checksum is not None and not (_HEX.fullmatch(url.checksum) and commit.startswith(url.checksum)):
        raise CopyError(
            f"{url.remote}: {url.ref or 'its default branch'} is commit {commit}, not {url.checksum}",
            hint="the branch or tag has moved, or the checksum is wrong",
        )
    return commit


def checkout(
    url: GitUrl,
    into: Path,
    *,
    commit: str | None = None,
    keep_git_dir: bool = False,
    secrets: Callable[[str], bytes | None] = lambda _: None,
    protocols: str = PROTOCOLS,
) -> str:
    """Check ``url`` out into the new directory ``into``; gives the commit. ``subdir`` is left to the caller.

    ``commit`` is what `resolve` gave earlier: the ref may have moved on since.

    Raises:
        CopyError: git is not installed, a command failed, or the commit is not the one that ``checksum`` names.
    """
    into.mkdir(parents=True)
    git = _Git(into, url.remote, secrets, protocols)
    git("init", "--quiet")
    git("remote", "add", "origin", url.remote)
    commit = _checked(url, git.fetch(url.ref, commit))
    git("checkout", "--quiet", "--detach", commit)
    if url.submodules and (into / ".gitmodules").is_file():
        git.update_submodules()
    if url.commit_time:
        _stamp(into, int(git("show", "--no-patch", "--format=%ct", commit)))
    if not keep_git_dir:
        _forget(into)
    return commit


def _end_with_parent() -> None:
    """In the child: however the build ends, its clones end, too. git passes SIGTERM on to its helpers."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGTERM)


class _Git:
    """The git command on one working directory."""

    def __init__(
        self, directory: Path, remote: str, secrets: Callable[[str], bytes | None], protocols: str
    ) -> None:
        self._directory = directory
        self._remote = remote
        self._env = _environment(directory, remote, secrets, protocols)

    def __call__(self, *args: str) -> str:
        """Run ``git args``; its standard output."""
        try:
            done = subprocess.run(
                ("git", *args),
                cwd=self._directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                umask=0o022,
                check=False,
                preexec_fn=_end_with_parent,
            )
        except FileNotFoundError:
            raise CopyError(
                f"can't clone {self._remote}: there is no git command", hint="install git"
            ) from None
        except subprocess.TimeoutExpired:
            raise CopyError(f"{self._remote}: git {args[0]} took more than {TIMEOUT} s") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            reason = next((line for line in said if line.startswith("fatal: ")), said[-1] if said else "")
            raise CopyError(
                f"{self._remote}: git {args[0]} failed: {reason or f'status {done.returncode}'}",
                hint=_hint("\n".join(said)),
            )
        return done.stdout.decode(errors="surrogateescape")

    def shallowly(self, *args: str) -> None:
        """Run ``git args`` with as little history as the server can do: a plain file server can't leave any out."""
        try:
            self(*args[:1], "--depth=1", *args[1:])
        except CopyError as error:
            if "shallow" not in error.message:
                raise
            self(*args)

    def update_submodules(self) -> None:
        update = ("submodule", "--quiet", "update", "--init", "--recursive")
        try:
            self(*update, "--depth=1")
        except CopyError:
            self(*update)  # a plain file server, or a commit that no ref points to

    def fetch(self, ref: str, wanted: str | None) -> str:
        """Fetch the one commit that ``ref`` is (a branch, tag, full name or commit), or ``wanted``; gives the commit."""
        if not _HEX.fullmatch(ref):
            self.shallowly(*_FETCH, "--no-tags", "origin", ref or "HEAD")
            commit = self("rev-parse", "--verify", "FETCH_HEAD^{commit}").strip()
            if wanted in (None, commit):
                return commit
        return self._fetch_commit(wanted or ref)

    def _fetch_commit(self, commit: str) -> str:
        """``commit`` may be abbreviated, or a branch's name after all, or the server gives only what refs point to."""
        try:
            self.shallowly(*_FETCH, "--no-tags", "origin", commit)
            return self("rev-parse", "--verify", "FETCH_HEAD^{commit}").strip()
        except CopyError:
            self(*_FETCH, "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
            return self("rev-parse", "--verify", f"{commit}^{{commit}}").strip()


def _environment(
    directory: Path, remote: str, secrets: Callable[[str], bytes | None], protocols: str
) -> Mapping[str, str]:
    env = {name: os.environ[name] for name in PASSED if name in os.environ}
    config = [
        ("core.hooksPath", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("safe.directory", "*"),
        ("advice.detachedHead", "false"),
        ("init.defaultBranch", "main"),
        ("protocol.file.allow", "always" if "file" in protocols.split(":") else "never"),
    ]
    header = _authorization(remote, secrets)
    if header:
        # by the environment: another user could read the command line
        config.append((f"http.{'/'.join(remote.split('/')[:3])}/.extraHeader", f"Authorization: {header}"))
    for index, (key, value) in enumerate(config):
        env |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    return env | {
        "GIT_CONFIG_COUNT": str(len(config)),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_CEILING_DIRECTORIES": os.fspath(directory.parent),
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C",
    }


def _authorization(remote: str, secrets: Callable[[str], bytes | None]) -> str | None:
    host = urlsplit(remote).hostname
    if not host or not remote.startswith(("http://", "https://")):
        return None
    for suffix in (f".{host}", ""):
        header = secrets("GIT_AUTH_HEADER" + suffix)
        if header is not None:
            return header.decode().strip()
        token = secrets("GIT_AUTH_TOKEN" + suffix)
        if token is not None:
            return "basic " + base64.b64encode(b"x-access-token:" + token.strip()).decode()
    return None


def _hint(said: str) -> str:
    if "couldn't find remote ref" in said:
        return "is the branch or tag spelled as in the repository?"
    if "could not read Username" in said or "Authentication failed" in said:
        return "give --secret id=GIT_AUTH_TOKEN for a private repository"
    if "not allowed" in said:
        return "only https, http, git and ssh are used"
    return ""


def _forget(directory: Path) -> None:
    """Remove ``.git``, in submodules too, where it is a file."""
    for parent, names, files in os.walk(directory):
        if ".git" in names:
            names.remove(".git")
            shutil.rmtree(Path(parent, ".git"))
        if ".git" in files:
            Path(parent, ".git").unlink()


def _stamp(directory: Path, seconds: int) -> None:
    for parent, _, files in os.walk(directory, topdown=False):
        for path in (*(Path(parent, name) for name in files), Path(parent)):
            os.utime(path, (seconds, seconds), follow_symlinks=False)
