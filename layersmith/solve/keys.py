"""SOLVE: cache keys. In: an op, what it stands on, what it reads. Out: a digest, and what went into it.

Content decides: a step stands on the ChainID of the files below it, not on how they came about, so a parent that
ran again and made the same files changes nothing here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from layersmith import ops
from layersmith.dataclass import dataclass

FORMAT = "layersmith.key.v2"


@dataclass(frozen=True, slots=True)
class KeyParts:
    """What a key is made of; `explain` compares the parts of two keys.

    ``parent`` is a ChainID, or for ``--link`` the facts taken from the destination, where these decide. ``inputs`` are (what, digest)
    pairs, one for each input that the op reads. ``epoch`` is SOURCE_DATE_EPOCH, which is in every layer's bytes.
    """

    op: ops.Op
    parent: str
    inputs: tuple[tuple[str, str], ...] = ()
    epoch: int | None = None

    def key(self) -> str:
        """``sha256:…`` over all parts."""
        return key_of(ops.digest(self.op), self.parent, self.inputs, self.epoch)

    def describe(self) -> dict[str, object]:
        """The parts as JSON: what a record keeps."""
        return {
            "op": ops.digest(self.op),
            "identity": ops.to_json(self.op, identity=True),
            "parent": self.parent,
            "inputs": dict(self.inputs),
            "epoch": self.epoch,
        }


def key_of(op: str, parent: str, inputs: Iterable[tuple[str, str]], epoch: int | None) -> str:
    """The key of parts as `KeyParts.describe` has them, ``op`` being the op's digest; the order of inputs is theirs."""
    return _digest(FORMAT, op, parent, sorted(list(pair) for pair in inputs), epoch)


def recipe(op: ops.Op, parent: str, inputs: tuple[str, ...], epoch: int | None) -> str:
    """The name of the work itself, known before any of it is done: what concurrent builds lock."""
    return _digest("layersmith.recipe.v1", ops.digest(op), parent, list(inputs), epoch)


def _digest(*parts: object) -> str:
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
