"""The values of run's options: docker's meaning, and a clear refusal of the rest."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from layersmith.cli import confine
from layersmith.containers import options
from layersmith.errors import UsageError
from layersmith.linux.mounts import Bind, Tmpfs
from layersmith.linux.sandbox import Rlimit


def test_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-v binds paths, relative ones as well; options that mean nothing here are accepted."""
    monkeypatch.chdir(tmp_path)
    there = str(tmp_path)
    assert options.volume(f"{there}:/data") == Bind(there, "/data")
    assert options.volume(f"{there}:/data:ro") == Bind(there, "/data", readonly=True)
    assert options.volume(f"{there}:/data/:ro,z,rprivate") == Bind(there, "/data", readonly=True)
    assert options.volume(".:/here").source == there


def test_volume_makes_a_missing_source(tmp_path: Path) -> None:
    """As docker does: a directory, with its parents."""
    options.volume(f"{tmp_path}/new/deep:/data")
    assert (tmp_path / "new/deep").is_dir()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("name:/data", "no path"),
        ("/a", "invalid volume"),
        ("/a:b:c:d", "invalid volume"),
        ("/tmp:data", "must be absolute"),
        ("/tmp:/", "must be absolute"),
        ("/tmp:/a/..", "must be absolute"),
        ("/tmp:/data:shared", "unknown option 'shared'"),
        ("/proc/self/none/x:/data", "can't make"),
    ],
)
def test_volume_refuses(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        options.volume(text)


def test_mount(tmp_path: Path) -> None:
    """--mount, with the aliases of its fields, and commas in quotes."""
    there = tmp_path / "a,b"
    there.mkdir()
    assert options.mount(f'type=bind,"src={there}",dst=/x,readonly') == Bind(str(there), "/x", readonly=True)
    assert options.mount(f"type=bind,source={tmp_path},target=/x,ro=false") == Bind(str(tmp_path), "/x")
    assert options.mount("type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700") == Tmpfs(
        "/t", 1 << 20, 0o700
    )
    assert options.mount("type=tmpfs,dst=/t,ro") == Tmpfs("/t", readonly=True)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("source=v,target=/x", "no named volumes"),
        ("type=volume,source=v,target=/x", "no named volumes"),
        ("type=npipe,target=/x", "unknown type"),
        ("type=bind,target=/x", "has no source"),
        ("type=bind,source=/nonexistent,target=/x", "does not exist"),
        ("type=bind,source=/tmp,target=/x,bind-propagation=rshared", "unknown field 'bind-propagation'"),
        ("type=tmpfs,target=x", "must be absolute"),
        ("type=tmpfs,target=/x,tmpfs-size=lots", "not a size"),
        ("type=tmpfs,target=/x,colour=red", "unknown field 'colour'"),
        ("type=tmpfs,target=/x,ro=perhaps", "neither true nor false"),
    ],
)
def test_mount_refuses(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        options.mount(text)


def test_tmpfs() -> None:
    """--tmpfs is noexec unless it says exec."""
    assert options.tmpfs("/t") == Tmpfs("/t", noexec=True)
    assert options.tmpfs("/t:size=64k,mode=755,exec,nosuid") == Tmpfs("/t", 64 << 10, 0o755)
    with pytest.raises(UsageError, match="unknown option 'uid'"):
        options.tmpfs("/t:uid=5")


def test_environment_precedence(tmp_path: Path) -> None:
    """-e over --env-file over the image; a bare name takes the caller's value, or takes the variable away."""
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbfA=file\n# comment\n\n  B=  spaced 'quoted' \nHOST\nGONE\n")
    found = options.environment(
        ("A=image", "GONE=image", "C=image", "X=a=b"),
        [str(file)],
        ["C=given", "EMPTY=", "NOWHERE"],
        {"HOST": "caller"},
    )
    assert dict(found) == {
        "A": "file",
        "B": "  spaced 'quoted' ",
        "HOST": "caller",
        "C": "given",
        "X": "a=b",
        "EMPTY": "",
    }


@pytest.mark.parametrize("line", ["export A=1", "A B=1", "=x"])
def test_env_file_refuses(tmp_path: Path, line: str) -> None:
    (tmp_path / "env").write_text(line + "\n")
    with pytest.raises(UsageError, match="variable"):
        options.environment((), [str(tmp_path / "env")], (), {})
    with pytest.raises(UsageError, match="can't read"):
        options.environment((), [str(tmp_path / "none")], (), {})


def test_ulimit() -> None:
    assert Rlimit.parse("nofile=1024:2048") == Rlimit("nofile", 1024, 2048)
    assert Rlimit.parse("core=0") == Rlimit("core", 0, 0)
    assert Rlimit.parse("memlock=-1:unlimited") == Rlimit("memlock", -1, -1)
    for text in ("nofile", "nofile=many", "files=3", "nofile=1:"):
        with pytest.raises(UsageError):
            Rlimit.parse(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15),
        ("sigterm", 15),
        ("9", 9),
        ("RTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX", signal.SIGRTMAX),
    ],
)
def test_signal_number(text: str, number: int) -> None:
    assert options.signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "99999999999", "-1", "TERMINATE", "RTMIN+99", "DFL"])
def test_signal_number_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="unknown signal"):
        options.signal_number(text)


def test_numbers_and_sizes() -> None:
    assert confine.number("1.5", "--cpus") == 1.5
    assert confine.number("-1", "--pids-limit") == 0
    assert confine.size("64m", "--memory") == 64 << 20
    assert confine.size("-1", "--memory-swap") == -1
    for text in ("x", "nan", "inf", "-2", ""):
        with pytest.raises(UsageError):
            confine.number(text, "--cpus")
    with pytest.raises(UsageError, match="--memory"):
        confine.size("lots", "--memory")
