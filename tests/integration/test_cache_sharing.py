"""A cache made on one machine saves another one all steps: stores that know nothing of each other, a registry between."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from program import Layersmith

from layersmith.transport.registry.fake import FakeRegistry

pytestmark = pytest.mark.root

BUILDFILE = """\
FROM {base} AS tools
RUN --mount=type=cache,id=pip,target=/pip,uid=1000,gid=1001,mode=0750 echo wheel > /pip/wheel && ln -sf wheel /pip/link
RUN head -c 200000 /dev/urandom > /big && echo tool > /tool
FROM {base}
COPY --from=tools /tool /tool
COPY one.txt /
RUN cat /tool /one.txt > /result
"""
STEPS = 5


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


class Machine:
    """A store and the context that all machines have."""

    def __init__(self, layersmith: Layersmith, context: Path) -> None:
        self.layersmith = layersmith
        self.context = context
        self.output = ""

    def build(self, *words: object) -> tuple[int, int]:
        """(steps that ran, steps that hit) of a build of ``app``."""
        done = self.layersmith("build", "--progress=plain", "-t", "app", *words, self.context)
        self.output = done.stderr
        hits = len(re.findall(r"^#\d+ CACHED$", done.stderr, re.MULTILINE))
        ran = len(re.findall(r"^#\d+ DONE ", done.stderr, re.MULTILINE))
        return ran, hits

    def blobs(self) -> set[str]:
        return {f"sha256:{path.name}" for path in (self.layersmith.root / "blobs/sha256").iterdir()}


@pytest.fixture
def machine(
    layersmith: Layersmith, context: Path, registry: FakeRegistry, base: str
) -> Callable[[str], Machine]:
    """Makes machines; their base image comes from the registry."""
    name = f"{registry.host}/base:1"
    layersmith("tag", base, name)
    layersmith("push", name)
    (context / "Buildfile").write_text(BUILDFILE.format(base=name))
    (context / "one.txt").write_text("one\n")

    def make(label: str) -> Machine:
        return Machine(layersmith.with_store(context.parent / label), context)

    return make


def places(registry: FakeRegistry, tmp_path: Path) -> dict[str, tuple[str, str]]:
    """(--cache-to, --cache-from) of each type that carries everything."""
    local, archive, objects = tmp_path / "local", tmp_path / "cache.tar", tmp_path / "objects"
    return {
        "registry": (f"type=registry,ref={registry.host}/cache:1", f"{registry.host}/cache:1"),
        "local": (f"type=local,dest={local}", f"type=local,src={local}"),
        "tar": (f"type=tar,dest={archive}", f"type=tar,src={archive}"),
        "fsspec": (
            f"type=fsspec,url=file://{objects},name=main",
            f"type=fsspec,url=file://{objects},name=main",
        ),
    }


@pytest.mark.parametrize("kind", ["registry", "local", "tar", "fsspec"])
def test_an_empty_store_runs_no_step(
    kind: str, machine: Callable[[str], Machine], registry: FakeRegistry, tmp_path: Path
) -> None:
    """Only what the image consists of is fetched; the image is the same; the cache mount is back, owner, mode and all."""
    if kind == "fsspec":
        pytest.importorskip("fsspec")
    to, source = places(registry, tmp_path)[kind]
    first, second = machine("first"), machine("second")
    assert first.build("--cache-to", f"{to},mode=max", "--cache-mounts") == (STEPS, 0)
    assert second.build("--cache-from", source, "--cache-mounts") == (0, STEPS)
    assert second.layersmith.digest("app") == first.layersmith.digest("app")
    large = [path for path in (first.layersmith.root / "blobs/sha256").iterdir() if _size(path) > 190_000]
    assert {f"sha256:{path.name}" for path in large} - _layers_of(second), (
        "the other stage's layer is one of these"
    )
    assert all(_size(path) < 190_000 for path in _only_records(second)), "and was not fetched"
    assert _layers_of(second) <= second.blobs()
    (mounted,) = (second.layersmith.root / "cache").glob("*/0")
    status = mounted.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1000, 1001, 0o750)
    assert (mounted / "wheel").read_text() == "wheel\n"
    assert os.readlink(mounted / "link") == "wheel"
    second.layersmith("fsck")


def _layers_of(machine: Machine) -> set[str]:
    return set(machine.layersmith("layers", "-q", "app").stdout.split())


def test_a_dry_run_knows_the_cache(machine: Callable[[str], Machine], registry: FakeRegistry) -> None:
    """It says what would hit, link and all, and fetches no layer; a cache that is not there is warned of."""
    first, second = machine("first"), machine("second")
    file = first.context / "Buildfile"
    file.write_text(file.read_text() + "COPY --link one.txt /linked/\n")
    ref = f"{registry.host}/cache:1"
    first.build("--cache-to", f"type=registry,ref={ref},mode=max")

    def foreseen(*words: str) -> list[str]:
        said = second.layersmith("build", "--dry-run", *words, second.context)
        assert ("the cache is not used" in said.stderr) == ("none" in words[-1])
        return [line.split()[1] for line in said.stdout.splitlines() if line.startswith("#")]

    asked = len(registry.requests("GET", "/v2/cache/blobs/"))
    bases = ["pulled"]
    assert foreseen("--cache-from", ref) == bases + ["cached"] * (STEPS + 1)
    assert len(registry.requests("GET", "/v2/cache/blobs/")) == asked + 1, "the document"
    assert set(foreseen("--cache-from", f"{registry.host}/none")) == {"pulled", "runs"}
    (first.context / "one.txt").write_text("two\n")
    assert foreseen("--cache-from", ref).count("cached") == 3
    assert not second.layersmith.root.exists()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an S3 server that has the bucket ``caches`` and wants to be asked with a key."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import boto3

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.client(
            "s3", "us-east-1", endpoint_url=url, aws_access_key_id="me", aws_secret_access_key="secret"
        )
        client.create_bucket(Bucket="caches")
        yield url
    finally:
        server.stop()


def test_a_bucket_carries_a_cache(machine: Callable[[str], Machine], s3: str) -> None:
    """By the S3 protocol, with what buildx's ``type=s3`` is told; a second cache of another name lies beside the first."""
    at = f"type=s3,bucket=caches,prefix=team/app,region=us-east-1,endpoint_url={s3},access_key_id=me,secret_access_key=secret"
    first, second, third = machine("first"), machine("second"), machine("third")
    assert first.build("--cache-to", f"{at},name=main,mode=max", "--cache-mounts") == (STEPS, 0)
    assert second.build("--cache-from", f"{at},name=main", "--cache-mounts") == (0, STEPS)
    assert second.layersmith.digest("app") == first.layersmith.digest("app")
    (second.context / "one.txt").write_text("two\n")
    second.build("--cache-to", f"{at},name=branch,mode=max")
    assert third.build("--cache-from", f"{at},name=branch") == (0, STEPS)
    third.build("--no-cache", "--cache-from", f"{at.replace('bucket=caches', 'bucket=none')},name=main")
    assert "the cache is not used" in third.output
    assert "secret" not in third.output


