"""COPY to the letter of REFERENCE 1.10: items made on top of fake layers, compared entry by entry."""

from __future__ import annotations

import functools
import io
import os
import resource
import socket
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from layersmith.buildfile.chmod import parse_chmod
from layersmith.context import Context
from layersmith.errors import CopyError, PlanError
from layersmith.execute.copy import copy_inputs, copy_items, destination_facts
from layersmith.execute.tree import Tree
from layersmith.ops import ContextInput, CopyOp, InlineSource, Input, PathSource, StepInput

MAIN = ContextInput()
STAGE = StepInput(0)
NOW = 1_700_000_000
KINDS = {b"0": "file", b"1": "hard", b"2": "link", b"3": "char", b"5": "dir", b"6": "fifo"}


def write(root: Path, /, **files: str | bytes | None) -> None:
    """Files by path: text or bytes, ``None`` for a directory, ``-> target`` for a symlink; mtime 1000."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, str) and content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(0o644)
        os.utime(path, (1000, 1000), follow_symlinks=False)


class Copier:
    """Runs a COPY from a context directory (and a stage directory) onto fake layers."""

    def __init__(self, tmp: Path, make_below: Callable[..., Any]) -> None:
        self.context = tmp / "context"
        self.stage = tmp / "stage"
        self.context.mkdir()
        self.stage.mkdir()
        self.below = make_below()
        self.warnings: list[str] = []

    def trees(self) -> dict[Input, Tree]:
        return {
            MAIN: Tree.of_context(Context.open(self.context)),
            STAGE: Tree(self.stage, "stage build"),
        }

    def op(self, *sources: str, dest: str = "/", given: Input = MAIN, **flags: Any) -> CopyOp:
        return CopyOp(tuple(PathSource(s, given) for s in sources), dest, **flags)

    def run(self, op: CopyOp) -> dict[str, Any]:
        """Path -> (entry, content), in the order of the items, each path once."""
        seen: dict[str, Any] = {}
        for entry, content in copy_items(
            op, self.trees(), {}, self.below, now=NOW, warn=self.warnings.append
        ):
            path = os.fsdecode(entry.path)
            assert path not in seen, f"{path} twice"
            parent = path.rpartition("/")[0]
            assert parent == "" or parent in seen, f"{path} without its directory"
            if isinstance(content, int):
                with open(content, "rb", closefd=False) as file:
                    content = file.read()
            elif content is not None and not isinstance(content, bytes):
                content = content.read(1 << 20)
            seen[path] = (entry, content)
        return seen

    def listing(self, *sources: str, **kwargs: Any) -> list[str]:
        """``kind mode uid:gid path[ -> link]`` of each item."""
        return [
            f"{KINDS[e.kind]} {e.mode:o} {e.uid}:{e.gid} {path}"
            + (f" -> {e.link.decode()}" if e.link else "")
            for path, (e, _) in self.run(self.op(*sources, **kwargs)).items()
        ]

    def listed(self, *sources: str, **kwargs: Any) -> tuple[tuple[str, str], ...]:
        """What the cache key would be told."""
        return copy_inputs(self.op(*sources, **kwargs), self.trees(), listed=True).paths

    def paths(self, *sources: str, **kwargs: Any) -> list[str]:
        """The paths of all but directories."""
        return [p for p, (e, _) in self.run(self.op(*sources, **kwargs)).items() if e.kind != b"5"]


@pytest.fixture
def copier(tmp_path: Path, make_below: Callable[..., Any]) -> Copier:
    return Copier(tmp_path, make_below)


# Where things go


@pytest.mark.parametrize(
    ("sources", "dest", "expected"),
    [
        (["a"], "/", ["a"]),
        (["a"], "/new", ["new"]),
        (["a"], "/new/", ["new", "new/a"]),
        (["a"], "/x/y/z", ["x", "x/y", "x/y/z"]),
        (["/a"], "/old", ["old", "old/a"]),
        (["a"], "/old/", ["old", "old/a"]),
        (["a"], "/old/f", ["old", "old/f"]),
        (["../../a"], "/b", ["b"]),
        (["d"], "/", ["f", "sub", "sub/g"]),
        (["d/"], "/new", ["new", "new/f", "new/sub", "new/sub/g"]),
        (["d"], "/old", ["old", "old/f", "old/sub", "old/sub/g"]),
        (["d/."], "/new", ["new", "new/f", "new/sub", "new/sub/g"]),
        (["a", "d"], "/new/", ["new", "new/a", "new/f", "new/sub", "new/sub/g"]),
        (["d", "a"], "/new", ["new", "new/a", "new/f", "new/sub", "new/sub/g"]),
        (["a"], "/link", ["old", "old/a"]),
        (["a"], "/link/f", ["old", "old/f"]),
        (["a"], "/dangling", ["nowhere", "nowhere/at", "nowhere/at/all"]),
        (["a"], "/up", ["over"]),
    ],
)
def test_destination(
    copier: Copier, make_below: Any, sources: list[str], dest: str, expected: list[str]
) -> None:
    """A trailing slash or an existing directory take files in; symlinks are followed, inside the root."""
    write(copier.context, **{"a": "A", "d/f": "F", "d/sub/g": "G"})
    copier.below = make_below("old/", "link -> old", "dangling -> /nowhere/at/all", "up -> ../../../over")
    assert list(copier.run(copier.op(*sources, dest=dest))) == expected


def test_new_directories_are_0755_root_and_now(copier: Copier) -> None:
    """Directories that lead to the destination belong to nobody's source."""
    write(copier.context, **{"d/f": "F"})
    (copier.context / "d").chmod(0o700)
    items = copier.run(copier.op("d", dest="/x/y"))
    for path in ("x", "x/y"):
        entry = items[path][0]
        assert (entry.mode, entry.uid, entry.gid, entry.mtime) == (0o755, 0, 0, NOW)


