"""resolv.conf and hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from layersmith.errors import UsageError
from layersmith.linux import hostfiles


def conf(tmp_path: Path, host: str, upstream: str | None = None, **options: object) -> str:
    (tmp_path / "host").write_text(host)
    if upstream is not None:
        (tmp_path / "upstream").write_text(upstream)
    return hostfiles.resolv_conf(
        host=tmp_path / "host",
        upstream=tmp_path / "upstream",
        **options,  # type: ignore[arg-type]
    ).decode()


def test_host_file_is_taken(tmp_path: Path) -> None:
    """Its search list and options too; comments go."""
    text = "# c\nsearch a.example\nnameserver 192.0.2.1\noptions edns0\n"
    assert conf(tmp_path, text) == "search a.example\noptions edns0\nnameserver 192.0.2.1\n"


def test_local_stub_is_replaced(tmp_path: Path) -> None:
    """systemd-resolved's stub address is unreachable from elsewhere: the real servers are used."""
    found = conf(tmp_path, "nameserver 127.0.0.53\n", "nameserver 192.0.2.7\nsearch b\n")
    assert found == "search b\nnameserver 192.0.2.7\n"


def test_private_network_has_no_use_for_loopback(tmp_path: Path) -> None:
    """Loopback servers are left out; with none left, public ones, as Docker does."""
    text = "nameserver 127.0.0.1\nnameserver ::1\nnameserver 192.0.2.1\n"
    assert conf(tmp_path, text, private_network=True) == "nameserver 192.0.2.1\n"
    assert (
        conf(tmp_path, "nameserver 127.0.0.1\n", private_network=True)
        == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    )
    assert conf(tmp_path, "nameserver 127.0.0.1\n") == "nameserver 127.0.0.1\n"


def test_dns_option(tmp_path: Path) -> None:
    """--dns replaces the servers; what is no address is an error."""
    assert conf(tmp_path, "nameserver 192.0.2.1\n", dns=("2001:db8::1",)) == "nameserver 2001:db8::1\n"
    with pytest.raises(UsageError, match="--dns: 'x' is no IP address"):
        conf(tmp_path, "", dns=("x",))


def test_no_host_file() -> None:
    """A host without one gives an empty one."""
    assert hostfiles.resolv_conf(host=Path("/nonexistent"), upstream=Path("/nonexistent")) == b""


def test_hosts() -> None:
    """localhost, the container's own name, and what was added; IPv6 in brackets as docker allows."""
    lines = (
        hostfiles.hosts("box", ("db:192.0.2.3", "six:[2001:db8::2]", "bare:2001:db8::3"))
        .decode()
        .splitlines()
    )
    assert lines[0] == "127.0.0.1\tlocalhost box"
    assert lines[2:] == ["192.0.2.3\tdb", "2001:db8::2\tsix", "2001:db8::3\tbare"]


@pytest.mark.parametrize(
    "entry", ["nothing", "db:", "db:host.example", ":192.0.2.1", "a b:192.0.2.1", "x\n:1.2.3.4"]
)
def test_bad_host(entry: str) -> None:
    """A name that is no name, or an address that is none."""
    with pytest.raises(UsageError):
        hostfiles.hosts("box", (entry,))
