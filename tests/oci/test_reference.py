"""References: Docker Hub's naming rules, and that every name survives being written and read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.errors import UsageError
from layersmith.oci.reference import Reference, parse_reference

SHA = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("a/b:t", "docker.io/a/b:t", "a/b:t"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("ghcr.io/o/r", "ghcr.io/o/r:latest", "ghcr.io/o/r:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("HOST/x", "HOST/x:latest", "HOST/x:latest"),
        (f"alpine@{SHA}", f"docker.io/library/alpine@{SHA}", f"alpine@{SHA}"),
        (f"alpine:3@{SHA}", f"docker.io/library/alpine:3@{SHA}", f"alpine:3@{SHA}"),
        ("a__b/c-d.e---f", "docker.io/a__b/c-d.e---f:latest", "a__b/c-d.e---f:latest"),
    ],
)
def test_names_are_completed_as_docker_does(text: str, full: str, familiar: str) -> None:
    """Domain, library/ and tag are added, and taken off again in the familiar form."""
    reference = parse_reference(text)
    assert (str(reference), reference.familiar()) == (full, familiar)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        "a:b:c",
        "/a",
        "a/",
        "a//b",
        "a/B",
        "A",
        "-a",
        "a:-b",
        "a:" + "x" * 129,
        "a" * 256,
        "a..b",
        "a/../b",
        "a@b",
        f"a@{SHA}0",
        SHA.removeprefix("sha256:"),
        "a b",
        "a\n",
        "http://a/b",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """Names outside distribution's grammar are UsageErrors."""
    with pytest.raises(UsageError):
        parse_reference(text)


COMPONENT = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
DOMAIN = st.from_regex(r"([a-z0-9]{1,6}\.[a-z]{2,4}|localhost)(:[0-9]{1,4})?", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(DOMAIN, st.lists(COMPONENT, min_size=1, max_size=4), st.none() | TAG, st.booleans())
@settings(max_examples=100)
def test_round_trip(domain: str, path: list[str], tag: str | None, digested: bool) -> None:
    """Both written forms of a reference read back as the same reference."""
    text = f"{domain}/{'/'.join(path)}" + (f":{tag}" if tag else "") + (f"@{SHA}" if digested else "")
    reference = parse_reference(text)
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar()) == reference
    assert reference.tag == (tag or (None if digested else "latest"))


@given(st.text(max_size=40))
@settings(max_examples=100)
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    """No input ends in another exception, and what is accepted reads back."""
    try:
        reference: Reference = parse_reference(text)
    except UsageError:
        return
    assert parse_reference(str(reference)) == reference
