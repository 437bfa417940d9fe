"""The same build is the same image: on any day, in any environment, in any empty store."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Layersmith

EPOCH = "1600000000"

BUILDFILE = """\
FROM base AS build
ARG FLAVOUR=plain
ENV HOME=/root TITLE="a $FLAVOUR build"
WORKDIR /src/deep/er
COPY --chown=1000:1000 files ./
COPY <<EOF script
echo $FLAVOUR
EOF
RUN mkdir many && for n in $(seq 1 200); do echo $n > many/file-$n; done
RUN sh script > result; rm many/file-7; mkfifo pipe; ln many/file-8 hard; ln -s many soft; chmod 4711 script
RUN --mount=type=cache,target=/cache echo cached > /cache/x && dd if=/dev/zero of=zeros bs=65536 count=100

FROM base
LABEL z=1 a=2 m="$UNSET"
COPY --from=build /src /src
ADD files.tar /unpacked/
VOLUME /data /more
EXPOSE 80 443/udp
HEALTHCHECK CMD true
CMD ["cat", "/src/deep/er/result"]
"""


@pytest.fixture
def buildfile(context: Path) -> Path:
    files = context / "files"
    (files / "sub").mkdir(parents=True)
    for name in ("b", "a", "ä", "sub/c"):
        (files / name).write_text(name * 1000)
    (context / "Buildfile").write_text(BUILDFILE)
    return context / "Buildfile"


@pytest.fixture
def archive(context: Path, buildfile: Path) -> Path:
    with tarfile.open(context / "files.tar", "w") as tar:
        tar.add(context / "files", "files")
    return context / "files.tar"


@pytest.mark.usefixtures("archive")
def test_the_same_manifest_in_any_environment(
    layersmith: Layersmith, import_base: Callable[[Layersmith], None], buildfile: Path, tmp_path: Path
) -> None:
    """Two empty stores, two umasks, time zones, languages, hash seeds, working directories and numbers of jobs: one digest."""
    digests = []
    environments = (
        {"TZ": "UTC", "LANG": "C", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
        {
            "TZ": "Pacific/Chatham",
            "LANG": "de_DE.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PYTHONHASHSEED": "2",
            "FLAVOUR": "x",
        },
    )
    for number, environment in enumerate(environments):
        # What the checkout leaves to chance: when it was made, and in which order.
        for path in buildfile.parent.rglob("*"):
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        program = layersmith.with_store(tmp_path / f"store-{number}")
        import_base(program)
        program(
            *("build", "-t", "again", "--jobs", 1 + number * 7),
            *(("-f", buildfile, buildfile.parent) if number else (".",)),
            cwd=None if number else buildfile.parent,
            umask=(0o022, 0o077)[number],
            **environment,
            SOURCE_DATE_EPOCH=EPOCH,
        )
        digests.append(program.digest("again"))
        assert program("run", "--rm", "again").stdout == "plain\n"
    assert digests[0] == digests[1]


@pytest.mark.usefixtures("archive")
def test_the_same_manifest_without_the_cache(layersmith: Layersmith, base: str, buildfile: Path) -> None:
    """Run again in the same store, and taken from its cache, a build is what it was; another epoch is another image."""

    def build(*flags: str, epoch: str = EPOCH) -> str:
        layersmith("build", "-t", "again", *flags, buildfile, SOURCE_DATE_EPOCH=epoch)
        return layersmith.digest("again")

    first = build()
    assert build("--no-cache") == first
    assert build() == first
    assert build("--source-date-epoch", EPOCH, epoch="1") == first
    assert build(epoch="1500000000") != first


def test_the_same_manifest_from_the_cache_at_another_time(
    layersmith: Layersmith, base: str, context: Path
) -> None:
    """Lines without a layer have the time of what is below them, not that of the day."""
    for text in (
        "FROM base\nARG a\nLABEL b=c\nCOPY f /\n",
        "FROM base\nLABEL b=c\n",
        "FROM scratch\nENV a=b\nCOPY f /\n",
    ):
        (context / "Buildfile").write_text(text)
        (context / "f").write_text("f")
        digests = []
        for _ in range(2):
            layersmith("build", "-t", "again", context)
            digests.append(layersmith.digest("again"))
            time.sleep(1.1)
        assert digests[0] == digests[1]


def test_no_time_in_the_image_is_later_than_the_epoch(
    layersmith: Layersmith, base: str, context: Path, tmp_path: Path
) -> None:
    """Config, history (the base's, too), index, and every entry of every layer that the build made."""
    (context / "f").write_text("f")
    (context / "Buildfile").write_text(
        "FROM base AS first\nRUN touch /made\nFROM first\nLABEL a=b\nCOPY f /\nWORKDIR /w\nRUN echo x > y && mkdir z\n"
    )
    # Without the epoch its base gets today's times.
    layersmith("build", "-t", "first", "--target", "first", context)
    (context / "further").write_text("FROM first\nRUN touch /more\nCOPY f /\n")
    for file in ("Buildfile", "further"):
        layersmith("build", "-t", "image", "--source-date-epoch", EPOCH, "-f", context / file, context)
        found = json.loads(layersmith("inspect", "image").stdout)[0]
        text = json.dumps(found)
        layers = tmp_path / file
        layersmith("export", "image", "-o", f"type=layers,dest={layers}")
        listed = json.loads((layers / "layers.json").read_text())
        own = 4 if file == "Buildfile" else 2
        times = [entry["created"] for entry in listed]
        assert all(created <= "2020-09-13T12:26:40Z" for created in times), text
        assert found["Created"] == "2020-09-13T12:26:40Z"
        for entry in listed[-own:]:
            unpacked = subprocess.run(
                ["zstd", "-dc", layers / entry["file"]], capture_output=True, check=True
            ).stdout
            with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
                assert all(member.mtime <= int(EPOCH) for member in tar)
