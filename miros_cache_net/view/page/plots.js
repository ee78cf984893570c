"use strict";
// Small plots of the counters that have moved, and the way of the last write as a sequence.

const SVG = "http://www.w3.org/2000/svg";
const MEMORY_MS = 900_000;
const PLOTS = 24;

function drawn(name, attributes = {}, ...inside) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

class Plots {
  constructor(box) {
    this.box = box;
    this.points = [];
  }

  begin(points) {
    this.points = points;
    this.show();
  }

  add(point) {
    const last = this.points.at(-1);
    if (!point || (last && last[0] >= point[0])) return;
    this.points.push(point);
    this.points = this.points.filter(([at]) => at > point[0] - MEMORY_MS);
    this.show();
  }

  show() {
    const last = this.points.at(-1);
    if (!last) return;
    const grown = Object.keys(last[1]).filter((name) => last[1][name] > 0);
    const moves = (name) => last[1][name] - Math.min(...this.points.map(([, all]) => all[name] ?? 0));
    grown.sort((one, two) => moves(two) - moves(one) || one.localeCompare(two));
    this.box.replaceChildren(...grown.slice(0, PLOTS).map((name) => this.plot(name)));
  }

  plot(name) {
    const numbers = this.points.map(([at, all]) => [at, all[name] ?? 0]);
    const end = numbers.at(-1)[0];
    const low = Math.min(...numbers.map(([, number]) => number));
    const span = Math.max(1, Math.max(...numbers.map(([, number]) => number)) - low);
    const spots = numbers.map(([at, number]) => `${100 - ((end - at) / MEMORY_MS) * 100},${38 - ((number - low) / span) * 34}`);
    const box = document.createElement("div");
    box.className = "plot";
    const now = document.createElement("b");
    now.textContent = numbers.at(-1)[1];
    const words = document.createElement("span");
    words.textContent = name.replaceAll("_", " ");
    const line = drawn("polyline", { points: spots.join(" ") });
    box.append(now, words, drawn("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" }, line));
    return box;
  }
}

// as many as fit beside each other
const SEQUENCE_HOSTS = 8;

// write: who wrote, and each other node with whether it has it and after how long
function sequence(write, nodes) {
  const shown = write.arrivals.slice(0, SEQUENCE_HOSTS);
  const column = 150;
  const names = [write.by, "broker", ...shown.map((each) => each.node)];
  const width = names.length * column;
  const height = 110 + shown.length * 34;
  const x = (number) => column / 2 + number * column;
  const svg = drawn("svg", { class: "sequence", viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  svg.append(drawn("title", {}, `The last write, from ${write.by} through the broker to the others`));
  names.forEach((name, number) => {
    const words = name.length > 20 ? `${name.slice(0, 19)}…` : name;
    svg.append(
      drawn("line", { x1: x(number), x2: x(number), y1: 38, y2: height - 8 }),
      drawn("rect", { x: x(number) - 68, y: 8, width: 136, height: 30, rx: 6 }),
      drawn("text", { x: x(number), y: 27, "text-anchor": "middle" }, words),
    );
  });
  const arrow = (from, to, y, kind, words) => {
    const back = to < from ? 1 : -1;
    svg.append(
      drawn("line", { class: kind, x1: x(from), x2: x(to), y1: y, y2: y }),
      drawn("text", { x: (x(Math.min(from, to)) + x(Math.min(from, to) + 1)) / 2, y: y - 6, "text-anchor": "middle" }, words),
    );
    if (kind === "way") svg.append(drawn("path", { class: "tip", d: `M${x(to)},${y} l${8 * back},-4.5 v9 z` }));
  };
  arrow(0, 1, 66, "way", "CACHE");
  shown.forEach((each, number) => {
    const known = nodes.find((node) => node.node === each.node);
    const lag = each.lag_s !== null && known?.lag_from === write.by ? `after ${Math.max(0, each.lag_s * 1000).toFixed(0)} ms` : "has it";
    arrow(1, number + 2, 96 + number * 34, each.has ? "way" : "late", each.has ? lag : "not yet");
  });
  return svg;
}
