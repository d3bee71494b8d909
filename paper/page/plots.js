// Plots as SVG: marks differ in shape and not in colour alone; each can be hovered, focused and opened.
const polygon = (count, turn, inner = 1) => Array.from({ length: inner === 1 ? count : 2 * count }, (_, index) => {
  const radius = inner !== 1 && index % 2 ? inner : 1, angle = turn + 2 * Math.PI * index / (inner === 1 ? count : 2 * count);
  return [radius * Math.sin(angle), -radius * Math.cos(angle)];
});
const PI = Math.PI, PLUS = [[-.3, -1], [.3, -1], [.3, -.3], [1, -.3], [1, .3], [.3, .3], [.3, 1], [-.3, 1], [-.3, .3], [-1, .3], [-1, -.3], [-.3, -.3]];
const turned = (points) => points.map(([x, y]) => [.75 * (x - y), .75 * (x + y)]);
const MARKS = {
  o: polygon(24, 0), s: polygon(4, PI / 4), D: polygon(4, 0), d: polygon(4, 0).map(([x, y]) => [.6 * x, y]), "^": polygon(3, 0), v: polygon(3, PI),
  "<": polygon(3, -PI / 2), ">": polygon(3, PI / 2), h: polygon(6, 0), H: polygon(6, PI / 6), 8: polygon(8, PI / 8), p: polygon(5, 0),
  "*": polygon(5, 0, .45), P: PLUS, X: turned(PLUS), x: turned(PLUS.map(([x, y]) => [Math.sign(x) * Math.max(.14, Math.abs(x) - .16 * (Math.abs(x) < 1)), Math.sign(y) * Math.max(.14, Math.abs(y) - .16 * (Math.abs(y) < 1))])),
  _: [[-1, -.2], [1, -.2], [1, .2], [-1, .2]],
};
const ink = (colour) => (colour === "#000000" ? "currentColor" : colour); // black is the text's colour, in the dark as well

function mark([colour, shape], x, y, size = 5.5, hollow = false) {
  const points = (MARKS[shape] || MARKS.o).map(([dx, dy]) => `${(x + size * dx).toFixed(1)},${(y + size * dy).toFixed(1)}`);
  return svg("polygon", { points: points.join(" "), fill: hollow ? "none" : ink(colour), stroke: ink(colour), "stroke-width": 1.5 });
}

function ticks(low, high, log) {
  if (log) {
    const span = high / low, digits = span < 3 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8] : span < 8 ? [1, 1.5, 2, 3, 5, 7] : span < 60 ? [1, 2, 5] : span < 1000 ? [1, 3] : [1];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) found.push(...digits.map((digit) => digit * 10 ** power));
    return found.filter((value) => value >= low && value <= high);
  }
  const rough = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(rough)), step = unit * [1, 2, 5, 10].find((each) => each * unit >= rough);
  return Array.from({ length: Math.floor(high / step) - Math.ceil(low / step) + 1 }, (_, index) => (Math.ceil(low / step) + index) * step);
}

function scale(values, start, end, log, limits = {}) {
  let low = limits.low ?? Math.min(...values), high = limits.high ?? Math.max(...values);
  const ahead = log ? Math.log : (value) => value, pad = .06 * (ahead(high) - ahead(low)) || (log ? .1 : Math.abs(low) / 20 || 1);
  [low, high] = log ? [low * Math.exp(-pad), high * Math.exp(pad)] : [low - pad, high + pad];
  const at = (value) => start + (end - start) * (ahead(value) - ahead(low)) / (ahead(high) - ahead(low));
  return { at, low, high, ticks: ticks(low, high, log) };
}

