"""``export``, ``load``, ``import``: there and back again, through files and pipes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Load = Callable[..., str]
FILES = {"bin": None, "bin/sh": b"#!\n", "etc": None, "etc/conf": b"x"}


@pytest.mark.parametrize("dest", ["web.tar", "web/", "type=oci,dest=web.tar", "type=oci,dest=web,tar=false"])
def test_an_oci_export_loads_as_the_same_image(cli: Any, load: Load, tmp_path: Path, dest: str) -> None:
    """An archive or a layout directory: the digest and the name survive."""
    digest = load("web:1", FILES)
    cli("export", "web:1", "-o", dest)
    cli("rmi", "web:1")
    cli("prune")
    written = tmp_path / "web.tar" if (tmp_path / "web.tar").exists() else tmp_path / "web"
    assert cli("load", str(written)) == "Loaded: web:1\n"
    assert cli("images", "-q", "web") == f"{digest}\n"


def test_export_and_load_through_a_pipe(cli: Any, load: Load) -> None:
    """Both speak standard output and input by default; --name renames."""
    digest = load("web:1", FILES)
    archive = cli.run("export", "web:1").stdout
    assert cli("load", "--name", "copy:2", stdin=archive) == "Loaded: copy:2\n"
    assert cli("images", "-q", "copy") == f"{digest}\n"


def test_several_outputs_of_one_export(cli: Any, load: Load, tmp_path: Path) -> None:
    """All files, as a tar and as the layers' tars with their index."""
    load("web:1", FILES, {"etc": None, "etc/.wh.conf": b"", "etc/more": b"y"})
    cli("export", "web:1", "-o", "type=tar,dest=all.tar", "-o", "type=layers,dest=layers")
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert [m.name for m in tar if m.isfile()] == ["bin/sh", "etc/more"]
    listed = json.loads((tmp_path / "layers" / "layers.json").read_text())
    assert [layer["createdBy"] for layer in listed] == ["RUN step 1", "RUN step 2"]
    assert {layer["file"] for layer in listed} | {"layers.json"} == set(os.listdir(tmp_path / "layers"))


def test_a_failed_export_leaves_no_file(cli: Any, load: Load, tmp_path: Path) -> None:
    """A damaged layer is an error that names the blob; what was there before stays."""
    load("web:1", FILES)
    (layer,) = cli("layers", "-q", "web:1").split()
    (cli.root / "blobs" / "sha256" / layer[7:]).write_bytes(b"garbage")
    (tmp_path / "web.tar").write_bytes(b"precious")
    assert layer in cli.error("export", "web:1", "-o", "web.tar", status=7)
    assert (tmp_path / "web.tar").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir() if "web" in path.name] == ["web.tar"]


def test_import_a_tar_a_stream_and_a_directory(cli: Any, tmp_path: Path) -> None:
    """The same files, whatever they come in; --change sets the config, wherever the option stands."""
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "conf").write_text("x")
    for path in (tree / "etc" / "conf", tree / "etc", tree):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    with tarfile.open(tmp_path / "tree.tar.gz", "w:gz") as tar:
        tar.add(tree, ".")
    change = 'CMD ["sh", "-c", "true"]'
    cli("import", "tree.tar.gz", "--change", change, "one")
    cli(
        "import",
        "-",
        "two:2",
        "-c",
        "ENV A=1",
        "-m",
        "from a pipe",
        stdin=(tmp_path / "tree.tar.gz").read_bytes(),
    )
    cli("import", "tree", "three")
    assert cli("inspect", "-f", "{{json .Config.Cmd}}", "one") == '["sh","-c","true"]\n'
    assert cli("inspect", "-f", "{{.Config.Env}}{{.Comment}}", "two:2") == "[A=1]from a pipe\n"
    for other in ("two:2", "three"):
        assert cli("diff", "one", other) == ""


def test_import_host(cli: Any) -> None:
    """A program of this machine with what it loads: the base that needs no network."""
    cli("import", "--host", "true", "tiny")
    added = cli("diff", "tiny")
    assert "/true\n" in added
    assert cli("inspect", "-f", ".Config.Cmd[0]", "tiny").endswith("/true\n")
    assert "nosuchprogram" in cli.error("import", "--host", "nosuchprogram", "tiny", status=5)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["import", "name"], 2, "a root file system and a name"),
        (["import", "a", "b", "c"], 2, "did you mean `layersmith import --host"),
        (["import", "gone.tar", "name"], 6, "gone.tar"),
        (["import", "empty.tar", "name"], 6, "empty.tar"),
        (["import", "empty.tar", "Name"], 2, "lower-case"),
        (["import", "empty.tar", "name", "--change", "RUN x"], 2, "RUN"),
        (["load", "gone.tar"], 6, "gone.tar"),
        (["load", "empty.tar"], 6, "not an image"),
        (["export", "gone"], 5, "no image 'gone'"),
        (["export", "gone", "-o", "type=nope,dest=x"], 2, "unknown type 'nope'"),
    ],
)
def test_mistakes_have_a_message_and_a_status(
    cli: Any, load: Load, tmp_path: Path, words: list[str], status: int, said: str
) -> None:
    """Never a traceback, and never an image."""
    load("web:1", FILES)
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    assert said in cli.error(*words, status=status)
    assert cli("images", "--format", "{{.Repository}}") == "web\n"


def test_a_name_may_come_from_an_archive_only_if_it_is_one(cli: Any) -> None:
    """A tar that names another file than an image's is refused, whatever it holds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("manifest.json")
        data = json.dumps([{"Config": "../../etc/passwd", "RepoTags": ["x:1"], "Layers": []}]).encode()
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    assert "error: " in cli.error("load", stdin=buffer.getvalue(), status=6)
    assert cli("images", "-q") == ""


@pytest.mark.parametrize("kind", ["oci", "docker", "tar"])
def test_a_reader_that_has_had_enough_is_no_error(cli: Any, load: Load, kind: str) -> None:
    """``layersmith export web | head -c 10``: status 141, as of a program that SIGPIPE ends, and no message."""
    load("web", {"large": bytes(1_000_000)})
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "layersmith", "export", "web", "-o", f"type={kind},dest=-"]
    env = os.environ | {"LAYERSMITH_ROOT": str(cli.root)}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=env, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
