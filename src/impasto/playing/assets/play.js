// The page's behaviour. `element` is our part of the page, `server` the functions that answer.
// The plan is a list of chips: steps of the plan's JSON, of which those that are `off` do not run.
// The page moves chips about; what they are called and what they do is asked. Data is set as text.
(() => {
"use strict";
const $ = (id) => element.querySelector(`#${id}`);
const FIELDS = ["prompt", "tokens", "donor", "donor_span", "target_span"];
const SAYS = $("says").textContent, LIMIT = 100;  // steps that can be undone
const LONGEST = 16000;  // letters of an address that servers take
const page = crypto.getRandomValues(new Uint32Array(2)).join("-");
let model, base, chips = [], line = "", drawn = null;
let here = null, anchor = null;  // the chip that keys act on; the other end of those chosen
let past = [], future = [], edits = 0, asks = 0, look = null;

const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null && value !== false) made.setAttribute(name, value === true ? "" : value);
  made.append(...children);
  return made;
};
const say = (text) => { $("said").textContent = ""; setTimeout(() => { $("said").textContent = text; }, 30); };
function later(wait, act) {  // what acts once it was not called for so long, unless it is stopped
  let timer;
  const call = () => { clearTimeout(timer); timer = setTimeout(act, wait); };
  call.stop = () => clearTimeout(timer);
  return call;
}
const isNarrow = matchMedia("(max-width: 40rem)");

// ---- chips and lists of them

const kind = (chip) => (chip.parallel ? "group" : "layer" in chip ? "layer" : "marker");
function* everywhere(list = chips, up = null) {  // every chip with the list that it is in
  for (const chip of list) {
    yield { chip, list, up };
    if (chip.parallel) for (const lane of chip.parallel) yield* everywhere(lane, chip);
  }
}
const place = (chip) => { for (const found of everywhere()) if (found.chip === chip) return found; return null; };
const running = (list) => list.flatMap((chip) => {
  if (chip.off) return [];
  if (!chip.parallel) return [chip];
  const lanes = chip.parallel.filter((lane) => !lane.length || running(lane).length).map(running);
  return lanes.some((lane) => lane.length) ? [{ ...chip, parallel: lanes }] : [];
});
const plainly = (list) => JSON.stringify({ plan: 1, steps: running(list) }, (key, value) => (key === "off" ? undefined : value));
function chosen() {  // what an act is about: a list, from where, and up to where
  const found = here && place(here);
  if (!found) return null;
  const at = found.list.indexOf(here), end = anchor ? found.list.indexOf(anchor) : at;
  const [from, to] = end < 0 ? [at, at] : [Math.min(at, end), Math.max(at, end)];
  return { ...found, from, to, all: found.list.slice(from, to + 1) };
}
const markerName = (chip) => ("freeze" in chip ? (chip.freeze === "prompt" ? "freeze\nprompt" : "freeze") : "noise" in chip ? `noise\n${chip.noise}` : `inject\n${chip.inject}`);
function named(chip) {
  if (kind(chip) === "marker") return markerName(chip).replace("\n", " ");
  const times = "scale" in chip ? `, times ${chip.scale}` : "";
  if (kind(chip) === "group") return `${chip.parallel.length > 1 ? `${chip.parallel.length} branches, ${chip.combine === "sum" ? "the sum of what they add" : "their mean"}` : "Layers together"}${times}${chip.off ? ", skipped" : ""}`;
  const part = chip.part === "block" ? "" : chip.part === "mlp" ? ", attention dropped" : ", MLP dropped";
  const seen = chip.reach ? `, attention sees the first ${chip.reach.first} and the last ${chip.reach.last} tokens` : "";
  return `Layer ${chip.layer}${part}${seen}${times}${chip.off ? ", skipped" : ""}`;
}

// ---- drawing the plan

