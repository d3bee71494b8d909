// The page: a section per part that the records hold.
const main = document.getElementById("main"), views = [];

function section(id, title, ...nodes) {
  const mark = DATA.missing.length ? el("span", { class: "mark" }, "not evidence") : null;
  main.append(el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title, mark), ...nodes));
  document.querySelector("nav").append(el("a", { href: `#${id}` }, title));
}
const words = (text) => el("p", { class: "quiet" }, text);
const source = (sheet) => el("button", { type: "button", onclick: () => showBehind(sheet, null) }, "source");

// A plot per model of the rows that filters leave; `x` and `y` are columns, `alike(row)` what an axis must not mix.
function scatter(sheet, rows, place, { x, y, xLabel, yLabel, label, alike }) {
  const at = (row, key) => row[0][place[key]], models = [...new Set(rows.map((row) => at(row, "model")))], panels = [], looks = new Set();
  for (const model of models) {
    const shown = rows.filter((row) => at(row, "model") === model && at(row, x) !== null && at(row, y)?.[0] > 0);
    const kinds = [...new Set(shown.map(alike))];
    const points = shown.map((row) => {
      const [value, low, high] = at(row, y), look = sheet.looks[row[2]];
      looks.add(look);
      const tip = sheet.columns.map(([key, title, kind, digits]) => at(row, key) === null ? null : `${title}: ${cellText(at(row, key), kind, digits)}`).filter(Boolean).join("\n");
      return { x: at(row, x), y: value, low, high, look, hollow: kinds.length > 1 && alike(row) !== kinds[0], tip, open: () => showBehind(sheet, row), label: label(row, at) };
    });
    const mixed = kinds.length > 1 ? `${kinds.length} ways of counting on one axis: ${kinds[0]} (filled); hollow: ${kinds.slice(1).join("; ")}` : kinds[0];
    const figure = points.length ? plot({ title: model, note: mixed, xLabel, yLabel, points, most: models.length > 1 ? 600 : 900 }) : null;
    if (figure && kinds.length > 1) figure.querySelector("small").className = "warn";
    if (figure) panels.push(figure);
  }
  return [el("div", { class: "panels" }, ...panels), legend([...looks])];
}

function plotted(sheet, options, more = []) {
  const host = el("div"), view = sheetView(sheet, (rows, place) => host.replaceChildren(...scatter(sheet, rows, place, options)));
  view.controls.append(...more.map((make) => make(view)));
  views.push(view.show);
  section(sheet.name, sheet.title, words(sheet.note), view.controls, host, view.table);
  view.show();
}

function rowsPart(sheet) {
  const choices = { "linears (MB)": "linear", "file (MB)": "file" }, measures = { "KL (nats per token)": "kl", "KL over uniform 4 bits": "ratio", perplexity: "ppl" };
  const options = { x: "linear", xLabel: "linears (MB)", y: "kl", yLabel: "KL (nats per token)" };
  options.label = (row, at) => [at(row, "method"), at(row, "bits")].filter((part) => part !== null).join(", ");
  const of = (row, key) => row[0][sheet.columns.findIndex((column) => column[0] === key)];
  options.alike = (row) => [of(row, "accounting"), ...(options.x === "file" ? [`${of(row, "track")} embedding and head`] : []), of(row, "measured")].join(", ");
  plotted(sheet, options, [
    (view) => pick("down", Object.keys(measures), options.yLabel, (value) => { options.y = measures[value]; options.yLabel = value; view.show(); }),
    (view) => pick("across", Object.keys(choices), options.xLabel, (value) => { options.x = choices[value]; options.xLabel = value; view.show(); }),
  ]);
}

