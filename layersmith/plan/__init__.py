"""PLAN: stages, arguments and platform to a DAG of steps. In: a Buildfile, `PlanOptions`, `Bases`. Out: a `Plan`."""

from __future__ import annotations

from layersmith.plan.model import Bases, Plan, PlanHistory, PlanOptions, Step
from layersmith.plan.planner import plan, plan_platforms

__all__ = ["Bases", "Plan", "PlanHistory", "PlanOptions", "Step", "plan", "plan_platforms"]
