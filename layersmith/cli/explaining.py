"""``build --explain``: why each step runs, told as it goes. In: events. Out: the same, with notices among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layersmith.progress import Notice, StepExplained

if TYPE_CHECKING:
    from layersmith.progress import Event, Progress


class Explaining:
    """A Progress that turns explanations into notices, which every display shows."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def emit(self, event: Event) -> None:
        self._progress.emit(event)
        if isinstance(event, StepExplained):
            for cause in event.causes:
                self._progress.emit(Notice("info", f"#{event.step} runs: {cause}"))