def test_existing_directories_keep_their_attributes(copier: Copier, make_below: Any) -> None:
    """A layer is unpacked alone, so a directory that is only passed through is repeated as it was."""
    write(copier.context, a="A", **{"d/f": "F"})
    copier.below = make_below("old/", "old/sub/")
    for source, dest, wanted in (("a", "/old/sub/", ["old", "old/sub"]), ("d", "/old", ["old"])):
        items = copier.run(copier.op(source, dest=dest))
        for path in wanted:
            assert items[path][0] == copier.below.lookup(path.encode())


def test_existing_nested_directories_take_the_sources_attributes(copier: Copier, make_below: Any) -> None:
    """Only the top directory is left as it was."""
    write(copier.context, **{"d/sub/f": "F"})
    (copier.context / "d/sub").chmod(0o711)
    os.utime(copier.context / "d/sub", (500, 500))
    copier.below = make_below("old/", "old/sub/")
    entry = copier.run(copier.op("d", dest="/old"))["old/sub"][0]
    assert (entry.mode, entry.uid, entry.mtime) == (0o711, 0, 500)


def test_nothing_to_copy_writes_nothing(copier: Copier, make_below: Any) -> None:
    """An empty directory onto an existing one is an empty layer, not even its parents."""
    write(copier.context, d=None)
    copier.below = make_below("old/")
    assert copier.run(copier.op("d", dest="/old")) == {}


def test_order_is_by_bytes_with_parents_first(copier: Copier) -> None:
    """The order does not depend on the directory's, nor on the sources'."""
    write(copier.context, **{"b": "", "a/z": "", "a-b": "", "ä": "", "Z": "", "a/b/c": ""})
    items = list(copier.run(copier.op(".", dest="/")))
    assert items == ["Z", "a", "a/b", "a/b/c", "a/z", "a-b", "b", "ä"]


# Conflicts


@pytest.mark.parametrize(
    ("sources", "dest", "message"),
    [
        (["withdir"], "/", "to /file, which is not a directory"),
        (["withdir"], "/file", "to /file, which is not a directory"),
        (["withdir"], "/filelink", "to /file, which is not a directory"),
        (["withlink"], "/", "to /dirlink, which is not a directory"),
        (["withfile"], "/", "replace the directory /dir with a file"),
        (["a"], "/file/x", "leads through /file"),
        (["a"], "/file/", "ends with a slash, but /file is not a directory"),
        (["withfile", "other"], "/new/", "to /new/dir, which is not a directory"),
        (["other", "withfile"], "/new/", "replace the directory /new/dir with a file"),
        (["a", "other"], "/new", "to /new, which is not a directory"),
    ],
)
def test_conflicts(copier: Copier, make_below: Any, sources: list[str], dest: str, message: str) -> None:
    """A file never replaces a directory, nor the other way round; the error names the place."""
    write(copier.context, **{"a": "A", "withdir/file/x": "", "withfile/dir": "", "other/dir/y": ""})
    write(copier.context, **{"withlink/dirlink/x": ""})
    copier.below = make_below("file", "dir/", "filelink -> file", "dirlink -> dir")
    with pytest.raises(CopyError, match=message) as caught:
        copier.run(copier.op(*sources, dest=dest))
    assert caught.value.hint


def test_files_replace_files_and_links(copier: Copier, make_below: Any) -> None:
    """In the layers below and among the sources alike: the later one wins, and is there once."""
    write(copier.context, **{"one/f": "1", "one/l": "-> x", "two/f": "2"})
    copier.below = make_below("f", "l -> dir", "dir/")
    items = copier.run(copier.op("one", "two", dest="/"))
    assert items["f"][1] == b"2"
    assert items["l"][0].link == b"x"


def test_later_file_replaces_earlier_one_without_a_directory(copier: Copier) -> None:
    """BuildKit does not insist on a slash with several sources."""
    write(copier.context, a="A", b="B")
    assert {p: c for p, (_, c) in copier.run(copier.op("a", "b", dest="/new")).items()} == {"new": b"B"}


def test_merged_directories(copier: Copier) -> None:
    """Directories of several sources are one; the later source's attributes stay."""
    write(copier.context, **{"one/d/a": "1", "two/d/b": "2", "one/d/c": "1", "two/d/c": "2"})
    (copier.context / "one/d").chmod(0o700)
    (copier.context / "two/d").chmod(0o770)
    items = copier.run(copier.op("one", "two", dest="/new"))
    assert list(items) == ["new", "new/d", "new/d/a", "new/d/b", "new/d/c"]
    assert items["new/d"][0].mode == 0o770
    assert items["new/d/c"][1] == b"2"


# Symlinks, hard links, special files


