"""Git sources and contexts, from repositories made on the spot."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from layersmith.context.giturl import GitUrl, is_git_url, parse_git_url
from layersmith.errors import CopyError
from layersmith.execute.contexts import directory_from_url, is_remote
from layersmith.execute.copy import copy_inputs, fetch_remote
from layersmith.execute.git import checkout, resolve
from layersmith.ops import CopyOp, GitSource

FILE = "https:file"


def git(directory: Path, *args: str) -> str:
    """Run git as somebody, deterministically."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.fspath(directory),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": "2001-02-03T04:05:06Z",
        "GIT_COMMITTER_DATE": "2001-02-03T04:05:06Z",
        **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    options = ("-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main")
    run = subprocess.run(
        ("git", *options, *args), cwd=directory, env=env, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def commit(repo: Path, name: str, text: str) -> str:
    (repo / name).parent.mkdir(parents=True, exist_ok=True)
    (repo / name).write_text(text)
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", name)
    return git(repo, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``main`` with f=2 and sub/g; tag v1 (annotated) with f=1; branch ``side`` with s."""
    path = tmp_path_factory.mktemp("template")
    git(path, "init", "-q")
    commit(path, "f", "1")
    git(path, "tag", "-a", "-m", "one", "v1")
    git(path, "checkout", "-q", "-b", "side")
    commit(path, "s", "side")
    git(path, "checkout", "-q", "main")
    commit(path, "f", "2")
    commit(path, "sub/g", "g")
    return path


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> Path:
    """A copy of the template, to be changed at will."""
    return shutil.copytree(template, tmp_path / "origin" / "repo.git")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://host/r.git", GitUrl("https://host/r.git")),
        ("https://host/r.git#v1", GitUrl("https://host/r.git", "v1")),
        ("https://host/r.git#v1:a/../b/", GitUrl("https://host/r.git", "v1", "b")),
        ("https://host/r.git#:sub", GitUrl("https://host/r.git", "", "sub")),
        ("https://host/r.git#:../../etc", GitUrl("https://host/r.git", "", "etc")),
        ("git@host:org/r.git#main", GitUrl("git@host:org/r.git", "main")),
        ("https://host/r.git?branch=b&subdir=s", GitUrl("https://host/r.git", "refs/heads/b", "s")),
        ("https://host/r.git?tag=t&mtime=commit", GitUrl("https://host/r.git", "refs/tags/t", commit_time=True)),
        ("https://host/r.git?ref=x&submodules=0", GitUrl("https://host/r.git", "x", submodules=False)),
        ("https://host/r.git?checksum=abcdef1&keep-git-dir", GitUrl("https://host/r.git", checksum="abcdef1", keep_git_dir=True)),
    ],
)  # fmt: skip
def test_urls(text: str, url: GitUrl) -> None:
    """Fragment and query say the same things."""
    assert parse_git_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["https://h/r.git?what=1", "https://h/r.git?ref=a#b", "https://h/r.git?tag=a&branch=b", "https://h/r.git#--upload-pack=x",
     "https://h/r.git?submodules=maybe"],
)  # fmt: skip
def test_bad_urls(text: str) -> None:
    """Contradictions, unknown keys, and what git would take for an option."""
    with pytest.raises(CopyError):
        parse_git_url(text)


def test_what_is_a_git_url() -> None:
    """By scheme, by .git, or by scp's form; never a local path."""
    yes = (
        "git://h/r",
        "ssh://h/r",
        "https://h/r.git",
        "https://h/r.git#x",
        "http://h/r.git?ref=x",
        "git@h:r",
        "u@h:/r#x",
    )
    no = ("https://h/r", "https://h/r.git/x", "./r.git", "/abs/r.git", "r.git", "dir:x", "a b", "h@x")
    assert all(is_git_url(text) for text in yes)
    assert not any(is_git_url(text) for text in no)
    assert is_remote("https://h/ctx.tar.gz") and not is_remote("dir")


@pytest.mark.needs_git
@pytest.mark.parametrize(
    ("ref", "files"),
    [
        ("", {"f": "2", "sub/g": "g"}),
        ("main", {"f": "2", "sub/g": "g"}),
        ("v1", {"f": "1"}),
        ("refs/tags/v1", {"f": "1"}),
        ("side", {"f": "1", "s": "side"}),
        ("FULL", {"f": "2"}),
        ("SHORT", {"f": "2"}),
    ],
)
def test_checkout(repo: Path, tmp_path: Path, ref: str, files: dict[str, str]) -> None:
    """Branches, tags, and commits, abbreviated too; without .git, with modes as under umask 022."""
    middle = git(repo, "rev-parse", "main~1")
    ref = {"FULL": middle, "SHORT": middle[:8]}.get(ref, ref)
    into = tmp_path / "out"
    commit_id = checkout(GitUrl(f"file://{repo}", ref), into, protocols=FILE)
    assert {os.fspath(p.relative_to(into)): p.read_text() for p in into.rglob("*") if p.is_file()} == files
    assert commit_id == git(repo, "rev-parse", f"{ref or 'main'}^{{commit}}")
    assert (into / "f").stat().st_mode & 0o777 == 0o644


@pytest.mark.needs_git
def test_resolve(repo: Path, tmp_path: Path) -> None:
    """What a ref means is learnt without a clone; a tag is its commit, and comes before a branch of the same name."""
    url = f"file://{repo}"
    commits = {ref: git(repo, "rev-parse", f"{ref}^{{commit}}") for ref in ("main", "v1", "side")}
    for ref, wanted in (
        ("", "main"),
        ("main", "main"),
        ("refs/heads/side", "side"),
        ("v1", "v1"),
        ("tags/v1", "v1"),
    ):
        assert resolve(GitUrl(url, ref), tmp_path, protocols=FILE) == commits[wanted]
    git(repo, "branch", "v1", "side")
    assert resolve(GitUrl(url, "v1"), tmp_path, protocols=FILE) == commits["v1"]
    assert resolve(GitUrl(url, commits["main"]), tmp_path, protocols="none") == commits["main"]
    assert resolve(GitUrl(url, commits["main"][:9]), tmp_path, protocols=FILE) is None
    with pytest.raises(CopyError, match="couldn't find remote ref nope"):
        resolve(GitUrl(url, "nope"), tmp_path, protocols=FILE)
    with pytest.raises(CopyError, match="not 0123456"):
        resolve(GitUrl(url, "main", checksum="0123456"), tmp_path, protocols=FILE)


@pytest.mark.needs_git
def test_checkout_of_what_was_resolved(repo: Path, tmp_path: Path) -> None:
    """If the branch moves on between the two, it is still the commit that went into the key."""
    url = GitUrl(f"file://{repo}", "main")
    then = resolve(url, tmp_path, protocols=FILE)
    commit(repo, "f", "3")
    assert checkout(url, tmp_path / "out", commit=then, protocols=FILE) == then
    assert (tmp_path / "out/f").read_text() == "2"


@pytest.mark.needs_git
def test_keep_git_dir_and_commit_time(repo: Path, tmp_path: Path) -> None:
    """.git stays where asked for; mtime=commit stamps everything."""
    into = tmp_path / "out"
    checkout(GitUrl(f"file://{repo}", commit_time=True), into, keep_git_dir=True, protocols=FILE)
    assert git(into, "rev-parse", "HEAD") == git(repo, "rev-parse", "main")
    assert (into / "sub/g").stat().st_mtime == 981173106


@pytest.mark.needs_git
def test_checksum(repo: Path, tmp_path: Path) -> None:
    """A prefix of the commit is enough, another commit is an error that names both."""
    head = git(repo, "rev-parse", "main")
    url = GitUrl(f"file://{repo}", "main")
    checkout(url.with_checksum(head[:12]), tmp_path / "good", protocols=FILE)
    with pytest.raises(CopyError, match=f"is commit {head}, not 0123456"):
        checkout(url.with_checksum("0123456"), tmp_path / "bad", protocols=FILE)


@pytest.mark.needs_git
@pytest.mark.parametrize("ref", ["", "v1", "COMMIT", "SHORT"])
def test_a_plain_file_server(repo: Path, tmp_path: Path, ref: str) -> None:
    """Git's "dumb" HTTP can neither leave out history nor look up a commit: then all of it is fetched."""
    old = git(repo, "rev-parse", "main~1")
    git(repo, "update-server-info")
    handler = functools.partial(SilentHandler, directory=os.fspath(repo / ".git"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = GitUrl(
            f"http://127.0.0.1:{server.server_port}/", {"COMMIT": old, "SHORT": old[:7]}.get(ref, ref)
        )
        commit_id = resolve(url, tmp_path / "r")
        assert checkout(url, tmp_path / "out", commit=commit_id) == git(
            repo, "rev-parse", f"{url.ref or 'main'}^{{commit}}"
        )
        server.shutdown()
    assert (tmp_path / "out/f").read_text() == {"": "2", "v1": "1"}.get(ref, "2")


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.needs_git
def test_submodules(repo: Path, tmp_path: Path) -> None:
    """Checked out with the rest unless switched off; their .git files go too."""
    inner = tmp_path / "origin" / "inner.git"
    inner.mkdir()
    git(inner, "init", "-q")
    commit(inner, "deep", "d")
    git(repo, "submodule", "--quiet", "add", f"file://{inner}", "lib")
    commit(repo, "x", "x")
    checkout(GitUrl(f"file://{repo}"), tmp_path / "with", protocols=FILE)
    assert (tmp_path / "with/lib/deep").read_text() == "d"
    assert not list((tmp_path / "with").rglob(".git"))
    checkout(GitUrl(f"file://{repo}", submodules=False), tmp_path / "without", protocols=FILE)
    assert not (tmp_path / "without/lib/deep").exists()


@pytest.mark.needs_git
def test_a_repository_runs_nothing(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's hooks and helpers, nor local paths unless the caller allows them."""
    config = tmp_path / "gitconfig"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (hooks / "post-checkout").chmod(0o755)
    config.write_text(f"[core]\n\thooksPath = {hooks}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.fspath(config))
    checkout(GitUrl(f"file://{repo}"), tmp_path / "out", protocols=FILE)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(CopyError, match="git fetch failed") as caught:
        checkout(GitUrl(f"file://{repo}"), tmp_path / "refused")
    assert "only https" in caught.value.hint


@pytest.mark.needs_git
def test_errors_say_what_git_said(repo: Path, tmp_path: Path) -> None:
    """An unknown branch, a repository that isn't there."""
    with pytest.raises(CopyError, match="couldn't find remote ref nope") as caught:
        checkout(GitUrl(f"file://{repo}", "nope"), tmp_path / "a", protocols=FILE)
    assert "spelled" in caught.value.hint
    with pytest.raises(CopyError, match="git fetch failed"):
        checkout(GitUrl(f"file://{tmp_path}/nothing.git"), tmp_path / "b", protocols=FILE)


@pytest.mark.needs_git
def test_add_of_a_repository(repo: Path, tmp_path: Path) -> None:
    """The commit stands for the content in the key: the same commit is a hit, whenever it was cloned."""
    op = CopyOp((GitSource(f"file://{repo}#main:sub"),), "/x/", add=True)
    digests = []
    for name in ("a", "b"):
        remote = fetch_remote(op, fetch=lambda *_: None, scratch=tmp_path / name, protocols=FILE)
        digests.append(copy_inputs(op, {}, remote).digest)
        assert not (tmp_path / name / "0").exists(), "cloned before it is needed"
    assert digests[0] == digests[1]
    assert (remote[op.sources[0]].get().tree.root / "sub/g").read_text() == "g"  # type: ignore[index]
    commit(repo, "sub/h", "h")
    remote = fetch_remote(op, fetch=lambda *_: None, scratch=tmp_path / "c", protocols=FILE)
    assert copy_inputs(op, {}, remote).digest != digests[0]


@pytest.mark.needs_git
def test_context_of_a_repository(repo: Path, tmp_path: Path) -> None:
    """The subdirectory is the context; a symlink to outside of the repository is not followed."""
    root = directory_from_url(
        f"file://{repo}#main:sub", tmp_path / "a", fetch=lambda *_: None, protocols=FILE
    )
    assert (root / "g").read_text() == "g"
    (repo / "evil").symlink_to("/etc")
    commit(repo, "z", "z")
    with pytest.raises(CopyError, match="does not exist"):
        directory_from_url(f"file://{repo}#main:evil", tmp_path / "b", fetch=lambda *_: None, protocols=FILE)


def test_git_itself_may_be_missing_or_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are said, with what to do where there is something."""
    url = parse_git_url("https://example.com/x.git")
    monkeypatch.setattr("layersmith.execute.git.TIMEOUT", 1e-6)
    with pytest.raises(CopyError, match="git ls-remote took more than"):
        resolve(url, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CopyError, match="there is no git command") as caught:
        resolve(url, tmp_path)
    assert caught.value.hint == "install git"
