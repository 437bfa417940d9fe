"""The image's settings and the command line's: what wins."""

from __future__ import annotations

import pytest

from layersmith.containers.config import ContainerConfig
from layersmith.containers.configure import RunOptions, configure
from layersmith.errors import UsageError
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import digest_of
from layersmith.oci.platform import Platform

ID = "0123456789ab" + "0" * 52
IMAGE = ImageConfig(
    Platform("linux", "amd64"),
    env=("PATH=/bin", "LANG=C"),
    entrypoint=("/entry",),
    cmd=("serve", "--all"),
    user="app",
    working_dir="/srv",
    labels=(("a", "image"), ("b", "image")),
    stop_signal="SIGQUIT",
)


def made(image: ImageConfig = IMAGE, **options: object) -> ContainerConfig:
    manifest = Descriptor("application/vnd.oci.image.manifest.v1+json", digest_of(b""), 0)
    asked = RunOptions("demo", **options)  # type: ignore[arg-type]
    return configure(asked, image, manifest, id=ID, name="n", caller={"LANG": "de"}, host_name="machine")


@pytest.mark.parametrize(
    ("options", "args"),
    [
        ({}, ("/entry", "serve", "--all")),
        ({"command": ("one",)}, ("/entry", "one")),
        ({"entrypoint": "/other"}, ("/other",)),
        ({"entrypoint": "/other", "command": ("x",)}, ("/other", "x")),
        ({"entrypoint": "", "command": ("sh",)}, ("sh",)),
    ],
)
def test_entrypoint_and_command(options: dict[str, object], args: tuple[str, ...]) -> None:
    """A command replaces CMD, an entrypoint replaces both, an empty one takes the image's away."""
    assert made(**options).process.args == args


def test_no_command_is_an_error_that_shows_how() -> None:
    with pytest.raises(UsageError, match="no command of its own") as failure:
        made(ImageConfig(Platform("linux", "amd64")))
    assert "layersmith run demo sh" in failure.value.hint
    with pytest.raises(UsageError):
        made(entrypoint="")


def test_settings_of_the_image_hold_unless_given() -> None:
    """User, working directory, variables, labels, stop signal: the image's, and each can be overridden."""
    config = made()
    assert (config.process.user, config.process.cwd, config.stop_signal) == ("app", "/srv", "SIGQUIT")
    assert config.process.env == (("PATH", "/bin"), ("LANG", "C"))
    config = made(user="0", workdir="/", env=("LANG", "X=1"), labels=(("b", "run"),), stop_signal="9")
    assert (config.process.user, config.process.cwd, config.stop_signal) == ("0", "/", "9")
    assert config.process.env == (("PATH", "/bin"), ("LANG", "de"), ("X", "1"))
    assert config.labels == (("a", "image"), ("b", "run"))


def test_host_names() -> None:
    """The short id, on the host's network the host's name, and what is given always."""
    assert made().hostname == ID[:12]
    assert made(network="host").hostname == "machine"
    assert made(network="host", hostname="own").hostname == "own"


def test_values_that_make_no_sense() -> None:
    for options in ({"workdir": "srv"}, {"cap_add": ("NONSENSE",)}, {"stop_signal": "NONSENSE"}):
        with pytest.raises(UsageError):
            made(**options)


def test_capabilities() -> None:
    assert made(cap_drop=("ALL",)).capabilities == ()
    assert made(cap_drop=("ALL",), cap_add=("net_admin",)).capabilities == ("CAP_NET_ADMIN",)
    assert "CAP_SYS_ADMIN" not in made().capabilities