function hint(node, text, open) {
  const show = () => {
    const box = node.getBoundingClientRect();
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = `${Math.max(4, Math.min(box.right + 10, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(box.top - 8, innerHeight - tip.offsetHeight - 8))}px`;
  };
  const hide = () => { tip.hidden = true; };
  const keys = (event) => {
    const step = { ArrowRight: "nextElementSibling", ArrowDown: "nextElementSibling", ArrowLeft: "previousElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (step || event.key === "Enter") event.preventDefault();
    if (step) node[step]?.focus();
    if (event.key === "Enter" && open) open();
  };
  return fill(node, { tabindex: -1, role: "img", "aria-label": text, onpointerenter: show, onpointerleave: hide, onfocus: show, onblur: hide, onkeydown: keys, onclick: open || (() => {}) }, []);
}

const width = (most = 560) => Math.max(280, Math.min(most, document.documentElement.clientWidth - 36));

// One panel. points: {x, y, low, high, look, hollow, tip, open, label}; lines: {points, look, dash, band, step}.
function plot({ title, note, xLabel, yLabel, xLog = false, points = [], lines = [], high = null, most = 560 }) {
  const wide = width(most), tall = 340, left = 58, base = tall - 36, right = wide - 12;
  const all = [...points.map((p) => [p.x, p.y, p.low, p.high]), ...lines.flatMap((line) => line.points.map(([x, y]) => [x, y, y, y]))];
  const ys = all.flatMap(([, y, low, top]) => [y, low, top]).filter((y) => y !== null && y > 0);
  if (!ys.length) return null;
  const x = scale(all.map(([value]) => value), left, right, xLog), y = scale(ys, base, 26, true, high === null ? {} : { high });
  const root = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, width: wide, role: "group", "aria-label": `${title}: ${yLabel} against ${xLabel}` });
  for (const value of y.ticks) root.append(svg("line", { class: "grid", x1: left, x2: right, y1: y.at(value), y2: y.at(value) }),
    svg("text", { x: left - 5, y: y.at(value) + 4, "text-anchor": "end" }, number(+value.toPrecision(3), null)));
  for (const value of x.ticks) root.append(svg("line", { class: "axis", x1: x.at(value), x2: x.at(value), y1: base, y2: base + 4 }),
    svg("text", { x: x.at(value), y: base + 16, "text-anchor": "middle" }, number(+value.toPrecision(6), null)));
  root.append(svg("path", { class: "axis", d: `M${left},22V${base}H${right}`, fill: "none" }),
    svg("text", { x: right, y: tall - 4, "text-anchor": "end" }, xLabel), svg("text", { x: 4, y: 14 }, yLabel));
  const inside = (value) => Math.max(y.at(value), 22);
  for (const { points: path, look, dash, band } of lines) {
    const corners = path.map(([px, py], index) => (index ? `H${x.at(px)}V${inside(py)}` : `M${x.at(px)},${inside(py)}`)).join("");
    if (band) root.append(svg("polygon", { points: [...band.map(([px, low]) => `${x.at(px)},${inside(low)}`), ...band.map(([px, , top]) => `${x.at(px)},${inside(top)}`).reverse()].join(" "), fill: ink(look[0]), opacity: .15 }));
    root.append(svg("path", { d: corners, fill: "none", stroke: ink(look[0]), "stroke-width": 1.6, "stroke-dasharray": dash || null }));
  }
  const marks = svg("g"), taken = points.map((p) => [x.at(p.x) - 4, y.at(p.y) - 4, x.at(p.x) + 4, y.at(p.y) + 4]);
  for (const point of [...points].sort((a, b) => a.x - b.x)) {
    const px = x.at(point.x), py = y.at(point.y), node = svg("g");
    if (point.low > 0 && point.high !== null) node.append(svg("line", { x1: px, x2: px, y1: y.at(point.low), y2: y.at(point.high), stroke: ink(point.look[0]), "stroke-width": 2 }));
    node.append(svg("circle", { cx: px, cy: py, r: 11, fill: "transparent" }), mark(point.look, px, py, 5.5, point.hollow));
    const label = point.label && room(taken, px, py, point.label, left, wide);
    if (label) node.append(svg("text", { ...label, class: "halo" }, point.label));
    marks.append(hint(node, point.tip, point.open));
  }
  marks.firstElementChild?.setAttribute("tabindex", 0);
  root.append(marks);
  return el("figure", {}, el("figcaption", {}, title, note ? el("small", {}, note) : null), root);
}

// A free place beside a mark for its name, or null; approximate widths of letters are enough.
function room(taken, px, py, text, left, wide) {
  const long = 5.9 * text.length;
  for (const [dx, dy, anchor] of [[9, 4, "start"], [-9, 4, "end"], [9, -8, "start"], [9, 15, "start"], [-9, -8, "end"], [-9, 15, "end"]]) {
    const x1 = anchor === "start" ? px + dx : px + dx - long, box = [x1, py + dy - 10, x1 + long, py + dy + 2];
    if (x1 < left || box[2] > wide || taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) continue;
    taken.push(box);
    return { x: px + dx, y: py + dy, "text-anchor": anchor };
  }
  return null;
}