def test_top_level_symlinks_are_followed_nested_ones_kept(copier: Copier) -> None:
    """Of a source itself and of wildcard hits; the name stays that of the link."""
    write(copier.context, **{"real": "R", "dir/inner": "-> ../real", "tofile": "-> real", "todir": "-> /dir"})
    assert copier.run(copier.op("tofile", dest="/x/"))["x/tofile"][1] == b"R"
    assert copier.run(copier.op("tof*", dest="/x/"))["x/tofile"][1] == b"R"
    nested = copier.run(copier.op("todir", dest="/x/"))["x/inner"][0]
    assert (nested.kind, nested.link, nested.mode) == (b"2", b"../real", 0o777)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../etc/passwd", "up/../../etc/passwd"])
def test_symlinks_never_leave_the_source(copier: Copier, target: str) -> None:
    """Absolute and climbing targets are resolved inside the context."""
    write(copier.context, **{"evil": f"-> {target}", "etc/passwd": "ours", "up": None})
    assert copier.run(copier.op("evil", dest="/x"))["x"][1] == b"ours"


@pytest.mark.parametrize("target", ["/", ".", "..", "../..", "//"])
def test_symlinks_to_the_root(copier: Copier, target: str) -> None:
    """A link may lead to the root itself: then all of it is meant."""
    write(copier.context, root=f"-> {target}", f="F")
    assert "x/f" in copier.paths("root", dest="/x/")


def test_symlink_loops_and_dangling_sources_fail(copier: Copier) -> None:
    """With an error of ours, not the kernel's."""
    write(copier.context, loop="-> loop", dangling="-> nowhere")
    with pytest.raises(CopyError, match="loop of symbolic links"):
        copier.run(copier.op("loop", dest="/x"))
    with pytest.raises(CopyError, match="does not exist") as caught:
        copier.run(copier.op("dangling", dest="/x"))
    assert "leads nowhere" in caught.value.hint


def test_hard_links_are_kept_within_a_source(copier: Copier) -> None:
    """The first name in the layer's order has the body; two sources don't share."""
    write(copier.context, **{"d/b": "same", "e/x": "other"})
    os.link(copier.context / "d/b", copier.context / "d/a")
    os.link(copier.context / "d/b", copier.context / "e/c")
    items = copier.run(copier.op("d", "e", dest="/"))
    assert items["a"][0].kind == b"0" and items["a"][1] == b"same"
    assert items["b"][0].kind == b"1" and items["b"][0].link == b"a" and items["b"][1] is None
    assert items["c"][0].kind == b"0"


def test_hard_link_whose_first_name_another_source_replaces(copier: Copier) -> None:
    """Then the next name carries the body: a link to a file that isn't the same one would be wrong."""
    write(copier.context, **{"d/a": "mine", "e/a": "theirs"})
    os.link(copier.context / "d/a", copier.context / "d/b")
    items = copier.run(copier.op("d", "e", dest="/"))
    assert items["a"][1] == b"theirs"
    assert items["b"][0].kind == b"0" and items["b"][1] == b"mine"


def test_sockets_and_fifos(copier: Copier) -> None:
    """A socket becomes an empty file, a fifo stays one (and does not hang the build)."""
    os.mkfifo(copier.context / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(copier.context)
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        items = copier.run(copier.op(".", dest="/"))
    assert items["fifo"][0].kind == b"6" and items["fifo"][0].mode == 0o600
    assert items["socket"][0].kind == b"0" and items["socket"][0].size == 0


@pytest.mark.root
def test_devices(copier: Copier) -> None:
    """Device nodes of a stage keep their numbers."""
    os.mknod(copier.stage / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    entry = copier.run(copier.op(".", given=STAGE))["null"][0]
    assert (entry.kind, entry.major, entry.minor) == (b"3", 1, 3)


def test_xattrs(copier: Copier) -> None:
    """user.* of files and directories are kept."""
    write(copier.context, **{"d/f": "F"})
    try:
        os.setxattr(copier.context / "d/f", "user.b", b"2")
        os.setxattr(copier.context / "d/f", "user.a", b"1")
        os.setxattr(copier.context / "d/f", "user.overlay.opaque", b"y")
        os.setxattr(copier.context / "d", "user.c", b"3")
    except OSError:
        pytest.skip("no user xattrs on this file system")
    items = copier.run(copier.op(".", dest="/"))
    assert items["d/f"][0].xattrs == ((b"user.a", b"1"), (b"user.b", b"2"))
    assert items["d"][0].xattrs == ((b"user.c", b"3"),)


@pytest.mark.parametrize("name", [b"caf\xc3\xa9", b"not \xff utf-8", b"with\nnewline", b"-dash", b"a" * 200])
def test_any_name(copier: Copier, name: bytes) -> None:
    """A name is bytes, and arrives as it is."""
    (Path(os.fsdecode(os.fsencode(copier.context) + b"/" + name))).write_text("x")
    assert list(copier.run(copier.op(".", dest="/"))) == [os.fsdecode(name)]


def test_whiteout_names_are_refused(copier: Copier) -> None:
    """A context can't delete files of the image through names that mean a deletion in a layer."""
    write(copier.context, **{"d/.wh.passwd": ""})
    with pytest.raises(CopyError, match=r"/\.wh\.passwd can't be in an image"):
        copier.run(copier.op("d", dest="/"))


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "/x/\ud800"])
def test_impossible_names(copier: Copier, name: str) -> None:
    """What no file can be called is an error of ours, as a source, a destination and a heredoc's name."""
    write(copier.context, f="")
    for op in (copier.op(name), copier.op("f", dest="/" + name), CopyOp((InlineSource(name, b""),), "/")):
        with pytest.raises(CopyError, match="can't be"):
            copier.run(op)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../x", ""])
