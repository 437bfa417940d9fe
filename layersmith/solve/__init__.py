"""SOLVE: each step as soon as what it needs is there. In: a `Plan`, trees, a store. Out: the layers of its image."""

from __future__ import annotations

from layersmith.solve.solver import Isolate, Settings, Solved, Solver

__all__ = ["Isolate", "Settings", "Solved", "Solver"]