function mapsPart(maps) {
  const models = [...new Set(maps.maps.map((map) => map.model))], host = el("div"), chosen = {};
  const of = (model) => maps.maps.filter((map) => map.model === model);
  const controls = el("div", { class: "controls" });
  function choose(model) {
    const titles = of(model).map((map) => map.title);
    const [method, budget] = titles[0].split(", "), rival = titles.find((title) => !title.startsWith(`${method},`) && title.includes(`, ${budget}`));
    Object.assign(chosen, { model, first: titles[0], second: rival || titles.at(-1) });
    controls.replaceChildren(pick("model", models, model, choose),
      ...["first", "second"].map((name) => pick(name, titles, chosen[name], (value) => { chosen[name] = value; show(); })), source(maps));
    show();
  }
  function show() {
    const [first, second] = [chosen.first, chosen.second].map((title) => of(chosen.model).find((map) => map.title === title));
    const pairs = [...first.cells.join("")].map((letter, index) => [letter, second.cells.join("")[index]]).filter(([letter]) => letter !== ".");
    const used = new Set([...first.cells, ...second.cells].join("")), widths = maps.widths.filter(([letter]) => used.has(letter));
    host.replaceChildren(words(`${first === second ? "" : `${pairs.filter(([a, b]) => a !== b).length} of ${pairs.length} linears differ; they are framed. `}Widths: ${widths.map(([, name]) => name).join(", ")}.`),
      ...(first === second ? [[first, null]] : [[first, second], [second, first]]).map(([map, other]) => el("figure", {}, el("figcaption", {}, map.title), el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": map.title }, heat(map, other, maps.roles, widths)))));
  }
  views.push(() => show());
  section("maps", "Allocations", words("Bits of every linear, by its role and its decoder block. The number in a cell is the width's payload; pointing at a cell names the width. Seeds are shown one by one."), controls, host);
  choose(models[0]);
}

const DASHES = ["7 3", "2 3", "9 3 2 3", "4 2"];
function leaguePart(league) {
  const titles = league.panels.map((panel) => panel.title), host = el("div");
  let title = titles[0], whole = false;
  function show() {
    const panel = league.panels.find((each) => each.title === title), runs = panel.lines.filter((line) => line.evals);
    const span = [Math.min(...runs.map((run) => run.evals[0]), 1), Math.max(...runs.map((run) => run.evals.at(-1)), 2)];
    const ends = panel.lines.map((line) => [line.level ?? line.mean.at(-1), line]), high = whole || !panel.bar ? null : 1.3 * panel.bar;
    const dash = new Map(panel.lines.filter((line) => line.level).map((line, index) => [line, DASHES[index % DASHES.length]]));
    const inside = ends.filter(([end]) => high === null || end <= high), above = ends.filter(([end]) => high !== null && end > high).map(([, line]) => line.name);
    const lines = inside.map(([, line]) => line.level !== undefined ? { points: [[span[0], line.level], [span[1], line.level]], look: line.look, dash: dash.get(line) }
      : { points: line.evals.map((at, index) => [at, line.mean[index]]), look: line.look, band: line.seeds > 1 ? line.evals.map((at, index) => [at, line.low[index], line.high[index]]) : null });
    const points = inside.map(([end, line]) => ({ x: line.evals ? line.evals.at(-1) : span[1], y: end, low: null, high: null, look: line.look, label: line.name, open: () => showBehind(league, null),
      tip: `${line.name}: ${number(end, 4)} nats per token${line.evals ? ` after ${line.evals.at(-1).toLocaleString("en")} evaluations, ${line.seeds} seed${line.seeds > 1 ? "s" : ""}` : ", no search"}` }));
    const figure = plot({ title, note: panel.note, xLabel: "evaluations on search text", yLabel: "held-out KL (nats per token)", xLog: true, points, lines, high, most: 900 });
    host.replaceChildren(figure, legend(inside.map(([, line]) => [...line.look, line.name + (line.seeds ? ` (${line.seeds} seed${line.seeds > 1 ? "s" : ""})` : ""), dash.get(line) || ""])),
      ...(above.length ? [words(`Not drawn, they end above 1.3 times the knapsack's KL: ${above.join(", ")}.`)] : []));
  }
  const all = el("input", { type: "checkbox", onchange: () => { whole = all.checked; show(); } });
  views.push(show);
  section("league", "League curves", words("Held-out KL of the best allocation so far, mean over seeds; the band is their range. Lines across need no search. The league holds some runs of its plan; seeds differ between lines."),
    el("div", { class: "controls" }, pick("panel", titles, title, (value) => { title = value; show(); }), el("label", { class: "line" }, all, "whole range"), source(league)), host);
  show();
}

function rawPart(sheets) {
  const host = el("div"), byTitle = new Map(sheets.map((sheet) => [sheet.title, sheet]));
  function show(title) {
    const view = sheetView(byTitle.get(title));
    host.replaceChildren(view.controls, view.table);
    view.show();
  }
  section("tables", "Tables as they are", words("The records themselves, to five digits; pointing at a header tells what its column means."),
    el("div", { class: "controls" }, pick("table", [...byTitle.keys()], sheets[0].title, show)), host,
    el("p", { class: "quiet" }, "Too long for a page: ", ...DATA.linked.flatMap((file) => [el("a", { href: file }, file.split("/").at(-1)), " "])));
  show(sheets[0].title);
}

document.querySelector("h1").textContent = DATA.title;
const banner = document.getElementById("banner");
banner.hidden = !DATA.missing.length;
banner.textContent = `Not evidence: ${DATA.missing.join("; ")}. The numbers show that everything runs, and say nothing about methods.`;
const commits = DATA.origin.commits.map((commit) => commit.slice(0, 10)).join(", ");
document.querySelector("header").insertBefore(el("div", {}, el("ul", {}, ...DATA.outcome.map((line) => el("li", {}, line))),
  el("p", { class: "quiet" }, "Made by ", el("code", {}, DATA.origin.command), ` at commit ${commits || "not recorded"}. `, source({ origin: DATA.origin }))), document.querySelector("nav"));
rowsPart(DATA.rows);
if (DATA.claims) { const view = sheetView(DATA.claims); section("claims", DATA.claims.title, words(DATA.claims.note), view.controls, view.table); view.show(); }
if (DATA.gguf) plotted(DATA.gguf, { x: "size", xLabel: "file (MB)", y: "kl", yLabel: "KL (nats per token)", label: (row, at) => at(row, "rival") ? null : at(row, "file"), alike: () => "whole GGUF files, same held-out text" });
if (DATA.maps) mapsPart(DATA.maps);
if (DATA.league) leaguePart(DATA.league);
if (DATA.raw.length) rawPart(DATA.raw);
let waiting = 0;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => views.forEach((show) => show()), 200); });
