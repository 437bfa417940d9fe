"""PLAN: the steps that planning collects. In: steps, one after the other. Out: each once, numbered and named."""

from __future__ import annotations

from collections import Counter

from layersmith.dataclass import replace
from layersmith.image import Image
from layersmith.plan.model import Step


class Steps:
    """The steps of one or more plans, each once."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.images: dict[int, Image] = {}
        self._ids: dict[Step, int] = {}

    def add(self, step: Step) -> int:
        """The index of ``step``; the same op on the same parent is the same step."""
        known = self._ids.get(step)
        if known is None:
            known = self._ids[step] = len(self.steps)
            self.steps.append(step)
        return known

    def with_display_names(self, *, several: bool) -> tuple[Step, ...]:
        """The steps, their names led by ``[stage n/total]`` as BuildKit does it; by the platform if there are ``several``."""

        def label(step: Step) -> str:
            return f"{step.platform or ''} {step.stage}".strip() if several else step.stage

        total = Counter(label(step) for step in self.steps if step.created_by)
        seen: Counter[str] = Counter()
        named = []
        for step in self.steps:
            if step.created_by:
                seen[label(step)] += 1
                where = f"{label(step)} {seen[label(step)]}/{total[label(step)]}".strip()
                step = replace(step, name=f"[{where}] {step.name}")
            named.append(step)
        return tuple(named)
