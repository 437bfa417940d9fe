"""A whole page. In: a title, what is on it, the script's name. Out: the file's text."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from layersmith.cli.pages.html import Markup, element, join


def page(title: str, body: Markup, *, scripts: tuple[str, ...], data: dict[str, Any] | None = None) -> str:
    """A page of ``body`` with the style and ``scripts`` of this package, and ``data`` for them.

    Its policy lets the browser run these scripts and nothing else, and fetch nothing at all.
    """
    style = _asset("style.css")
    script = "\n".join(_asset(name) for name in scripts)
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    island = Markup("") if data is None else _island(data)
    whole = element(
        "html",
        element("head", head),
        element("body", body, island, element("script", Markup(script))),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{whole}\n"


def _island(data: dict[str, Any]) -> Markup:
    """JSON that no text in it can end: ``<`` is written as an escape."""
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return element("script", Markup(text), type="application/json", id="data")


def _asset(name: str) -> str:
    return files("layersmith.cli.pages").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def table(
    name: str, headers: tuple[tuple[str, str], ...], rows: Sequence[tuple[Markup, ...]], caption: str
) -> Markup:
    """A table that sorts by a click on a header; of headers (text, class), those of class ``num`` sort as numbers."""
    head = element(
        "tr",
        *(
            element(
                "th",
                element("button", text, type="button"),
                class_=kind or None,
                scope="col",
                aria_sort="none",
            )
            for text, kind in headers
        ),
    )
    body = element("tbody", *(element("tr", *row) for row in rows))
    return element(
        "table", element("caption", caption), element("thead", head), body, id=name, class_="sortable"
    )


def cell(*children: str | None, sort: float | str | None = None, class_: str | None = None) -> Markup:
    """A table's cell; ``sort`` is what it sorts by, if that is not its text."""
    return element("td", *children, data_sort=sort, class_=class_)
