from __future__ import annotations

from typing import Any

import pytest

from layersmith.buildfile.instructions import Run
from layersmith.buildfile.mounts import Bind, Cache, Mount, Secret, Ssh, Tmpfs, resolve
from layersmith.buildfile.parser import parse
from layersmith.buildfile.words import expand
from layersmith.errors import ExpansionError, PlanError

ENV = {"DIR": "/d", "TYPE": "cache", "ID": "7"}


def mount(value: str, workdir: str = "/w") -> Mount:
    (run,) = parse(f"RUN --mount={value} x").instructions
    assert isinstance(run, Run)
    return resolve(run.mounts[0], lambda text: expand(text, ENV), workdir)


RESOLVED: list[tuple[str, Any]] = [
    ("target=/x", Bind("/x")),
    ("target=x", Bind("/w/x")),
    ("dst=/x,src=/a/../b/", Bind("/x", source="/b")),
    ("type=bind,destination=/x,source=../../a,from=build,rw", Bind("/x", "/a", "build", readonly=False)),
    ("target=/x,from=", Bind("/x")),
    ("target=/x,readonly=false", Bind("/x", readonly=False)),
    ("target=/x,rw,ro", Bind("/x")),
    ("target=/x,from=$TYPE", Bind("/x", from_="cache")),
    ("type=cache,target=/x/", Cache("/x", "/x")),
    ("type=$TYPE,target=$DIR/x,id=c$ID", Cache("/d/x", "c7")),
    (
        "TYPE=Cache,target=/x,sharing=LOCKED,uid=1,gid=2,mode=1777,from=b,source=/s,ro",
        Cache("/x", "/x", "locked", "b", "/s", True, 1, 2, 0o1777),
    ),
    ("type=tmpfs,target=/x", Tmpfs("/x")),
    ("type=tmpfs,target=/x,size=1g", Tmpfs("/x", 1 << 30)),
    ("type=secret,id=a", Secret("a", "/run/secrets/a")),
    ("type=secret,id=dir/a", Secret("dir/a", "/run/secrets/a")),
    ("type=secret,source=a,target=b,required", Secret("a", "/w/b", required=True)),
    ("type=secret,target=/etc/pass,mode=0444,uid=$ID", Secret("pass", "/etc/pass", uid=7, mode=0o444)),
    ("type=secret,id=a,env=A", Secret("a", None, "A")),
    ("type=secret,id=a,env=A,target=/t", Secret("a", "/t", "A")),
    ("type=ssh", Ssh()),
    ("type=ssh,id=a,required=true,target=/s,mode=0666", Ssh("a", "/s", True, mode=0o666)),
]


@pytest.mark.parametrize(("value", "resolved"), RESOLVED, ids=[value for value, _ in RESOLVED])
def test_mounts(value: str, resolved: Mount) -> None:
    """Types, aliases and defaults are BuildKit's."""
    assert mount(value) == resolved


REFUSED = [
    ("type=tmp,target=/x", "unsupported mount type 'tmp'", "did you mean tmpfs?"),
    ("target=/", "invalid mount target '/'", "below it"),
    ("type=cache,target=..", "invalid mount target '/'", "below it"),
    ("type=tmpfs", "invalid mount target '/'", "below it"),
    ("target", "invalid field 'target'", ""),
    ("tagret=/x", "unexpected key 'tagret' in a mount of type bind", "did you mean target?"),
    ("target=/x,bind-propagation=suid", "unexpected key 'bind-propagation'", ""),
    ("target=/x,mode=0755", "unexpected key 'mode'", ""),
    ("target=/x,sharing=shared", "unexpected key 'sharing'", ""),
    ("type=cache,target=/x,size=1", "unexpected key 'size'", ""),
    ("type=cache,target=/x,required", "unexpected key 'required'", ""),
    ("type=cache,target=/x,sharing=lock", "unsupported mount sharing 'lock'", "did you mean locked?"),
    ("type=cache,target=/x,uid=root", "invalid value 'root' for uid", ""),
    ("type=cache,target=/x,uid=99999999999", "for uid", ""),
    ("type=cache,target=/x,mode=888", "invalid value '888' for mode", ""),
    ("type=tmpfs,target=/x,size=big", "invalid value for size", ""),
    ("target=/x,ro=maybe", "invalid value for ro", ""),
    ("type=secret", "invalid secret mount", "id=NAME"),
    ("type=secret,id=a,source=b", "both source and id", ""),
    ("type=secret,id=a,from=b", "unexpected key 'from'", ""),
]


@pytest.mark.parametrize(("value", "message", "hint"), REFUSED, ids=[value for value, _, _ in REFUSED])
def test_mounts_that_make_no_sense(value: str, message: str, hint: str) -> None:
    """Each says what is wrong with which key, and where."""
    with pytest.raises(PlanError) as caught:
        mount(value, "/")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert str(caught.value.span) == "Buildfile:1:5"


def test_a_variable_that_does_not_expand_is_its_own_error() -> None:
    """What the expansion raises goes through."""
    with pytest.raises(ExpansionError):
        mount("target=${x:?y}")
