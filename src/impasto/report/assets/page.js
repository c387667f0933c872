"use strict";
// The page's behaviour. Data is only ever set as text; the one SVG that is read in was escaped
// where it was made. Places of plans in the lists are their numbers everywhere.
(() => {
const $ = (id) => document.getElementById(id);
const ROWS = 100, PAD = { left: 58, right: 16, top: 16, bottom: 50 };
const AVERAGE = -1;  // the number of the task that stands for all
const blocks = [...document.querySelectorAll("script[id^=first-]")].map(() => null);  // by model, once read
const state = { model: -1, task: 0, across: "", hidden: new Set(), search: "", sort: "score", up: false, rows: ROWS, at: -1, open: -1 };
let data, judged, averages, baselinePlan;  // of the model that is shown

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const written = (plan) => {  // a plan as text that breaks between its items only
  const line = make("span", { class: "plan" });
  plan.split(" ").forEach((item, i) => line.append(i ? " " : "", make("span", {}, item)));
  return line;
};
const task = () => data.tasks[state.task];
const isShare = () => !task() || task().share;
const isLower = () => Boolean(task() && task().lower);
const show = (value, digits = 1) => value == null ? "" : isShare() ? `${(100 * value).toFixed(digits)} %` : value.toPrecision(4);
const unit = () => (task() ? `${task().title}: ${task().unit}` : `average score of ${judged.length} tasks`) + (isShare() ? " (%)" : "") + (isLower() ? ", less is better" : "");

// ---- what each plan scores

function averaged() {
  return data.plans.map((_, plan) => {
    const found = judged.map((one) => data.scores[one][plan]);
    if (!found.length || found.some((score) => score == null)) return null;
    const mean = found.reduce((sum, score) => sum + score[0], 0) / found.length;
    if (found.some((score) => score[1] == null)) return [mean, null, null];
    // tasks vary apart from each other, so that their distances add up by squares
    const far = (end) => Math.hypot(...found.map((score) => score[end] - score[0])) / found.length;
    return [mean, mean - far(1), mean + far(2)];
  });
}
const scores = () => (task() ? data.scores[state.task] : averages);
const level = () => (task() ? task().baseline : averages[baselinePlan] && averages[baselinePlan][0]);
const guessed = () => {
  if (task()) return task().chance;
  const chances = judged.map((one) => data.tasks[one].chance);
  return chances.includes(null) ? null : chances.reduce((sum, one) => sum + one, 0) / chances.length;
};
const canJudge = () => (task() ? task().above : judged.length > 0);
const better = (one, other) => (isLower() ? one < other : one > other);
const changed = (plan) => {
  if (!data.changed) return [null, null];
  if (task()) return data.changed[state.task][plan] || [null, null];
  const found = judged.map((one) => data.changed[one][plan]).filter((one) => one != null);
  return !found.length ? [null, null] : [0, 1].map((i) => found.reduce((sum, one) => sum + one[i], 0));
};
const told = (plan) => Object.entries(plan.with).map(([name, value]) => `${name} ${value}`).join(", ");
const title = (plan) => data.families[plan.family].title;
const place = (plan) => (state.across === "cost" ? plan.cost : plan.with[state.across]);
const matches = (plan) => !state.hidden.has(plan.family) && (!state.search || `${plan.plan} ${title(plan)} ${told(plan)}`.toLowerCase().includes(state.search));
const shown = () => data.plans.map((_, i) => i).filter((i) => matches(data.plans[i]));
const drawn = () => shown().filter((i) => scores()[i] != null && place(data.plans[i]) != null)
  .sort((a, b) => place(data.plans[a]) - place(data.plans[b]) || (better(scores()[a][0], scores()[b][0]) ? -1 : 1));
const front = (plans) => {  // those that no other beats; `plans` are sorted by what they cost
  const found = [];
  for (const i of plans) if (!found.length || better(scores()[i][0], scores()[found.at(-1)][0])) found.push(i);
  return found;
};

// ---- the chart

const MARKERS = {
  o: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", s: "M-3.6-3.6h7.2v7.2h-7.2z", "^": "M0-4.6L4.4 3.4H-4.4z",
  D: "M0-5L5 0L0 5L-5 0z", v: "M0 4.6L4.4-3.4H-4.4z", P: "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
  X: "M-4-2.4L-2.4-4L0-1.6L2.4-4L4-2.4L1.6 0L4 2.4L2.4 4L0 1.6L-2.4 4L-4 2.4L-1.6 0z",
  p: "M0-4.6L4.4-1.4L2.7 3.8H-2.7L-4.4-1.4z", "*": "M0-5L1.3-1.7L4.8-1.5L2.1.7L3 4.1L0 2.2L-3 4.1L-2.1.7L-4.8-1.5L-1.3-1.7z",
  "<": "M-4.6 0L3.4-4.4V4.4z", ">": "M4.6 0L-3.4-4.4V4.4z", h: "M0-4.6L4-2.3V2.3L0 4.6L-4 2.3V-2.3z",
  d: "M0-5L3 0L0 5L-3 0z", H: "M-2.3-4H2.3L4.6 0L2.3 4H-2.3L-4.6 0z", "8": "M-1.8-4.4H1.8L4.4-1.8V1.8L1.8 4.4H-1.8L-4.4 1.8V-1.8z",
};
const colour = (family) => {  // ink follows the theme; the others are told apart on both
  const named = data.families[family].colour.toLowerCase();
  return named === "#222222" ? "var(--ink)" : named;
};
const narrow = matchMedia("(max-width: 40rem)");
let axes = null, WIDTH, HEIGHT;
function fit() { [WIDTH, HEIGHT] = narrow.matches ? [400, 360] : [760, 460]; }

function limits(values, room) {
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) { low -= 0.5; high += 0.5; }
  return [low - room * (high - low), high + room * (high - low)];
}
function ticks(low, high, whole) {
  const rough = (high - low) / 8, power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(+at.toFixed(6));
  return found;
}
const onAxis = (value) => (isShare() ? 100 * value : Math.log10(value));
function marks(low, high) {  // where the vertical axis is named, in its unit
  if (isShare()) return ticks(low, high).map((y) => [y, y]);
  const [least, most] = [10 ** low, 10 ** high];
  let found = ticks(least, most);
  if (most / least > 8) {
    const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i);
    const steps = powers.length > 12 ? [1] : powers.length > 4 ? [1, 3] : [1, 2, 5];
    found = powers.flatMap((power) => steps.map((step) => step * 10 ** power));
    if (powers.length > 12) found = found.filter((_, i) => i % Math.ceil(powers.length / 10) === 0);
  }
  return found.filter((y) => y > 0 && y >= least && y <= most).map((y) => [Math.log10(y), y < 1e5 ? +y.toPrecision(3) : y.toExponential(1).replace(".0e", "e")]);
}
function drawChart() {
  const known = scores(), base = level(), plans = drawn().filter((i) => isShare() || known[i][0] > 0);
  const xs = plans.map((i) => place(data.plans[i]));
  const seen = plans.flatMap((i) => known[i].filter((v) => v != null));
  if (base != null) seen.push(base);
  const ys = seen.filter((v) => isShare() || v > 0).map(onAxis);
  if (isShare()) ys.push(0, 100);
  const [x0, x1] = limits(xs.length ? xs : [0, 1], 0.03), [y0, y1] = limits(ys.length ? ys : [0, 1], 0.04);
  const X = (v) => PAD.left + (v - x0) / (x1 - x0) * (WIDTH - PAD.left - PAD.right);
  const up = (v) => { const share = (v - y0) / (y1 - y0); return isLower() ? 1 - share : share; };  // the best is on top
  const T = (v) => HEIGHT - PAD.bottom - up(v) * (HEIGHT - PAD.top - PAD.bottom);
  const Y = (v) => T(isShare() || v > 0 ? onAxis(v) : y0);
  const n = (v) => v.toFixed(1), out = [], at = (i) => n(X(place(data.plans[i])));
  for (const [y, name] of marks(y0, y1)) out.push(`<path class="grid" d="M${PAD.left} ${n(T(y))}H${WIDTH - PAD.right}"/><text class="soft" x="${PAD.left - 8}" y="${n(T(y) + 4)}" text-anchor="end">${name}</text>`);
  for (const x of ticks(x0, x1, state.across !== "cost")) out.push(`<text class="soft" x="${n(X(x))}" y="${HEIGHT - PAD.bottom + 18}" text-anchor="middle">${x}</text>`);
  const line = (value, name, css) => value == null ? "" : `<path class="${css}" d="M${PAD.left} ${n(Y(value))}H${WIDTH - PAD.right}"/><text class="soft" x="${WIDTH - PAD.right}" y="${n(Y(value) - 5)}" text-anchor="end">${name}</text>`;
  out.push(line(base, "baseline", "level"), line(guessed(), "chance", "guess"));
  const bars = new Map();
  for (const i of plans) if (known[i][1] != null) {
    const family = data.plans[i].family;
    bars.set(family, `${bars.get(family) || ""}M${at(i)} ${n(Y(known[i][1]))}V${n(Y(known[i][2]))}`);
  }
  const opacity = plans.length <= 150 ? 0.45 : plans.length <= 1000 ? 0.15 : 0.05;
  for (const [family, d] of bars) out.push(`<path class="bars" d="${d}" stroke="${colour(family)}" stroke-width="2" stroke-opacity="${opacity}"/>`);
  if (state.across !== "cost") out.push(lines(plans, X, (i) => Y(known[i][0])));
  else if (canJudge()) out.push(`<path class="front" d="${front(plans).map((i, first) => `${first ? "H" : "M"}${at(i)}${first ? "V" : " "}${n(Y(known[i][0]))}`).join("")}"/>`);
  for (const i of plans) out.push(`<path class="point" data-plan="${i}" transform="translate(${at(i)} ${n(Y(known[i][0]))})" d="${MARKERS[data.families[data.plans[i].family].marker] || MARKERS.o}" fill="${colour(data.plans[i].family)}"/>`);
  const label = state.across === "cost" ? data.cost : data.axes[state.across] || state.across;
  out.push(`<text x="${(WIDTH + PAD.left) / 2}" y="${HEIGHT - 10}" text-anchor="middle" id="x-label"></text><text transform="translate(14 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle" id="y-label"></text><circle id="ring" class="chosen" r="9" visibility="hidden"/>`);
  $("chart").innerHTML = `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true">${out.join("")}</svg>`;
  $("x-label").textContent = label;
  $("y-label").textContent = unit();
  axes = { plans, x: (i) => X(place(data.plans[i])), y: (i) => Y(known[i][0]) };
  ring(state.at >= 0 && plans.includes(state.at) ? state.at : -1);
}
function lines(plans, X, y) {
  const runs = new Map();
  for (const i of plans) {
    const plan = data.plans[i], rest = Object.entries(plan.with).filter(([name]) => name !== state.across);
    const key = JSON.stringify([plan.family, rest]);
    runs.set(key, [...(runs.get(key) || []), i]);
  }
  return [...runs.values()].filter((run) => run.length > 1).map((run) => `<path fill="none" stroke="${colour(data.plans[run[0]].family)}" stroke-width="1.4" stroke-opacity=".7" d="M${run.map((i) => `${X(place(data.plans[i])).toFixed(1)} ${y(i).toFixed(1)}`).join("L")}"/>`).join("");
}
function warn() {  // of what cannot be said by a task, and what is therefore not drawn
  const out = data.tasks.filter((one) => one.share && !one.above).map((one) => one.title);
  let text = "";
  if (task() && !task().above) text = `${task().title}: the baseline's ${show(task().baseline)} is ${task().lower ? "no better than a guess" : "not above chance"}${task().chance == null ? "" : `, ${show(task().chance)}`}. Nothing can be said of plans by this task, and no front is drawn.`;
  else if (!task() && out.length) text = `Left out of the average, since the baseline is not above chance there: ${out.join(", ")}.`;
  $("warning").textContent = text;
  $("warning").hidden = !text;
}
function ring(i) {
  const mark = $("ring");
  mark.setAttribute("visibility", i < 0 ? "hidden" : "visible");
  if (i >= 0) mark.setAttribute("transform", `translate(${axes.x(i).toFixed(1)} ${axes.y(i).toFixed(1)})`);
}
function summary(i) {
  const plan = data.plans[i], [value, low, high] = scores()[i] || [null, null, null];
  const interval = low == null ? "" : ` (95 % interval ${show(low)} to ${show(high)})`;
  const cost = plan.cost == null ? "" : `\ncost ${plan.cost.toPrecision(3)}: ${data.cost}`;
  return `${title(plan)}${told(plan) ? `, ${told(plan)}` : ""}\n${plan.plan}\n${show(value) || "no score"}${interval}${cost}`;
}
const nearest = (event) => {
  const box = $("chart").querySelector("svg").getBoundingClientRect(), by = WIDTH / box.width;
  const x = (event.clientX - box.left) * by, y = (event.clientY - box.top) * by;
  let best = -1, least = 18 ** 2;
  for (const i of axes.plans) {
    const far = (axes.x(i) - x) ** 2 + (axes.y(i) - y) ** 2;
    if (far < least) { least = far; best = i; }
  }
  return best;
};
function hover(event) {
  const i = nearest(event), tip = $("tip");
  tip.hidden = i < 0;
  if (i < 0) return;
  tip.textContent = summary(i);
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
}
function step(by) {
  if (!axes.plans.length) return;
  const at = axes.plans.indexOf(state.at), last = axes.plans.length - 1;
  state.at = axes.plans[by === -Infinity ? 0 : by === Infinity ? last : Math.max(0, Math.min(last, at < 0 ? 0 : at + by))];
  ring(state.at);
  $("now").textContent = summary(state.at).replaceAll("\n", ". ");
}

