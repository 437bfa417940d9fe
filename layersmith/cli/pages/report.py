"""The report of a build. In: its record, its Buildfile's lines, its image. Out: the page's text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from layersmith.anatomy.space import Space
from layersmith.cli.pages.html import Markup, element, join
from layersmith.cli.pages.page import cell, page, table
from layersmith.cli.pages.timeline import critical_path, drawn, duration, key
from layersmith.cli.table import short
from layersmith.cli.units import human_seconds, human_size
from layersmith.oci.timestamp import rfc3339
from layersmith.store.build_record import Build, BuildStep
from layersmith.store.causes import cause_text

MOST = 100
"""Of files in a table."""

Texts = Mapping[str, Sequence[tuple[int, str]]]
"""Numbered lines by the name of the file that they are in, the Buildfile's first."""


def report(build: Build, texts: Texts, found: Space | None, config: dict[str, Any] | None) -> str:
    """``texts`` is what is known of the Buildfile and its includes; ``found`` and ``config`` are None without an image."""
    anchors = _anchors(build, texts)
    sections = [
        ("timeline", "Timeline", join(key(), drawn(build))),
        ("critical", "Critical path", _critical(build)),
        ("steps", "Steps", _steps(build, anchors)),
    ]
    if found is not None:
        sections += [
            ("layers", "Layers", _layers(found)),
            ("largest", "Largest files", _largest(found)),
            ("waste", "Wasted bytes", _waste(found)),
        ]
    if config is not None:
        shown = json.dumps(config, indent=2, ensure_ascii=False)
        sections.append(
            ("config", "Config", element("div", element("pre", element("span", shown)), class_="scroll"))
        )
    sections.append(("buildfile", "Buildfile", _buildfile(build, texts, anchors)))
    name = ", ".join(build.names) or build.image or build.id
    body = join(
        element("h1", f"Build of {name}"),
        _facts(build, found),
        element(
            "nav",
            *(element("a", title, href=f"#{anchor}") for anchor, title, _ in sections),
            aria_label="sections",
        ),
        element(
            "main",
            *(
                element("section", element("h2", title), content, id=anchor)
                for anchor, title, content in sections
            ),
        ),
    )
    return page(f"{name}: layersmith report", body, scripts=("page.js",))


def _facts(build: Build, found: Space | None) -> Markup:
    outcomes = [step.outcome for step in build.steps]
    facts = [
        ("result", element("span", build.result, class_="hit" if build.result == "done" else "failed")),
        ("began", rfc3339(build.started)),
        ("took", human_seconds(duration(build))),
        ("ran", str(outcomes.count("ran"))),
        ("hit", str(outcomes.count("hit"))),
    ]
    if found is not None:
        packed = sum(layer.layer.descriptor.size for layer in found.layers)
        facts += [
            ("layers", f"{len(found.layers)}, {human_size(packed)}"),
            ("wasted", human_size(found.wasted)),
        ]
    items = [element("li", name, element("b", value)) for name, value in facts]
    known = [element("p", "Image ", element("code", build.image))] if build.image else []
    problem = [element("p", build.error, class_="failed")] if build.error else []
    return join(element("ul", *items, class_="facts"), *known, *problem)


def _critical(build: Build) -> Markup:
    path = critical_path(build)
    total = sum(_seconds(step) for step in path)
    items = [element("li", _step_link(step), f" {human_seconds(_seconds(step))}") for step in path]
    text = (
        f"{human_seconds(total)} of {human_seconds(duration(build))}: the steps that the last one waited for, each for the"
        " one before it. The rest of the time went into pulls, unpacking, packing and pushes."
    )
    return join(element("p", text, class_="soft"), element("ol", *items))


def _seconds(step: BuildStep) -> float:
    return 0.0 if step.started is None or step.finished is None else step.finished - step.started


def _step_link(step: BuildStep) -> Markup:
    return element("a", f"#{step.number} {step.name}", href=f"#step-{step.number}")


def _anchor(file: int, line: int) -> str:
    """Of a line of the Buildfile (``file`` 0), or of the file that comes so many behind it on the page."""
    return f"L{file}-{line}" if file else f"L{line}"


def _anchors(build: Build, texts: Texts) -> dict[int, str]:
    """Where the line of each step is on the page, by the step's number."""
    known = {
        (name, line): _anchor(number, line)
        for number, (name, lines) in enumerate(texts.items())
        for line, _ in lines
    }
    places = {step.number: known.get((step.file or build.buildfile, step.line)) for step in build.steps}
    return {number: anchor for number, anchor in places.items() if anchor}