const elements = new Map();  // chip → its element
function shownText(text) {  // blanks at either end, and line breaks, as signs
  const nodes = [];
  for (const piece of text.split(/(^ +| +$|[\n\t])/)) {
    if (!piece) continue;
    const blank = /^[ \n\t]/.test(piece);
    nodes.push(blank ? make("span", { class: "space" }, piece.replace(/ /g, "·").replace(/\n/g, "⏎").replace(/\t/g, "⇥")) : piece);
  }
  return nodes.length ? nodes : [make("span", { class: "space" }, "∅")];
}
function chipOf(chip) {
  const isMarker = kind(chip) === "marker";
  const less = !isMarker && (chip.part !== "block" || chip.reach || "scale" in chip);
  const button = make("button", {
    type: "button", class: `chip ${isMarker ? "marker" : ""} ${less ? "less" : ""} ${chip.off ? "off" : ""}`,
    tabindex: -1, "aria-pressed": isMarker ? null : String(!chip.off), "aria-label": named(chip), title: named(chip),
  });
  if (isMarker) button.append(make("span", {}, markerName(chip)));
  else {
    button.style.setProperty("--at", model.layers > 1 ? chip.layer / (model.layers - 1) : 0);
    const part = (letter, gone) => make("span", { "data-part": gone === "mlp" ? "attention" : "mlp", class: chip.part === gone ? "gone" : null }, letter);
    button.append(make("span", { class: "no" }, String(chip.layer)), make("span", { class: "parts" }, part("A", "mlp"), part("M", "attention")));
  }
  if ("scale" in chip) button.append(make("span", { class: "badge" }, `×${chip.scale}`));
  else if (chip.reach) button.append(make("span", { class: "badge" }, "reach"));
  elements.set(chip, button);
  return button;
}
function groupOf(chip) {
  const lanes = chip.parallel.map((lane) => {
    const drawnLane = make("div", { class: "lane" }, ...lane.map((one) => cellOf(one)));
    if (!lane.length) drawnLane.append(make("span", { class: "empty" }, "nothing"));
    return drawnLane;
  });
  const grip = make("button", { type: "button", class: "grip", tabindex: -1, "aria-label": named(chip), "aria-pressed": String(!chip.off), title: "Click to skip the group or put it back" },
    `${chip.parallel.length < 2 ? "together" : `${chip.combine === "sum" ? "sum" : "mean"} of ${chip.parallel.length}`}${"scale" in chip ? ` ×${chip.scale}` : ""}`);
  elements.set(chip, grip);
  return make("div", { class: `box ${chip.parallel.length > 3 || chip.parallel.every((lane) => lane.length < 2) ? "" : "few"}` }, grip, make("div", { class: "lanes" }, ...lanes));
}
function cellOf(chip) {
  const isGroup = kind(chip) === "group";
  return make("div", { class: `cell ${isGroup ? "group" : ""} ${chip.off ? "off" : ""}` }, isGroup ? groupOf(chip) : chipOf(chip));
}
const edges = (chip) => {  // the first and the last layer of a chip, for what comes before and behind
  const layers = [...everywhere([chip])].filter((one) => kind(one.chip) === "layer" && !one.chip.off).map((one) => one.chip.layer);
  return [Math.min(...layers), Math.max(...layers)];
};
function draw() {
  const hadFocus = element.ownerDocument.activeElement && $("strip").contains(element.ownerDocument.activeElement);
  elements.clear();
  if (drawn) {  // too many chips: the server's picture, in which everything is escaped
    $("strip").innerHTML = drawn;
    $("bar").hidden = true;
    return;
  }
  $("bar").hidden = false;
  if (!here || !place(here)) { here = chips[0] || null; anchor = null; }
  const cells = chips.map((chip) => cellOf(chip));
  let before = -1;
  chips.forEach((chip, i) => {
    if (!i) cells[i].classList.add("first");
    if (chip.off || kind(chip) === "marker") return;
    const [low, high] = edges(chip);
    const stays = before >= 0 ? low === before + 1 : low === 0;
    if (!stays) cells[i].classList.add("jump");
    before = high;
  });
  $("strip").classList.toggle("many", [...everywhere()].length > 24);
  $("strip").replaceChildren(...cells);
  fillWords();
  markChosen();
  if (hadFocus && here) elements.get(here).focus();
}
function markChosen() {
  const about = chosen();
  for (const [chip, button] of elements) {
    const isChosen = Boolean(about && anchor && about.all.includes(chip));
    button.classList.toggle("chosen", isChosen);
    button.classList.toggle("here", chip === here);
    button.tabIndex = chip === here ? 0 : -1;
  }
  const isOff = about && about.all.every((chip) => chip.off);
  element.querySelector("[data-act=skip]").firstChild.textContent = isOff ? "Put back " : "Skip ";
}
function fillWords() {  // below every chip, what the model would say if it ended there
  for (const old of $("strip").querySelectorAll(".lens-word")) old.remove();
  const read = look && look.line === line && look.plan.depths ? look : null;
  let depth = 0;
  for (const chip of chips) {
    const word = make("span", { class: "lens-word", "aria-hidden": "true" });
    const steps = kind(chip) !== "marker" && running([chip]).length;
    if (steps) depth += 1;
    const button = elements.get(chip);
    if (read && steps && read.plan.likeliest[depth]) {
      const text = read.plan.likeliest[depth].at(-1), share = Math.round(100 * read.plan.probability[depth].at(-1));
      word.append(...shownText(text));
      word.style.setProperty("--share", `${0.7 * share}%`);
      word.title = `Here the model would say “${text}”, ${share} %`;
      word.classList.toggle("final", Boolean(read.base.likeliest) && text === read.base.likeliest.at(-1).at(-1));
      button.setAttribute("aria-label", `${named(chip)}; here the model would say “${text}”, ${share} %`);
    }
    button.closest(".strip > .cell").append(word);
  }
}