// ---- the plan that was opened

const unpacked = new Map();  // by the element's id
function unpack(id) {
  if (!unpacked.has(id)) unpacked.set(id, (async () => {
    const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  })());
  return unpacked.get(id);
}
const details = () => unpack(`later-${state.model}`);
const address = (i) => {  // of a plan on this page
  const model = blocks.length > 1 ? `&model=${state.model}` : "";
  return `#plan=${encodeURIComponent(data.plans[i].plan)}${model}`;
};
async function open(i, focus = true) {
  state.open = i;
  const plan = data.plans[i], box = $("detail"), model = state.model;
  const more = await details();
  if (state.open !== i || state.model !== model) return;
  const drawing = new DOMParser().parseFromString(more.pictures[plan.digest], "image/svg+xml").documentElement;
  const words = make("ol");
  for (const sentence of more.words[plan.digest]) words.append(make("li", {}, sentence));
  if (focus) history.replaceState(null, "", address(i));
  const link = make("button", { type: "button", class: "link", "data-text": location.href.split("#")[0] + address(i) }, "Copy the link to this plan");
  box.replaceChildren(
    make("h3", {}, `${title(plan)}${told(plan) ? `, ${told(plan)}` : ""}`), make("code", {}, written(plan.plan)), link,
    document.importNode(drawing, true), words,
    make("h3", {}, "Scores"), scoreTable(i), make("h3", {}, "Run it again"), command(plan), ...answers(i, more));
  if ($("lens-plan")) lensOf(plan.digest);
  if (focus) box.focus();
}
function follow() {  // the plan that the page's address names
  const named = new URLSearchParams(location.hash.slice(1)), plan = named.get("plan"), model = +(named.get("model") || 0);
  if (plan == null || !(model in blocks)) return;
  if (model !== state.model) { $("model").value = model; use(model); }
  const i = data.plans.findIndex((one) => one.plan === plan || one.digest === plan);
  if (i < 0) { $("now").textContent = "The plan that the address names is not on this page."; $("explore").scrollIntoView(); return; }
  state.at = i;
  ring(axes.plans.includes(i) ? i : -1);
  open(i).then(() => $("detail").scrollIntoView({ block: "start" }));
}

