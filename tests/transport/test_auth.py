"""Credentials: found where Docker, podman and helpers keep them, written for them too, and never shown."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from layersmith.errors import TransportError, UsageError
from layersmith.transport.auth import Credentials, Keychain, parse_credentials


def entry(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A home of our own, and a PATH on which helpers may be put."""
    (tmp_path / "bin").mkdir()
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run"), "PATH": str(tmp_path / "bin")}


def add_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str = "test") -> Path:
    """docker-credential-NAME, a shell script; it logs its verbs beside itself."""
    path = tmp_path / f"bin/docker-credential-{name}"
    path.write_text(f'#!/bin/sh\nread -r server\necho "$1 $server" >> {path}.log\n{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return path


def log_of(helper: Path) -> list[str]:
    log = Path(f"{helper}.log")
    return log.read_text().splitlines() if log.exists() else []


# Finding


def test_nothing_known(environ: dict[str, str]) -> None:
    """Without any file there are no credentials, and nothing is created."""
    assert Keychain(environ).get("example.com", "app") is None
    assert not list(Path(environ["HOME"]).glob(".*"))


@pytest.mark.parametrize(
    ("variable", "value", "path"),
    [
        ("REGISTRY_AUTH_FILE", "{home}/a.json", "a.json"),
        ("DOCKER_CONFIG", "{home}/docker", "docker/config.json"),
        ("UNUSED", "", ".docker/config.json"),
        ("UNUSED", "", "run/containers/auth.json"),
        ("XDG_CONFIG_HOME", "{home}/conf", "conf/containers/auth.json"),
        ("UNUSED", "", ".config/containers/auth.json"),
    ],
)
def test_places(environ: dict[str, str], tmp_path: Path, variable: str, value: str, path: str) -> None:
    """Every file that Docker and podman read is read."""
    environ[variable] = value.format(home=tmp_path)
    write(tmp_path / path, {"auths": {"example.com": entry("me", "pw:with:colons")}})
    assert Keychain(environ).get("example.com", "any/repo") == Credentials("me", "pw:with:colons")
    assert Keychain(environ).get("other.example.com") is None


def test_order_of_places(environ: dict[str, str], tmp_path: Path) -> None:
    """podman's file comes before Docker's; REGISTRY_AUTH_FILE stands for both."""
    write(tmp_path / ".docker/config.json", {"auths": {"a": entry("docker", "1"), "b": entry("docker", "2")}})
    write(tmp_path / "run/containers/auth.json", {"auths": {"a": entry("podman", "3")}})
    assert Keychain(environ).get("a") == Credentials("podman", "3")
    assert Keychain(environ).get("b") == Credentials("docker", "2")
    environ["REGISTRY_AUTH_FILE"] = str(write(tmp_path / "x.json", {"auths": {"c": entry("file", "4")}}))
    assert Keychain(environ).get("a") is None
    assert Keychain(environ).get("c") == Credentials("file", "4")


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"]
)
def test_names_of_docker_hub(environ: dict[str, str], tmp_path: Path, key: str) -> None:
    """Docker Hub is found under any of its names."""
    write(tmp_path / ".docker/config.json", {"auths": {key: entry("me", "pw")}})
    assert Keychain(environ).get("docker.io", "library/alpine") == Credentials("me", "pw")


def test_urls_as_keys(environ: dict[str, str], tmp_path: Path) -> None:
    """Docker once wrote whole URLs; only their host counts."""
    write(tmp_path / ".docker/config.json", {"auths": {"https://example.com/v1/": entry("me", "pw")}})
    assert Keychain(environ).get("example.com") == Credentials("me", "pw")
    assert Keychain(environ).get("le.com") is None


