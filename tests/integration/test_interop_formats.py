"""Other tools and us, by format and compression: they run what we push and export, and we run what they push and save.

Each tool that this machine lacks, or that can't run a container here, skips its rows with the reason.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from program import Layersmith
from registries import served

pytestmark = [pytest.mark.root, pytest.mark.interop]

HELLO = "hello from the second layer\n"
BUILDFILE = f"""\
FROM base
RUN printf '{HELLO[:-1]}\\n' >/hello && rm /bin/wc && ln /hello /linked
CMD ["cat", "/linked"]
"""
COMPRESSIONS = ("zstd", "gzip", "uncompressed")
AS_GZIP = ("--compression", "gzip", "--force-compression")
"""Their versions of 2023 can't make Docker's own formats of zstd layers."""
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""What podman and buildah would raise, and may not everywhere."""


class Tool:
    """A builder or runtime of others, with a store of its own below ``directory``."""

    name = ""
    pushes: tuple[tuple[str, ...], ...] = ()
    """Options of its push, each kind of image that it makes."""
    saves: tuple[str, ...] = ()
    takes: tuple[str, ...] = ("oci", "docker", "layout")
    """What `load` takes: ``oci`` and ``docker`` are archives, ``layout`` a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        found = shutil.which(self.name)
        if found is None:
            pytest.skip(f"needs {self.name}, which is not installed")

    def __call__(self, *words: object) -> str:
        done = subprocess.run([self.name, *map(str, words)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{self.name} {' '.join(map(str, words))}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def pull(self, reference: str) -> str:
        """From a registry into its store; how it calls the image there."""
        raise NotImplementedError

    def load(self, kind: str, path: Path) -> str:
        """From a file of the ``kind`` (see ``takes``)."""
        raise NotImplementedError

    def run(self, image: str) -> str:
        """What the image's command prints."""
        raise NotImplementedError

    def push(self, image: str, reference: str, options: tuple[str, ...]) -> None:
        raise NotImplementedError

    def save(self, image: str, kind: str, path: Path) -> Path:
        raise NotImplementedError


class Containers(Tool):
    """What podman and buildah have in common: their store."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        # podman before 5 wants this path short.
        self.state = tempfile.mkdtemp(prefix="run", dir=directory.parents[1])
        self.forces = "--force-compression" in self("push", "--help")

    def __call__(self, *words: object) -> str:
        store = (
            "--root",
            self.directory / "containers",
            "--runroot",
            self.state,
            "--storage-driver",
            "overlay",
        )
        return super().__call__(*store, *words)

    def pull(self, reference: str) -> str:
        self("pull", "-q", "--tls-verify=false", f"docker://{reference}")
        return reference

    def load(self, kind: str, path: Path) -> str:
        transport = {"oci": "oci-archive", "docker": "docker-archive", "layout": "oci"}[kind]
        return self("pull", "-q", f"{transport}:{path}").splitlines()[-1]

    def push(self, image: str, reference: str, options: tuple[str, ...]) -> None:
        if not self.forces:
            options = tuple(option for option in options if option != "--force-compression")
        self("push", "-q", "--tls-verify=false", *options, image, f"docker://{reference}")

    def save(self, image: str, kind: str, path: Path) -> Path:
        self("push", "-q", image, f"{kind}:{path}:saved:1")
        return path


class Podman(Containers):
    name = "podman"
    pushes = (
        ("--format", "oci", "--compression-format", "zstd", "--force-compression"),
        ("--format", "oci", "--compression-format", "gzip", "--force-compression"),
        ("--format", "v2s2"),
    )
    saves = ("oci-archive", "docker-archive", "oci")

    def run(self, image: str) -> str:
        runtime = ("--runtime", "runc") if shutil.which("runc") else ()
        return self(*runtime, "--cgroup-manager", "cgroupfs", "run", "--rm", "--network=none", *LIMITS, image)


class Buildah(Containers):
    name = "buildah"
    pushes = (
        ("--format", "oci", "--compression-format", "zstd", "--force-compression"),
        ("--format", "oci", "--disable-compression"),
        ("--format", "v2s2"),
    )
    saves = ("oci-archive", "docker-archive", "oci")

    def run(self, image: str) -> str:
        container = self("from", "--pull-never", *LIMITS, image)
        return self("run", "--isolation", "chroot", container, "cat", "/linked")


class Docker(Tool):
    name = "docker"
    pushes = ((),)
    saves = ("docker-archive",)
    takes = ("docker",)
    """Only an engine on containerd's image store would load an archive without manifest.json."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.before = _docker_without_a_daemon()
        if self.before:
            pytest.skip(self.before)

    def pull(self, reference: str) -> str:
        self("pull", "-q", reference)
        return reference

    def load(self, kind: str, path: Path) -> str:
        return self("load", "-q", "-i", path).rpartition("Loaded image")[2].partition(": ")[2]

    def run(self, image: str) -> str:
        return self("run", "--rm", "--network=none", image)

    def push(self, image: str, reference: str, options: tuple[str, ...]) -> None:
        self("tag", image, reference)
        self("push", "-q", reference)

    def save(self, image: str, kind: str, path: Path) -> Path:
        self("save", "-o", path, image)
        return path


