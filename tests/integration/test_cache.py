"""What makes a step run again, and what must not: each row edits a built context or its command line and builds again.

The rows name the steps that must run; every other step must be a hit. A RUN that ran again wrote new times, so what
stands on it runs as well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from program import Layersmith

from layersmith.store import Store

pytestmark = pytest.mark.root

BUILDFILE = """\
FROM base AS tools
RUN echo tool > /tool
FROM base AS app
ARG UNUSED
ENV PLAIN=1
WORKDIR /app
COPY one.txt /app/
COPY tree /app/tree
ARG USED=1
RUN --mount=type=secret,id=key cat one.txt > copy-of-one
COPY --from=tools /tool /app/tool
RUN --mount=type=bind,source=bound.txt,target=/bound cat /bound > bound-copy
"""
STEPS = {
    "tool": "echo tool",
    "workdir": "WORKDIR",
    "one": "one.txt /app",
    "tree": "tree /app/tree",
    "secret": "copy-of-one",
    "from": "COPY --from=tools",
    "bind": "bound-copy",
}


BELOW = ["the files below, of step N"]


def named(text: str) -> list[str]:
    """What the table calls the step that progress calls ``text``."""
    return [name for name, part in STEPS.items() if part in text]


def blurred(text: str) -> str:
    """Without what differs from run to run, or is only the name of another step."""
    text = re.sub(r"\b[0-9a-f]{12}\b", "H", text)
    return re.sub(r"(step )\d+ .*", r"\1N", text)


@dataclass
class Project:
    """A context that was built once."""

    layersmith: Layersmith
    context: Path
    arguments: list[str]

    def build(self) -> set[str]:
        """The names of the steps that ran."""
        done = self.layersmith(
            "build", "--progress=plain", "--secret", "id=key,src=key", *self.arguments, ".", cwd=self.context
        )
        started = dict(re.findall(r"^#(\d+) (\[.*)$", done.stderr, re.MULTILINE))
        cached = set(re.findall(r"^#(\d+) CACHED$", done.stderr, re.MULTILINE))
        ran = [text for number, text in started.items() if number not in cached]
        return {name for text in ran for name in named(text)}

    def explained(self) -> dict[str, list[str]]:
        """Why each step of the last build ran: the lines of ``explain``, with H for digests and N for steps."""
        shown = self.layersmith("explain", "--format", "json").stdout.splitlines()
        steps = [step for step in map(json.loads, shown) if step["outcome"] == "ran"]
        return {
            name: [blurred(cause["text"]) for cause in step["why"]]
            for step in steps
            for name in named(step["name"])
        }

    def replace(self, old: str, new: str) -> None:
        path = self.context / "Buildfile"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def begin(layersmith: Layersmith, context: Path) -> Project:
    """A project in ``context``, built once."""
    (context / "tree" / "deep").mkdir(parents=True)
    (context / "Buildfile").write_text(BUILDFILE)
    (context / ".dockerignore").write_text("*.log\nkey\n")
    (context / "one.txt").write_text("one\n")
    (context / "bound.txt").write_text("bound\n")
    (context / "key").write_text("secret-value\n")
    (context / "tree" / "a.txt").write_text("a\n")
    (context / "tree" / "deep" / "b.txt").write_text("b\n")
    (context / "tree" / "link").symlink_to("a.txt")
    made = Project(layersmith, context, [])
    assert made.build() == set(STEPS)
    return made


@pytest.fixture(scope="session")
def template(
    sandboxes: None,
    import_base: Callable[[Layersmith], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Project:
    """A project built once; each row works on a copy of it, store and all."""
    directory = tmp_path_factory.mktemp("template")
    layersmith = Layersmith.at(directory / "store", directory / "home")
    import_base(layersmith)
    return begin(layersmith, directory / "context")


@pytest.fixture
def project(template: Project, tmp_path: Path) -> Project:
    for path in (template.layersmith.root, template.context):
        subprocess.run(["cp", "-a", path, tmp_path / path.name], check=True)
    return Project(template.layersmith.with_store(tmp_path / "store"), tmp_path / "context", [])


def same_size_and_time(project: Project) -> None:
    path = project.context / "one.txt"
    before = path.stat()
    path.write_text("eno\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewrite_alike(project: Project) -> None:
    path = project.context / "one.txt"
    path.unlink()
    path.write_text("one\n")


def other_base(project: Project) -> None:
    (project.context / "rebase").write_text("FROM base\nRUN echo changed > /changed\n")
    project.layersmith("build", "-q", "-f", "rebase", "-t", "base", ".", cwd=project.context)


def retag_base(project: Project) -> None:
    (project.context / "rebase").write_text("FROM base\nLABEL x=y\n")
    project.layersmith("build", "-q", "-f", "rebase", "-t", "base", ".", cwd=project.context)


def forget(project: Project, step: str) -> None:
    """Have the cache lose its record of ``step``, as `prune` does with what nobody used for long."""
    with Store.open(project.layersmith.root) as store:
        (build,) = store.builds.recent()
        (key,) = (one.key for one in build.steps if step in named(one.name))
        assert store.cache.get(key) is not None
        store.cache.delete(key)


AFTER_ONE = {"one", "tree", "secret", "from", "bind"}
AFTER_TREE = {"tree", "secret", "from", "bind"}
AFTER_SECRET = {"secret", "from", "bind"}

EDITS: dict[str, tuple[Callable[[Project], object], set[str]]] = {
    "nothing": (lambda p: None, set()),
    "touch": (lambda p: os.utime(p.context / "one.txt"), set()),
    "touch a directory": (lambda p: os.utime(p.context / "tree"), set()),
    "written again alike": (rewrite_alike, set()),
    "content": (lambda p: (p.context / "one.txt").write_text("changed\n"), AFTER_ONE),
    "same size, same mtime": (same_size_and_time, AFTER_ONE),
    "chmod": (lambda p: (p.context / "one.txt").chmod(0o600), AFTER_ONE),
    "chown in the context": (lambda p: os.chown(p.context / "one.txt", 5, 5), set()),
    "xattr": (lambda p: os.setxattr(p.context / "one.txt", "user.x", b"y"), AFTER_ONE),
    "deep content": (lambda p: (p.context / "tree/deep/b.txt").write_text("c\n"), AFTER_TREE),
    "rename in a tree": (
        lambda p: (p.context / "tree/a.txt").rename(p.context / "tree/z.txt"),
        AFTER_TREE,
    ),
    "new file in a tree": (lambda p: (p.context / "tree/new").write_text(""), AFTER_TREE),
    "removed from a tree": (lambda p: (p.context / "tree/deep/b.txt").unlink(), AFTER_TREE),
    "new empty directory": (lambda p: (p.context / "tree/empty").mkdir(), AFTER_TREE),
    "chmod of a directory": (lambda p: (p.context / "tree/deep").chmod(0o700), AFTER_TREE),
    "link to elsewhere": (
        lambda p: ((p.context / "tree/link").unlink(), (p.context / "tree/link").symlink_to("b")),
        AFTER_TREE,
    ),
    "new ignored file": (lambda p: (p.context / "x.log").write_text("x"), set()),
    "new file that nobody copies": (lambda p: (p.context / "other").write_text("x"), set()),
    "ignore rule that hides nothing": (
        lambda p: (p.context / ".dockerignore").write_text("*.log\nkey\n*.tmp\n"),
        set(),
    ),
    "ignore rule that hides a file": (
        lambda p: (p.context / ".dockerignore").write_text("*.log\nkey\ntree/deep\n"),
        AFTER_TREE,
    ),
    "comment in the Buildfile": (lambda p: p.replace("ENV PLAIN", "# why\nENV PLAIN"), set()),
    "blank lines": (lambda p: p.replace("WORKDIR", "\n\nWORKDIR"), set()),
    "keyword in lower case": (lambda p: p.replace("COPY tree", "copy tree"), set()),
    "LABEL": (lambda p: p.replace("WORKDIR", "LABEL a=b\nWORKDIR"), set()),
    "EXPOSE and CMD": (lambda p: p.replace("WORKDIR", 'EXPOSE 80\nCMD ["x"]\nWORKDIR'), set()),
    "stage renamed": (
        lambda p: (p.replace("AS tools", "AS kit"), p.replace("from=tools", "from=kit")),
        set(),
    ),
    "stage that nobody needs": (
        lambda p: p.replace("FROM base AS app", "FROM base AS more\nRUN echo more\nFROM base AS app"),
        set(),
    ),
    "ENV value": (lambda p: p.replace("PLAIN=1", "PLAIN=2"), AFTER_SECRET),
    "ENV moved, same environment": (
        lambda p: (p.replace("ENV PLAIN=1\n", ""), p.replace("COPY one", "ENV PLAIN=1\nCOPY one")),
        set(),
    ),
    "ARG given that is not used": (
        lambda p: p.arguments.extend(["--build-arg", "UNUSED=2"]),
        AFTER_SECRET,
    ),
    "ARG given, its default": (lambda p: p.arguments.extend(["--build-arg", "USED=1"]), set()),
    "ARG given, another value": (lambda p: p.arguments.extend(["--build-arg", "USED=2"]), AFTER_SECRET),
    "proxy": (lambda p: p.arguments.extend(["--build-arg", "HTTP_PROXY=http://p"]), set()),
    "undeclared build-arg": (lambda p: p.arguments.extend(["--build-arg", "NOBODY=1"]), set()),
    "label on the command line": (lambda p: p.arguments.extend(["--label", "a=b"]), set()),
    "tag on the command line": (lambda p: p.arguments.extend(["-t", "name"]), set()),
    "secret changed": (lambda p: (p.context / "key").write_text("other-value\n"), set()),
    "secret's mount option": (lambda p: p.replace("id=key ", "id=key,mode=0444 "), AFTER_SECRET),
    "command": (lambda p: p.replace("> copy-of-one", "> /app/copy-of-one"), AFTER_SECRET),
    "network of a RUN": (
        lambda p: p.replace("RUN --mount=type=s", "RUN --network=none --mount=type=s"),
        AFTER_SECRET,
    ),
    "bound file": (lambda p: (p.context / "bound.txt").write_text("x\n"), {"bind"}),
    "bound file touched": (lambda p: os.utime(p.context / "bound.txt"), set()),
    "other stage, same result": (lambda p: p.replace("echo tool", "true; echo tool"), {"tool"}),
    "other stage, other result": (
        lambda p: p.replace("echo tool", "echo other; echo tool"),
        {"tool"},
    ),
    "chown of a COPY": (lambda p: p.replace("COPY one", "COPY --chown=7 one"), AFTER_ONE),
    "chmod of a COPY": (lambda p: p.replace("COPY one", "COPY --chmod=600 one"), AFTER_ONE),
    "exclude that matches nothing": (lambda p: p.replace("COPY tree", "COPY --exclude=*.x tree"), AFTER_TREE),
    "USER before a RUN": (lambda p: p.replace("ARG USED", "USER 0\nARG USED"), AFTER_SECRET),
    "SHELL before a RUN": (
        lambda p: p.replace("ARG USED=1", 'SHELL ["sh", "-c"]\nARG USED=1'),
        AFTER_SECRET,
    ),
    "base with another config": (retag_base, set()),
    "base with other files": (other_base, set(STEPS)),
    "no-cache": (lambda p: p.arguments.append("--no-cache"), set(STEPS)),
    "no-cache of a stage": (lambda p: p.arguments.extend(["--no-cache-filter", "tools"]), {"tool"}),
    "RUN --no-cache": (lambda p: p.replace("RUN --mount=type=b", "RUN --no-cache --mount=type=b"), {"bind"}),
    "RUN --no-cache in the middle": (
        # It makes the same files again, so that what stands on them is a hit.
        lambda p: p.replace("RUN --mount=type=s", "RUN --no-cache --mount=type=s"),
        {"secret"},
    ),
    "a step's record lost": (lambda p: forget(p, "secret"), AFTER_SECRET),
    "another ENV": (lambda p: p.replace("ENV PLAIN=1", "ENV PLAIN=1 MORE=2"), AFTER_SECRET),
    "order of the environment": (
        # A command may look at it: `env` prints it.
        lambda p: (p.replace("ENV PLAIN=1\n", ""), p.replace("ARG USED=1", "ARG USED=1\nENV PLAIN=1")),
        AFTER_SECRET,
    ),
    "ENV gone": (lambda p: p.replace("ENV PLAIN=1\n", ""), AFTER_SECRET),
    "default of an ARG": (lambda p: p.replace("ARG USED=1", "ARG USED=3"), AFTER_SECRET),
    "ARG moved below the last RUN that sees it": (
        lambda p: (p.replace("ARG USED=1\n", ""), p.replace("COPY --from", "ARG USED=1\nCOPY --from")),
        AFTER_SECRET,
    ),
    "instruction moved": (
        lambda p: (
            p.replace("COPY one.txt /app/\n", ""),
            p.replace("ARG USED", "COPY one.txt /app/\nARG USED"),
        ),
        AFTER_ONE,
    ),
    "instruction between": (lambda p: p.replace("COPY tree", "RUN echo x > /x\nCOPY tree"), AFTER_TREE),
    "destination": (lambda p: p.replace("tree /app/tree", "tree /app/tree/deeper"), AFTER_TREE),
    "another source of the same content": (
        lambda p: (
            shutil.copy2(p.context / "one.txt", p.context / "uno"),
            p.replace("one.txt /app/", "uno /app/one.txt"),
        ),
        # The step is another one; it makes the layer that is already there.
        set(),
    ),
    "COPY --link": (lambda p: p.replace("COPY tree", "COPY --link tree"), AFTER_TREE),
    "USER name for the same id": (lambda p: p.replace("ARG USED", "USER root\nARG USED"), AFTER_SECRET),
    "a bind mount that may be written": (
        lambda p: p.replace("target=/bound ", "target=/bound,rw "),
        {"bind"},
    ),
    "a bind mount's target": (lambda p: p.replace("=/bound cat /bound", "=/bond cat /bond"), {"bind"}),
    "a cache mount more": (
        lambda p: p.replace("RUN --mount=type=b", "RUN --mount=type=cache,target=/c --mount=type=b"),
        {"bind"},
    ),
    "a host more": (lambda p: p.arguments.extend(["--add-host", "a:10.0.0.1"]), {"tool", *AFTER_SECRET}),
    "another network for all": (lambda p: p.arguments.extend(["--network", "none"]), {"tool", *AFTER_SECRET}),
    "SOURCE_DATE_EPOCH": (lambda p: p.arguments.extend(["--source-date-epoch", "9"]), set(STEPS)),
    "continuation lines": (lambda p: p.replace("COPY tree /app", "COPY tree \\\n  /app"), set()),
    "compression of new layers": (lambda p: p.arguments.extend(["--compression", "gzip"]), set()),
    "another target": (lambda p: p.arguments.extend(["--target", "tools"]), set()),
    "another progress": (lambda p: p.arguments.append("--jobs=1"), set()),
}


WHY: dict[str, dict[str, list[str]]] = {
    "content": {"one": ["one.txt: content H → H"]},
    "same size, same mtime": {"one": ["one.txt: content H → H"]},
    "chmod": {"one": ["one.txt: mode 644 → 600"]},
    "xattr": {"one": ["one.txt: content H → H"]},
    "deep content": {"tree": ["tree/deep/b.txt: content H → H"]},
    "rename in a tree": {"tree": ["tree/a.txt is gone", "tree/z.txt is new"]},
    "new file in a tree": {"tree": ["tree/new is new"]},
    "removed from a tree": {"tree": ["tree/deep/b.txt is gone"]},
    "new empty directory": {"tree": ["tree/empty is new"]},
    "chmod of a directory": {"tree": ["tree/deep: mode 755 → 700"]},
    "link to elsewhere": {"tree": ["tree/link: link -> a.txt → link -> b"]},
    "ignore rule that hides a file": {"tree": ["tree/deep is gone", "tree/deep/b.txt is gone"]},
    "ENV value": {"secret": ["ENV PLAIN: 1 → 2"], "bind": ["ENV PLAIN: 1 → 2", "the files below, of step N"]},
    "ARG given that is not used": {
        "secret": ["ARG UNUSED is new: 2"],
        "bind": ["ARG UNUSED is new: 2", "the files below, of step N"],
    },
    "ARG given, another value": {
        "secret": ["ARG USED: 1 → 2"],
        "bind": ["ARG USED: 1 → 2", "the files below, of step N"],
    },
    "secret's mount option": {"secret": ["the mount /run/secrets/key: mode=0400 → mode=0444"]},
    "command": {"secret": ["the command: cat one.txt > copy-of-one → cat one.txt > /app/copy-of-one"]},
    "network of a RUN": {"secret": ["--network: default → none"]},
    "bound file": {"bind": ["bound.txt (of /bound): content H → H"]},
    "other stage, same result": {"tool": ["the command: echo tool > /tool → true; echo tool > /tool"]},
    "other stage, other result": {"tool": ["the command: echo tool > /tool → echo other; echo tool > /tool"]},
    "chown of a COPY": {"one": ["--chown is new: 7"]},
    "chmod of a COPY": {"one": ["--chmod is new: 600"]},
    "exclude that matches nothing": {"tree": ["--exclude is new: *.x"]},
    "USER before a RUN": {
        "secret": ["USER is new: 0"],
        "bind": ["USER is new: 0", "the files below, of step N"],
    },
    "SHELL before a RUN": {
        "secret": ["SHELL: /bin/sh -c → sh -c"],
        "bind": ["SHELL: /bin/sh -c → sh -c", "the files below, of step N"],
    },
    "base with other files": {"workdir": ["the base base: H → H"], "tool": ["the base base: H → H"]},
    "no-cache": {step: ["--no-cache was given"] for step in STEPS},
    "no-cache of a stage": {"tool": ["--no-cache-filter was given"]},
    "RUN --no-cache": {"bind": ["RUN --no-cache was given"]},
    "RUN --no-cache in the middle": {"secret": ["RUN --no-cache was given"]},
    "a step's record lost": {
        "secret": ["nothing changed, but its record or its layer is no longer in the store"]
    },
    "another ENV": {
        "secret": ["ENV MORE is new: 2"],
        "bind": ["ENV MORE is new: 2", "the files below, of step N"],
    },
    "order of the environment": {
        "secret": ["ENV the order of the variables changed"],
        "bind": ["ENV the order of the variables changed", "the files below, of step N"],
    },
    "ENV gone": {
        "secret": ["ENV PLAIN is gone, it was 1"],
        "bind": ["ENV PLAIN is gone, it was 1", "the files below, of step N"],
    },
    "default of an ARG": {
        "secret": ["ARG USED: 1 → 3"],
        "bind": ["ARG USED: 1 → 3", "the files below, of step N"],
    },
    "ARG moved below the last RUN that sees it": {"secret": ["ARG USED is gone, it was 1"]},
    "destination": {"tree": ["destination: /app/tree → /app/tree/deeper"]},
    "COPY --link": {"tree": ["--link: false → true"]},
    "USER name for the same id": {
        "secret": ["USER is new: root"],
        "bind": ["USER is new: root", "the files below, of step N"],
    },
    "a bind mount that may be written": {"bind": ["the mount /bound: readonly=true → readonly=false"]},
    "a bind mount's target": {
        "bind": [
            "the command: cat /bound > bound-copy → cat /bond > bound-copy",
            "the mount /bound is gone, it was bind",
            "the mount /bond is new: bind",
        ]
    },
    "a cache mount more": {"bind": ["the mount /c is new: cache"]},
    "a host more": {
        "secret": ["--add-host is new: a"],
        "tool": ["--add-host is new: a"],
        "bind": ["--add-host is new: a", "the files below, of step N"],
    },
    "another network for all": {
        "secret": ["--network: default → none"],
        "tool": ["--network: default → none"],
        "bind": ["--network: default → none", "the files below, of step N"],
    },
    "SOURCE_DATE_EPOCH": {
        "workdir": ["SOURCE_DATE_EPOCH is new: 9"],
        "one": ["SOURCE_DATE_EPOCH is new: 9", "the files below, of step N"],
        "tree": ["SOURCE_DATE_EPOCH is new: 9", "the files below, of step N"],
        "secret": ["SOURCE_DATE_EPOCH is new: 9", "the files below, of step N"],
        "tool": ["SOURCE_DATE_EPOCH is new: 9"],
        "from": ["SOURCE_DATE_EPOCH is new: 9", "the files below, of step N"],
        "bind": ["SOURCE_DATE_EPOCH is new: 9", "the files below, of step N"],
    },
}
"""What `explain` says of the steps that an edit made run, but for those of which it says `BELOW`."""


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_runs_what_it_must_and_nothing_else(project: Project, name: str) -> None:
    edit, expected = EDITS[name]
    edit(project)
    assert project.build() == expected
    explained = project.explained()
    assert expected <= explained.keys()
    assert {step: why for step, why in explained.items() if why != BELOW} == WHY.get(name, {})


def test_a_failed_build_keeps_the_layers_of_the_steps_before(project: Project) -> None:
    """What was done before the failure is a hit afterwards."""
    project.replace("> bound-copy", "> bound-copy; exit 3")
    project.layersmith("build", "--secret", "id=key,src=key", ".", cwd=project.context, status=4)
    project.replace("> bound-copy; exit 3", "> bound-copy")
    assert project.build() == set()


def test_an_edit_taken_back_is_a_hit(project: Project) -> None:
    """The store remembers more than the last build."""
    path = project.context / "one.txt"
    path.write_text("two\n")
    project.build()
    time.sleep(0.01)
    path.write_text("one\n")
    assert project.build() == set()


def test_a_bound_file_counts_beside_a_bound_stage(layersmith: Layersmith, base: str, context: Path) -> None:
    """A RUN that reads the context and another stage runs again when only the context's file changed."""
    (context / "Buildfile").write_text(
        "FROM base AS tools\nRUN echo tool > /tool\n"
        "FROM base\nRUN --mount=type=bind,source=file,target=/file "
        "--mount=type=bind,from=tools,source=/tool,target=/tool cat /file /tool > /both\n"
    )
    for text in ("one", "two", "one"):
        (context / "file").write_text(f"{text}\n")
        layersmith("build", "-t", "both", context)
        assert layersmith("run", "--rm", "both", "cat", "/both").stdout == f"{text}\ntool\n"