// ---- what is saved and copied

function save(name, kind, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: kind })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function saveSvg(name, drawing) {  // a drawing of the page as a file that stands alone
  const copy = drawing.cloneNode(true), own = [...drawing.querySelectorAll("*")];
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  if (drawing.closest(".chart")) copy.querySelectorAll("*").forEach((element, i) => {  // what the page's style says
    const style = getComputedStyle(own[i]);
    for (const key of ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "font"]) element.style.setProperty(key, style.getPropertyValue(key));
  });
  save(`${name}.svg`, "image/svg+xml", new XMLSerializer().serializeToString(copy));
}
const cell = (value) => {  // of a CSV file; no program is to compute what begins like a formula
  if (value == null) return "";
  const text = typeof value === "string" && /^[=+\-−@\t\r]/.test(value) && Number.isNaN(+value) ? `'${value}` : `${value}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
function savePlans() {  // what the chart and the table show
  const rows = shown().map((i) => {
    const plan = data.plans[i], score = scores()[i] || [], [lost, gained] = changed(i);
    return [title(plan), told(plan), plan.plan, plan.cost, score[0], score[1], score[2], lost, gained].map(cell).join(",");
  });
  const head = ["strategy", "with", "plan", "cost", "score", "low", "high", "lost", "gained"].join(",");
  save(`plans-${task() ? task().name : "average"}.csv`.replace(/[^\w.-]+/g, "-"), "text/csv", `${[head, ...rows].join("\n")}\n`);
}
async function copyText(button, text, from) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {  // where the browser keeps its clipboard to itself, the text is selected instead
    if (from) getSelection().selectAllChildren(from);
    button.textContent = from ? "Selected" : text;
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".copy")) copyText(button, button.parentElement.querySelector("pre").textContent, button.parentElement.querySelector("pre"));
  if (button.matches(".link")) copyText(button, button.dataset.text, null);
  if (!button.matches(".save")) return;
  const figure = button.closest("figure"), name = figure.dataset.name;
  if (button.dataset.save === "csv") { save(`${name}.csv`, "text/csv", (await unpack("figure-data"))[name]); return; }
  const image = figure.querySelector(".wide img"), drawing = figure.querySelector(".wide svg");
  if (drawing) saveSvg(name, drawing);
  else if (image) make("a", { href: image.src, download: `${name}.png` }).click();
});
for (const button of document.querySelectorAll(".save, .copy")) button.hidden = false;

// ---- the lens

let lensed = null;  // of the model that is shown
async function drawLens() {
  const number = state.model, from = $(`lens-${number}`);
  if (!from || !$("lens-plan")) return;
  lensed = await unpack(`lens-${number}`);
  if (number !== state.model) return;
  const there = data.plans.map((_, i) => i).filter((i) => data.plans[i].digest in lensed.plans), seen = new Set();
  $("lens-note").textContent = from.dataset.note;
  $("lens-note").hidden = !from.dataset.note;
  $("lens-controls").hidden = $("lens-scroll").hidden = !there.length;
  if (!there.length) return;
  $("lens-prompt").replaceChildren(...lensed.prompts.map((tokens, i) => option(i, tokens.length > 1 && tokens.join("").length > 60 ? `…${tokens.join("").slice(-60)}` : tokens.join("").trim())));
  const first = there.filter((i) => !seen.has(data.plans[i].digest) && seen.add(data.plans[i].digest));
  $("lens-plan").replaceChildren(...first.map((i) => option(data.plans[i].digest, `${data.plans[i].plan}${i === baselinePlan ? " (baseline)" : ""}`)));
  fillLens();
}
function lensOf(digest) {
  if (!lensed || !(digest in lensed.plans)) return;
  $("lens-plan").value = digest;
  fillLens();
}
const visible = (token) => (token.trim() ? token.trim() : token.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣")) || "∅";
function fillLens() {
  const at = +$("lens-prompt").value, tokens = lensed.prompts[at], [depths, cells] = lensed.plans[$("lens-plan").value];
  $("lens-head").replaceChildren(make("th", { scope: "col" }, "after"), ...tokens.map((token) => make("th", { scope: "col" }, make("code", {}, visible(token)))));
  $("lens-rows").replaceChildren(...depths.map((name, depth) => make("tr", {}, make("th", { scope: "row" }, make("code", {}, name)), ...tokens.map((_, t) => {
    const i = 2 * (depth * tokens.length + t), share = cells[at][i + 1], box = make("td", {}, make("code", {}, visible(lensed.words[cells[at][i]])), " ", make("small", {}, `${share}`));
    box.style.setProperty("--share", `${share * 0.3}%`);
    return box;
  }))));
}

function scoreTable(i) {
  const body = make("tbody");
  data.tasks.forEach((one, t) => {
    const score = data.scores[t][i], times = one.share ? 100 : 1, say = (v) => v == null ? "" : one.share ? (times * v).toFixed(1) : v.toPrecision(5);
    body.append(make("tr", {}, make("th", { scope: "row" }, one.title, make("small", {}, one.unit + (one.share ? ", %" : ""))), make("td", { class: "number" }, score ? say(score[0]) : "–"),
      make("td", {}, score && score[1] != null ? `${say(score[1])} to ${say(score[2])}` : ""), make("td", { class: "number" }, say(one.baseline))));
  });
  const head = make("tr");
  for (const name of ["task", "score", "95 % interval", "baseline"]) head.append(make("th", { scope: "col" }, name));
  return make("table", {}, make("thead", {}, head), body);
}
function command(plan) {
  const study = data.study.join(JSON.stringify(plan.plan)).trimEnd();
  const text = make("pre", { tabindex: "0", role: "region", "aria-label": "Commands" }, `cat > plan.yaml <<'END'\n${study}\nEND\nimpasto run plan.yaml --out runs/plan`);
  return make("div", { class: "copied" }, text, make("button", { type: "button", class: "copy" }, "Copy"));
}
function answers(i, more) {
  if (!data.changed) return [make("p", { class: "hint" }, "There are too many answers to compare them on this page.")];
  const found = [];
  data.tasks.forEach((one, t) => {
    if (task() ? t !== state.task : !judged.includes(t)) return;
    const counts = data.changed[t][i];
    if (!counts) return;
    found.push(make("h3", {}, `${one.title}, by ${one.unit}: ${counts[0]} lost, ${counts[1]} gained of ${one.n}`));
    const cell = more.cells[t][data.plans[i].digest];
    if (!cell) return;
    cell.forEach((items, gained) => {
      if (!items.length) return;
      const list = make("ul");
      for (const [item, says] of items) {
        const [question, right] = more.asked[t][item] || ["", ""], entry = make("dl", {});
        const told = [["question", question], ["right answer", right], ["this plan", says || "nothing"], ["baseline", more.said[t][item] || "nothing"]];
        for (const [name, text] of told) if (text) entry.append(make("dt", {}, name), make("dd", {}, text));
        list.append(make("li", {}, make("strong", {}, more.items[t][item]), entry));
      }
      const bounded = items.length < counts[gained] ? `, ${items.length} of ${counts[gained]} shown` : "";
      const summary = make("summary", {}, `${gained ? "gained" : "lost"}${bounded}`);
      const fold = make("details", {}, summary, list);
      fold.open = !gained;
      found.push(fold);
    });
  });
  const lacking = data.lacking.map((line) => make("p", { class: "hint" }, line));
  return found.length ? [make("h3", {}, "Answers that changed"), ...lacking, ...found] : [];
}

// ---- the table

const columns = [
  ["family", "strategy", (i) => title(data.plans[i])], ["with", "with", (i) => told(data.plans[i])],
  ["plan", "plan", (i) => data.plans[i].plan], ["cost", "cost", (i) => data.plans[i].cost],
  ["score", "score", (i) => scores()[i] && scores()[i][0]], ["interval", "95 % interval", (i) => scores()[i] && scores()[i][1]],
  ["change", "change", (i) => {
    if (!scores()[i] || level() == null) return null;
    return isShare() ? scores()[i][0] - level() : level() ? scores()[i][0] / level() - 1 : null;
  }],
  ["lost", "lost", (i) => changed(i)[0]], ["gained", "gained", (i) => changed(i)[1]],
];
const NUMBERS = new Set(["cost", "score", "interval", "change", "lost", "gained"]);
function drawHead() {
  $("head").replaceChildren(...columns.map(([key, name]) => {
    const button = make("button", { type: "button", "data-sort": key }, name);
    return make("th", { scope: "col", class: NUMBERS.has(key) ? "number" : "" }, button);
  }));
}
function drawTable() {
  for (const cell of $("head").children) {
    const key = cell.firstChild.dataset.sort, here = key === state.sort;
    if (here) cell.setAttribute("aria-sort", state.up ? "ascending" : "descending"); else cell.removeAttribute("aria-sort");
    cell.firstChild.textContent = columns.find(([name]) => name === key)[1] + (here ? (state.up ? " ▲" : " ▼") : "");
  }
  const value = columns.find(([key]) => key === state.sort)[2], compare = new Intl.Collator(undefined, { numeric: true }).compare;
  const plans = shown().map((i) => [value(i), i]);
  plans.sort(([a], [b]) => a == null || b == null ? (a == null) - (b == null)
    : (typeof a === "string" ? compare(a, b) : a - b) * (state.up ? 1 : -1));
  const some = plans.slice(0, state.rows), change = columns.find(([key]) => key === "change")[2];
  $("rows").replaceChildren(...some.map(([, i]) => {
    const plan = data.plans[i], score = scores()[i], [lost, gained] = changed(i), moved = change(i);
    const cell = (text, css = "") => make("td", css ? { class: css } : {}, text == null ? "" : `${text}`);
    const opener = make("button", { type: "button", "data-plan": i }, written(plan.plan));
    const points = moved == null ? "" : `${moved < 0 ? "−" : "+"}${Math.abs(100 * moved).toFixed(1)}${isShare() ? "" : " %"}`;
    return make("tr", {}, cell(title(plan)), cell(told(plan)), make("td", {}, opener), cell(plan.cost == null ? "" : plan.cost.toPrecision(3), "number"),
      cell(score ? show(score[0]) : "–", "number"), cell(score && score[1] != null ? `${show(score[1])} – ${show(score[2])}` : "", "number"),
      cell(points, "number"), cell(lost, "number"), cell(gained, "number"));
  }));
  $("more").hidden = plans.length <= state.rows;
  $("more").textContent = `Show more (${some.length} of ${plans.length} shown)`;
}
function draw() {
  drawChart();
  drawTable();
  warn();
  const plans = shown().length;
  $("count").textContent = `${plans} of ${data.plans.length} plans, ${axes.plans.length} of them in the chart`;
}

// ---- controls

const option = (value, text) => make("option", { value }, text);
function use(model) {  // show a model's block
  blocks[model] ??= JSON.parse($(`first-${model}`).textContent);
  data = blocks[model];
  judged = data.tasks.map((_, t) => t).filter((t) => data.tasks[t].share && data.tasks[t].above);
  averages = averaged();
  baselinePlan = data.plans.findIndex((plan) => plan.family === "baseline");
  Object.assign(state, { model, task: judged.length > 1 ? AVERAGE : 0, hidden: new Set(), rows: ROWS, at: -1, open: -1, sort: "score" });
  $("task").replaceChildren(...data.tasks.map((one, t) => option(t, `${one.title} (${one.unit})`)));
  if (judged.length > 1) $("task").append(option(AVERAGE, `Average of ${judged.length} tasks`));
  $("task").value = state.task;
  state.up = isLower();
  const names = Object.keys(data.axes).filter((name) => data.plans.some((plan) => typeof plan.with[name] === "number"));
  const often = (name) => data.plans.filter((plan) => name in plan.with).length;
  names.sort((a, b) => often(b) - often(a));
  $("across").replaceChildren(...names.map((name) => option(name, data.axes[name])), option("cost", "cost"));
  state.across = names[0] || "cost";
  $("families").replaceChildren();
  for (const [key, family] of Object.entries(data.families)) {
    const box = make("input", { type: "checkbox", value: key });
    box.checked = true;
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    swatch.setAttribute("class", "swatch");
    swatch.setAttribute("viewBox", "-9 -7 18 14");
    swatch.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
    shape.setAttribute("d", MARKERS[family.marker] || MARKERS.o);
    shape.setAttribute("fill", colour(key));
    swatch.append(shape);
    $("families").append(make("label", {}, box, swatch, family.title));
  }
  draw();
  drawLens();
}
impastoTheme($("theme"));
if (!blocks.length) return;  // of a search alone there is nothing to explore
const hint = $("detail").firstElementChild;
fit();
drawHead();
use(0);
if (blocks.length > 1) {
  $("models").hidden = false;
  blocks.forEach((_, i) => $("model").append(option(i, $(`first-${i}`).dataset.named)));
  $("model").addEventListener("change", () => { use(+$("model").value); $("detail").replaceChildren(hint); });
}
$("controls").addEventListener("submit", (event) => event.preventDefault());
$("task").addEventListener("change", () => { state.task = +$("task").value; if (["score", "interval"].includes(state.sort)) state.up = isLower(); draw(); if (state.open >= 0) open(state.open, false); });
$("across").addEventListener("change", () => { state.across = $("across").value; draw(); });
$("search").addEventListener("input", () => { state.search = $("search").value.trim().toLowerCase(); state.rows = ROWS; draw(); });
$("families").addEventListener("change", (event) => {
  if (event.target.checked) state.hidden.delete(event.target.value); else state.hidden.add(event.target.value);
  draw();
});
$("head").addEventListener("click", (event) => {
  const key = event.target.dataset.sort;
  if (!key) return;
  const best = key === "cost" || (isLower() && ["score", "interval", "change"].includes(key));
  state.up = key === state.sort ? !state.up : !NUMBERS.has(key) || best;
  state.sort = key;
  drawTable();
});
$("rows").addEventListener("click", (event) => { const button = event.target.closest("[data-plan]"); if (button) open(+button.dataset.plan); });
$("more").addEventListener("click", () => { state.rows += ROWS; drawTable(); });
$("chart").addEventListener("pointermove", hover);
$("chart").addEventListener("pointerleave", () => { $("tip").hidden = true; });
$("chart").addEventListener("click", (event) => { const i = nearest(event); if (i >= 0) { state.at = i; ring(i); open(i); } });
$("chart").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
  if (by) { step(by); event.preventDefault(); }
  if ((event.key === "Enter" || event.key === " ") && state.at >= 0) { open(state.at); event.preventDefault(); }
});
$("save-plans").addEventListener("click", savePlans);
$("save-chart").addEventListener("click", () => saveSvg("plans", $("chart").querySelector("svg")));
if ($("lens-plan")) for (const id of ["lens-prompt", "lens-plan"]) $(id).addEventListener("change", fillLens);
addEventListener("hashchange", follow);
narrow.addEventListener("change", () => { fit(); drawChart(); });
addEventListener("beforeprint", () => {
  state.rows = Infinity;
  drawTable();
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
follow();
})();