def test_most_particular_entry_wins(environ: dict[str, str], tmp_path: Path) -> None:
    """podman's files may name a part of a registry; the longest name that fits is taken."""
    auths = {"r.io": entry("all", "1"), "r.io/team": entry("team", "2"), "r.io/team/app": entry("app", "3")}
    write(tmp_path / "run/containers/auth.json", {"auths": auths})
    keychain = Keychain(environ)
    assert keychain.get("r.io", "team/app") == Credentials("app", "3")
    assert keychain.get("r.io", "team/other") == Credentials("team", "2")
    assert keychain.get("r.io", "teams/app") == Credentials("all", "1")


def test_tokens(environ: dict[str, str], tmp_path: Path) -> None:
    """Identity and registry tokens are kept apart from passwords."""
    auths = {
        "a": {"identitytoken": "i"},
        "b": {"registrytoken": "r"},
        "c": {"username": "u", "password": "p"},
    }
    write(tmp_path / ".docker/config.json", {"auths": auths})
    keychain = Keychain(environ)
    assert keychain.get("a") == Credentials(identity_token="i")
    assert keychain.get("b") == Credentials(registry_token="r")
    assert keychain.get("c") == Credentials("u", "p")


@pytest.mark.parametrize("value", [{}, {"auth": "!!!"}, {"auth": 5}, None, "text", {"auth": "/w=="}])
def test_entries_that_say_nothing(environ: dict[str, str], tmp_path: Path, value: object) -> None:
    """An empty or malformed entry counts as none."""
    write(tmp_path / ".docker/config.json", {"auths": {"a": value}})
    assert Keychain(environ).get("a") is None


@pytest.mark.parametrize("text", ["[]", "{", "5", '{"auths": []}'])
def test_malformed_files(environ: dict[str, str], tmp_path: Path, text: str) -> None:
    """A file that is not what it should be is an error that names it."""
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(text)
    with pytest.raises(TransportError, match=r"config\.json"):
        Keychain(environ).get("a")


def test_override() -> None:
    """``--creds`` is used whatever the files say."""
    assert Keychain({}, override=Credentials("me", "pw")).get("any") == Credentials("me", "pw")


# Helpers


