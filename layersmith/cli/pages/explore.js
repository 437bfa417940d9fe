"use strict";
// The layers' trees. Names are put on the page as text, never as elements.

const layers = JSON.parse(document.getElementById("data").textContent).layers;
const MOST = 1000; // children of a directory on the page, and hits of a search
const by = (id) => document.getElementById(id);
let chosen = 0; // 0: the image as it is seen; else a layer's number
let open = new Set([""]);
let focused = "";

function human(size) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 999.5) return (unit === "B" || size >= 100 ? size.toFixed(0) : size.toFixed(1)) + unit;
    size /= 1000;
  }
  return size.toFixed(1) + "TB";
}

function make(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function wanted(file) {
  if (chosen === 0 && (file[4] || file[3] === "D")) return by("show-W").checked && Boolean(file[4]);
  if (by("show-W").checked && !(file[4] && file[2])) return false;
  return by("show-" + file[3]).checked;
}

// A tree of {name, path, kind, size, wasted, change, gone, children}; sizes are those of all below.
function build() {
  const root = { name: "", path: "", kind: "d", size: 0, wasted: 0, change: "", gone: 0, children: new Map() };
  const text = by("search").value;
  let count = 0;
  for (const layer of layers) {
    if (chosen && layer.number !== chosen) continue;
    for (const file of layer.files) {
      const [path, kind, size, change, gone, link] = file;
      if (!wanted(file) || (text && !path.includes(text))) continue;
      if (text && count >= MOST) continue;
      count += 1;
      let here = root;
      here.size += size;
      if (gone) here.wasted += size;
      let at = "";
      for (const name of path.split("/")) {
        at = at ? at + "/" + name : name;
        if (!here.children.has(name)) {
          here.children.set(name, { name, path: at, kind: "d", size: 0, wasted: 0, change: "", gone: 0, children: new Map() });
        }
        here = here.children.get(name);
        here.size += size;
        if (gone) here.wasted += size;
      }
      Object.assign(here, { kind, change, gone, link });
    }
  }
  by("count").textContent = count + (text && count >= MOST ? " or more" : "") + " paths, " + human(root.size) +
    ", wasted " + human(root.wasted);
  return root;
}

function rows(node, level, all) {
  const children = [...node.children.values()];
  children.sort((a, b) => b.size - a.size || (a.name < b.name ? -1 : 1));
  for (const child of children.slice(0, MOST)) {
    all.push([child, level]);
    if (child.children.size && (open.has(child.path) || by("search").value)) rows(child, level + 1, all);
  }
  if (children.length > MOST) all.push([{ more: children.length - MOST }, level]);
  return all;
}

function draw() {
  const tree = by("tree");
  const held = tree.contains(document.activeElement);
  const all = rows(build(), 1, []);
  tree.replaceChildren(...all.map(([node, level]) => drawn(node, level)));
  const items = [...tree.querySelectorAll("[role=treeitem]")];
  const here = items.find((item) => item.dataset.path === focused) ?? items[0];
  if (here) {
    here.tabIndex = 0;
    if (held) here.focus();
  }
}

function drawn(node, level) {
  if (node.more) return make("div", "… and " + node.more + " more", "soft");
  const row = make("div", undefined, "row");
  row.setAttribute("role", "treeitem");
  row.setAttribute("aria-level", level);
  row.tabIndex = -1;
  row.dataset.path = node.path;
  const folder = node.children.size > 0;
  const shown = open.has(node.path) || by("search").value;
  if (folder) row.setAttribute("aria-expanded", String(Boolean(shown)));
  const mark = folder ? (shown ? "▾ " : "▸ ") : "  ";
  const name = make("span", "  ".repeat(level - 1) + mark + node.name + (node.kind === "d" ? "/" : ""), "name");
  if (node.gone) name.classList.add("gone");
  if (node.link) name.append(" → " + node.link);
  if (node.gone) name.append(make("span", "  gone in layer " + node.gone, "soft"));
  row.append(make("span", node.change, node.change), make("span", human(node.size), "num"),
    make("span", node.wasted ? human(node.wasted) : "", "num C"), name);
  row.addEventListener("click", () => { focused = node.path; toggle(node.path); by("tree").querySelector("[tabindex='0']")?.focus(); });
  return row;
}

function toggle(path) {
  if (!open.delete(path)) open.add(path);
  draw();
}

by("tree").addEventListener("keydown", (event) => {
  const items = [...by("tree").querySelectorAll("[role=treeitem]")];
  const at = items.indexOf(document.activeElement);
  if (at < 0) return;
  const here = items[at];
  const level = Number(here.getAttribute("aria-level"));
  const expanded = here.getAttribute("aria-expanded");
  let to = at;
  if (event.key === "ArrowDown") to = at + 1;
  else if (event.key === "ArrowUp") to = at - 1;
  else if (event.key === "Home") to = 0;
  else if (event.key === "End") to = items.length - 1;
  else if (event.key === "ArrowRight" && expanded === "true") to = at + 1;
  else if (event.key === "ArrowLeft" && expanded !== "true") {
    while (to > 0 && Number(items[to].getAttribute("aria-level")) >= level) to -= 1;
  } else if (["ArrowRight", "ArrowLeft", "Enter"].includes(event.key)) {
    focused = here.dataset.path;
    event.preventDefault();
    if (expanded !== null) toggle(here.dataset.path);
    return;
  } else return;
  event.preventDefault();
  if (items[to]) {
    here.tabIndex = -1;
    items[to].tabIndex = 0;
    focused = items[to].dataset.path;
    items[to].focus();
  }
});

function choose(number) {
  chosen = number;
  open = new Set([""]);
  for (const button of by("layers").children) button.setAttribute("aria-pressed", String(Number(button.dataset.layer) === number));
  draw();
}

for (const layer of [{ number: 0, by: "the image, as it is seen" }, ...layers]) {
  const button = make("button", undefined, "layer");
  button.type = "button";
  button.dataset.layer = layer.number;
  button.append(make("span", layer.number ? String(layer.number) : "*"), make("span", layer.number ? human(layer.size) : "", "num"),
    make("span", layer.wasted ? human(layer.wasted) + " wasted" : "", "C"), make("span", layer.by, "mono"));
  button.addEventListener("click", () => choose(layer.number));
  by("layers").append(button);
}
by("search").addEventListener("input", draw);
for (const kind of "ACDW") by("show-" + kind).addEventListener("change", draw);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== by("search")) {
    by("search").focus();
    event.preventDefault();
  }
});
choose(0);
