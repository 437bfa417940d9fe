"""ImageConfig: round trips, canonical bytes, tolerance for Docker's nulls and strictness about types."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.errors import TransportError
from layersmith.oci.config import Healthcheck, History, ImageConfig
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.platform import Platform

TEXT = st.text(max_size=12)
SOME = st.text(min_size=1, max_size=12)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
SORTED = st.lists(SOME, max_size=3, unique=True).map(lambda names: tuple(sorted(names)))
ARGV = st.none() | st.lists(TEXT, min_size=1, max_size=3).map(tuple)
NANOSECONDS = st.integers(0, 1 << 50)
CONFIGS = st.builds(
    ImageConfig,
    platform=st.builds(Platform, SOME, SOME, TEXT, TEXT, TEXTS),
    created=st.none() | SOME,
    author=TEXT,
    env=TEXTS,
    cmd=ARGV,
    entrypoint=ARGV,
    user=TEXT,
    working_dir=TEXT,
    exposed_ports=SORTED,
    volumes=SORTED,
    labels=st.dictionaries(TEXT, TEXT, max_size=3).map(lambda d: tuple(sorted(d.items()))),
    stop_signal=TEXT,
    shell=ARGV,
    healthcheck=st.none()
    | st.builds(
        Healthcheck,
        st.lists(TEXT, min_size=1).map(tuple),
        NANOSECONDS,
        NANOSECONDS,
        NANOSECONDS,
        NANOSECONDS,
        st.integers(0, 9),
    ),
    on_build=TEXTS,
    args_escaped=st.booleans(),
    diff_ids=st.lists(st.binary(max_size=3), max_size=3).map(
        lambda ls: tuple(DiffID(digest_of(x)) for x in ls)
    ),
    history=st.lists(st.builds(History, st.none() | SOME, TEXT, TEXT, TEXT, st.booleans()), max_size=3).map(
        tuple
    ),
)


@given(CONFIGS)
@settings(max_examples=100)
def test_round_trip(config: ImageConfig) -> None:
    """A config reads back as itself, and is then written with the same bytes."""
    data = config.to_json()
    assert ImageConfig.from_json(data) == config
    assert ImageConfig.from_json(data).to_json() == data


def test_bytes_are_canonical() -> None:
    """Sorted keys, no blanks, absent rather than empty members; bytes of no encoding survive as JSON escapes."""
    config = ImageConfig(Platform("linux", "amd64"), env=("A=\udcff", "B=ü"), labels=(("b", "1"), ("a", "2")))
    assert config.to_json() == (
        b'{"architecture":"amd64","config":{"Env":["A=\\udcff","B=\xc3\xbc"],"Labels":{"a":"2","b":"1"}},'
        b'"os":"linux","rootfs":{"diff_ids":[],"type":"layers"}}'
    )


DOCKER = {
    "architecture": "amd64",
    "os": "linux",
    "container": "abc",
    "docker_version": "20.10",
    "config": {
        "Hostname": "",
        "AttachStdin": False,
        "Env": ["PATH=/bin"],
        "Cmd": None,
        "Entrypoint": None,
        "Volumes": None,
        "Labels": None,
        "OnBuild": None,
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
    },
    "rootfs": {"type": "layers", "diff_ids": []},
    "history": None,
}


def test_dockers_nulls_are_absent_and_unknown_members_are_kept() -> None:
    """A config of Docker's is read, and nothing that it says is lost when it is written again."""
    config = ImageConfig.from_json(json.dumps(DOCKER).encode())
    assert config.cmd is None and config.volumes == () and config.history == ()
    assert config.healthcheck == Healthcheck(("CMD", "true"), interval_ns=5)
    again = json.loads(config.to_json())
    assert again["docker_version"] == "20.10"
    assert again["config"]["Hostname"] == "" and again["config"]["AttachStdin"] is False


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": 5},
        {"config": []},
        {"config": {"Env": "A=1"}},
        {"config": {"Env": [1]}},
        {"config": {"Cmd": {"a": 1}}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"ExposedPorts": ["80"]}},
        {"config": {"ArgsEscaped": "yes"}},
        {"config": {"Healthcheck": {"Retries": 1.5}}},
        {"rootfs": None},
        {"rootfs": {"diff_ids": ["sha256:short"]}},
        {"rootfs": {"diff_ids": "sha256:short"}},
        {"history": [[]]},
    ],
)
def test_wrong_types_are_errors(change: dict[str, object]) -> None:
    """A member of another type than the spec's is a TransportError, never a traceback."""
    with pytest.raises(TransportError):
        ImageConfig.from_json(json.dumps(DOCKER | change).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"1", b"\xff", b'"x"', b"[" * 100_000, b"{}" + b" " * (17 << 20)]
)
def test_what_is_no_json_object_is_an_error(data: bytes) -> None:
    """Broken, foreign, too deep or too long documents are TransportErrors."""
    with pytest.raises(TransportError):
        ImageConfig.from_json(data)
