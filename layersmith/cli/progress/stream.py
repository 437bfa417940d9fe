"""Progress for programs: every event as a JSON object on a line of its own. In: events. Out: `events.schema.json`'s lines.

The schema lies beside this module; it is the stream's documentation, too. Members are added to events as time goes
on, and types of events: who reads the stream passes over what it does not know.
"""

from __future__ import annotations

import base64
import codecs
import json
import sys
import threading
import time
from typing import Any, TextIO

from layersmith.errors import LayersmithError
from layersmith.progress import (
    Event,
    ImageBuilt,
    LayerPacked,
    LayerUnpacked,
    Notice,
    Planned,
    StepExplained,
    StepFinished,
    StepOutput,
    StepStarted,
    Transfer,
)

TYPES = {
    Planned: "planned",
    StepStarted: "step.started",
    StepExplained: "step.explained",
    StepOutput: "step.output",
    StepFinished: "step.finished",
    LayerPacked: "layer.packed",
    LayerUnpacked: "layer.unpacked",
    Transfer: "transfer",
    ImageBuilt: "built",
    Notice: "notice",
}

STREAMS = {1: "stdout", 2: "stderr"}


class JsonProgress:
    """Writes events as they come; a step's output in the order in which it was written, none of it left out."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._decoders: dict[tuple[int, int], codecs.IncrementalDecoder] = {}

    def emit(self, event: Event) -> None:
        with self._lock:
            match event:
                case StepOutput(step, stream, data):
                    self._output(step, stream, data)
                case StepFinished(step, _, _, _):
                    for stream in STREAMS:
                        self._output(step, stream, b"", final=True)
                    self._write(TYPES[type(event)], _members(event))
                case _:
                    self._write(TYPES[type(event)], _members(event))
            self._stream.flush()

    def close(self, error: BaseException | None) -> None:
        """The stream's last line where the command failed: what the command line would print for a person."""
        if error is None:
            return
        with self._lock:
            if isinstance(error, LayersmithError):
                span = error.span
                self._write(
                    "failed",
                    {
                        "message": error.message,
                        "hint": error.hint,
                        "exit_code": error.exit_code,
                        "file": span.source.name if span else "",
                        "line": span.line if span else 0,
                    },
                )
                error.told = True
            self._stream.flush()

    def _output(self, step: int, stream: int, data: bytes, *, final: bool = False) -> None:
        """Text where it is UTF-8; a character may come in two pieces. What is not, as it is, in base64."""
        key = (step, stream)
        decoder = self._decoders.get(key)
        if decoder is None:
            decoder = self._decoders[key] = codecs.getincrementaldecoder("utf-8")()
        held = decoder.getstate()[0]
        try:
            text = decoder.decode(data, final)
            content = {"text": text} if text else {}
        except UnicodeDecodeError:
            decoder.reset()
            content = {"base64": base64.b64encode(held + data).decode("ascii")}
        if content:
            self._write("step.output", {"step": step, "stream": STREAMS[stream], **content})

    def _write(self, kind: str, members: dict[str, Any]) -> None:
        line = {"type": kind, "time": round(time.time(), 6), **members}
        self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")


def _members(value: Any) -> dict[str, Any]:
    """An event's fields; events within it, too."""
    fields = {name: getattr(value, name) for name in value.__match_args__}
    for name, field in fields.items():
        if isinstance(field, tuple):
            fields[name] = [_members(one) if hasattr(one, "__match_args__") else one for one in field]
    return fields
