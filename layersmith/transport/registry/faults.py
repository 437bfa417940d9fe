"""What can go wrong with an answer of `FakeRegistry`. In: the right `Answer`. Out: the one that is sent."""

from __future__ import annotations

from collections.abc import Mapping

from layersmith.dataclass import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be sent. ``cut``: close the connection after so many body bytes; ``drip``: seconds between pieces."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    drip: float = 0.0


class Fault:
    """Spoils an answer. ``swallow`` is how many bytes of the request's body are read before the connection is closed."""

    swallow: int | None = None

    def spoil(self, answer: Answer) -> Answer:
        """The answer that is sent instead."""
        return answer


@dataclass(frozen=True)
class Status(Fault):
    """Answer with ``status``, and ``headers`` such as Retry-After."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def spoil(self, answer: Answer) -> Answer:
        return Answer(self.status, self.headers, self.body)


@dataclass(frozen=True)
class Cut(Fault):
    """Close the connection after ``after`` bytes of the body."""

    after: int

    def spoil(self, answer: Answer) -> Answer:
        return replace(answer, cut=self.after)


@dataclass(frozen=True)
class CutRequest(Fault):
    """Close the connection, unanswered, after ``swallow`` bytes of the request's body; an upload keeps what came."""

    swallow: int = 0


@dataclass(frozen=True)
class Truncate(Fault):
    """A body of ``to`` bytes with a Content-Length that agrees."""

    to: int

    def spoil(self, answer: Answer) -> Answer:
        return replace(answer, body=answer.body[: self.to])


@dataclass(frozen=True)
class Garble(Fault):
    """One bit of the body is wrong."""

    at: int = 0

    def spoil(self, answer: Answer) -> Answer:
        body = bytearray(answer.body)
        if body:
            body[self.at % len(body)] ^= 1
        return replace(answer, body=bytes(body))


@dataclass(frozen=True)
class Append(Fault):
    """More bytes than there are."""

    extra: bytes

    def spoil(self, answer: Answer) -> Answer:
        return replace(answer, body=answer.body + self.extra)


@dataclass(frozen=True)
class Header(Fault):
    """One header is wrong."""

    name: str
    value: str

    def spoil(self, answer: Answer) -> Answer:
        return replace(answer, headers={**answer.headers, self.name: self.value})


@dataclass(frozen=True)
class Drip(Fault):
    """The body comes in ten pieces, ``pause`` seconds apart."""

    pause: float

    def spoil(self, answer: Answer) -> Answer:
        return replace(answer, drip=self.pause)
