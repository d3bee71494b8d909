// Tables: sorted by their headers, chosen by filters, every row with what is behind it.
const DATA = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip"), behind = document.getElementById("behind");

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function number(value, digits) {
  if (value === null) return "–";
  const size = Math.abs(value), fixed = { minimumFractionDigits: digits ?? 0, maximumFractionDigits: digits ?? 12 };
  const tiny = size > 0 && size < (digits === null ? 1e-4 : digits && 5 * 10 ** -digits);
  return (tiny ? value.toPrecision(2) : value.toLocaleString("en", fixed)).replace("-", "−");
}
const interval = ([value, low, high], digits) =>
  [number(value, digits), low === null || high === null ? "" : `[${number(low, digits)}, ${number(high, digits)}]`];

function cellText(value, kind, digits) {
  if (value === null) return "–";
  return kind === "number" ? number(value, digits) : kind === "estimate" ? interval(value, digits).join(" ") : value;
}

function cellNode(value, kind, digits) {
  if (kind === "forest") return el("td", { class: "forest" }, value ? forestLine(value) : "–");
  if (kind !== "estimate" || value === null)
    return el("td", { class: kind === "text" && String(value).length > 34 ? "prose" : kind }, cellText(value, kind, digits));
  const [middle, ends] = interval(value, digits);
  return el("td", { class: "estimate" }, middle, " ", el("small", {}, ends));
}

// What is behind a row: the file with its lines, the command, the commits, and what the records say of it.
function showBehind(sheet, row) {
  const origin = sheet.origin, told = row ? row[3] : {}, list = behind.querySelector("dl");
  const lines = row && row[1].length ? `, line${row[1].length > 1 ? "s" : ""} ${row[1].join(", ")}` : "";
  const file = location.protocol === "data:" ? origin.file : el("a", { href: origin.file }, origin.file);
  const facts = { command: origin.command, commit: origin.commits.join(", ") || "not recorded", ...told };
  if (origin.note) facts["how it was made"] = origin.note;
  list.replaceChildren(el("dt", {}, "file"), el("dd", {}, file, lines));
  for (const [name, text] of Object.entries(facts))
    list.append(el("dt", {}, name), el("dd", {}, name === "command" ? el("code", {}, text) : text));
  behind.showModal();
}

const sortKey = (value, kind) =>
  value === null ? null : kind === "forest" ? value[4] * (value[0] - value[3]) : kind === "estimate" ? value[0] : value;

function compareRows(column, kind, down) {
  return (a, b) => {
    const x = sortKey(a[0][column], kind), y = sortKey(b[0][column], kind);
    if (x === null || y === null) return (x === null) - (y === null); // rows without a value stay at the end
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
    return down ? -order : order;
  };
}

// A sheet with its filters; `drawn(rows)` is called with the rows that are left, whenever they change.
function sheetView(sheet, drawn = () => {}) {
  const columns = sheet.columns, place = Object.fromEntries(columns.map(([key], index) => [key, index]));
  const chosen = { ...sheet.chosen }, body = el("tbody"), count = el("caption", { "aria-live": "polite" });
  let words = [], sorted = null;
  const head = columns.map(([, title, , , help], index) =>
    el("th", { scope: "col", title: help || null }, el("button", { type: "button", onclick: () => sortBy(index) }, title)));
  function sortBy(index) {
    sorted = { index, down: sorted?.index === index && !sorted.down };
    head.forEach((th, at) => at === index ? th.setAttribute("aria-sort", sorted.down ? "descending" : "ascending") : th.removeAttribute("aria-sort"));
    show();
  }
  function line(row) {
    const cells = row[0].map((value, index) => {
      const [, , kind, digits] = columns[index];
      return index ? cellNode(value, kind, digits) : el("th", { scope: "row" }, cellText(value, kind, digits));
    });
    const name = `source of ${row[0].slice(0, 3).filter((value) => value !== null).join(", ")}`;
    return el("tr", {}, ...cells, el("td", {}, el("button", { type: "button", "aria-label": name, onclick: () => showBehind(sheet, row) }, "source")));
  }
  function show() {
    const rows = sheet.rows.filter((row) =>
      Object.entries(chosen).every(([key, value]) => !value || String(row[0][place[key]]) === value) &&
      words.every((word) => row[0].some((value, index) => columns[index][2] === "text" ? String(value).toLowerCase().includes(word) : String(value) === word)));
    if (sorted) rows.sort(compareRows(sorted.index, columns[sorted.index][2], sorted.down));
    body.replaceChildren(...rows.map(line));
    count.textContent = `${rows.length} of ${sheet.rows.length} rows`;
    drawn(rows, place);
  }
  const filters = sheet.filters.map((key) => {
    const values = [...new Set(sheet.rows.map((row) => row[0][place[key]]))].filter((value) => value !== null);
    return pick(columns[place[key]][1], ["", ...values.map(String)], chosen[key] || "", (value) => { chosen[key] = value; show(); });
  });
  const search = el("input", { type: "search", oninput: () => { words = search.value.toLowerCase().split(/\s+/).filter(Boolean); show(); } });
  const controls = el("div", { class: "controls" }, ...filters, el("label", {}, "words", search));
  const table = el("table", {}, count, el("thead", {}, el("tr", {}, ...head, el("th", { scope: "col" }, "behind it"))), body);
  return { controls, table: el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": sheet.title }, table), show };
}

// A choice; an empty value means all.
function pick(title, values, value, changed) {
  const select = el("select", { onchange: () => changed(select.value) },
    ...values.map((each) => el("option", { value: each, selected: each === value }, each || "all")));
  return el("label", {}, title, select);
}