def _steps(build: Build, anchors: Mapping[int, str]) -> Markup:
    rows = []
    for step in build.steps:
        size = None if step.layer is None else step.layer.descriptor.size
        packed = (
            0.0
            if step.pack_started is None or step.pack_finished is None
            else step.pack_finished - step.pack_started
        )
        place = (
            element("a", _line(build, step), href=f"#{anchors[step.number]}")
            if step.number in anchors
            else step.source
        )
        began = None if step.started is None else step.started - build.started
        number = element("span", str(step.number), id=f"step-{step.number}")
        rows.append(
            (
                cell(number, sort=step.number, class_="num"),
                cell(step.name, " ", place, class_="path"),
                cell(element("span", step.outcome, class_=step.outcome)),
                cell(*_why(step)),
                cell("" if began is None else human_seconds(began), sort=began, class_="num"),
                cell(human_seconds(_seconds(step)), sort=_seconds(step), class_="num"),
                cell(human_seconds(packed) if packed else "", sort=packed, class_="num"),
                cell("" if size is None else human_size(size), sort=size, class_="num"),
            )
        )
    headers = (
        ("#", "num"), ("Step", ""), ("Outcome", ""), ("Why", ""),
        ("Began", "num"), ("Took", "num"), ("Packing", "num"), ("Layer", "num"),
    )  # fmt: skip
    return table("steps-table", headers, rows, "A click on a header sorts.")


def _line(build: Build, step: BuildStep) -> str:
    return step.source if step.file not in (build.buildfile, "") else f"line {step.line}"


def _why(step: BuildStep) -> list[Markup]:
    texts = [cause_text(cause) for cause in step.why]
    if step.error:
        texts.append(step.error)
    return [element("div", text) for text in texts]


def _layers(found: Space) -> Markup:
    rows = [
        (
            cell(str(layer.number), sort=layer.number, class_="num"),
            cell(layer.history.created_by or layer.history.comment or "", class_="path"),
            cell(element("code", short(layer.layer.descriptor.digest))),
            cell(human_size(layer.layer.descriptor.size), sort=layer.layer.descriptor.size, class_="num"),
            cell(human_size(layer.size), sort=layer.size, class_="num"),
            cell(human_size(layer.wasted), sort=layer.wasted, class_="num"),
            *(cell(str(layer.count(change)), class_="num") for change in "ACD"),
        )
        for layer in found.layers
    ]
    headers = (
        ("#", "num"), ("Made by", ""), ("Digest", ""), ("Compressed", "num"), ("Files' bytes", "num"), ("Wasted", "num"),
        ("Added", "num"), ("Changed", "num"), ("Deleted", "num"),
    )  # fmt: skip
    return table("layers-table", headers, rows, "The lowest first.")


def _largest(found: Space) -> Markup:
    rows = [
        (
            cell(_path(file.path), class_="path"),
            cell(human_size(file.size), sort=file.size, class_="num"),
            cell(str(layer.number), class_="num"),
        )
        for layer, file in found.largest(MOST)
    ]
    return table("largest-table", (("Path", ""), ("Size", "num"), ("Layer", "num")), rows, f"At most {MOST}.")


def _waste(found: Space) -> Markup:
    rows = [
        (
            cell(_path(file.path), class_="path"),
            cell(human_size(file.size), sort=file.size, class_="num"),
            cell(str(layer.number), class_="num"),
            cell(str(file.gone), class_="num"),
        )
        for layer, file in found.waste(MOST)
    ]
    text = (
        f"{human_size(found.wasted)} of {human_size(found.size)} are carried along and never seen; "
        f"efficiency, as dive counts it: {found.efficiency:.1%}."
    )
    headers = (("Path", ""), ("Size", "num"), ("In layer", "num"), ("Gone in layer", "num"))
    return join(
        element("p", text),
        table("waste-table", headers, rows, "Files that a later layer overwrites or deletes."),
    )


def _path(path: bytes) -> str:
    return "/" + path.decode("utf-8", "surrogateescape")


def _buildfile(build: Build, texts: Texts, anchors: Mapping[int, str]) -> Markup:
    steps: dict[str, list[BuildStep]] = {}
    for step in build.steps:
        steps.setdefault(anchors.get(step.number, ""), []).append(step)
    parts = []
    for file, (name, lines) in enumerate(texts.items()):
        shown = []
        for number, text in lines:
            anchor = _anchor(file, number)
            links = [
                element("a", f"#{step.number}", href=f"#step-{step.number}") for step in steps.get(anchor, ())
            ]
            shown.append(element("span", f"{number:4}  ", text, "  " if links else "", *links, id=anchor))
        parts += [element("p", name, class_="soft"), element("div", element("pre", *shown), class_="scroll")]
    return join(*parts)