def test_heredoc_names_stay_in_the_destination(copier: Copier, name: str) -> None:
    """A delimiter is a file name, not a path."""
    with pytest.raises(CopyError, match="heredoc"):
        copier.run(CopyOp((InlineSource(name, b""),), "/x/"))


def test_a_source_with_too_long_a_name_is_missing(copier: Copier) -> None:
    """ENAMETOOLONG is nobody's file."""
    with pytest.raises(CopyError, match="does not exist"):
        copier.run(copier.op("x" * 300))


def test_deep_directories(copier: Copier) -> None:
    """300 levels are copied; where the descriptors run out, it is an error of ours."""
    fd = os.open(copier.context, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert len(copier.run(copier.op("."))) == 300
    assert len(copier.listed(".")) == 300
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        with pytest.raises(CopyError, match="Too many open files"):
            copier.run(copier.op("."))
        with pytest.raises(CopyError, match="Too many open files"):
            copier.listed(".")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# Wildcards


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a.txt", "b.txt", "g", "h", "[x]", "zz"]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[b-z].txt", ["b.txt"]),
        ("[^b].txt", ["a.txt"]),
        ("*/h", ["h"]),
        ("di*/g", ["g"]),
        ("dir/*", ["g", "h"]),
        ("[[]x]", ["[x]"]),
        ("\\[x]", ["[x]"]),
        ("*/*/zz", ["zz"]),
        ("nothing*", []),
        ("nothing*/x", []),
    ],
)
def test_wildcards(copier: Copier, pattern: str, expected: list[str]) -> None:
    """filepath.Match, segment by segment; of a directory that matches, its content."""
    write(copier.context, **{"a.txt": "", "b.txt": "", "dir/g": "", "dir/h": "", "[x]": "", "e/f/zz": ""})
    paths = copier.paths(pattern, dest="/x/")
    if pattern == "*":
        assert set(paths) == {"x/a.txt", "x/b.txt", "x/g", "x/h", "x/[x]", "x/f/zz"}
    else:
        assert paths == [f"x/{name}" for name in expected]


def test_wildcard_without_a_match_warns(copier: Copier) -> None:
    """It succeeds, writes nothing, and says so."""
    assert copier.run(copier.op("missing*", dest="/x/")) == {}
    assert copier.warnings == ['"missing*" matches nothing in the build context']


def test_malformed_wildcard(copier: Copier) -> None:
    """Is an error that shows it."""
    with pytest.raises(CopyError, match=r"\[a\*"):
        copier.run(copier.op("[a*", dest="/x/"))


# What is missing, or can't be read


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory with a file and a directory that the test's user may not read; root becomes nobody for it."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        write(top, **{"file": "x", "dir/inner": "x", "sub/file": "x"})
        top.chmod(0o755)
        for path, mode in (("file", 0), ("sub/file", 0), ("dir", 0)):
            (top / path).chmod(mode)
        if os.geteuid() == 0:
            os.seteuid(65534)
            try:
                yield top
            finally:
                os.seteuid(0)
        else:
            yield top
        (top / "dir").chmod(0o755)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("source", ["file", "sub", "dir", "dir/inner", "d*/inner"])
def test_what_can_not_be_read_is_named(
    source: str, listed: bool, unprivileged: Path, make_below: Callable[..., Any]
) -> None:
    """Where it is copied, and where its digest is made before that."""
    trees = {MAIN: Tree.of_context(Context.open(unprivileged))}
    op = CopyOp((PathSource(source, MAIN),), "/x/")
    with pytest.raises(CopyError, match=r"can't (read|look at) .*: Permission denied"):
        if listed:
            copy_inputs(op, trees, {}, listed=True)
        for _, content in copy_items(op, trees, {}, make_below(), now=NOW, warn=lambda _: None):
            assert content is None


def test_missing_source_names_the_nearest(copier: Copier) -> None:
    """A likely misspelling is offered, else the last directory that exists."""
    write(copier.context, **{"src/requirements.txt": "", "src/deep/er/x": ""})
    for source, hint in (
        ("src/requirments.txt", 'did you mean "src/requirements.txt"?'),
        ("scr/requirements.txt", 'did you mean "src/requirements.txt"?'),
        ("scr/none", 'did you mean "src"?'),
        ("src/deep/er/qqq/y", 'the nearest path that exists is "src/deep/er/"'),
    ):
        with pytest.raises(CopyError, match="does not exist in the build context") as caught:
            copier.run(copier.op(source, dest="/x"))
        assert caught.value.hint == hint


def test_missing_in_a_stage_names_the_stage(copier: Copier) -> None:
    """The label of the tree is in the message."""
    with pytest.raises(CopyError, match="does not exist in stage build"):
        copier.run(copier.op("/out", dest="/x", given=STAGE))


