"""An image with all that is hard to carry over, judged by others: skopeo reads the store, umoci unpacks what it copied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import trees
from program import Layersmith

PROGRAMS = [
    "sh",
    "bash",
    "cat",
    "chmod",
    "chown",
    "cp",
    "echo",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mknod",
    "mv",
    "printf",
    "rm",
    "setcap",
    "tar",
    "test",
    "touch",
    "truncate",
]

BUILDFILE = r"""
FROM base AS stage
COPY hard /hard
RUN touch -d @-1500000000 /hard/in-a-stage && ln /hard/a /hard/c

FROM base
LABEL purpose="interoperability"
COPY hard /copied
ADD attributes.tar /added/
RUN <<EOF
set -eux
mkdir -p /run1 /gone/sub /emptied/sub /replaced/sub /becomes-a-file/x /sticky /moved/from
cd /run1
mkfifo -m 622 fifo
mknod -m 666 null c 1 3
mknod -m 640 disk b 259 70000
echo program > ping; chmod 755 ping; setcap cap_net_raw+ep ping; ln ping ping6
echo program > su; chown 7:42 su; chmod 6755 su
chmod 1777 /sticky
truncate -s 30M sparse; echo end >> sparse
echo old > old; touch -d '1901-12-24 12:00:00 UTC' old; chown 70000:3000000 old
touch "$(printf 'latin-\351\377')"
name=$(printf 'x%.0s' $(echo {1..255})); echo 255 > $name
long=$(printf 'l%.0s' $(echo {1..150})); mkdir -p $long/$long; echo long > $long/$long/$name
ln -s $long/$long/$long/does-not-exist "dangling
with a newline"
ln -s /run1 to-a-directory
for d in gone emptied replaced; do echo $d > /$d/file; echo $d > /$d/sub/file; done
echo file > /becomes-a-directory
echo a > /linked; ln /linked /linked-too; ln /linked /linked-later
echo one > /changed; echo moved > /moved/from/file
EOF
RUN <<EOF
set -eux
rm -r /gone
rm -r /emptied; mkdir /emptied
rm -r /replaced; mkdir -p /replaced/sub; echo new > /replaced/sub/new
rm /becomes-a-directory; mkdir /becomes-a-directory; echo x > /becomes-a-directory/x
rm -r /becomes-a-file; echo file > /becomes-a-file
rm /linked-too; ln /linked /linked-again
chmod 600 /run1/su
mv /moved/from /moved/to
echo two >> /changed
rm /run1/null; mkfifo /run1/null
touch -h -d @-86400.5 /run1/to-a-directory
touch -d @-1 /sticky
EOF
COPY --from=stage --chown=1:2 /hard /run1/hard
COPY --chmod=4711 hard/a /replaced/sub/new
RUN cp -a /copied /preserved && rm /copied/fifo && cp -a /run1/ping /preserved/ping
CMD ["cat", "/changed"]
"""


def make_hard(root: Path) -> None:
    """A directory for COPY with everything that a file can be."""
    root.mkdir(parents=True)
    (root / "a").write_text("two names")
    os.link(root / "a", root / "b")
    os.utime(root / "a", (-2_000_000_000, -2_000_000_000))
    os.mkfifo(root / "fifo", 0o600)
    os.mknod(root / "tty", 0o20620, os.makedev(5, 0))
    (root / os.fsdecode(b"caf\xe9")).write_text("not UTF-8")
    (root / os.fsdecode(b"\xff\xfe")).mkdir()
    (root / ("d" * 200)).mkdir()
    (root / ("d" * 200) / ("f" * 255)).write_text("long")
    (root / "to-nowhere").symlink_to("t" * 300)
    (root / "suid").write_text("suid")
    (root / "suid").chmod(0o4755)
    with (root / "sparse").open("wb") as file:
        file.truncate(20 << 20)
        file.seek(10 << 20)
        file.write(b"middle")
    os.setxattr(root / "a", "user.note", b"\xff\0binary")
    (root / "empty").mkdir(mode=0o700)
    os.utime(root / "empty", (-86400, -86400))


def make_attributes(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, headers in (
            ("directory", tarfile.DIRTYPE, {"SCHILY.xattr.user.on": "a directory"}),
            ("directory/file", tarfile.REGTYPE, {"SCHILY.xattr.user.äöü": "größer", "mtime": "-5.25"}),
            ("fifo", tarfile.FIFOTYPE, {}),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.pax_headers = kind, 0o751, headers
            archive.addfile(info)


def skopeo(*words: object) -> str:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *map(str, words)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
@pytest.mark.root
@pytest.mark.interop
@pytest.mark.needs_skopeo
@pytest.mark.needs_umoci
def test_umoci_unpacks_the_tree_that_layersmith_mounts(
    compression: str, layersmith: Layersmith, context: Path, tmp_path: Path
) -> None:
    """skopeo inspects the store itself, and copies from it to a docker-archive and a gzip layout; umoci's tree is ours."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {' '.join(missing)}")
    make_hard(context / "hard")
    make_attributes(context / "attributes.tar")
    (context / "Buildfile").write_text(BUILDFILE)
    bash = 'SHELL ["/bin/bash", "-c"]'
    layersmith("import", "--host", *PROGRAMS, "base", "--change", bash, "--compression", compression)
    layersmith("build", "-t", "demo", "--compression", compression, context)

    for name in ("demo", "demo:latest"):
        seen = json.loads(skopeo("inspect", f"oci:{layersmith.root}:{name}"))
        assert seen["Digest"] == layersmith.digest("demo")
        assert seen["Labels"] == {"purpose": "interoperability"}
        assert len(seen["Layers"]) == 8

    source = f"oci:{layersmith.root}:demo"
    if compression == "zstd":
        # Docker's formats have no zstd, and skopeo 1.9 does not recompress on the way to them.
        gzipped = f"oci:{tmp_path / 'gzipped'}:demo"
        skopeo("copy", "--dest-compress-format", "gzip", source, gzipped)
        source = gzipped
    archive, layout, bundle = tmp_path / "demo.tar", tmp_path / "layout", tmp_path / "bundle"
    skopeo("copy", source, f"docker-archive:{archive}:demo:latest")
    skopeo("copy", "--dest-compress-format", "gzip", f"docker-archive:{archive}", f"oci:{layout}:demo")
    subprocess.run(
        ["umoci", "--log=error", "unpack", "--image", f"{layout}:demo", bundle], check=True, timeout=120
    )

    looked = layersmith("mount", "demo", "--", sys.executable, trees.__file__, "merged").stdout
    ours, theirs = json.loads(looked), trees.look(bundle / "rootfs")
    assert trees.differences(ours, theirs) == []
    expect_all_kinds(ours)


