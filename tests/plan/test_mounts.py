from __future__ import annotations

from typing import Any

import pytest

from layersmith.buildfile.instructions import Run
from layersmith.buildfile.parser import parse
from layersmith.buildfile.words import expand
from layersmith.errors import ExpansionError, PlanError
from layersmith.ops import (
    BindMount,
    CacheMount,
    ContextInput,
    Input,
    Mount,
    SecretMount,
    SshMount,
    StepInput,
    TmpfsMount,
)
from layersmith.plan.mounts import resolve

ENV = {"DIR": "/d", "TYPE": "cache", "ID": "7"}


CONTEXT = ContextInput()
STAGES: dict[str | None, Input] = {
    None: CONTEXT,
    "build": StepInput(1),
    "cache": StepInput(2),
    "b": StepInput(3),
}


def mounts(text: str, workdir: str = "/w", namespace: str = "") -> tuple[Mount, ...]:
    """Those of ``RUN text``, with three stages to take files from."""
    (run,) = parse(f"RUN {text}").instructions
    assert isinstance(run, Run)
    return resolve(
        run.mounts,
        lambda word: expand(word, ENV),
        STAGES.__getitem__,
        workdir=workdir,
        namespace=namespace,
    )


def mount(value: str, workdir: str = "/w") -> Mount:
    (found,) = mounts(f"--mount={value} x", workdir)
    return found


RESOLVED: list[tuple[str, Any]] = [
    ("target=/x", BindMount("/x", CONTEXT)),
    ("target=x", BindMount("/w/x", CONTEXT)),
    ("dst=/x,src=/a/../b/", BindMount("/x", CONTEXT, "/b")),
    (
        "type=bind,destination=/x,source=../../a,from=build,rw",
        BindMount("/x", STAGES["build"], "/a", readonly=False),
    ),
    ("target=/x,from=", BindMount("/x", CONTEXT)),
    ("target=/x,readonly=false", BindMount("/x", CONTEXT, readonly=False)),
    ("target=/x,rw,ro", BindMount("/x", CONTEXT)),
    ("target=/x,from=$TYPE", BindMount("/x", STAGES["cache"])),
    ("type=cache,target=/x/", CacheMount("/x", "/x")),
    ("type=$TYPE,target=$DIR/x,id=c$ID", CacheMount("/d/x", "c7")),
    (
        "TYPE=Cache,target=/x,sharing=LOCKED,uid=1,gid=2,mode=1777,from=b,source=/s,ro",
        CacheMount("/x", "/x", "locked", STAGES["b"], "/s", True, 1, 2, 0o1777),
    ),
    ("type=tmpfs,target=/x", TmpfsMount("/x")),
    ("type=tmpfs,target=/x,size=1g", TmpfsMount("/x", 1 << 30)),
    ("type=secret,id=a", SecretMount("a", "/run/secrets/a")),
    ("type=secret,id=dir/a", SecretMount("dir/a", "/run/secrets/a")),
    ("type=secret,source=a,target=b,required", SecretMount("a", "/w/b", required=True)),
    ("type=secret,target=/etc/pass,mode=0444,uid=$ID", SecretMount("pass", "/etc/pass", uid=7, mode=0o444)),
    ("type=secret,id=a,env=A", SecretMount("a", None, "A")),
    ("type=secret,id=a,env=A,target=/t", SecretMount("a", "/t", "A")),
    ("type=ssh", SshMount("default", "/run/buildkit/ssh_agent.0")),
    ("type=ssh,id=a,required=true,target=/s,mode=0666", SshMount("a", "/s", True, mode=0o666)),
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


def test_agents_sockets_are_counted_among_themselves() -> None:
    """Whatever mounts stand between them, as in BuildKit; one with a target counts."""
    found = mounts(
        "--mount=type=cache,target=/c --mount=type=ssh --mount=type=ssh,target=/s --mount=type=ssh,id=b x"
    )
    assert [each.target for each in found] == [
        "/c",
        "/run/buildkit/ssh_agent.0",
        "/s",
        "/run/buildkit/ssh_agent.2",
    ]


def test_a_namespace_keeps_cache_mounts_apart() -> None:
    """BUILDKIT_CACHE_MOUNT_NS."""
    assert mounts("--mount=type=cache,target=/c x", namespace="ci") == (CacheMount("/c", "ci//c"),)