def test_ignored_source_names_the_rule(copier: Copier) -> None:
    """The file exists, and a rule hides it: say which."""
    write(copier.context, **{".dockerignore": "# c\n*.md\nsecret\n", "README.md": "", "secret/key": ""})
    for source, rule in (("README.md", 'line 2 ("*.md")'), ("secret/key", 'line 3 ("secret")')):
        with pytest.raises(CopyError, match=r"hidden from COPY by \.dockerignore") as caught:
            copier.run(copier.op(source, dest="/x"))
        assert rule in caught.value.hint


def test_ignored_files_are_not_copied(copier: Copier) -> None:
    """Nor the hidden directories, unless something below them is re-included; stages are not filtered."""
    files = {"keep": "", "log/a": "", "log/b": "", "tmp/x": "", "tmp/deep/y": "", "other/z.o": ""}
    write(copier.context, **{".dockerignore": "log\n!log/b\ntmp\n**/*.o\n.dockerignore\n", **files})
    write(copier.stage, **{".dockerignore": "*", "x": ""})
    assert list(copier.run(copier.op(".", dest="/"))) == ["keep", "log", "log/b", "other"]
    assert list(copier.run(copier.op("log", dest="/"))) == ["b"]
    assert copier.paths("*", dest="/d/") == ["d/b", "d/keep"]
    assert copier.paths(".", given=STAGE) == [".dockerignore", "x"]
    with pytest.raises(CopyError, match="hidden"):
        copier.run(copier.op("tmp", dest="/"))


def test_symlink_to_something_ignored_is_missing(copier: Copier) -> None:
    """A link does not make a hidden file visible."""
    write(copier.context, **{".dockerignore": "secret\n", "secret": "s", "public": "-> secret"})
    with pytest.raises(CopyError, match=r"does not exist|hidden"):
        copier.run(copier.op("public", dest="/x"))


# Owners and modes


def test_owners(copier: Copier, make_below: Any) -> None:
    """Context files are 0:0, a stage's keep theirs, --chown is for all of them and for new directories."""
    write(copier.context, **{"d/f": "", "d/l": "-> f"})
    write(copier.stage, f="")
    own = f"{os.getuid()}:{os.getgid()}"
    assert copier.listing("d", dest="/new")[1:] == ["file 644 0:0 new/f", "link 777 0:0 new/l -> f"]
    assert copier.listing("f", dest="/x", given=STAGE) == [f"file 644 {own} x"]
    assert copier.listing("d", dest="/new", chown="5:6") == [
        "dir 755 5:6 new", "file 644 5:6 new/f", "link 777 5:6 new/l -> f",
    ]  # fmt: skip
    copier.below = make_below("old/")
    assert copier.listing("d/f", dest="/old/", chown="5:6") == ["dir 750 7:8 old", "file 644 5:6 old/f"]


PASSWD = b"root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\nbroken\n"
GROUP = b"root:x:0:\nstaff:x:50:web\n"


@pytest.mark.parametrize(
    ("chown", "owner"),
    [
        ("1000", "1000:1000"),
        ("1000:7", "1000:7"),
        ("web", "33:34"),
        ("web:staff", "33:50"),
        ("web:", "33:0"),
        (":staff", "0:50"),
        ("12:staff", "12:50"),
        ("0:0", "0:0"),
    ],
)
def test_chown(copier: Copier, make_below: Any, chown: str, owner: str) -> None:
    """Names come from the image's own files; an id alone is its group, a name brings its primary one."""
    write(copier.context, f="")
    copier.below = make_below("etc/", **{"etc/passwd": PASSWD, "etc/group": GROUP})
    assert copier.listing("f", dest="/x", chown=chown) == [f"file 644 {owner} x"]


@pytest.mark.parametrize(
    ("chown", "message"),
    [
        ("nobody", 'no user "nobody" in the image\'s /etc/passwd'),
        ("web:wheel", 'no group "wheel" in the image\'s /etc/group'),
        ("99999999999", "out of range"),
    ],
)
def test_chown_unknown(copier: Copier, make_below: Any, chown: str, message: str) -> None:
    """An error that names the file looked in, also where the image has no such file."""
    write(copier.context, f="")
    copier.below = make_below("etc/", **{"etc/passwd": PASSWD, "etc/group": GROUP})
    with pytest.raises(CopyError, match=message):
        copier.run(copier.op("f", dest="/x", chown=chown))
    copier.below = make_below()
    with pytest.raises(CopyError, match=r"passwd|out of range"):
        copier.run(copier.op("f", dest="/x", chown=chown))


@pytest.mark.parametrize(
    ("chmod", "file", "directory", "parent"),
    [
        ("600", 0o600, 0o600, 0o600),
        ("0", 0, 0, 0),
        ("7777", 0o7777, 0o7777, 0o7777),
        ("u=rwX,go=rX", 0o644, 0o755, 0o755),
        ("a+x", 0o755, 0o755, 0o755),
        ("+x", 0o755, 0o755, 0o755),
        ("go-r", 0o600, 0o711, 0o755),
        ("g=u", 0o664, 0o775, 0o755),
        ("u+s,o-rx", 0o4640, 0o4750, 0o755),
        ("g+s,+t", 0o3644, 0o3755, 0o755),
        ("o=", 0o640, 0o750, 0o755),
        ("u=rw-w+x", 0o544, 0o555, 0o755),
    ],
)
def test_chmod(copier: Copier, chmod: str, file: int, directory: int, parent: int) -> None:
    """Octal is for directories, and those made on the way, too; symbolic is chmod(1)'s with umask 0."""
    write(copier.context, **{"d/sub/f": "", "d/l": "-> sub"})
    items = copier.run(copier.op("d", dest="/new", chmod=chmod))
    assert items["new"][0].mode == parent
    assert items["new/sub"][0].mode == directory
    assert items["new/sub/f"][0].mode == file
    assert items["new/l"][0].mode == 0o777


