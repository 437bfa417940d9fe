"""``layersmith build --dry-run`` and ``--print-graph``: what a build would do. Nothing is run, and no store is changed.

An image that the store lacks is asked for at its registry, manifest and config only, in a store that is thrown away;
so are the documents of ``--cache-from``, whose layers count as there.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layersmith.plan import Plan
    from layersmith.solve.forecast import Forecast
    from layersmith.store import Store


def preview(args: Namespace) -> int:
    """Print the plan, or its graph."""
    from layersmith.build import planned_for, trees_of
    from layersmith.cli.build import bases_of
    from layersmith.cli.caches import caches_of
    from layersmith.cli.progress.plain import QuietProgress
    from layersmith.cli.request import build_request
    from layersmith.progress import NullProgress
    from layersmith.solve import Solver
    from layersmith.solve.forecast import forecast

    with _stores(args) as (store, thrown_away):
        request, named = build_request(args, thrown_away)
        silent = NullProgress()
        _, plans = planned_for(request, bases_of(args, store, named, silent, preview=thrown_away))
        solver = Solver(
            store,
            plans[0],
            trees_of(request),
            isolate=_never,
            settings=request.settings,
            progress=silent,
            fetch=_never,
        )
        with caches_of(args).known(store, QuietProgress(), scratch=thrown_away):
            forecasts = forecast(solver)
    if args.print_graph:
        sys.stdout.write(_drawn(args.print_graph, plans, forecasts))
    else:
        _print_plan(args, plans, forecasts)
    return 0


@contextmanager
def _stores(args: Namespace) -> Iterator[tuple[Store, Store]]:
    """The store to look into, which is not made where there is none, and one to throw away."""
    from layersmith.store import Store, default_root

    root = default_root() if args.root is None else Path(args.root)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="layersmith-")))
        thrown_away = stack.enter_context(Store.open(directory / "store"))
        if (root / "oci-layout").exists() or (root.exists() and any(root.iterdir())):
            yield stack.enter_context(Store.open(root, create=False)), thrown_away
        else:
            yield thrown_away, thrown_away


def _never(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a preview runs and downloads nothing")


def _drawn(form: str, plans: Sequence[Plan], forecasts: Sequence[Forecast]) -> str:
    from layersmith.plan import graph

    drawn = graph.graph(plans, [each.state for each in forecasts])
    match form:
        case "dot":
            return graph.to_dot(drawn)
        case "mermaid":
            return graph.to_mermaid(drawn)
        case "json":
            return graph.to_json(drawn)
    from layersmith.plan.draw import to_svg

    return to_svg(drawn)


def _print_plan(args: Namespace, plans: Sequence[Plan], forecasts: Sequence[Forecast]) -> None:
    from layersmith import ops
    from layersmith.cli.table import size, terminal_safe
    from layersmith.solve.forecast import CACHED, OPEN, PULLED, RUNS

    steps = plans[0].steps
    for number, (step, each) in enumerate(zip(steps, forecasts, strict=True)):
        note = ""
        if each.state == PULLED:
            assert isinstance(step.op, ops.SourceOp)
            bytes_ = sum(layer.descriptor.size for layer in each.missing)
            note = f"  {size(bytes_)} in {len(each.missing)} of {len(step.op.diff_ids)} layers"
        elif each.state == OPEN:
            waits = [f"#{need}" for need in step.needs if forecasts[need].state in (RUNS, OPEN)]
            note = (
                f"  cached if {' and '.join(waits)} make{'s' * (len(waits) == 1)} what is known"
                if waits
                else ""
            )
        print(terminal_safe(f"#{number:<3} {each.state:<7} {' '.join(step.name.split())}{note}"))
    for warning in dict.fromkeys(warning for planned in plans for warning in planned.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    counts = {state: sum(each.state == state for each in forecasts) for state in (CACHED, RUNS, OPEN)}
    missing = {layer.descriptor.digest: layer.descriptor.size for each in forecasts for layer in each.missing}
    print(
        f"{len(steps)} steps: {counts[CACHED]} cached, {counts[RUNS]} to run, {counts[OPEN]} open; "
        f"{size(sum(missing.values()))} to pull; nothing was done"
    )
    if args.tag:
        print(f"would be named {', '.join(args.tag)}")
