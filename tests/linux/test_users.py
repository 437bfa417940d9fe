"""`resolve_user` and `resolve_owner`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.errors import StepError
from layersmith.linux.users import Identity, resolve_owner, resolve_user

PASSWD = b"""\
# comment
root:x:0:0:root:/root:/bin/sh
broken line
daemon:x:1:7:daemon:/usr/sbin:/usr/sbin/nologin
twin:x:1:8::/twin:
short:x:5:6
"""
GROUP = b"root:x:0:\nadm:x:4:daemon\naudio:x:29:other,daemon\nempty:x:9\nvideo:x:44:twin\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (), "/root")),
        ("root", Identity(0, 0, (), "/root")),
        ("daemon", Identity(1, 7, (4, 29), "/usr/sbin")),
        ("1", Identity(1, 7, (4, 29), "/usr/sbin")),  # the first of two entries, as BuildKit takes it
        ("twin", Identity(1, 8, (44,), "/twin")),
        ("short", Identity(5, 6, (), "/")),
        ("daemon:adm", Identity(1, 4, (), "/usr/sbin")),
        ("daemon:", Identity(1, 7, (4, 29), "/usr/sbin")),
        ("1:33", Identity(1, 33, (), "/usr/sbin")),
        ("4242", Identity(4242, 0, (), "/")),
        ("4242:audio", Identity(4242, 29, (), "/")),
        (":audio", Identity(0, 29, (), "/root")),
    ],
)
def test_as_buildkit_resolves(user: str, expected: Identity) -> None:
    """Each case is what docker 26's BuildKit gives for USER and ``id``."""
    assert resolve_user(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("user", "passwd", "group", "says"),
    [
        ("ghost", PASSWD, GROUP, ("'ghost'", "/etc/passwd of the image")),
        ("ghost", None, None, ("'ghost'", "the image has no /etc/passwd")),
        ("root:ghosts", PASSWD, GROUP, ("'ghosts'", "/etc/group of the image")),
        ("1:ghosts", None, None, ("'ghosts'", "the image has no /etc/group")),
        ("99999999999", PASSWD, GROUP, ("'99999999999'",)),
        ("-1", PASSWD, GROUP, ("'-1'",)),
    ],
)
def test_unknown(user: str, passwd: bytes | None, group: bytes | None, says: tuple[str, ...]) -> None:
    """The message has the name and the file that was looked in; the hint says what to do."""
    with pytest.raises(StepError) as caught:
        resolve_user(user, passwd, group)
    assert all(part in caught.value.message for part in says)
    assert "numeric" in caught.value.hint


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("55", (55, 55)),
        ("55:66", (55, 66)),
        ("daemon", (1, 7)),
        ("daemon:", (1, 0)),
        ("daemon:adm", (1, 4)),
        ("1:", (1, 0)),
    ],
)
def test_owner(owner: str, expected: tuple[int, int]) -> None:
    """--chown: a lone number is both ids, a name brings its group, ``name:`` means group 0."""
    assert resolve_owner(owner, PASSWD, GROUP) == expected


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12), st.binary(max_size=60), st.binary(max_size=60))
def test_hostile_files(user: str, passwd: bytes, group: bytes) -> None:
    """Whatever an image's files hold, the answer is ids in range or a StepError."""
    try:
        found = resolve_user(user, passwd, group)
    except StepError:
        return
    assert all(0 <= number < 1 << 31 for number in (found.uid, found.gid, *found.groups))