@pytest.mark.parametrize("chmod", ["", "8", "10000", "64a", "u=q", "rwx", "u", "u+rwx,", "-1"])
def test_chmod_malformed(chmod: str) -> None:
    """Neither octal up to 7777 nor symbolic."""
    with pytest.raises(PlanError, match="is not a mode"):
        parse_chmod(chmod)


# --parents, --exclude, heredocs


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x/y/a.txt", ["p/x/y/a.txt"]),
        ("./x/y/a.txt", ["p/x/y/a.txt"]),
        ("/x/./y/a.txt", ["p/y/a.txt"]),
        ("./x/./y/*.txt", ["p/y/a.txt", "p/y/b.txt"]),
        ("x/./y/./a.txt", ["p/y/a.txt"]),
        ("x/y", ["p/x/y/a.txt", "p/x/y/b.txt", "p/x/y/c/d.md"]),
        ("x/y/.", ["p/x/y/a.txt", "p/x/y/b.txt", "p/x/y/c/d.md"]),
        ("**/*.md", ["p/top.md", "p/x/y/c/d.md"]),
        ("x/**/d.md", ["p/x/y/c/d.md"]),
        ("x/y*/./c", ["p/c/d.md"]),
        ("*/y/b.txt", ["p/x/y/b.txt"]),
        ("nothing*/y", []),
        (".", ["p/top.md", "p/x/y/a.txt", "p/x/y/b.txt", "p/x/y/c/d.md"]),
    ],
)
def test_parents(copier: Copier, source: str, expected: list[str]) -> None:
    """The source's path is kept from the root, or from the first ``/./``, on."""
    write(copier.context, **{"x/y/a.txt": "", "x/y/b.txt": "", "x/y/c/d.md": "", "top.md": "", "empty": None})
    items = copier.run(copier.op(source, dest="/p/", parents=True))
    assert [p for p, (e, _) in items.items() if e.kind != b"5"] == expected


def test_parents_makes_only_what_is_needed(copier: Copier, make_below: Any) -> None:
    """Directories on the way look like the source's; those that are there keep owner and time, and take the mode."""
    write(copier.context, **{"x/y/a.txt": "", "x/z/b.txt": "", "w/b.txt": ""})
    (copier.context / "x").chmod(0o711)
    assert copier.listing("x/y/*.txt", parents=True) == [
        "dir 711 0:0 x", "dir 755 0:0 x/y", "file 644 0:0 x/y/a.txt",
    ]  # fmt: skip
    copier.below = make_below("x/")
    assert copier.listing("x/y/*.txt", parents=True)[0] == "dir 711 7:8 x"


def test_parents_missing_literal(copier: Copier) -> None:
    """A literal path must exist, before and after the pivot."""
    write(copier.context, **{"x/y/a.txt": ""})
    for source in ("x/q", "x/./q", "q/./y"):
        with pytest.raises(CopyError, match="does not exist"):
            copier.run(copier.op(source, dest="/p/", parents=True))


@pytest.mark.parametrize(
    ("excludes", "expected"),
    [
        (("*.md",), ["a.txt", "sub/b.md", "sub/c.txt"]),
        (("**/*.md",), ["a.txt", "sub/c.txt"]),
        (("sub",), ["a.txt", "r.md"]),
        (("sub", "!sub/c.txt"), ["a.txt", "r.md", "sub/c.txt"]),
        (("*", "!sub"), ["sub/b.md", "sub/c.txt"]),
        (("a.txt", "r.md"), ["sub/b.md", "sub/c.txt"]),
    ],
)
def test_exclude(copier: Copier, excludes: tuple[str, ...], expected: list[str]) -> None:
    """Patterns as in .dockerignore, relative to the source."""
    write(copier.context, **{"d/a.txt": "", "d/r.md": "", "d/sub/b.md": "", "d/sub/c.txt": ""})
    assert copier.paths("d", dest="/", excludes=excludes) == expected


def test_heredocs(copier: Copier, make_below: Any) -> None:
    """A file named like the delimiter, 0644, in a directory; flags apply; mixed with real sources."""
    write(copier.context, a="A")
    sources = (PathSource("a", MAIN), InlineSource("EOF", b"one"), InlineSource("run.sh", b"two"))
    items = copier.run(CopyOp(sources, "/x/", chmod="755"))
    assert {p: (e.mode, c) for p, (e, c) in items.items()} == {
        "x": (0o755, None), "x/EOF": (0o755, b"one"), "x/a": (0o755, b"A"), "x/run.sh": (0o755, b"two"),
    }  # fmt: skip
    single = copier.run(CopyOp((InlineSource("EOF", b"one"),), "/file"))
    assert {p: (e.mode, e.mtime, c) for p, (e, c) in single.items()} == {"file": (0o644, NOW, b"one")}


# Digests


