"use strict";
// The page: takes pictures of the fleet as they come, and shows them.  Every text from outside goes in as text.

const at = (id) => document.getElementById(id);
const plots = new Plots(at("plots"));
let fleet = null; // the last picture
let chosen = null; // the node whose chart is shown
let stream = null;

function made(tag, kind, text) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  return element;
}

function span_of(seconds) {
  const s = Math.abs(seconds);
  if (s < 90) return `${s.toFixed(0)} s`;
  if (s < 5400) return `${(s / 60).toFixed(0)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(0)} h` : `${(s / 86400).toFixed(0)} days`;
}

// with its date, unless that is today's
function time_of(ms) {
  const when = new Date(ms);
  const time = when.toLocaleTimeString([], { hour12: false });
  return when.toDateString() === new Date().toDateString() ? time : `${when.toLocaleDateString("sv")} ${time}`;
}

// --- the fleet ---------------------------------------------------------------------------------------

const WORDS = { well: "in step", waiting: "waiting", troubled: "trouble", gone: "gone" };

function show_fleet(before) {
  at("place").textContent = `document ${fleet.document}, scope ${fleet.scope}`;
  say_link(fleet.link === "", fleet.link || "live");
  const brokers = [...new Set(fleet.nodes.map((node) => node.broker).filter(Boolean))];
  at("broker").textContent = brokers.join(" · ") || "no broker known";
  at("nobody").hidden = fleet.nodes.length > 0;
  const earlier = new Map((before?.nodes ?? []).map((node) => [node.node, node]));
  const kept = new Map([...at("nodes").children].map((item) => [item.dataset.node, item]));
  if (!fleet.nodes.some((node) => node.node === chosen)) chosen = fleet.nodes[0]?.node ?? null;
  at("nodes").replaceChildren(...fleet.nodes.map((node) => node_item(node, kept.get(node.node), earlier.get(node.node))));
  announce(earlier);
}

function node_item(node, item, before) {
  if (!item) {
    item = made("li");
    item.dataset.node = node.node;
    item.append(made("button"));
    item.firstChild.type = "button";
    item.firstChild.addEventListener("click", () => choose(node.node));
  }
  const moved = before && before.version !== node.version;
  item.className = `node ${node.health}${moved || (item.classList.contains("new") && !before) ? " new" : ""}`;
  if (moved) setTimeout(() => item.classList.remove("new"), 1600);
  const button = item.firstChild;
  button.setAttribute("aria-pressed", node.node === chosen);
  const rows = [made("span", "name", node.node), made("span", "health", health_of(node))];
  if (node.why) rows.push(made("span", "why", node.why));
  rows.push(...facts_of(node).map((fact) => made("span", "fact", fact)));
  const texts = rows.map((row) => row.textContent).join("\n");
  if (button.dataset.texts !== texts) {
    button.dataset.texts = texts;
    button.replaceChildren(...rows);
  }
  return item;
}

const health_of = (node) => (node.health === "well" ? `in step (${node.role})` : WORDS[node.health] ?? node.health);

function facts_of(node) {
  const facts = [`process ${node.pid} on ${node.host}${node.release ? `, ${node.release}` : ""}`];
  const age = node.age_s === null ? "no discovery yet" : `${span_of(node.age_s)} old`;
  facts.push(`document ${(node.version || "none").slice(0, 8)}, ${age}${node.expired ? ", expired" : ""}`);
  if (typeof node.uptime_s === "number") facts.push(`up ${span_of(node.uptime_s)}`);
  if (typeof node.ahead_s === "number" && Math.abs(node.ahead_s) > 5) facts.push(`clock ${node.ahead_s > 0 ? "+" : "-"}${span_of(node.ahead_s)}`);
  return facts;
}

function announce(earlier) {
  const news = fleet.nodes.filter((node) => earlier.size && earlier.get(node.node)?.health !== node.health);
  if (news.length) at("news").textContent = news.map((node) => `${node.node}: ${health_of(node)}. ${node.why}`).join(" ");
}

function choose(name) {
  chosen = name;
  for (const item of at("nodes").children) item.firstChild.setAttribute("aria-pressed", item.dataset.node === name);
  show_charts();
}

function say_link(up, words) {
  at("link").textContent = words;
  at("link").className = `pill ${up ? "up" : "down"}`;
}

// --- charts ------------------------------------------------------------------------------------------

let classes = []; // of ours
let chart = null; // what is shown: a chart of the chosen node, or one of our classes by itself
let drawn_as = ""; // where its picture came from

const same = (one, two) => one && two && one.key === two.key;

// The charts of the chosen node; of a release that tells no traces, our classes.
function charts_now() {
  const told = (fleet?.charts ?? []).filter((each) => each.node === chosen);
  if (!told.length) return classes.map((name) => ({ key: name, label: name, class: name }));
  const rank = (each) => (each.class ? classes.indexOf(each.class) : classes.length);
  return told
    .map((each) => ({ ...each, key: `${each.pid} ${each.chart}`, label: each.chart }))
    .sort((one, two) => rank(one) - rank(two));
}