class Skopeo(Tool):
    """It copies only; what it runs is the copy, run by us."""

    name = "skopeo"
    pushes = tuple(
        ("--format", kind, "--dest-compress-format", algorithm)
        for kind, algorithm in (("oci", "zstd"), ("oci", "gzip"), ("v2s2", "gzip"))
    )
    saves = ("oci-archive", "docker-archive", "oci")

    def pull(self, reference: str) -> str:
        return self._copy(f"docker://{reference}", "--src-tls-verify=false")

    def load(self, kind: str, path: Path) -> str:
        transport = {"oci": "oci-archive", "docker": "docker-archive", "layout": "oci"}[kind]
        return self._copy(f"{transport}:{path}")

    def _copy(self, source: str, *options: str) -> str:
        target = f"oci:{self.directory}/copied:saved:1"
        self("copy", "-q", "--insecure-policy", *options, source, target)
        return target

    def run(self, image: str) -> str:
        """Through the image's own config, which names the command, to the layers that it names."""
        inspected = json.loads(self("inspect", "--config", image))
        ours = Layersmith.at(self.directory / "ours", self.directory / "home")
        ours("load", self.directory / "copied", "--name", "copy")
        assert inspected["config"]["Cmd"] == ["cat", "/linked"]
        return ours("run", "--rm", "--network=none", "copy").stdout

    def push(self, image: str, reference: str, options: tuple[str, ...]) -> None:
        self(
            "copy",
            "-q",
            "--insecure-policy",
            "--dest-tls-verify=false",
            *options,
            image,
            f"docker://{reference}",
        )

    def save(self, image: str, kind: str, path: Path) -> Path:
        self(
            "copy", "-q", "--insecure-policy", image, f"{kind}:{path}" + ("" if kind == "dir" else ":saved:1")
        )
        return path


TOOLS = {tool.name: tool for tool in (Podman, Buildah, Docker, Skopeo)}