def test_digests_are_unambiguous(copier: Copier) -> None:
    """No link target or file name can pass for the next line of the listing, nor one source for two."""
    write(copier.context, **{"a/x": "-> t", "a/y": "", "b/x": "-> t\0y".replace("\0", "\n"), "b/y": ""})
    write(copier.context, **{"c/x": "-> t\ny", "d/x": "-> t", "d/\ny": ""})
    names = "a", "b", "c", "d"
    digests = {copy_inputs(copier.op(n), copier.trees()).digest for n in names}
    assert len(digests) == 4
    one = CopyOp((InlineSource("a", b""), InlineSource("b", b"")), "/x/")
    two = CopyOp((InlineSource("a", b""),), "/x/")
    assert copy_inputs(one, {}).digest != copy_inputs(two, {}).digest


def test_inputs_depend_on_content_not_on_time(copier: Copier) -> None:
    """Content, mode, names and link targets count; times and what is ignored don't."""
    write(copier.context, **{".dockerignore": "log", "d/f": "F", "d/l": "-> f", "log": "x"})

    def digest(**flags: Any) -> str:
        return copy_inputs(copier.op(".", **flags), copier.trees()).digest

    first = digest()
    os.utime(copier.context / "d/f", (5, 5))
    write(copier.context, log="yyy")
    assert digest() == first
    seen = {first}
    for change in (
        lambda: (copier.context / "d/f").write_text("G"),
        lambda: (copier.context / "d/f").chmod(0o600),
        lambda: (copier.context / "d/f").rename(copier.context / "d/g"),
        lambda: (copier.context / "d/empty").mkdir(),
        lambda: ((copier.context / "d/l").unlink(), (copier.context / "d/l").symlink_to("g")),
        lambda: os.link(copier.context / "d/g", copier.context / "d/h"),
    ):
        change()
        assert digest() not in seen
        seen.add(digest())
    with_mode = digest(chmod="644")
    (copier.context / "d/g").chmod(0o611)
    assert digest(chmod="644") == with_mode


def test_inputs_list_what_was_read(copier: Copier) -> None:
    """Paths with fingerprints that a person can compare."""
    write(copier.context, **{"d/f": "F", "d/l": "-> f", "other": ""})
    body = "f67ab10ad4e4c53121b6a5fe4da9c10ddee905b978d3788d2723d7bfacbe28a9"
    assert copier.listed("d") == (
        ("d/f", f"file 644 - {body}"),
        ("d/l", "link -> f"),
    )
    assert copier.listed("other", chmod="1", chown="2")[0][1].startswith("file - - ")
    assert copy_inputs(copier.op("d"), copier.trees()).paths == (), "not asked for"


def test_inputs_follow_excludes_and_parents(copier: Copier) -> None:
    """What a flag leaves out does not count, directories on the way only where needed."""
    write(copier.context, **{"x/a.txt": "", "x/b.md": "", "y/c.md": ""})
    paths = copier.listed("**/*.txt", parents=True)
    assert [p for p, _ in paths] == ["x", "x/a.txt"]
    paths = copier.listed(".", excludes=("**/*.md",))
    assert [p for p, _ in paths] == ["x", "x/a.txt", "y"]


def test_destination_facts(copier: Copier, make_below: Any) -> None:
    """What --link depends on: where it goes and how the directories there look, nothing else."""
    op = copier.op("a", dest="/link/f", link=True)
    copier.below = make_below("old/", "link -> old", "unrelated/")
    facts = destination_facts(op, copier.below)
    assert facts == (("/old", "750 7:8 "), ("/old/f", "missing"))
    assert destination_facts(op, make_below("old/", "link -> old")) == facts
    assert destination_facts(op, make_below("link/")) != facts


# ADD


def tar(*members: tuple[str, bytes | str | None], mode: str = "w", **extra: Any) -> bytes:
    """An archive: bytes are files, text is a symlink's target, None a directory, all 0640 of 9:10, mtime 42."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.mtime = 0o640, 9, 10, 42
            for key, value in extra.items():
                setattr(info, key, value)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o750
            elif isinstance(content, str) and content.startswith("hard "):
                info.type, info.linkname = tarfile.LNKTYPE, content[5:]
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.compress(data)


@pytest.mark.parametrize("compression", ["w", "w:gz", "w:bz2", "w:xz", "zstd"])
def test_add_unpacks_by_magic(copier: Copier, compression: str) -> None:
    """Whatever the name; owners and modes are the archive's, the destination is made a directory."""
    data = tar(("d", None), ("d/f", b"F"), ("l", "d/f"), mode=compression if compression != "zstd" else "w")
    write(copier.context, a=zstd(data) if compression == "zstd" else data)
    assert copier.listing("a", dest="/out", add=True) == [
        "dir 755 0:0 out", "dir 750 9:10 out/d", "file 640 9:10 out/d/f", "link 640 9:10 out/l -> d/f",
    ]  # fmt: skip
    assert copier.run(copier.op("a", dest="/out", add=True))["out/d/f"][1] == b"F"


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        (b"no archive", {"add": True}),
        (b"", {"add": True}),
        (b"\x1f\x8b broken gzip", {"add": True}),
        (bytes(10240), {"add": True}),
        (tar(("f", b"F")), {"add": True, "unpack": False}),
        (tar(("f", b"F")), {}),
    ],
)
def test_add_copies_what_is_no_archive(copier: Copier, data: bytes, flags: dict[str, Any]) -> None:
    """COPY never unpacks, nor does --unpack=false; an empty archive is a file to BuildKit."""
    write(copier.context, a=data)
    assert copier.run(copier.op("a", dest="/out", **flags))["out"][1] == data


