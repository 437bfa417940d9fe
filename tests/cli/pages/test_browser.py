"""The pages in a real browser: what they show, keys, sorting, contrast; and that nobody's text becomes code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pages import HOSTILE, made_build, made_space

from layersmith.cli.pages.report import report
from layersmith.cli.pages.timeline import LEAST, LEFT, WIDTH, bars
from layersmith.cli.pages.trees import trees

Show = Callable[..., Any]

CONTRAST = """
const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parsed = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 && n[3] === 0 ? null : n; };
const ground = (e) => { for (; e; e = e.parentElement) { const c = parsed(getComputedStyle(e).backgroundColor); if (c) return c; }
  return [255, 255, 255]; };
const found = [];
for (const e of document.body.querySelectorAll("*")) {
  const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!text || ["SCRIPT", "STYLE", "title"].includes(e.tagName) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const color = parsed(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
  const [a, b] = [luminance(color), luminance(ground(e))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName + "." + e.getAttribute("class")]);
}
return found;
"""


def report_page() -> str:
    lines = [(1, "FROM base"), (2, "RUN step 1"), (3, HOSTILE)]
    build = made_build()
    return report(build, {build.buildfile: lines}, made_space(), {"config": {"Env": [HOSTILE]}})


def trees_page() -> str:
    return trees(HOSTILE, "sha256:1", made_space())


@pytest.mark.parametrize("make", [report_page, trees_page])
def test_nobodys_text_becomes_code(make: Callable[[], str], show: Show) -> None:
    """Names, commands and errors that look like HTML are shown as they are; the page asks for nothing."""
    page = show(make())
    assert page.title != "owned"
    assert page.execute_script("return document.images.length") == 0
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert "<img src=x onerror" in page.execute_script("return document.body.innerText")
    assert "\u202e" not in make()


@pytest.mark.parametrize("make", [report_page, trees_page])
def test_the_policy_refuses_any_other_script(make: Callable[[], str], show: Show) -> None:
    """Even one that got onto the page would not run."""
    page = show(make())
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
    )
    assert page.execute_script("return window.ran") is None
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))


def test_bars_are_where_the_record_says(show: Show) -> None:
    """Position and width in proportion to seconds; one lane for each worker."""
    page = show(report_page())
    found = page.execute_script(
        "return [...document.querySelectorAll('#timeline rect')].map(r => { const b = r.getBBox();"
        " return [Number(r.dataset.step), r.classList[0], b.x, b.width, b.y]; })"
    )
    expected = {
        (2, "ran"): (0.5, 4.0),
        (2, "packed"): (4.0, 5.5),
        (3, "ran"): (0.5, 2.5),
        (4, "ran"): (4.0, 9.0),
    }
    expected |= {(1, "hit"): (0.1, 0.1), (5, "failed"): (9.0, 10.0)}
    pushed = [(x, width, y) for _, kind, x, width, y in found if kind == "pushed"]
    found = [bar for bar in found if bar[1] != "pushed"]
    scale = (WIDTH - LEFT - 10) / 10
    drawn = {(step, kind): (x, width) for step, kind, x, width, _ in found}
    assert drawn.keys() == expected.keys()
    for name, (start, end) in expected.items():
        assert drawn[name] == pytest.approx(
            (LEFT + start * scale, max(LEAST, (end - start) * scale)), abs=0.1
        )
    lanes = {(step, kind): y for step, kind, _, _, y in found}
    assert lanes[2, "ran"] == lanes[4, "ran"] == lanes[5, "failed"] != lanes[3, "ran"]
    assert len(bars(made_build())) == 8
    assert [bar[:2] for bar in pushed] == [
        pytest.approx((LEFT + 8.0 * scale, 1.5 * scale), abs=0.1),
        pytest.approx((LEFT + 9.0 * scale, 1.0 * scale), abs=0.1),
    ]
    assert pushed[0][2] != pushed[1][2]


def test_the_critical_path_is_what_the_end_waited_for(show: Show) -> None:
    """Step 3 had ended long before step 4 began."""
    page = show(report_page())
    links = page.execute_script("return [...document.querySelectorAll('#critical a')].map(a => a.hash)")
    assert links == ["#step-1", "#step-2", "#step-4", "#step-5"]


def test_tables_sort(show: Show) -> None:
    """Numbers as numbers, the largest first; then the other way round; the header says so."""
    page = show(report_page())

    def click(column: int) -> tuple[list[str], str]:
        page.execute_script(f"document.querySelectorAll('#steps-table th button')[{column}].click()")
        rows = page.execute_script(
            "return [...document.querySelectorAll('#steps-table tbody tr')].map(r => r.cells[0].textContent)"
        )
        sort = page.execute_script(
            f"return document.querySelectorAll('#steps-table th')[{column}].getAttribute('aria-sort')"
        )
        return rows, sort

    assert click(5) == (["4", "2", "3", "5", "0", "1"], "descending")
    assert click(5)[1] == "ascending"
    assert click(2)[0] == ["0", "5", "1", "3", "2", "4"]  # equal ones stay as they were
    assert click(7)[0][:3] == ["2", "1", "3"]


def test_steps_and_lines_are_linked(show: Show) -> None:
    """Both ways, and from the timeline."""
    page = show(report_page())
    hrefs = page.execute_script("return [...document.querySelectorAll('a')].map(a => a.hash)")
    assert {"#L1", "#L2", "#L3", "#step-1", "#step-2"} <= set(hrefs)
    missing = page.execute_script(
        "return [...document.querySelectorAll('a')].map(a => a.getAttribute('href')).filter(h => !document.querySelector(h))"
    )
    assert missing == []


def test_the_timeline_by_keys(show: Show) -> None:
    """Arrows go along the bars, Enter to the step."""
    from selenium.webdriver.common.keys import Keys

    page = show(report_page())
    page.execute_script("document.querySelector('svg a').focus()")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    here = page.execute_script("return document.activeElement.querySelector('rect').dataset.step")
    assert here == "3"
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.execute_script("return location.hash") == "#step-3"


def test_the_tree_by_keys(show: Show) -> None:
    """Right opens and goes in, left goes out and closes; the slash searches."""
    from selenium.webdriver.common.keys import Keys

    page = show(trees_page())
    page.execute_script("document.querySelectorAll('button.layer')[1].click()")
    page.execute_script("document.querySelector('[role=treeitem]').focus()")

    def here() -> str:
        return str(page.execute_script("return document.activeElement.dataset.path"))

    def press(key: str) -> None:
        page.switch_to.active_element.send_keys(key)

    assert here() == "opt"
    press(Keys.ARROW_RIGHT)
    assert page.execute_script("return document.activeElement.getAttribute('aria-expanded')") == "true"
    press(Keys.ARROW_RIGHT)
    assert here() == "opt/big"
    press(Keys.ARROW_DOWN)
    assert here() == "opt/\\xff\\xfe"
    press(Keys.ARROW_LEFT)
    assert here() == "opt"
    press(Keys.ARROW_LEFT)
    assert page.execute_script("return document.activeElement.getAttribute('aria-expanded')") == "false"
    press("/")
    press("big")
    assert (
        page.execute_script("return document.getElementById('count').textContent")
        == "1 paths, 5.0kB, wasted 5.0kB"
    )


def test_the_image_is_shown_as_it_is_seen(show: Show) -> None:
    """Without what is gone, unless it is asked for."""
    page = show(trees_page())
    count = "return document.getElementById('count').textContent"
    assert page.execute_script(count) == "4 paths, 977B, wasted 0B"
    page.execute_script("document.getElementById('show-W').click()")
    assert page.execute_script(count) == "1 paths, 5.0kB, wasted 5.0kB"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("make", [report_page, trees_page])
def test_contrast(make: Callable[[], str], scheme: str, show: Show) -> None:
    """Every text has 4.5:1 against its ground (WCAG 2.2, 1.4.3)."""
    page = show(make(), scheme)
    found = page.execute_script(CONTRAST)
    assert len(found) > 20
    assert [(round(ratio, 2), where) for ratio, where in found if ratio < 4.5] == []
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