def expect_all_kinds(tree: trees.Tree) -> None:
    """The comparison compared what it was meant to: the files are there, and are what the Buildfile made."""
    assert "gone" not in tree
    assert "emptied/sub" not in tree
    assert "replaced/file" not in tree
    assert tree["replaced/sub/new"]["mode"] == "0o4711"
    assert tree["becomes-a-file"]["type"] == "file"
    assert tree["becomes-a-directory"]["type"] == "directory"
    # overlayfs copies a file up to link it, which leaves the names in lower layers behind (index=off).
    assert tree["linked"]["hard links"] == ["linked", "linked-again"]
    assert tree["linked-later"]["hard links"] == ["linked-later"]
    assert tree["run1/ping"]["hard links"] == ["run1/ping", "run1/ping6"]
    assert "security.capability" in tree["run1/ping"]["xattrs"]  # type: ignore[operator]
    assert "security.capability" in tree["preserved/ping"]["xattrs"]  # type: ignore[operator]
    assert tree["copied/a"]["xattrs"] == {"user.note": b"\xff\0binary".hex()}
    assert tree["copied/a"]["hard links"] == ["copied/a", "copied/b"]
    assert tree["added/directory/file"]["xattrs"] == {"user.äöü": "größer".encode().hex()}
    assert tree["added/directory/file"]["mtime"] == -6
    assert tree["run1/su"]["owner"] == "7:42"
    assert tree["run1/old"]["owner"] == "70000:3000000"
    assert tree["run1/old"]["mtime"] == -2146564800
    assert tree["run1/disk"]["device"] == "259:70000"
    assert tree["copied/tty"]["device"] == "5:0"
    assert tree["run1/null"]["type"] == "fifo"
    assert tree["copied/sparse"]["size"] == 20 << 20
    assert tree["copied/suid"]["mode"] == "0o4755"
    assert os.fsdecode(b"run1/latin-\xe9\xff") in tree
    assert os.fsdecode(b"copied/caf\xe9") in tree
    assert any(len(path) > 550 for path in tree)
    assert tree["copied/to-nowhere"]["target"] == "t" * 300
    assert tree["run1/hard/a"]["owner"] == "1:2"
    assert tree["run1/hard/in-a-stage"]["mtime"] == -1500000000
    assert tree["sticky"]["mode"] == "0o1777"
    assert "copied/fifo" not in tree
    assert "preserved/fifo" in tree
