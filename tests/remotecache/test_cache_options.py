"""The text of ``--cache-to`` and ``--cache-from``: docker's words, and an error for every other."""

from __future__ import annotations

import pytest

from layersmith.errors import UsageError
from layersmith.remotecache.options import CacheOption, parse_cache_from, parse_cache_to


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("me/app:cache", CacheOption("registry", {"ref": "me/app:cache"})),
        ("type=registry,ref=me/app,mode=max", CacheOption("registry", {"ref": "me/app"}, max=True)),
        ("type=local,dest=out,ignore-error=true", CacheOption("local", {"dest": "out"}, ignore_error=True)),
        ("type=inline", CacheOption("inline")),
        (
            "type=s3,bucket=b,prefix=p/,name=n",
            CacheOption("s3", {"bucket": "b", "prefix": "p/", "name": "n"}),
        ),
        (
            "type=registry,ref=a,oci-mediatypes=true,image-manifest=true",
            CacheOption("registry", {"ref": "a"}),
        ),
    ],
)
def test_where_a_cache_goes(text: str, option: CacheOption) -> None:
    """The attributes of buildx; a name alone is one at a registry."""
    assert parse_cache_to(text) == option


def test_where_a_cache_comes_from() -> None:
    """src instead of dest; several in one place are told apart by tag or name."""
    assert parse_cache_from("type=local,src=in,tag=main").tag == "main"
    assert parse_cache_from("type=fsspec,url=memory://c,name=pr-1").tag == "pr-1"
    assert parse_cache_from("me/app").tag == "latest"


@pytest.mark.parametrize(
    "text",
    [
        "type=gha",
        "type=registry",
        "type=local",
        "type=local,src=in",
        "type=registry,ref=a,mode=most",
        "type=registry,ref=a,ignore-error=perhaps",
        "type=registry,ref=a,image-manifest=false",
        "type=registry,ref=a,compression=gzip",
        "type=s3,prefix=p",
        "type=local,dest",
        "",
    ],
)
def test_what_makes_no_sense(text: str) -> None:
    """A usage error that says what is known."""
    with pytest.raises(UsageError):
        parse_cache_to(text)


@pytest.mark.parametrize("text", ["type=inline", "type=local,dest=out", "type=local,src=in,mode=max"])
def test_what_is_for_the_other_direction(text: str) -> None:
    """An inline cache is named by its image; dest and mode are for writing."""
    with pytest.raises(UsageError):
        parse_cache_from(text)