@functools.cache
def _docker_without_a_daemon() -> str:
    done = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=30)
    return "" if done.returncode == 0 else "needs a Docker daemon that answers ($DOCKER_HOST)"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("docker-registry") is None:
        pytest.skip("needs docker-registry, which is not installed")
    with served(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    return TOOLS[request.param](tmp_path)


@pytest.fixture
def ours(layersmith: Layersmith, base: str, context: Path) -> Layersmith:
    """A store with the image ``ours:1``."""
    (context / "Buildfile").write_text(BUILDFILE)
    layersmith("build", "-t", "ours:1", context)
    return layersmith


def each(rows: Callable[[type[Tool]], Iterator[object]]) -> pytest.MarkDecorator:
    """Parametrise by tool and by what ``rows`` gives for it."""
    found = [(name, row) for name, tool in TOOLS.items() for row in rows(tool)]
    ids = [f"{name}-{'-'.join(row) if isinstance(row, tuple) else row}" for name, row in found]
    return pytest.mark.parametrize(("tool", "row"), found, indirect=["tool"], ids=ids)


@each(lambda tool: iter([*COMPRESSIONS, "docker-gzip", "docker-uncompressed"]))
def test_they_run_what_we_push(tool: Tool, row: str, ours: Layersmith, registry: str) -> None:
    """By compression, with OCI's media types and with Docker's."""
    reference = f"{registry}/{tool.name}/{row}:1"
    compression = row.removeprefix("docker-")
    attributes = (
        f"compression={compression},force-compression=true,oci-mediatypes={row == compression}".lower()
    )
    context = ours.root.parent / "context"
    ours("build", "-o", f"type=registry,name={reference},{attributes}", context)
    assert tool.run(tool.pull(reference)).strip() == HELLO.strip()


@each(lambda tool: ((kind, name) for kind in tool.takes for name in COMPRESSIONS))
def test_they_run_what_we_export(tool: Tool, row: tuple[str, str], ours: Layersmith, tmp_path: Path) -> None:
    """Archives of OCI and of docker save, and layouts, by compression."""
    kind, compression = row
    path = tmp_path / "exported"
    how = {"oci": "type=oci", "docker": "type=docker", "layout": "type=oci,tar=false"}[kind]
    ours("export", "ours:1", "-o", f"{how},dest={path},compression={compression},force-compression=true")
    loaded = tool.load(kind, path)
    assert tool.run(loaded).strip() == HELLO.strip()


@each(lambda tool: iter(tool.pushes))
def test_we_run_what_they_push(
    tool: Tool, row: tuple[str, ...], ours: Layersmith, registry: str, tmp_path: Path
) -> None:
    """Whatever it makes of an image: we pull it by name and by digest, and it runs."""
    first = f"{registry}/{tool.name}/first:1"
    second = f"{registry}/{tool.name}/second:{len(''.join(row))}"
    ours("push", *AS_GZIP, "ours:1", first)
    tool.push(tool.pull(first), second, row)
    theirs = Layersmith.at(tmp_path / "theirs", tmp_path / "home")
    digest = theirs("pull", second).stdout.strip()
    assert theirs("run", "--rm", "--network=none", second).stdout == HELLO
    by_digest = f"{second.rpartition(':')[0]}@{digest}"
    assert theirs("run", "--rm", "--network=none", by_digest, "cat", "/hello").stdout == HELLO


@each(lambda tool: iter(tool.saves))
def test_we_run_what_they_save(tool: Tool, row: str, ours: Layersmith, registry: str, tmp_path: Path) -> None:
    """Archives and directories of each kind that it writes."""
    reference = f"{registry}/{tool.name}/saved:1"
    ours("push", *AS_GZIP, "ours:1", reference)
    path = tool.save(tool.pull(reference), row, tmp_path / "saved")
    theirs = Layersmith.at(tmp_path / "theirs", tmp_path / "home")
    theirs("load", path, "--name", "theirs:1")
    assert theirs("run", "--rm", "--network=none", "theirs:1").stdout == HELLO


@pytest.mark.needs_umoci
def test_umoci(ours: Layersmith, tmp_path: Path) -> None:
    """umoci reads our layout (of gzip: it may know no zstd), adds a layer, and we run the result."""
    layout = tmp_path / "layout"
    ours(
        "export", "ours:1", "-o", f"type=oci,tar=false,dest={layout},compression=gzip,force-compression=true"
    )

    def umoci(*words: object) -> str:
        done = subprocess.run(["umoci", *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    name = json.loads((layout / "index.json").read_text())["manifests"][0]["annotations"]
    image = f"{layout}:{name['org.opencontainers.image.ref.name']}"
    stat = json.loads(umoci("stat", "--image", image, "--json"))
    assert len([entry for entry in stat["history"] if not entry.get("empty_layer")]) == 2
    umoci("unpack", "--image", image, tmp_path / "bundle")
    (tmp_path / "bundle/rootfs/added").write_text("by umoci")
    (tmp_path / "bundle/rootfs/hello").unlink()
    umoci("repack", "--image", f"{layout}:umoci", tmp_path / "bundle")
    theirs = Layersmith.at(tmp_path / "theirs", tmp_path / "home")
    theirs("load", layout, "--only", "umoci", "--name", "theirs:1")
    shown = theirs(
        "run", "--rm", "--network=none", "theirs:1", "sh", "-c", "cat /added /linked; ls /hello", status=1
    )
    assert shown.stdout == "by umoci" + HELLO