def test_credential_store(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``credsStore`` is asked for the server's name, Docker Hub by the name that Docker gives it."""
    helper = add_helper(tmp_path, monkeypatch, """echo '{"Username":"me","Secret":"s3cret"}'""")
    write(tmp_path / ".docker/config.json", {"credsStore": "test", "auths": {"example.com": {}}})
    assert Keychain(environ).get("example.com", "a/b") == Credentials("me", "s3cret")
    assert Keychain(environ).get("docker.io", "library/x") == Credentials("me", "s3cret")
    assert log_of(helper) == ["get example.com", "get https://index.docker.io/v1/"]


def test_helper_of_one_registry(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``credHelpers`` is for its registry only; ``<token>`` as user means an identity token."""
    add_helper(tmp_path, monkeypatch, """echo '{"Username":"<token>","Secret":"t"}'""")
    document = {"credHelpers": {"example.com": "test"}, "auths": {"other.com": entry("o", "p")}}
    write(tmp_path / ".docker/config.json", document)
    assert Keychain(environ).get("example.com") == Credentials(identity_token="t")
    assert Keychain(environ).get("other.com") == Credentials("o", "p")


def test_helper_that_knows_nothing(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper without credentials leaves the choice to the file."""
    add_helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    write(tmp_path / ".docker/config.json", {"credsStore": "test", "auths": {"a": entry("me", "pw")}})
    assert Keychain(environ).get("a") == Credentials("me", "pw")
    assert Keychain(environ).get("b") is None


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo s3cret; exit 3", "status 3"),
        ("echo s3cret", "not understood"),
        ("""echo '{"Username":5,"Secret":"s3cret"}'""", "not understood"),
    ],
)
def test_failing_helper(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    """A helper that fails is an error that names it, and repeats nothing of what it printed."""
    add_helper(tmp_path, monkeypatch, script)
    write(tmp_path / ".docker/config.json", {"credsStore": "test"})
    with pytest.raises(TransportError, match=said) as raised:
        Keychain(environ).get("a")
    assert "docker-credential-test" in raised.value.message
    assert "s3cret" not in repr(raised.value) + raised.value.hint


@pytest.mark.parametrize("name", ["missing", "../../bin/sh", "a b", "$(id)"])
def test_helper_names(environ: dict[str, str], tmp_path: Path, name: str) -> None:
    """A helper that isn't installed, or is no plain name, is an error; no path is ever run."""
    write(tmp_path / ".docker/config.json", {"credsStore": name})
    with pytest.raises(TransportError):
        Keychain(environ).get("a")


# Writing


def test_login_and_logout(environ: dict[str, str], tmp_path: Path) -> None:
    """A login is found again, the file is for its owner only, and everything else in it stays."""
    path = write(
        tmp_path / ".docker/config.json", {"proxies": {"default": {}}, "auths": {"b": entry("x", "y")}}
    )
    path.chmod(0o644)
    keychain = Keychain(environ)
    assert keychain.store("a", Credentials("me", "s3cret")) == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keychain.get("a") == Credentials("me", "s3cret")
    assert keychain.erase("a") == (str(path),)
    assert keychain.get("a") is None
    assert keychain.erase("a") == ()
    assert json.loads(path.read_text()) == {"proxies": {"default": {}}, "auths": {"b": entry("x", "y")}}
    assert [file.name for file in path.parent.iterdir()] == ["config.json"]


def test_login_makes_the_file(environ: dict[str, str], tmp_path: Path) -> None:
    """Directory and file are made where missing; Docker Hub gets the name that Docker gives it."""
    environ["DOCKER_CONFIG"] = str(tmp_path / "new/docker")
    Keychain(environ).store("docker.io", Credentials("me", "pw"))
    path = tmp_path / "new/docker/config.json"
    assert list(json.loads(path.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_login_follows_a_link(environ: dict[str, str], tmp_path: Path) -> None:
    """A config.json that is a link (dotfiles) stays one."""
    target = write(tmp_path / "dotfiles/docker.json", {})
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").symlink_to(target)
    Keychain(environ).store("a", Credentials("me", "pw"))
    assert (tmp_path / ".docker/config.json").is_symlink()
    assert "a" in json.loads(target.read_text())["auths"]


def test_login_with_a_helper(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a helper is configured, the secret goes to it and not into the file."""
    helper = add_helper(tmp_path, monkeypatch, """echo '{"Username":"me","Secret":"s3cret"}'""")
    path = write(tmp_path / ".docker/config.json", {"credsStore": "test"})
    keychain = Keychain(environ)
    assert keychain.store("a", Credentials("me", "s3cret")) == "docker-credential-test"
    assert keychain.erase("a") == ("docker-credential-test",)
    assert "s3cret" not in path.read_text()
    sent = log_of(helper)
    assert json.loads(sent[0].removeprefix("store ")) == {
        "ServerURL": "a",
        "Username": "me",
        "Secret": "s3cret",
    }
    assert sent[1:] == ["get a", "erase a"]


def test_unwritable_place(environ: dict[str, str], tmp_path: Path) -> None:
    """Where the file can't be written, the error says so without the secret."""
    (tmp_path / ".docker").write_text("a file where the directory should be")
    with pytest.raises(TransportError, match="can't be written") as raised:
        Keychain(environ).store("a", Credentials("me", "s3cret"))
    assert "s3cret" not in repr(raised.value)


# Secrecy


def test_credentials_show_no_secret() -> None:
    """No repr and no error holds a secret."""
    shown = repr(Credentials("me", "s3cret", "s3cret", "s3cret")) + repr(
        Keychain({}, override=Credentials("me", "s3cret"))
    )
    assert "s3cret" not in shown
    for text in ("s3cret", ":s3cret"):
        with pytest.raises(UsageError) as raised:
            parse_credentials(text)
        assert "s3cret" not in repr(raised.value) + raised.value.hint
    assert parse_credentials("me:a:b") == Credentials("me", "a:b")
