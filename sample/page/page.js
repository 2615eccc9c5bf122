"use strict";
// Replays records (docs/FORMATS.md). What a model wrote enters the page as text alone.
(() => {
const $ = (id) => document.getElementById(id);
function make(tag, className = "", ...parts) {
  const el = Object.assign(document.createElement(tag), { className });
  el.append(...parts);
  return el;
}
function svg(parent, tag, name, fields, text = "") {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries({ class: name, ...fields })) el.setAttribute(key, value);
  el.textContent = text;
  return parent.appendChild(el);
}
const STEP = 600, RACE = 15000; // milliseconds of a step, and of both modes together, at speed 1
// Control characters, what changes the direction of text, and lone surrogates.
const HIDDEN = new RegExp("[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f" +
  "\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff\\u{e0000}-\\u{e007f}]", "gu");
const RTL = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/g; // letters of right-to-left scripts
const code = (c) => `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;
const SIGNS = { "\n": "↵", "\t": "⇥", "\x7f": "␡" };
const sign = (c) => SIGNS[c] || (c < " " ? String.fromCodePoint(0x2400 + c.codePointAt(0)) : code(c));
function visible(text, most = 120) { // characters that are shown
  if (text === "") return "∅";
  if (/^[\u200c\u200d]+$/.test(text)) return [...text].map(code).join("");
  const cut = text.length > most ? Array.from(text.slice(0, 2 * most)).slice(0, most) : null;
  const shown = (cut ? cut.join("") : text).replace(HIDDEN, sign);
  return cut ? `${shown}… (${text.length.toLocaleString("en")} characters)` : shown;
}
const inLine = (text) => visible(text).replace(/ /g, "␣");
// ---- Reading a record
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const bit = (data, i) => (data[i >> 3] >> (i & 7)) & 1;
const bits = (text, count, data = bytes(text)) => Uint8Array.from({ length: count }, (_, i) => bit(data, i));
const readIds = (text, width, data = bytes(text)) => Uint32Array.from({ length: data.length / width },
  (_, i) => data.subarray(i * width, (i + 1) * width).reduceRight((sum, byte) => sum << 8 | byte));
function readSteps(column, count, size, width) {
  const changed = bytes(column.changed), values = readIds(column.ids, width);
  const found = new Uint32Array(count * size);
  let next = 0;
  for (let i = 0; i < found.length; i++) found[i] = bit(changed, i) ? values[next++] : found[i - size];
  return found;
}
function readCandidates(column, count, size, width) {
  const changed = bytes(column.changed), counts = bytes(column.counts);
  const found = { start: new Uint32Array(count * size), count: new Uint8Array(count * size),
    ids: readIds(column.ids, width), probabilities: bytes(column.probabilities) };
  let row = 0, at = 0;
  for (let i = 0; i < found.start.length; i++) {
    const is = bit(changed, i);
    found.start[i] = is ? at : found.start[i - size];
    found.count[i] = is ? counts[row >> 1] >> 4 * (row++ & 1) & 15 : found.count[i - size];
    if (is) at += found.count[i];
  }
  return found;
}
function readCanvas(part, rec) {
  const { steps, valid, mean_entropy: mean } = part;
  if (part.texts) return { steps, mean, texts: part.texts, accepts: part.accepted_counts, size: 1 };
  const size = rec.canvas_size, width = rec.id_bytes, cells = steps * size;
  const canvas = { steps, valid, mean, size, saw: readSteps(part.canvas, steps, size, width),
    best: readSteps(part.best, steps, size, width), entropy: bytes(part.entropy),
    accepted: bits(part.accepted, cells), kept: part.kept ? bits(part.kept, size) : null,
    tops: part.candidates ? readCandidates(part.candidates, steps, size, width) : null };
  const { best } = canvas, changed = best.map((id, i) => Number(i >= size && id !== best[i - size]));
  const sums = (flags) => mean.map((_, n) =>
    flags.subarray(n * size, (n + 1) * size).reduce((sum, flag) => sum + flag, 0));
  return Object.assign(canvas, { accepts: sums(canvas.accepted), changes: sums(changed) });
}
// ---- What is shown
let records = [], rec, canvases, frames, ticks, tick = 0, timer = 0, chosen = -1, decoded = null;
let holders = [], others = [], cursors = [], state = { grid: true, other: false };
const number = (v) => v >= 10 || v === Math.round(v) ? String(Math.round(v))
  : v < 0.001 ? v.toExponential(1) : v.toPrecision(2);
const pressed = (id, on) => $(id).setAttribute("aria-pressed", String(on));
const seconds = () => $("unit").value === "seconds" && !$("clock").hidden;
function open(index) {
  pause();
  rec = records[index];
  canvases = rec.canvases.map((part) => readCanvas(part, rec));
  frames = canvases.flatMap((c, k) => c.mean.map((_, n) => ({ k, n, passes: 0, answer: false })));
  frames.forEach((frame, i) => { frame.passes = i + 1 + frame.k; }); // a commit is a pass, too
  frames.push({ ...frames[frames.length - 1], answer: true });
  decoded = rec.left_to_right ? readIds(rec.left_to_right.ids, rec.id_bytes) : null;
  const took = (rec.figures || {}).seconds, whole = canvases.some((c) => c.texts);
  const timed = decoded && took > 0 && rec.left_to_right.seconds > 0;
  $("unit").value = timed ? "seconds" : "passes";
  $("unit").options[0].disabled = !timed;
  const view = rec.view || {}, groups = (view.groups || []).map((group) => [group.color, visible(group.name, 40)]);
  const asked = rec.prompt.replace(/[^\n]+/g, (line) => line.replace(HIDDEN, sign));
  const texts = { title: visible(rec.title), model: visible(rec.model || " "), prompt: asked,
    grid: view.name ? visible(view.name, 20) : "", most: `up to ${rec.entropy_scale.toPrecision(2)} nats` };
  for (const id in texts) $(id).textContent = texts[id];
  const samples = groups.map(([color, name]) => [make("span", `token group c-${color}`, name), " "]);
  $("groups").replaceChildren(...samples.flat());
  const there = { asked, grid: rec.view, digits: view.clues || view.right, groups: groups.length, other: decoded,
    fixed: canvases.some((c) => c.kept) };
  for (const id in there) $(id).hidden = !there[id];
  state.other = state.other && Boolean(decoded);
  $("shown").parentElement.hidden = $("detail").hidden = $("legend").hidden = whole;
  [chosen, tick] = [-1, 0];
  layout();
}
function layout() {
  for (const id of ["grid", "other"]) pressed(id, state[id]);
  $("beside").hidden = $("clock").hidden = !$("panels").classList.toggle("two", state.other);
  holders = fill($("canvas"), canvases.map((c) => c.size));
  others = state.other ? fill($("tokens"), [decoded.length]) : [];
  const at = ticks ? ticks[tick] : null;
  clock();
  if (at) tick = Math.max(0, ticks.findIndex((t) => t.frame >= at.frame));
  $("slider").max = ticks.length - 1;
  for (const draw of [pace, figures, drawCurves, show]) draw();
}
function fill(host, sizes) {
  host.replaceChildren();
  const view = state.grid && rec.view, made = [];
  const add = (box, at) => {
    const el = make("span", "token");
    if (host.id === "canvas") Object.assign(el, { role: "button", tabIndex: -1 });
    box.append(el);
    made.push({ el, at, gap: document.createTextNode(""), text: null, name: null, shade: null, wide: "", word: "" });
    return made.at(-1);
  };
  if (view) {
    drawing(host, view, add);
    return made;
  }
  const { best, size } = canvases[0];
  const words = best ? Array.from(best.slice(-size), (id) => rec.tokens[id]).join("") : "";
  const dir = (words.match(RTL) || []).length > words.length / 3 ? "rtl" : "ltr";
  for (const count of sizes) {
    const flow = Object.assign(make("div", "flow"), { dir });
    for (let c = 0; c < count; c++) flow.append(add(flow, made.length).gap, make("wbr"));
    host.append(flow);
  }
  return made;
}
// ---- The drawing of an answer: cells, links between them, and demands
// Gives each link the class that a test of its cells returns; counts those that are as they should be.
const joined = (links, test) => links.filter(({ el, ends }) => {
  el.setAttribute("class", test(...ends));
  return el.matches(".on, .fine");
}).length;
const DEMANDS = { // -> whether it is met, and what is said of it
  sum({ weights, is }, holders) {
    const now = holders.reduce((sum, { group }) => sum + (weights[group] || 0), 0);
    return [now === is, now === is ? is : `${now} instead of ${is}`];
  },
  run({ texts }, holders) {
    const fits = (text, i) => i < holders.length && text.includes(holders[i].word);
    const at = holders.findIndex((_, i) => texts.every((text, j) => fits(text, i + j))), end = at + texts.length;
    holders.forEach(({ el }, i) => el.classList.toggle("run", at >= 0 && i >= at && i < end));
    return [at >= 0, at < 0 ? "nowhere" : `at ${at + 1} to ${end}`];
  },
  differ(_, holders, links) {
    const test = (a, b) => a.group < 0 || b.group < 0 ? "" : a.group === b.group ? "bad" : "fine";
    const count = joined(links, test);
    return [count === links.length, `${count} of ${links.length}`];
  },
  follow({ is }, holders, links) {
    const numbers = holders.map(({ word }) => Number(word)).filter((n) => n > 0);
    const once = (n) => numbers.filter((m) => m === n).length === 1;
    const next = (a, b) => b === a + 1 && once(a) && once(b);
    const count = joined(links, ({ word: a }, { word: b }) => next(+a, +b) || next(+b, +a) ? "on" : "");
    return [count === is && numbers.length === is + 1, `${count} of ${is}`];
  },
};
function drawing(host, view, add) {
  const box = make("div", `cells ${view.shape}`), [w, h] = view.size, list = make("ul", "demands");
  const lines = svg(box, "svg", "", { viewBox: `0 0 ${w} ${h}`, "aria-hidden": "true" });
  const line = ([x1, y1, x2, y2]) => svg(lines, "line", "", { x1, y1, x2, y2 });
  box.style.cssText = `--w: ${w}; aspect-ratio: ${w} / ${h}`;
  const { clues = [], right = [], names = [] } = view, cells = view.cells.map((at, i) => {
    const holder = add(box, at), name = make("b", "", visible(names[i] || " ", 4)), [x, y] = view.places[i];
    for (const el of [holder.el, name]) el.style.cssText = `--x: ${x}; --y: ${y}`;
    if (names.length) box.append(name);
    return Object.assign(holder, { fixed: clues.includes(i) ? " clue" : "", right: right[i] });
  });
  const links = (view.links || []).map((pair) => ({ ends: pair.map((i) => cells[i]),
    el: line(pair.flatMap((i) => view.places[i].map((v) => v + 0.5))) }));
  (view.lines || []).forEach(line);
  host.append(box, list);
  host.judge = () => list.replaceChildren(...(view.demands || []).map((demand) => {
    const [met, said] = DEMANDS[demand.kind](demand, cells, links);
    return make("li", met ? "met" : "", `${met ? "✓" : "✗"} ${visible(demand.title)}: ${said}`);
  }));
}
function toward(at, [dx, dy]) { // the nearest cell in a direction
  const { cells, places } = rec.view, [x, y] = places[cells.indexOf(at)];
  const far = (a, b) => a * dx + b * dy > 0.01 ? a * dx + b * dy + 3 * Math.abs(a * dy + b * dx) : Infinity;
  const ways = places.map(([cx, cy]) => far(cx - x, cy - y)), least = Math.min(...ways);
  return least < Infinity ? cells[ways.indexOf(least)] : at;
}
function clock() {
  const inSeconds = seconds();
  const scale = inSeconds ? rec.figures.seconds / frames[frames.length - 1].passes : 1;
  ticks = frames.map((frame, i) => ({ time: frame.passes * scale, frame: i, written: 0 }));
  if (!state.other) return;
  const each = inSeconds ? rec.left_to_right.seconds / decoded.length : 1;
  const known = new Set(ticks.map((t) => t.time));
  const extra = Array.from(decoded, (_, i) => (i + 1) * each).filter((time) => !known.has(time));
  ticks = [...ticks, ...extra.map((time) => ({ time, frame: -1 }))].sort((a, b) => a.time - b.time);
  let frame = 0;
  for (const t of ticks) {
    frame = t.frame = Math.max(frame, t.frame);
    t.written = Math.min(decoded.length, Math.floor(t.time / each + 1e-6));
  }
}
function pace() {
  const ratio = RACE / 1000 / Number($("speed").value) / ticks[ticks.length - 1].time;
  const words = ratio < 1 ? `${number(1 / ratio)} times faster` : `${number(ratio)} times slower`;
  $("pace").textContent = seconds() ? `played ${words}` : "";
}
// ---- Drawing a step
const place = (at) => [Math.floor(at / canvases[0].size), at % canvases[0].size];
function put(holder, text, name, shade, most) {
  const { el, gap } = holder, cell = holder.fixed !== undefined;
  if (holder.text !== text) {
    holder.text = text;
    const word = holder.word = text.trim(), groups = cell && rec.view.groups || [];
    holder.group = groups.findIndex(({ texts }) => texts.includes(word));
    const shown = !cell ? visible(text, most) : word ? visible(word) : inLine(text);
    el.textContent = cell ? [...shown].slice(0, 12).join("") : shown.replace(/↵(?!$)/g, "↵\n");
    gap.data = shown.endsWith("↵") ? "\n" : ""; // so that no mark of the token begins the next line
    holder.wide = cell && shown.length > 2 ? " long" : "";
  }
  const color = holder.group >= 0 ? ` group c-${rec.view.groups[holder.group].color}` : "";
  const whole = `token ${name}${holder.fixed || ""}${color}${holder.wide}`;
  const mark = holder.at === chosen && el.closest("#canvas") ? " chosen" : "";
  if (holder.name !== whole) el.className = (holder.name = whole) + mark;
  if (holder.shade !== shade) el.style.setProperty("--e", holder.shade = shade);
}
function marks(c, n, at, i) {
  if (c.kept && c.kept[at]) return "kept";
  // The step that stops early accepts nothing and makes no noise.
  return (c.accepted[i] ? "accepted " : c.accepts[n] ? "renoised " : "") +
    (n && c.best[i] !== c.best[i - c.size] ? "changed" : "");
}
function drawn(holder, frame) {
  const [k, at] = place(holder.at), c = canvases[k];
  holder.el.hidden = k > frame.k;
  if (k > frame.k) return Object.assign(holder, { text: null, word: "", group: -1 });
  const done = k < frame.k || frame.answer, n = done ? c.steps - 1 : frame.n, i = n * c.size + at;
  if (c.texts) return put(holder, c.texts[n], "", 0, Infinity);
  const text = rec.tokens[(done || $("shown").value === "best" ? c.best : c.saw)[i]];
  let name = done ? (c.kept && c.kept[at] ? "kept" : "") : marks(c, n, at, i);
  if (done && at >= c.valid) name += " pad";
  if (done && holder.right !== undefined && text.trim() !== holder.right) name += " wrong";
  put(holder, text, name, (done ? 0 : c.entropy[i] / 255).toFixed(3));
}
function show() {
  tick = Math.min(Math.max(tick, 0), ticks.length - 1);
  const now = ticks[tick], frame = frames[now.frame], c = canvases[frame.k];
  holders.forEach((holder) => drawn(holder, frame));
  document.querySelectorAll("#canvas .flow").forEach((flow, k) => { flow.hidden = k > frame.k; });
  others.forEach((holder) => {
    const there = holder.at < now.written, token = there ? rec.tokens[decoded[holder.at]] : "·";
    const wrong = there && holder.right !== undefined && token.trim() !== holder.right;
    const [k, cell] = place(holder.at), kept = holder.fixed !== undefined && canvases[k] && canvases[k].kept;
    put(holder, token, wrong ? "wrong" : !there ? "pad" : kept && kept[cell] ? "kept" : "", 0);
  });
  if (state.grid && rec.view) for (const id of state.other ? ["canvas", "tokens"] : ["canvas"]) $(id).judge();
  $("slider").value = tick;
  const amount = (time) => seconds() ? `${time.toFixed(3)} s` : `${time} forward pass${time === 1 ? "" : "es"}`;
  const text = frame.answer
    ? `The answer, after ${frames.length - 1} steps`
    : `Step ${frame.n + 1} of ${c.steps}${c.texts ? "" : ` (at most ${rec.max_steps})`}: mean entropy ` +
      `${c.mean[frame.n].toPrecision(3)} nats, ${c.accepts[frame.n]} accepted` +
      (c.changes ? `, ${c.changes[frame.n]} changed` : "");
  const which = canvases.length > 1 ? `Canvas ${frame.k + 1} of ${canvases.length}. ` : "";
  $("status").textContent = which + text + (state.other ? `. Clock: ${amount(now.time)}` : "") + ".";
  $("slider").setAttribute("aria-valuetext", $("status").textContent);
  $("now").textContent = frame.answer ? "answer" : `step ${frame.n + 1}`;
  $("decoded").textContent = `${now.written} of ${decoded ? decoded.length : 0} tokens`;
  cursors.forEach(({ line, x }) => ["x1", "x2"].forEach((end) => line.setAttribute(end, x(now.frame))));
  $("first").disabled = $("back").disabled = tick === 0;
  $("last").disabled = $("next").disabled = tick === ticks.length - 1;
  detail();
}
function detail() {
  const at = chosen, holder = holders.find((h) => h.at === at);
  $("hint").hidden = Boolean(holder);
  $("scroll").hidden = !holder;
  for (const id of ["candidates", "history"]) $(id).replaceChildren();
  $("chosen").textContent = holder ? `Token ${at + 1}` : "A token";
  if (!holder || canvases[0].texts) return;
  const [k, cell] = place(at), c = canvases[k], frame = frames[ticks[tick].frame];
  const n = k < frame.k ? c.steps - 1 : k > frame.k ? 0 : frame.n;
  if (c.tops) {
    const { start, count, ids, probabilities } = c.tops, i = n * c.size + cell;
    for (let j = start[i]; j < start[i] + count[i]; j++) {
      const p = probabilities[j] / 255, meter = Object.assign(make("meter"), { value: p });
      $("candidates").append(make("li", "", make("code", "", inLine(rec.tokens[ids[j]])), meter,
        make("span", "", p ? `${(100 * p).toFixed(1)} %` : "< 0.2 %")));
    }
  }
  for (let step = 0; step < c.steps; step++) {
    const i = step * c.size + cell, nats = rec.entropy_scale * (c.entropy[i] / 255) ** 3;
    const said = marks(c, step, cell, i).trim().replace("renoised", "re-noised").replace(" ", ", ");
    const seen = [c.saw[i], c.best[i]].map((id) => make("td", "text", inLine(rec.tokens[id])));
    const row = make("tr", step === n ? "now" : "", make("td", "", String(step + 1)), ...seen,
      make("td", "", nats < 0.001 ? "0" : nats.toPrecision(2)), make("td", "", said));
    $("history").append(row);
    if (step === n) $("scroll").scrollTop = Math.max(0, row.offsetTop - 80);
  }
}
function figures() {
  const told = rec.figures || {}, other = state.other ? rec.left_to_right : {};
  const rows = { steps: told.steps, "effective steps": told.effective_steps, tokens: told.tokens,
    "tokens per forward pass": told.tokens_per_forward, seconds: told.seconds, starts: told.starts,
    "left to right: forward passes": state.other ? decoded.length : null, "left to right: seconds": other.seconds };
  const known = Object.entries(rows).filter(([, value]) => (value ?? null) !== null);
  $("figures").replaceChildren(...known.map(([name, value]) => make("div", "", make("dt", "", name),
    make("dd", "", Number.isInteger(value) ? String(value) : value.toPrecision(3)))));
}
// ---- Curves
function drawCurves() {
  const curves = [["Mean entropy, nats (log scale)", "mean", rec.stop_threshold],
    ["Accepted tokens", "accepts"], ["Changed tokens", "changes"]].filter((c) => canvases[0][c[1]]);
  $("curves").replaceChildren(...curves.map(([title]) => make("figure", "", make("figcaption", "", title))));
  cursors = [...$("curves").children].map((figure, i) => { // all have their width by now
    const [title, name, limit] = curves[i];
    return curve(svg(figure, "svg", "", { role: "img" }), title, canvases.map((c) => c[name]), limit);
  });
}
function curve(host, title, parts, limit) {
  const width = Math.max(host.clientWidth, 200), height = 130, left = 44, all = parts.flat();
  const log = limit !== undefined, floor = 1e-5, top = Math.max(...all, limit || 0, log ? floor : 1);
  const low = log ? Math.max(floor, Math.min(...all, limit || 1)) : 0;
  const scale = log ? (v) => Math.log(Math.max(v, low) / low) / Math.log(top / low || 2) : (v) => v / top;
  const y = (v) => height - 20 - (height - 32) * (top > low ? scale(v) : 0);
  const x = (i) => left + (width - left - 8) * (Math.min(i, all.length - 1) / Math.max(1, all.length - 1));
  const draw = svg.bind(null, host);
  host.setAttribute("viewBox", `0 0 ${width} ${height}`);
  host.setAttribute("aria-label", `${title}: from ${number(all[0])} to ${number(all[all.length - 1])} ` +
    `in ${all.length} steps` + (limit ? `; may stop at ${limit}` : ""));
  draw("line", "axis", { x1: left, x2: width - 8, y1: y(low), y2: y(low) });
  for (const v of [top, low]) draw("text", "", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, number(v));
  draw("text", "", { x: x(0), y: height - 5 }, "1");
  draw("text", "", { x: x(all.length), y: height - 5, "text-anchor": "end" }, `step ${all.length}`);
  let i = 0;
  for (const values of parts) {
    if (i) draw("line", "axis", { x1: x(i - 0.5), x2: x(i - 0.5), y1: 8, y2: height - 20 });
    const points = values.map((v) => [x(i++), y(v)]);
    draw("polyline", "curve", { points: points.join(" ") });
    if (values.length < 40) points.forEach(([cx, cy]) => draw("circle", "dot", { cx, cy, r: 3 }));
  }
  if (limit) {
    draw("line", "limit", { x1: left, x2: width - 8, y1: y(limit), y2: y(limit) });
    draw("text", "", { x: left + 6, y: y(limit) - 4 }, `may stop at ${limit}`);
  }
  host.addEventListener("click", (event) => {
    const share = (event.clientX - host.getBoundingClientRect().left - left) / (width - left - 8);
    const frame = Math.max(0, Math.min(Math.round(share * (all.length - 1)), all.length - 1));
    pause();
    go(ticks.findIndex((t) => t.frame >= frame));
  });
  return { line: draw("line", "cursor", { y1: 4, y2: height - 20 }), x };
}
// ---- Moving
const go = (to) => { tick = to; show(); };
function playing(on) {
  $("play").textContent = on ? "Pause" : "Play";
  pressed("play", on);
  for (const id of ["status", "detail"]) $(id).setAttribute("aria-live", on ? "off" : "polite");
}
function pause() { timer = void clearTimeout(timer); playing(false); }
function step() {
  if (tick >= ticks.length - 1) return pause();
  go(tick + 1);
  const speed = Number($("speed").value), last = ticks[ticks.length - 1], next = ticks[tick + 1] || last;
  const share = (next.time - ticks[tick].time) / last.time;
  timer = setTimeout(step, (state.other ? Math.max(RACE * share, 8) : STEP) / speed);
}
function play() {
  if (timer) return pause();
  if (tick >= ticks.length - 1) go(0);
  playing(true);
  timer = setTimeout(step, 250);
}
function choose(at, focus) {
  const [before, now] = [chosen, at].map((place) => holders.find((h) => h.at === place));
  if (before) Object.assign(before.el, { tabIndex: -1 }).classList.remove("chosen");
  if (!now || now.el.hidden) return;
  chosen = at;
  Object.assign(now.el, { tabIndex: 0 }).classList.add("chosen");
  if (focus) now.el.focus();
  detail();
}
const moves = { first: () => go(0), back: () => go(tick - 1), next: () => go(tick + 1), play,
  last: () => go(ticks.length - 1) };
for (const id in moves) $(id).addEventListener("click", () => { if (id !== "play") pause(); moves[id](); });
$("slider").addEventListener("input", () => { pause(); go(Number($("slider").value)); });
for (const [id, then] of [["shown", show], ["speed", pace], ["unit", layout]]) $(id).addEventListener("change", then);
for (const id of ["grid", "other"]) $(id).addEventListener("click", () => { state[id] = !state[id]; layout(); });
$("record").addEventListener("change", () => open($("record").selectedIndex));
for (const kind of ["mouseover", "click", "focusin"]) {
  $("canvas").addEventListener(kind, (event) => {
    const holder = holders.find((h) => h.el === event.target.closest(".token"));
    if (holder && holder.at !== chosen) choose(holder.at, false);
  });
}
document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = target.closest("select, input"), button = target.closest("button, summary");
  const keys = { ",": moves.back, ".": moves.next, Home: moves.first, End: moves.last };
  if (target.closest("#canvas") && key.startsWith("Arrow")) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (!holders.some((h) => h.at === chosen)) choose(holders[0].at, true);
    else if (state.grid && rec.view) choose(toward(chosen, by), true);
    else choose(Math.min(Math.max(chosen + by[0] + 10 * by[1], 0), holders.length - 1), true);
  } else if (key === " " && !field && !button) play();
  else if (keys[key] && !field) { pause(); keys[key](); }
  else return;
  event.preventDefault();
});
addEventListener("resize", () => { if (rec) { drawCurves(); show(); } });
addEventListener("beforeprint", () => { $("asked").open = true; });
function load(given) {
  records = given;
  $("record").replaceChildren(...records.map((r) =>
    make("option", "", visible(r.title) + (r.model ? ` · ${visible(r.model)}` : ""))));
  $("chooser").hidden = records.length < 2;
  document.querySelector("main").hidden = !records.length;
  if (records.length) open(0);
}
load(JSON.parse($("records").textContent));
window.denoisingPage = { load }; // for a server that replaces the records
})();