const legend = (looks) => el("ul", { class: "legend" }, ...looks.map(([colour, shape, name, dash]) => el("li", {},
  svg("svg", { width: 24, height: 14, "aria-hidden": true }, dash === undefined ? null : svg("line", { x1: 0, x2: 24, y1: 7, y2: 7, stroke: ink(colour), "stroke-width": 1.6, "stroke-dasharray": dash || null }), shape ? mark([colour, shape], 12, 7, 5) : null), name)));

// A line of the forest plot: its interval beside the limit in the middle, scaled by itself; left of it the claim holds.
function forestLine([value, low, high, limit, sign]) {
  const ends = [low ?? value, value, high ?? value].map((end) => sign * (end - limit)), most = Math.max(...ends.map(Math.abs)) || 1;
  const [a, b, c] = ends.map((end) => 90 + 78 * end / most), holds = Math.max(a, c) < 90, fails = Math.min(a, c) > 90;
  const root = svg("svg", { width: 180, height: 30, viewBox: "0 0 180 30", role: "img", "aria-label": holds ? "the interval lies on the side where the claim holds" : fails ? "the interval lies on the side where the claim fails" : "the interval holds the limit, or there is none" });
  root.append(svg("line", { class: "axis", x1: 90, x2: 90, y1: 0, y2: 30 }), svg("line", { x1: a, x2: c, y1: 20, y2: 20, stroke: "currentColor", "stroke-width": 2 }),
    mark(["#000000", holds ? "o" : fails ? "X" : "D"], b, 20, 5, !holds && !fails), svg("text", { x: 4, y: 9 }, "holds"), svg("text", { x: 176, y: 9, "text-anchor": "end" }, "fails"));
  return root;
}

// Widths from dark (few bits) to light: cividis, whose lightness rises, so that it reads in grey; cells name their bits.
const CIVIDIS = ["#00224e", "#2a3f6d", "#575d6d", "#7d7c78", "#a59c74", "#d2c060", "#fee838"];
function heat(map, other, roles, widths) {
  const blocks = map.cells[0].length, size = Math.max(15, Math.min(26, Math.floor((width(1100) - 40) / blocks))), known = new Map(widths.map((each) => [each[0], each]));
  const used = widths.map(([letter]) => letter), root = svg("svg", { width: 40 + size * blocks, height: 22 + size * roles.length, role: "group", "aria-label": map.title });
  const cells = svg("g");
  roles.forEach((role, row) => {
    root.append(svg("text", { x: 34, y: row * size + size * .7, "text-anchor": "end" }, role));
    [...map.cells[row]].forEach((letter, block) => {
      const found = known.get(letter);
      if (!found) return;
      const rank = used.length > 1 ? Math.round(6 * used.indexOf(letter) / (used.length - 1)) : 3, there = other && known.get(other.cells[row]?.[block]), differs = there && there !== found;
      const box = svg("g", {}, svg("rect", { x: 40 + block * size, y: row * size, width: size - 1, height: size - 1, fill: CIVIDIS[rank] }),
        differs ? svg("rect", { x: 42 + block * size, y: row * size + 2, width: size - 5, height: size - 5, fill: "none", stroke: rank < 4 ? "#ffffff" : "#000000", "stroke-width": 1.5 }) : null,
        svg("text", { x: 40 + block * size + (size - 1) / 2, y: row * size + size * .7, "text-anchor": "middle", style: `fill:${rank < 4 ? "#fff" : "#000"};font-size:10px` }, number(found[2], null)));
      cells.append(hint(box, `block ${block}, ${role}: ${found[1]}${differs ? ` (there ${there[1]})` : ""}`));
    });
  });
  cells.firstElementChild?.setAttribute("tabindex", 0);
  for (let block = 0; block < blocks; block += 5) root.append(svg("text", { x: 40 + (block + .5) * size, y: roles.length * size + 14, "text-anchor": "middle" }, block));
  root.append(cells);
  return root;
}