// ---- changing the plan

function change(act, text) {
  const before = JSON.stringify(chips), at = [...everywhere()].findIndex((one) => one.chip === here);
  const refused = act();
  if (refused) { say(refused); return; }
  past.push([before, at]);
  if (past.length > LIMIT) past.shift();
  future = [];
  draw();
  send("chips", text);
}
function restore(from, onto, text) {
  if (!from.length) { say(`Nothing to ${text}`); return; }
  onto.push([JSON.stringify(chips), [...everywhere()].findIndex((one) => one.chip === here)]);
  const [before, at] = from.pop();
  chips = JSON.parse(before);
  drawn = null;
  here = ([...everywhere()][at] || { chip: null }).chip;
  anchor = null;
  draw();
  send("chips", text === "undo" ? "Undone" : "Done again");
}
const layersOf = (all) => all.filter((chip) => kind(chip) === "layer");
const tidy = (group) => {  // what is left of a group whose branches were moved out
  group.parallel = group.parallel.filter((lane) => lane.length);
  const found = place(group);
  if (!found) return;
  const at = found.list.indexOf(group);
  if (!group.parallel.length) found.list.splice(at, 1);
};
function toggle(all) {
  const isOff = all.every((chip) => chip.off);
  for (const chip of all) if (isOff) delete chip.off; else chip.off = true;
}
const ACTS = {
  skip: ({ all, list, from }) => {
    const markers = all.filter((chip) => kind(chip) === "marker");
    if (markers.length === all.length) {
      list.splice(from, all.length);
      here = list[Math.min(from, list.length - 1)] || null;
      anchor = null;
      return;
    }
    toggle(all.filter((chip) => kind(chip) !== "marker"));
  },
  attention: (about) => dropPart(about, "mlp", "attention"),
  mlp: (about) => dropPart(about, "attention", "mlp"),
  earlier: (about) => shift(about, -1),
  later: (about) => shift(about, 1),
  reverse: ({ list, from, to, all }) => {
    if (from < to) { list.splice(from, all.length, ...all.reverse()); return ""; }
    const next = list.findIndex((chip, i) => i > from && !chip.off);
    if (next < 0) return "There is no layer after it";
    [list[from], list[next]] = [list[next], list[from]];
    return "";
  },
  repeat: ({ list, to, all, from }) => {
    if (all.some((chip) => kind(chip) === "marker")) return "A freeze or noise is not repeated";
    const copies = JSON.parse(JSON.stringify(all.filter((chip) => !chip.off)));
    if (!copies.length) return "What is skipped is not repeated";
    list.splice(to + 1, 0, ...copies);
    here = copies.at(-1);
    anchor = from < to ? copies[0] : null;
    return "";
  },
  parallel: (about) => {
    const group = kind(here) === "group" ? here : about.up;
    if (group) return dissolve(group);
    const { list, from } = about;
    let { to } = about;
    if (from === to) to = list.findIndex((chip, i) => i > from && !chip.off);
    if (to < 0) return "There is no layer after it to run beside";
    const all = list.slice(from, to + 1), on = all.filter((chip) => !chip.off);
    if (on.some((chip) => kind(chip) === "marker")) return "A freeze or noise does not run side by side with layers";
    if (on.length < 2) return "Two layers at least run side by side";
    const lanes = on.flatMap((chip) => (kind(chip) === "group" && chip.combine === "mean" && !("scale" in chip) ? chip.parallel : [[chip]]));
    const made = { parallel: lanes, combine: "mean" };
    list.splice(from, all.length, made, ...all.filter((chip) => chip.off));
    here = made;
    anchor = null;
    return "";
  },
  combine: (about) => {
    const group = kind(here) === "group" ? here : about.up;
    if (!group) return "Mean or sum is of layers side by side";
    group.combine = group.combine === "sum" ? "mean" : "sum";
    return "";
  },
  half: ({ all }) => {
    const moving = all.filter((chip) => kind(chip) !== "marker");
    if (!moving.length) return "A freeze or noise is not scaled";
    const isHalf = moving.every((chip) => chip.scale === 0.5);
    for (const chip of moving) if (isHalf) delete chip.scale; else chip.scale = 0.5;
    return "";
  },
  freeze: (about) => mark(about, { freeze: true }, "freeze"),
  noise: (about) => mark(about, { noise: "gaussian", seed: 0, keep: 0 }, "noise"),
};
function dropPart({ all }, left, dropped) {
  const layers = layersOf(all);
  if (!layers.length) return "Attention and MLP are a layer's";
  const isDropped = layers.every((chip) => !chip.off && chip.part === left);
  for (const chip of layers) {
    if (isDropped) chip.part = "block";
    else if (chip.part === dropped && !chip.off) chip.off = true;  // nothing of it would be left
    else { delete chip.off; chip.part = left; }
    if (chip.part === "mlp") delete chip.reach;
  }
  return "";
}
function shift(about, by) {
  const { list, from, to, all, up } = about;
  let at = by < 0 ? from - 1 : to + 1;
  while (list[at] && list[at].off) at += by;  // to pass what is skipped changes nothing
  if (list[at]) {
    list.splice(from, all.length);
    list.splice(by < 0 ? at : at - all.length + 1, 0, ...all);
    return "";
  }
  if (!up) return by < 0 ? "It is the first already" : "It is the last already";
  const outer = place(up);
  list.splice(from, all.length);
  outer.list.splice(outer.list.indexOf(up) + (by < 0 ? 0 : 1), 0, ...all);
  tidy(up);
  return "";
}
function dissolve(group) {
  const { list } = place(group);
  const inside = group.parallel.flat();
  list.splice(list.indexOf(group), 1, ...inside);
  here = inside[0] || null;
  anchor = null;
  return "";
}
function mark(about, marker, word) {
  let at = about.from, top = here;
  for (let found = about; found.up; found = place(found.up)) top = found.up;
  if (top !== here) at = chips.indexOf(top);
  const isThere = (chip) => chip && word in chip;
  if (isThere(chips[at])) { chips.splice(at, 1); here = chips[at] || chips.at(-1); }
  else if (isThere(chips[at - 1])) chips.splice(at - 1, 1);
  else chips.splice(at, 0, marker);
  return "";
}
const SAID = { skip: "skipped or put back", attention: "attention", mlp: "MLP", earlier: "moved earlier", later: "moved later", reverse: "reversed", repeat: "repeated", parallel: "side by side", combine: "mean or sum", half: "half", freeze: "freeze", noise: "noise" };
function act(name) {
  if (name === "undo") return restore(past, future, "undo");
  if (name === "redo") return restore(future, past, "redo");
  if (name === "reset") return change(() => { chips = JSON.parse(JSON.stringify(base.chips)); drawn = base.picture; here = anchor = null; }, "As it came");
  if (name === "select") { const button = $("select"); button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true")); return; }
  const about = chosen();
  if (!about) return say("Choose a layer first");
  const about_ = about.all.length > 1 ? `${about.all.length} chosen` : named(about.all[0]);
  return change(() => ACTS[name](about), `${about_}: ${SAID[name]}`);
}

// ---- asking

const fields = () => Object.fromEntries(FIELDS.map((name) => [name, $(name).value]));
async function ask(name, value) {
  let answer;
  try { answer = await server[name](value); } catch { /* said below */ }
  $("failed").hidden = answer != null;
  $("failed").textContent = answer != null ? "" : "impasto does not answer: it has ended, or failed. The terminal where it was started says why.";
  return answer;
}
async function send(from, text = "") {  // the plan, from its chips or from its line, to the server
  const own = ++edits;
  typed.stop();  // it would undo an edit of the chips that was made meanwhile
  asks += 1;  // what is asked about the plan before is of no interest any more
  busy($("live").checked);
  const answer = await ask("read", { ...fields(), ...(from === "chips" ? { document: plainly(chips) } : { plan: $("line").value }) });
  if (own !== edits) return;
  if (!answer) { busy(false); return; }
  const mistake = $("mistake");
  mistake.hidden = !answer.error;
  $("line").setAttribute("aria-invalid", String(Boolean(answer.error)));
  if (answer.error) {
    mistake.replaceChildren(answer.error, ...(answer.caret ? [make("pre", {}, answer.caret)] : []));
    say(answer.error);
    busy(false);
    return;
  }
  const isSame = answer.plan === line && Boolean(answer.picture) === Boolean(drawn);
  line = answer.plan;
  if (from === "line" && !isSame) {
    if (chips.length) past.push([JSON.stringify(chips), -1]);
    future = [];
    drawn = answer.picture;
    chips = answer.chips || [];
    here = anchor = null;
    draw();
  }
  if (from === "chips" || document.activeElement !== $("line")) setLine(line);
  $("donor-fields").hidden = !answer.donors.length;
  $("words").replaceChildren(...answer.words.map((sentence) => make("li", {}, sentence)));
  showCosts(answer);
  $("command").textContent = answer.command;
  const isLong = answer.address.length > LONGEST;
  history.replaceState(null, "", isLong ? location.pathname : answer.address);
  $("copy-link").disabled = isLong;
  $("says").textContent = SAYS;
  for (const button of $("examples").children) {
    const isOpen = button.dataset.plan === line;
    button.setAttribute("aria-pressed", String(isOpen));
    if (isOpen) $("says").textContent = button.dataset.says;
  }
  fillWords();
  if (text) say(`${text}. The plan is ${line}`);
  if ($("live").checked) run(); else $("right").classList.add("busy");
}
const busy = (is) => $("right").setAttribute("aria-busy", String(is));
const refuse = (text) => { $("refused").textContent = text; $("refused").hidden = !text; };
const run = later(120, async () => {
  const own = ++asks, asked = line;
  const value = { ...fields(), plan: asked, page, number: own };
  $("right").classList.remove("busy");
  busy(true);
  for (const [name, show] of [["look", showSeen], ["write", showWritten]]) {
    const answer = await ask(name, value);
    if (own !== asks) return;  // the page has asked anew
    if (!answer || answer.error) { refuse(answer ? answer.error : ""); break; }
    show(answer, asked);
    refuse("");
  }
  busy(false);
});
const sendPlan = () => send(drawn || $("line").getAttribute("aria-invalid") === "true" ? "line" : "chips");

// ---- what it says

const number = (amount) => (amount >= 1000 ? new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(amount) : String(Math.round(amount)));
const percent = (share) => (share > 0 && share < 0.00005 ? "< 0.01 %" : `${(100 * share).toFixed(share >= 0.0995 || share === 0 ? 0 : share >= 0.00095 ? 1 : 2)} %`);
function showCosts(answer) {
  const of = (own, all) => (all ? `${(100 * own / all).toFixed(1)} %` : "");
  const rows = [["layer runs", answer.layers, base.layers], ["attention runs", answer.attention, base.attention], ["MLP runs", answer.mlp, base.mlp], ...answer.costs];
  $("costs").replaceChildren(...rows.map(([what, own, all]) => make("tr", {}, make("th", { scope: "row" }, what),
    make("td", { class: "number" }, number(own)), make("td", { class: "number" }, all == null ? "" : number(all)), make("td", { class: "number" }, of(own, all)))));
  const prefill = answer.costs.find((row) => row[0] === "prefill, operations");
  $("count").textContent = `${answer.layers} layer ${answer.layers === 1 ? "run" : "runs"} (unchanged: ${base.layers}) · ${prefill ? `${of(prefill[1], prefill[2])} of the operations` : ""} for a prompt of ${answer.tokens} tokens`;
}
function showSeen(seen, asked) {
  look = { ...seen, line: asked };
  showNext(seen);
  showLenses(seen);
  fillWords();
}
function showNext(seen) {
  const meter = (share, colour) => {
    const bar = make("span", { class: "meter" }, make("span", {}, percent(share)));
    bar.style.setProperty("--share", `${100 * share}%`);
    bar.style.setProperty("--colour", colour);
    return make("td", {}, bar);
  };
  $("next").replaceChildren(...seen.next.map(([token, before, after]) => make("tr", {}, make("th", { scope: "row", title: token }, ...shownText(token)), meter(before, "var(--soft)"), meter(after, "var(--link)"))));
  const [was, is] = [1, 2].map((side) => [...seen.next].sort((one, other) => other[side] - one[side])[0]);
  $("brief").replaceChildren(...(was ? ["next: ", ...shownText(was[0]), ` ${percent(was[1])}, plan: `, ...shownText(is[0]), ` ${percent(is[2])}`] : []));
  $("apart").textContent = seen.kl == null ? "The plan's probabilities are no numbers." : `KL from the unchanged model ${seen.kl < 0.0005 ? "under 0.001" : Number(seen.kl.toPrecision(2))} nats · ${seen.same ? "same first choice" : "another first choice"}`;
}
function showWritten(written) {
  const prompt = () => document.createTextNode(written.prompt);
  const same = [...written.plan].findIndex((letter, i) => letter !== [...written.base][i]);
  const cut = same < 0 ? (written.plan.length < written.base.length ? [...written.plan].length : -1) : same;
  const letters = [...written.plan];
  $("base-text").replaceChildren(prompt(), make("span", { class: "new" }, written.base));
  $("plan-text").replaceChildren(prompt(), cut < 0 ? make("span", { class: "new" }, written.plan)
    : make("span", { class: "new" }, letters.slice(0, cut).join(""), make("mark", {}, letters.slice(cut).join("") || "∅")));
  for (const name of ["base-text", "plan-text"]) $(name).scrollTop = $(name).scrollHeight;
}
function showLenses(seen) {
  const final = seen.base.likeliest && seen.base.likeliest.at(-1);
  for (const side of ["base", "plan"]) {
    const lens = seen[side];
    $(`${side}-note`).hidden = !lens.note;
    $(`${side}-note`).textContent = lens.note || "";
    $(`${side}-scroll`).hidden = Boolean(lens.note);
    if (lens.note) continue;
    $(`${side}-head`).replaceChildren(make("tr", {}, make("th", { scope: "col" }, "after"), ...lens.tokens.map((token) => make("th", { scope: "col" }, ...shownText(token)))));
    $(`${side}-rows`).replaceChildren(...lens.depths.map((depth, d) => make("tr", {}, make("th", { scope: "row", title: depth }, depth), ...lens.likeliest[d].map((token, t) => {
      const share = Math.round(100 * lens.probability[d][t]);
      const cell = make("td", { class: final && final[t] === token ? "final" : null }, ...shownText(token), make("small", {}, ` ${share}`));
      cell.style.setProperty("--share", `${0.7 * share}%`);
      return cell;
    }))));
    $(`${side}-scroll`).scrollLeft = $(`${side}-scroll`).scrollWidth;
  }
}
for (const [from, to] of [["base", "plan"], ["plan", "base"]]) $(`${from}-scroll`).addEventListener("scroll", () => {
  const rest = (one) => one.scrollWidth - one.clientWidth;  // both are read from the right
  const [own, other] = [$(`${from}-scroll`), $(`${to}-scroll`)];
  other.scrollLeft = rest(other) - rest(own) + own.scrollLeft;
});

// ---- hands: keys, clicks, dragging

const inOrder = () => [...everywhere()].map((one) => one.chip);
function go(to, extends_) {
  if (!to) return;
  if (extends_) {
    const own = place(here), other = place(to);
    if (own.list !== other.list) { say("Chosen are layers of one branch"); return; }
    anchor = anchor || here;
  } else anchor = null;
  here = to;
  markChosen();
  elements.get(here).focus();
  const about = chosen();
  if (extends_) say(`${about.all.length} chosen`);
}
function beside(by) {  // the nearest chip in the row above or below
  const own = elements.get(here).getBoundingClientRect(), x = own.left + own.width / 2;
  let best = null, least = Infinity;
  for (const [chip, button] of elements) {
    const box = button.getBoundingClientRect(), down = by * (box.top + box.bottom - own.top - own.bottom) / 2;
    if (down < own.height / 2) continue;
    const far = 3 * down + Math.abs(box.left + box.width / 2 - x);
    if (far < least) [best, least] = [chip, far];
  }
  return best;
}
const KEYS = { Delete: "skip", Backspace: "skip", d: "repeat", p: "parallel", r: "reverse", a: "attention", m: "mlp", f: "freeze", n: "noise", h: "half", s: "combine" };
$("strip").addEventListener("keydown", (event) => {
  if (!here) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const done = () => { event.preventDefault(); event.stopPropagation(); };
  if ((event.ctrlKey || event.metaKey) && key === "z") { done(); act(event.shiftKey ? "redo" : "undo"); return; }
  if ((event.ctrlKey || event.metaKey) && key === "y") { done(); act("redo"); return; }
  if (event.ctrlKey || event.metaKey) return;
  const all = inOrder(), at = all.indexOf(here);
  if (key === "ArrowLeft" || key === "ArrowRight") {
    done();
    const by = key === "ArrowLeft" ? -1 : 1;
    if (event.altKey) { act(by < 0 ? "earlier" : "later"); return; }
    const { list } = place(here);
    go(event.shiftKey ? list[list.indexOf(here) + by] : all[at + by], event.shiftKey);
  } else if (key === "ArrowUp" || key === "ArrowDown") { done(); go(beside(key === "ArrowUp" ? -1 : 1), false); }
  else if (key === "Home" || key === "End") { done(); go(key === "Home" ? all[0] : all.at(-1), false); }
  else if (key === "Escape" && (anchor || drag)) { done(); anchor = null; endDrag(); markChosen(); }
  else if (KEYS[key] && !event.altKey) { done(); act(KEYS[key]); }
});
let drag = null, wasDragged = false;
const chipAt = (target) => { const button = target.closest(".chip, .grip"); for (const [chip, one] of elements) if (one === button) return chip; return null; };
$("strip").addEventListener("click", (event) => {
  if (wasDragged) { wasDragged = false; return; }
  const chip = chipAt(event.target);
  if (!chip) return;
  const selects = $("select").getAttribute("aria-pressed") === "true";
  if (event.shiftKey || (selects && anchor)) { go(chip, true); return; }
  if (selects) { go(chip, false); anchor = chip; markChosen(); return; }
  const stays = anchor && chosen().all.includes(chip);
  if (!stays) anchor = null;
  here = chip;
  const part = event.target.dataset.part;
  anchor = null;
  act(part && !chip.off ? part : "skip");
});
$("strip").addEventListener("pointerdown", (event) => {
  const chip = event.button ? null : chipAt(event.target);
  if (!chip) return;
  wasDragged = false;
  drag = { chip, x: event.clientX, y: event.clientY, on: false, isTouch: event.pointerType === "touch" };
  if (drag.isTouch) drag.timer = setTimeout(() => { if (drag) beginDrag(); }, 350);
});
addEventListener("pointermove", (event) => {
  if (!drag) return;
  const far = Math.hypot(event.clientX - drag.x, event.clientY - drag.y);
  if (!drag.on) {
    if (far < 6) return;
    if (drag.isTouch) { endDrag(); return; }  // the page is scrolled
    beginDrag();
  }
  drag.float.style.left = `${event.clientX + 12}px`;
  drag.float.style.top = `${event.clientY + 14}px`;
  drag.slot = nearest(event.clientX, event.clientY);
  showSlot(drag.slot);
});
addEventListener("pointerup", () => {
  if (!drag) return;
  const { on, slot, all } = drag;
  endDrag();
  if (!on) return;
  wasDragged = true;
  setTimeout(() => { wasDragged = false; }, 0);
  if (!slot) return;
  change(() => {
    const before = slot.list[slot.at];
    if (all.includes(before) || all.includes(slot.list[slot.at - 1])) return "It stays where it was";
    const { list, up } = place(all[0]);
    list.splice(list.indexOf(all[0]), all.length);
    slot.list.splice(before ? slot.list.indexOf(before) : slot.list.length, 0, ...all);
    if (up && list !== slot.list) tidy(up);
    here = all.at(-1);
    anchor = all.length > 1 ? all[0] : null;
    return "";
  }, all.length > 1 ? `${all.length} moved` : `${named(all[0])} moved`);
});
addEventListener("pointercancel", () => endDrag());
$("strip").addEventListener("touchmove", (event) => { if (drag && drag.on) event.preventDefault(); }, { passive: false });
$("strip").addEventListener("contextmenu", (event) => { if (drag) event.preventDefault(); });
function beginDrag() {
  const about = chosen();
  if (!about || !anchor || !about.all.includes(drag.chip)) { here = drag.chip; anchor = null; markChosen(); }
  drag.on = true;
  drag.all = chosen().all;
  drag.float = make("div", { class: "float", "aria-hidden": "true" }, drag.all.length > 1 ? `${drag.all.length} layers` : named(drag.all[0]));
  drag.float.style.left = `${drag.x + 12}px`;
  drag.float.style.top = `${drag.y + 14}px`;
  drag.caret = make("div", { class: "caret", hidden: true });
  element.querySelector(".play").append(drag.float);
  $("strip").append(drag.caret);
  for (const chip of drag.all) elements.get(chip).closest(".cell").classList.add("dragging");
}
function endDrag() {
  if (!drag) return;
  clearTimeout(drag.timer);
  if (drag.on) { drag.float.remove(); drag.caret.remove(); for (const cell of $("strip").querySelectorAll(".dragging")) cell.classList.remove("dragging"); }
  drag = null;
}
function nearest(x, y) {  // the place between two chips that is nearest to a point
  const inside = new Set([...everywhere(drag.all)].map((one) => one.chip)), top = drag.all.some((chip) => kind(chip) === "marker");
  let best = null, least = Infinity;
  for (const { chip, list, up } of everywhere()) {
    if ((up && inside.has(up)) || (top && up)) continue;
    const box = elements.get(chip).closest(".cell").getBoundingClientRect();
    const off = Math.max(box.top - y, 0, y - box.bottom), depth = up ? 0 : 0.5;
    for (const [edge, at] of [[box.left, list.indexOf(chip)], [box.right, list.indexOf(chip) + 1]]) {
      const far = Math.abs(edge - x) + 4 * off + depth;
      if (far < least) { least = far; best = { list, at, x: edge, top: box.top, height: Math.min(box.height, 66) }; }
    }
  }
  return best;
}
function showSlot(slot) {
  drag.caret.hidden = !slot;
  if (!slot) return;
  const box = $("strip").getBoundingClientRect();
  drag.caret.style.left = `${slot.x - box.left - 3}px`;
  drag.caret.style.top = `${slot.top - box.top - 3}px`;
  drag.caret.style.height = `${slot.height}px`;
}

// ---- the rest of the page

function setLine(text) { $("line").value = text; fit(); }
function fit() {  // where the browser cannot do it by itself
  if (CSS.supports("field-sizing", "content")) return;
  for (const name of ["line", "prompt"]) { $(name).style.height = "auto"; $(name).style.height = `${$(name).scrollHeight + 4}px`; }
}
async function copy(button, text, from) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {  // where the browser keeps its clipboard to itself, the text is selected instead
    if (from) getSelection().selectAllChildren(from);
    button.textContent = from ? "Selected" : "It is in the address bar";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}
impastoTheme($("theme"));
$("bar").addEventListener("click", (event) => { const button = event.target.closest("[data-act]"); if (button) act(button.dataset.act); });
$("line").addEventListener("input", () => { fit(); typed(); });
$("line").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); send("line"); } });
$("line").addEventListener("blur", () => { if ($("line").value !== line) send("line"); });
const typed = later(150, () => send("line")), asked = later(250, sendPlan);
for (const name of FIELDS) $(name).addEventListener("input", () => { fit(); asked(); });
$("run").addEventListener("click", run);
element.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); } });
$("copy-command").addEventListener("click", () => copy($("copy-command"), $("command").textContent, $("command")));
$("copy-link").addEventListener("click", () => copy($("copy-link"), location.href, null));

async function begin() {
  const opened = await ask("begin", { address: location.search });
  if (!opened) return;
  ({ model, base } = opened);
  chips = JSON.parse(JSON.stringify(base.chips || []));
  drawn = base.picture;
  line = base.plan;
  $("about").textContent = `${model.name}: ${model.family}, ${model.layers} layers, ${number(model.parameters)} parameters`;
  if (!model.is_whole) for (const name of ["base-name", "base-lens-name"]) $(name).textContent = "As the folder holds it";
  for (const name of FIELDS) $(name).value = opened.asked[name];
  $("prompts").append(...opened.prompts.map(([name, text]) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => { $("prompt").value = text; fit(); sendPlan(); });
    return button;
  }));
  $("examples").append(...opened.examples.map((example) => {
    const button = make("button", { type: "button", "aria-pressed": "false", title: example.paper, "data-plan": example.plan, "data-says": `${example.paper}: ${example.says}` }, example.title);
    button.addEventListener("click", () => { setLine(example.plan); send("line", example.title); });
    return button;
  }));
  setLine(opened.asked.plan);
  draw();
  await send("line");
  if (opened.mistake) { $("mistake").textContent = opened.mistake; $("mistake").hidden = false; }
}
begin();
})();