def test_a_layer_is_fetched_once_a_step_must_see_it(
    machine: Callable[[str], Machine], registry: FakeRegistry
) -> None:
    """An edit in the last stage runs that stage's steps on fetched layers; the other stage is not even fetched."""
    first, second = machine("first"), machine("second")
    ref = f"type=registry,ref={registry.host}/cache:1"
    first.build("--cache-to", f"{ref},mode=max")
    (first.context / "one.txt").write_text("two\n")
    assert second.build("--cache-from", ref) == (2, 3)
    assert second.layersmith("run", "--rm", "app", "cat", "/result").stdout == "tool\ntwo\n"
    assert not any(size > 190_000 for size in map(_size, _only_records(second)))


def test_a_link_fetches_nothing_to_make_its_key(
    machine: Callable[[str], Machine], registry: FakeRegistry
) -> None:
    """What lies below a COPY --link is looked at only where it is not the same as before."""
    first, second = machine("first"), machine("second")
    file = first.context / "Buildfile"
    file.write_text(
        file.read_text().replace("> /tool\n", "> /tool\nCOPY --link --chown=0:0 one.txt /linked/\n", 1)
    )
    ref = f"type=registry,ref={registry.host}/cache:1"
    assert first.build("--cache-to", f"{ref},mode=max") == (STEPS + 1, 0)
    assert second.build("--cache-from", ref) == (0, STEPS + 1)
    assert not any(size > 190_000 for size in map(_size, _only_records(second)))
    file.write_text(file.read_text().replace("echo tool >", "echo other >"))
    assert first.build() == (STEPS - 1, 2), "the link hits on top of another layer"


def _only_records(machine: Machine) -> list[Path]:
    """Blobs that no image needs."""
    needed = _layers_of(machine)
    return [
        path
        for path in (machine.layersmith.root / "blobs/sha256").iterdir()
        if f"sha256:{path.name}" not in needed
    ]