def test_add_of_a_directory_does_not_unpack_what_is_in_it(copier: Copier) -> None:
    """Only a source itself, or a wildcard's hit, or what a link leads to, is unpacked."""
    write(copier.context, **{"d/a.tar": tar(("f", b"F")), "l": "-> d/a.tar"})
    assert copier.paths("d", dest="/x", add=True) == ["x/a.tar"]
    assert copier.paths("d/*", dest="/x", add=True) == ["x/f"]
    assert copier.paths("l", dest="/x", add=True) == ["x/f"]


def test_add_flags_of_archives(copier: Copier) -> None:
    """--chown is for the entries; --chmod and --exclude are not."""
    write(copier.context, a=tar(("f", b"F")))
    assert copier.listing("a", dest="/x", add=True, chown="1:2", chmod="700", excludes=("f",)) == [
        "dir 700 1:2 x", "file 640 1:2 x/f",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([("../../etc/x", b"")], ["out/etc/x"]),
        ([("/etc/x", b"")], ["out/etc/x"]),
        ([("l", "/etc"), ("l/x", b"")], ["out/etc/x", "out/l"]),
        ([("l", "../../etc"), ("l/x", b"")], ["out/etc/x", "out/l"]),
        ([("./f", b""), (".", None)], ["out/f"]),
        ([("deep/er/f", b"")], ["out/deep/er/f"]),
        ([("f", b"1"), ("f", b"2")], ["out/f"]),
        ([("f", b"1"), ("f", None), ("f/g", b"")], ["out/f/g"]),
        ([("z/f", b"1"), ("z", None), ("a", b"")], ["out/a", "out/z/f"]),
        ([("into/x", b"")], ["out/real/x"]),
        ([("into", None), ("into/x", b"")], ["out/real/x"]),
        ([("into", b"file")], ["out/into"]),
        ([("have", b"file")], ["out/have"]),
    ],
)
def test_add_stays_below_the_destination(
    copier: Copier, make_below: Any, members: Sequence[Any], expected: list[str]
) -> None:
    """Names and links that climb out are resolved as if the destination were the root; the last of a name counts."""
    copier.below = make_below("out/", "out/into -> /real", "out/real/", "out/have/")
    write(copier.context, a=tar(*members))
    assert copier.paths("a", dest="/out", add=True) == expected


def test_add_hard_links(copier: Copier) -> None:
    """The first name in the layer's order has the body, whichever came first in the archive."""
    write(copier.context, a=tar(("z", b"body"), ("a", "hard z")))
    items = copier.run(copier.op("a", dest="/", add=True))
    assert items["a"][0].kind == b"0" and items["a"][1] == b"body"
    assert items["z"][0].kind == b"1" and items["z"][0].link == b"a"
    write(copier.context, a=tar(("a", "hard nowhere")))
    with pytest.raises(CopyError, match="hard link"):
        copier.run(copier.op("a", dest="/", add=True))


@pytest.mark.parametrize("mode", ["", "z"])
def test_add_of_a_sparse_file(copier: Copier, mode: str) -> None:
    """GNU's sparse format: the holes are zeros again."""
    path = copier.context / "holes"
    with path.open("wb") as file:
        for offset in (0, 3 << 20, (5 << 20) + 1):
            file.seek(offset)
            file.write(b"data")
        file.truncate(7 << 20)
    run = subprocess.run(
        ("tar", f"-c{mode}Sf", "a", "--remove-files", "holes"), cwd=copier.context, check=False
    )
    if run.returncode or (copier.context / "a").stat().st_size > 1 << 20:
        pytest.skip("this tar makes no sparse archives here")
    for entry, content in copy_items(copier.op("a", add=True), copier.trees(), {}, copier.below, now=NOW):
        assert entry.size == 7 << 20
        body = b"".join(iter(functools.partial(content.read, 1 << 16), b""))  # type: ignore[union-attr]
    wanted = bytearray(7 << 20)
    for offset in (0, 3 << 20, (5 << 20) + 1):
        wanted[offset : offset + 4] = b"data"
    assert body == wanted


def test_add_of_a_damaged_archive(copier: Copier) -> None:
    """It began as an archive: say that it can't be unpacked, and how to copy it as it is."""
    write(copier.context, a=tar(("f", os.urandom(100_000)), mode="w:gz")[:-60])
    with pytest.raises(CopyError, match="can't unpack") as caught:
        copier.run(copier.op("a", dest="/", add=True))
    assert "--unpack=false" in caught.value.hint


def test_two_archives_and_a_file(copier: Copier) -> None:
    """Sources follow one another; the later one wins."""
    write(copier.context, a=tar(("d/f", b"1"), ("d/g", b"1")), b=tar(("d/f", b"2")), **{"c/d/g": b"3"})
    items = copier.run(copier.op("a", "b", "c", dest="/x", add=True))
    assert {p: c for p, (_, c) in items.items() if c is not None} == {"x/d/f": b"2", "x/d/g": b"3"}