function show_charts() {
  const charts = charts_now();
  const next = charts.find((each) => same(each, chart)) ?? charts[0] ?? null;
  const texts = charts.map((each) => each.key).join("\n");
  if (at("charts").dataset.texts !== texts) {
    at("charts").dataset.texts = texts;
    at("charts").replaceChildren(
      ...charts.map((each) => {
        const button = made("button", "", each.label);
        button.type = "button";
        button.dataset.key = each.key;
        button.addEventListener("click", () => {
          chart = each;
          show_charts();
        });
        return button;
      }),
    );
  }
  chart = next;
  for (const button of at("charts").children) button.setAttribute("aria-pressed", button.dataset.key === chart?.key);
  if (chart) show_picture();
}

async function show_picture() {
  const { node, pid, ways } = chart;
  const seen = new URLSearchParams({ node, pid, chart: chart.chart, ways });
  const from = chart.class ? `/charts/${encodeURIComponent(chart.class)}.svg` : `/seen.svg?${seen}`;
  if (from === drawn_as) return light();
  drawn_as = from;
  const answer = await fetch(from).catch(() => null);
  const text = (await answer?.text()) ?? "";
  if (drawn_as !== from) return;
  if (answer?.ok) {
    const drawing = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    at("picture").replaceChildren(document.importNode(drawing, true));
  } else {
    at("picture").replaceChildren(made("pre", "", text));
  }
  light();
}

// The state that is lit, and the transition that led there.
function place_now() {
  const node = fleet?.nodes.find((each) => each.node === chosen);
  if (!node || !chart || node.health === "gone") return { to: "" };
  if ("to" in chart) return chart;
  return { from: "", to: chart.class === "CacheNode" ? node.state : "" };
}

function light() {
  const { from, to, event } = place_now();
  for (const each of at("picture").querySelectorAll("[data-state]")) each.classList.toggle("lit", each.dataset.state === to);
  for (const each of at("picture").querySelectorAll("[data-from]"))
    each.classList.toggle("taken", each.dataset.from === from && each.dataset.to === to);
  const words = to ? `${chosen}: ${chart.label} is in ${to}` : `${chosen}: ${chart?.label ?? "no chart"} has told nothing lately`;
  at("where").textContent = chosen === null ? "" : from ? `${words}, from ${from} by ${event}` : words;
}

// --- what was written, and what happened -------------------------------------------------------------

function row(...cells) {
  const made_row = made("tr");
  made_row.append(...cells.map(([kind, text]) => made("td", kind, text)));
  return made_row;
}

function show_contents() {
  const { version, entries, more } = fleet.contents;
  const words = version ? `version ${version.slice(0, 8)}, ${entries.length + more} keys` : "Nobody has written yet.";
  at("contents-words").textContent = more ? `${words}, the latest ${entries.length} of them` : words;
  at("contents").replaceChildren(
    ...entries.map((each) => row(["", each.key], ["", each.value], ["", each.by], ["time", each.at_ms ? time_of(each.at_ms) : ""])),
  );
}

function show_write() {
  if (!fleet.write) return;
  const having = fleet.write.arrivals.filter((each) => each.has).length;
  const of = fleet.write.arrivals.length;
  const drawn = of > SEQUENCE_HOSTS ? `, ${SEQUENCE_HOSTS} of them drawn` : "";
  at("write-words").textContent =
    `by ${fleet.write.by} at ${time_of(fleet.write.at_ms)}; ${having} of ${of} others have it${drawn}`;
  at("write").replaceChildren(sequence(fleet.write, fleet.nodes));
}

function show_changes() {
  const wanted = at("filter").value.toLowerCase();
  const cells = (each) => [each.node, each.chart, each.event, each.from, each.to];
  const shown = fleet.changes.filter((each) => cells(each).join(" ").toLowerCase().includes(wanted));
  at("changes").replaceChildren(
    ...shown.map((each) => row(["time", time_of(each.at_ms)], ...cells(each).map((text) => ["", text]))),
  );
}

// --- the stream --------------------------------------------------------------------------------------

function show(picture) {
  const before = fleet;
  fleet = picture;
  show_fleet(before);
  if (JSON.stringify(before?.contents) !== JSON.stringify(fleet.contents)) show_contents();
  show_write();
  show_changes();
  plots.add(fleet.point);
  show_charts();
}

// A hidden tab has no stream: it costs nothing, and a browser has only six connections to one place.
function look() {
  if (document.hidden) {
    stream?.close();
    stream = null;
  } else if (!stream) {
    stream = new EventSource("/events");
    stream.addEventListener("fleet", (event) => show(JSON.parse(event.data)));
    stream.addEventListener("plots", (event) => plots.begin(JSON.parse(event.data)));
    stream.onerror = () => missing(stream);
  }
}

async function missing(lost) {
  const answer = await fetch("/events", { method: "HEAD" }).catch(() => null);
  if (answer?.status === 401) location.reload();
  say_link(false, answer?.status === 503 ? "too many pages are open; close some" : "no answer from miros-cache-net view; it is tried again");
  if (lost.readyState === EventSource.CLOSED) {
    if (stream === lost) stream = null;
    setTimeout(look, 3000);
  }
}

at("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const is_dark = root.classList.contains("dark") || (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
  root.classList.toggle("dark", !is_dark);
  root.classList.toggle("light", is_dark);
});
at("filter").addEventListener("input", () => fleet && show_changes());
document.addEventListener("visibilitychange", look);
fetch("/charts")
  .then((answer) => answer.json())
  .then((names) => {
    classes = names;
    show_charts();
  });
look();