def _size(path: Path) -> int:
    return path.stat().st_size


@pytest.mark.parametrize("kind", ["inline", "min"])
def test_a_cache_of_the_result_alone(
    kind: str, machine: Callable[[str], Machine], registry: FakeRegistry
) -> None:
    """With inline or mode=min all steps hit; where one must see another stage's files, that stage runs, and no more."""
    first, second, third = machine("first"), machine("second"), machine("third")
    image = f"{registry.host}/app:1"
    if kind == "inline":
        first.build("--cache-to", "type=inline", "-t", image)
        first.layersmith("push", image)
        source = image
    else:
        first.build("--cache-to", f"type=registry,ref={registry.host}/cache:min")
        source = f"{registry.host}/cache:min"
    assert second.build("--cache-from", source) == (0, STEPS)
    text = (first.context / "Buildfile").read_text()
    (first.context / "Buildfile").write_text(text.replace("/tool /tool", "/big /tool"))
    ran, _ = third.build("--cache-from", source)
    assert ran == STEPS, third.output
    assert "don't carry it" in third.output


def test_a_damaged_or_lost_layer_is_built_anew(
    machine: Callable[[str], Machine], registry: FakeRegistry
) -> None:
    """Other bytes than the digest says, or none at all: the build says so, goes on without, and the image is right."""
    first = machine("first")
    ref = f"type=registry,ref={registry.host}/cache:1"
    first.build("--cache-to", f"{ref},mode=max")
    result = first.layersmith("layers", "-q", "app").stdout.split()[-1]
    whole = registry.blobs["cache", result]
    registry.blobs["cache", result] = bytes(len(whole))
    second = machine("second")
    assert second.build("--cache-from", ref)[0] == 1
    assert "building without it" in second.output
    assert second.layersmith("run", "--rm", "app", "cat", "/result").stdout == "tool\none\n"
    del registry.blobs["cache", result]
    third = machine("third")
    assert third.build("--cache-from", ref)[0] == 1
    third.layersmith("fsck")


def test_a_layer_that_unpacks_to_something_else_is_refused(
    machine: Callable[[str], Machine], registry: FakeRegistry, tmp_path: Path
) -> None:
    """A cache whose digests are right and whose DiffID is another layer's: the build does without it."""
    first = machine("first")
    ref = f"type=registry,ref={registry.host}/cache:1"
    first.build("--cache-to", f"{ref},mode=max")
    _, data = registry.manifests["cache", "1"]
    manifest = json.loads(data)
    config = json.loads(registry.blobs["cache", manifest["config"]["digest"]])
    layers = first.layersmith("layers", "-q", "app").stdout.split()
    ours = [number for number, layer in enumerate(manifest["layers"]) if layer["digest"] in layers]
    one, two = ours[0], ours[1]
    manifest["layers"][one], manifest["layers"][two] = manifest["layers"][two], manifest["layers"][one]
    text = json.dumps(config).encode()
    manifest["config"]["digest"], manifest["config"]["size"] = registry.add_blob("cache", text), len(text)
    registry.add_manifest("cache", json.dumps(manifest).encode(), "1")
    second = machine("second")
    assert second.build("--cache-from", ref)[0] >= 1
    assert "building without it" in second.output
    assert second.layersmith("run", "--rm", "app", "cat", "/result").stdout == "tool\none\n"
    second.layersmith("fsck")


def test_what_is_no_cache_is_warned_of(
    machine: Callable[[str], Machine], registry: FakeRegistry, tmp_path: Path
) -> None:
    """A reference without anything, an image without a cache, a missing directory: each says so, and the build goes on."""
    made = machine("first")
    sources = [f"{registry.host}/none:1", f"{registry.host}/base:1", f"type=local,src={tmp_path}/none"]
    words = [word for source in sources for word in ("--cache-from", source)]
    assert made.build(*words)[0] == STEPS
    assert made.output.count("the cache is not used") == 3


def test_a_cache_that_can_not_be_written_fails_the_build(machine: Callable[[str], Machine]) -> None:
    """As docker has it: unless ignore-error=true."""
    made = machine("first")
    bad = "type=local,dest=/dev/null/x"
    made.layersmith("build", "--cache-to", bad, made.context, status=6)
    made.layersmith("build", "--cache-to", f"{bad},ignore-error=true", made.context)


