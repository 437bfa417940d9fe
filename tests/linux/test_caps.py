"""Capability sets."""

from __future__ import annotations

import pytest

from layersmith.errors import UsageError
from layersmith.linux import caps


def test_default_is_dockers() -> None:
    """The bits that /proc/self/status shows in a container of Docker 26."""
    assert caps.bits(caps.DEFAULT) == 0xA80425FB


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), caps.DEFAULT),
        (("NET_ADMIN",), (), caps.DEFAULT | {"CAP_NET_ADMIN"}),
        (("cap_net_admin",), ("CHOWN",), caps.DEFAULT - {"CAP_CHOWN"} | {"CAP_NET_ADMIN"}),
        ((), ("all",), frozenset()),
        (("CHOWN",), ("ALL",), frozenset({"CAP_CHOWN"})),
        (("ALL",), ("SYS_ADMIN",), caps.ALL - {"CAP_SYS_ADMIN"}),
    ],
)
def test_add_and_drop(add: tuple[str, ...], drop: tuple[str, ...], expected: frozenset[str]) -> None:
    """As docker's --cap-add and --cap-drop."""
    assert caps.capabilities(add, drop) == expected


def test_unknown_name() -> None:
    """An error, not silence."""
    with pytest.raises(UsageError, match="unknown capability 'NET_ADMINN'"):
        caps.capabilities(["NET_ADMINN"])
