"use strict";
// Sortable tables, and arrow keys along the timeline. Text is only ever moved, never made into elements.

function sortTable(table, column, direction) {
  const body = table.tBodies[0];
  const numeric = table.tHead.rows[0].cells[column].classList.contains("num");
  const value = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort ?? cell.textContent;
    return numeric ? Number(text) || 0 : text;
  };
  const rows = [...body.rows].map((row, at) => ({ row, at, key: value(row) }));
  const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b);
  rows.sort((a, b) => direction * compare(a.key, b.key) || a.at - b.at);
  body.append(...rows.map((one) => one.row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column, headers) => {
    header.firstChild.addEventListener("click", () => {
      const first = header.classList.contains("num") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const next = header.getAttribute("aria-sort") === first ? other : first;
      headers.forEach((each) => each.setAttribute("aria-sort", "none"));
      header.setAttribute("aria-sort", next);
      sortTable(table, column, next === "ascending" ? 1 : -1);
    });
  });
}

const bars = [...document.querySelectorAll("svg a")];
document.addEventListener("keydown", (event) => {
  const at = bars.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: bars.length - 1 }[event.key];
  if (at >= 0 && to !== undefined && bars[to]) {
    bars[to].focus();
    event.preventDefault();
  }
});
