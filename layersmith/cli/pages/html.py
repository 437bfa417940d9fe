"""Elements of HTML and SVG. In: tags, attributes, text. Out: `Markup`, in which every text is escaped.

Names of files and what a Buildfile says are chosen by others: there is no way to put a plain str into a page but as text.
"""

from __future__ import annotations

from html import escape

from layersmith.cli.table import printable

VOID = frozenset(["meta", "br", "hr", "input", "rect", "line"])
"""Elements that hold nothing."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | int | None
Attribute = str | int | float | bool | None


def element(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """``<tag attributes>children</tag>``.

    A trailing ``_`` of an attribute's name goes, other ones are hyphens: ``class_``, ``data_step``. None and False leave
    it out, True gives it no value. Children that are not `Markup` are escaped.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in VOID:
        return (
            Markup(f"<{tag}{written}>")
            if tag in ("meta", "br", "hr", "input")
            else Markup(f"<{tag}{written}/>")
        )
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("".join(_text(child) for child in children))


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    return escape(_visible(str(child)))


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {name}="{escape(_visible(shown))}"'


def _visible(text: str) -> str:
    """With what can't be seen, or turns the writing direction, written as escapes; lines stay."""
    return text if text.isascii() and text.isprintable() else "\n".join(map(printable, text.split("\n")))
