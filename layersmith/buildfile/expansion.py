"""PARSE: one expansion of a word. In: its text, and an environment. Out: pieces, of which `words` makes words.

To the letter of BuildKit's frontend/dockerfile/shell/lex.go: ``$v ${v} ${v-w} ${v:-w} ${v+w} ${v:+w} ${v?m} ${v:?m}
${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}``, where ``w``, ``m``, ``p`` and ``r`` are expanded in turn. ``'…'`` is
literal; in ``"…"`` the escape character goes only before ``"``, ``$`` and itself; elsewhere it always goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache

from layersmith.buildfile.suggest import shown
from layersmith.errors import ExpansionError, RequiredVariableError

SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""What Go's unicode.IsSpace holds for space; Python's str.isspace has four control characters more."""

DEEPEST = 100
"""How deep ``${a:-${b:-…}}`` may nest, and
"""
LONGEST = 16 << 20
"""how many characters one expansion may give: ``ENV a=$a$a`` forty times over must not fill the memory."""

_SPECIAL_PARAMETERS = "@*#?-$!"


class Quotes(Enum):
    """What becomes of quotes, and of what stands in them."""

    REMOVE = "remove"
    KEEP = "keep"
    TEXT = "text"


Piece = tuple[str, bool]
"""Expanded text, and whether blanks in it separate words."""


@lru_cache
def _plain(special: str) -> re.Pattern[str]:
    return re.compile(f"[^{re.escape(special)}]+")