def test_a_local_cache_does_not_grow(machine: Callable[[str], Machine], tmp_path: Path) -> None:
    """What only the cache of that name had needed goes when it is written anew; another tag's stays."""
    made = machine("first")
    to = f"type=local,dest={tmp_path / 'cache'},mode=max"
    made.build("--cache-to", to)
    made.build("--cache-to", f"{to},tag=other")
    before = len(list((tmp_path / "cache/blobs/sha256").iterdir()))
    for number in range(3):
        (made.context / "one.txt").write_text(f"{number}\n")
        made.build("--cache-to", to)
    assert len(list((tmp_path / "cache/blobs/sha256").iterdir())) <= before + 4
    again = machine("second")
    (made.context / "one.txt").write_text("one\n")
    assert again.build("--cache-from", f"type=local,src={tmp_path / 'cache'},tag=other") == (0, STEPS)


def test_no_secret_and_no_command_is_in_a_cache(
    machine: Callable[[str], Machine], registry: FakeRegistry, tmp_path: Path
) -> None:
    """The document names ops by digest: neither arguments nor the environment leave the machine."""
    made = machine("first")
    text = (made.context / "Buildfile").read_text()
    (made.context / "Buildfile").write_text(
        text
        + "ARG WORD\nRUN --mount=type=secret,id=key echo $WORD > /dev/null; cat /run/secrets/key > /dev/null\n"
    )
    (tmp_path / "key").write_text("s3cr3t-value")
    to = f"type=registry,ref={registry.host}/cache:1,mode=max"
    made.build(
        "--secret", f"id=key,src={tmp_path / 'key'}", "--build-arg", "WORD=argument-value", "--cache-to", to
    )
    documents = [data for (name, _), data in registry.blobs.items() if name == "cache" and data[:1] == b"{"]
    assert documents
    for data in documents:
        assert b"s3cr3t" not in data
        assert b"argument-value" not in data
        assert b"echo" not in data


def test_cache_mounts_travel_by_themselves(machine: Callable[[str], Machine], tmp_path: Path) -> None:
    """export and import of cache mounts alone; what is there already stays; rm empties one."""
    first, second = machine("first"), machine("second")
    first.build()
    listed = json.loads(first.layersmith("cache", "mounts", "--format", "json").stdout)
    assert (listed["Id"], listed["Copies"]) == ("pip", 1)
    first.layersmith("cache", "mounts", "export", "pip", "--to", tmp_path / "pip.tar")
    assert second.layersmith("cache", "mounts", "import", "--from", tmp_path / "pip.tar").stdout == "pip\n"
    (seen,) = json.loads(second.layersmith("cache", "mounts", "inspect", "pip").stdout)
    (directory,) = seen["Directories"]
    assert (directory["Uid"], directory["Gid"], directory["Mode"], directory["Files"]) == (
        1000,
        1001,
        "0750",
        2,
    )
    Path(directory["Path"], "wheel").write_text("newer\n")
    said = second.layersmith("cache", "mounts", "import", "--from", tmp_path / "pip.tar").stdout
    assert said == "1 stayed as they are here\n"
    assert Path(directory["Path"], "wheel").read_text() == "newer\n"
    second.layersmith("cache", "mounts", "rm", "pip")
    assert second.layersmith("cache", "mounts", "-q").stdout == ""
    second.layersmith("cache", "mounts", "rm", "pip", status=5)
    second.layersmith("cache", "mounts", "rm", status=2)
    second.layersmith("cache", "mounts", "import", "--from", tmp_path / "none.tar", status=5)


def test_a_limit_in_the_configuration_is_kept(machine: Callable[[str], Machine], tmp_path: Path) -> None:
    """After a build, what nothing needs and the longest unused records go; the image stays whole."""
    made = machine("first")
    config = tmp_path / "home/.config/layersmith/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("gc: {keep: 10kB}\n")
    made.build()
    (tmp_path / "other").write_text("FROM scratch\nCOPY one.txt /\n")
    (made.layersmith.root / "locks/gc-policy.lock").unlink()
    made.layersmith("build", "-f", tmp_path / "other", "-t", "other", made.context)
    assert not any(size > 190_000 for size in map(_size, _only_records(made)))
    assert made.layersmith("run", "--rm", "app", "cat", "/result").stdout == "tool\none\n"
    made.layersmith("fsck")
    (made.layersmith.root / "locks/gc-policy.lock").unlink()
    config.write_text("gc: {keep: much}\n")
    made.build()
    assert "gc: invalid size" in made.output