class Scanner:
    """One expansion: a cursor over ``text``."""

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        *,
        escape: str,
        unset: set[str] | None = None,
        quotes: Quotes = Quotes.REMOVE,
        keep_variables: bool = False,
        keep_escapes: bool = False,
    ) -> None:
        self.text = text
        self.position = 0
        self.env = env
        self.escape = escape
        self.unset = unset
        self.quotes = quotes
        self.keep_variables = keep_variables
        self.keep_escapes = keep_escapes
        self.depth = 0
        self.length = 0
        self.plain = _plain(
            "$" + ("" if quotes is Quotes.TEXT else "'\"") + ("<" if keep_variables else "") + escape
        )
        self.plain_in_quotes = _plain('$"' + escape)

    def expand(self) -> str:
        return "".join(text for text, _ in self.pieces())

    def pieces(self) -> list[Piece]:
        """The whole text, expanded."""
        return self._until("", keep_escapes=self.keep_escapes)

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _next(self) -> str:
        char = self._peek()
        self.position += 1
        return char

    def _until(self, stop: str, *, keep_escapes: bool) -> list[Piece]:
        """Expand up to ``stop`` (which is passed over), or to the end if ``stop`` is empty."""
        pieces: list[Piece] = []
        while char := self._peek():
            if char == stop:
                self.position += 1
                return pieces
            if char == "$":
                pieces.append((self._dollar(), True))
            elif char == "<" and self.keep_variables:
                pieces.append((self._less_than(), False))
            elif char == "'" and self.quotes is not Quotes.TEXT:
                pieces.append((self._single_quoted(), False))
            elif char == '"' and self.quotes is not Quotes.TEXT:
                pieces.append((self._double_quoted(keep_escapes=keep_escapes), False))
            elif char == self.escape:
                self.position += 1
                pieces.append(((char if keep_escapes else "") + self._next(), False))
            else:
                pieces.append((self._run(self.plain, stop), True))
        if stop:
            raise ExpansionError(
                f"{self._quoted()}: missing '{stop}' of a ${{…}} substitution",
                hint="write \\$ for a dollar sign that is only text",
            )
        return pieces

    def _run(self, plain: re.Pattern[str], stop: str) -> str:
        match = plain.match(self.text, self.position)
        assert match, "only called where a plain character stands"
        end = match.end()
        if stop:
            found = self.text.find(stop, self.position, end)
            end = end if found < 0 else found
        run = self.text[self.position : end]
        self.position = end
        return run

    def _word(self, stop: str, *, keep_escapes: bool) -> str:
        return "".join(text for text, _ in self._until(stop, keep_escapes=keep_escapes))

    def _less_than(self) -> str:
        """``<<`` keeps the blanks after it, for in ``<< EOF`` they do not separate words."""
        match = _HEREDOC_OPERATOR.match(self.text, self.position)
        if not match:
            self.position += 1
            return "<"
        self.position = match.end()
        return match[0] if self._peek() else match[0].rstrip(SPACE)

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            raise self._unbalanced("single")
        found = self.text[self.position + 1 : end]
        self.position = end + 1
        return f"'{found}'" if self.quotes is Quotes.KEEP else found

    def _double_quoted(self, *, keep_escapes: bool) -> str:
        keep = self.quotes is Quotes.KEEP
        parts = ['"' if keep else ""]
        self.position += 1
        while char := self._peek():
            if char == '"':
                self.position += 1
                return "".join(parts) + ('"' if keep else "")
            if char == "$":
                parts.append(self._dollar())
            elif char == self.escape:
                self.position += 1
                goes = self._peek() in ('"', "$", self.escape)
                parts.append((char if keep_escapes or not goes else "") + (self._next() if goes else ""))
            else:
                parts.append(self._run(self.plain_in_quotes, ""))
        raise self._unbalanced("double")

    def _dollar(self) -> str:
        start = self.position
        self.position += 1
        if self._peek() != "{":
            name = self._name()
            return self._limited(self._plain_value(name, start) if name else "$")
        self.position += 1
        if not self._peek():
            raise ExpansionError(f"{self._quoted()}: missing '}}' of a ${{…}} substitution")
        if self._peek() in "{}:":
            raise ExpansionError(
                f"{self._quoted()}: bad substitution", hint="a variable's name must follow ${"
            )
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpansionError(f"{self._quoted()}: substitutions nest deeper than {DEEPEST}")
        value = self._braced(self._name(), start)
        self.depth -= 1
        return self._limited(value)

    def _braced(self, name: str, start: int) -> str:
        """``${name…}`` from behind the name."""
        operator = self._next()
        if operator == "}":
            return self._plain_value(name, start)
        if operator == "/":
            return self._replaced(name, start)
        empty_is_unset = operator == ":"
        if empty_is_unset:
            operator = self._next()
        written = (":" if empty_is_unset else "") + operator
        if operator in ("#", "%") and not empty_is_unset:
            pattern = self._word("}", keep_escapes=True)
            return self._trimmed(name, operator, pattern, start)
        if operator not in ("-", "+", "?") or not operator:
            raise ExpansionError(
                f"{self._quoted()}: unsupported modifier ({written}) in substitution"
                if operator
                else f"{self._quoted()}: missing '}}' of a ${{…}} substitution",
                hint="known are ${v-w} ${v:-w} ${v+w} ${v:+w} ${v?m} ${v:?m} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}",
            )
        word = self._word("}", keep_escapes=False)
        if self.keep_variables:
            return self.text[start : self.position]
        value = self.env.get(name)
        missing = value is None or (empty_is_unset and not value)
        if operator == "?":
            if missing:
                reason = "unset" if value is None else "empty"
                raise RequiredVariableError(f"{name}: {word or f'is not allowed to be {reason}'}")
            return value or ""
        if operator == "+":
            return "" if missing else word
        return word if missing else value or ""

    def _trimmed(self, name: str, operator: str, pattern: str, start: int) -> str:
        if self.keep_variables:
            return self.text[start : self.position]
        from layersmith.buildfile import patterns

        value = self._lookup(name)
        longest = pattern.startswith(operator)
        remove = patterns.remove_prefix if operator == "#" else patterns.remove_suffix
        return remove(value, pattern[1:] if longest else pattern, longest=longest)

    def _replaced(self, name: str, start: int) -> str:
        every = self._peek() == "/"
        if every:
            self.position += 1
        pattern = self._word("/", keep_escapes=True)
        replacement = self._word("}", keep_escapes=True)
        if self.keep_variables:
            return self.text[start : self.position]
        from layersmith.buildfile import patterns

        return patterns.replace(self._lookup(name), pattern, replacement, every=every, limit=LONGEST)

    def _plain_value(self, name: str, start: int) -> str:
        return self.text[start : self.position] if self.keep_variables else self._lookup(name)

    def _lookup(self, name: str) -> str:
        value = self.env.get(name)
        if value is None and self.unset is not None:
            self.unset.add(name)
        return value or ""

    def _name(self) -> str:
        """Letters, digits and underscores; or digits alone; or one special parameter; or nothing."""
        start = self.position
        first = self._peek()
        if first and first in _SPECIAL_PARAMETERS:
            self.position += 1
        elif first.isdecimal():
            while self._peek().isdecimal():
                self.position += 1
        else:
            while (char := self._peek()) and (char.isalpha() or char.isdecimal() or char == "_"):
                self.position += 1
        return self.text[start : self.position]

    def _limited(self, value: str) -> str:
        self.length += len(value)
        if self.length > LONGEST:
            raise ExpansionError(f"the expansion of {self._quoted()} is longer than {LONGEST} characters")
        return value

    def _unbalanced(self, kind: str) -> ExpansionError:
        return ExpansionError(
            f"{self._quoted()}: missing the closing {kind} quote",
            hint=f"write {self.escape} before a quote that is only text",
        )

    def _quoted(self) -> str:
        return shown(self.text)


_HEREDOC_OPERATOR = re.compile(f"<<-?[{SPACE}]*")
