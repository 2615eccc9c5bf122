// Asks the server, and shows the steps of the answer as they come (docs/FORMATS.md). It makes a
// record of them, so that the code above draws them, and replays them once the answer is there.
(() => {
const $ = (id) => document.getElementById(id);
const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const WIDE = 3; // bytes of a token's place
const ids = (list) =>
  base64(Uint8Array.from({ length: WIDE * list.length }, (_, i) => list[Math.floor(i / WIDE)] >> 8 * (i % WIDE)));
// Numbers of `size` bits each, the first one in the lowest bits of the first byte.
function bits(list, size = 1) {
  const found = new Uint8Array(Math.ceil(list.length * size / 8));
  list.forEach((value, i) => { found[i * size >> 3] |= value << (i * size & 7); });
  return base64(found);
}
const signs = (text) => Array.from(text, Number);

let asking = null, asked = null, head, tokens, canvases, figures, decoded = [], drawing = 0;

function canvas(steps, scale) {
  const all = (name) => steps.flatMap((step) => step[name]), saw = all("saw"), last = steps[steps.length - 1];
  const changed = bits(saw.map(() => 1)), pairs = all("candidates");
  const found = { steps: steps.length, valid: last.valid, mean_entropy: all("mean_entropy"),
    canvas: { changed, ids: ids(saw) }, best: { changed, ids: ids(all("best")) },
    accepted: bits(steps.flatMap((step) => signs(step.accepted))),
    entropy: base64(all("entropy").map((nats) => Math.round(255 * Math.cbrt(nats / scale)))),
    candidates: { changed, counts: bits(pairs.map((pair) => pair.length / 2), 4),
      ids: ids(pairs.flatMap((pair) => pair.filter((_, i) => i % 2 === 0))),
      probabilities: base64(pairs.flatMap((pair) => pair.filter((_, i) => i % 2))) } };
  return last.kept ? { ...found, kept: bits(signs(last.kept)) } : found;
}
function draw() {
  drawing = void cancelAnimationFrame(drawing);
  if (!canvases.length) return;
  const scale = Math.max(1e-3, ...canvases.flat().map((step) => Math.max(...step.entropy)));
  denoisingPage.load([{ format: "denoising", version: 2, title: "The answer", ...head, tokens, id_bytes: WIDE,
    canvas_size: canvases[0][0].saw.length, least_probability: 1, entropy_scale: scale,
    canvases: canvases.map((steps) => canvas(steps, scale)), figures,
    left_to_right: { ids: ids(decoded), seconds: null } }]);
  const slider = $("slider"); // the last step while steps come, then the answer
  slider.value = slider.max - (asking && !asked ? 1 : 0);
  slider.dispatchEvent(new Event("input"));
}
function tell(text, error = false) {
  $("told").textContent = text;
  $("told").classList.toggle("error", error);
}
const take = {
  queued: ({ before }) => tell(before ? `Waiting behind ${before} other request${before > 1 ? "s" : ""} …` : "Asked …"),
  started(given) {
    const { prompt_tokens: count, ...rest } = given;
    if (!asked) [head, tokens, canvases, figures] = [rest, [], [], {}];
    tell(`The prompt has ${count} tokens. The first answer with new settings waits for its program …`);
  },
  step(given) {
    tokens.push(...given.tokens);
    (canvases[given.canvas] ||= []).push(given);
    tell(`Canvas ${given.canvas + 1}, step ${given.step} …`);
    drawing ||= requestAnimationFrame(draw);
  },
  tokens({ texts }) {
    decoded.push(...texts.map((text) => tokens.push(text) - 1));
    tell(`Left to right, token ${decoded.length} …`);
    drawing ||= requestAnimationFrame(draw);
  },
  answered(given) {
    asking = null;
    if (!asked) ({ figures } = given);
    const cut = { length: "The answer was cut off: allow more tokens.", abort: "The server is being stopped." };
    tell(cut[given.finish_reason] || (asked ? "Both answers are there." : "The answer is there."));
    draw();
  },
  error: ({ error }) => { throw new Error(error.message); },
};
async function read(response) {
  if (!response.ok) take.error(await response.json());
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", part; !(part = await reader.read()).done;) {
    const events = (rest + part.value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [name, data] = ["event: ", "data: "].map((start) =>
        (event.split("\n").find((line) => line.startsWith(start)) || "").slice(start.length));
      if (take[name]) take[name](JSON.parse(data));
    }
  }
}
async function ask(event) {
  event.preventDefault();
  if (asking) return;
  [asked, decoded, canvases] = [null, [], []];
  const body = { messages: [{ role: "user", content: $("asked-text").value }], early_stop: $("early").checked,
    thinking: $("thinking").checked };
  for (const field of $("ask").querySelectorAll("[type=number]")) if (field.value) body[field.name] = Number(field.value);
  if ($("fill").value) body.fill = $("fill").value;
  if (await send(body)) asked = body;
  beside();
}
// The same prompt left to right, once the page is to show it beside the answer.
async function beside() {
  if (asking || !asked || decoded.length || $("other").getAttribute("aria-pressed") !== "true") return;
  await send({ ...asked, left_to_right: true });
}
async function send(body) { // returns whether the answer is there
  const mine = asking = new AbortController();
  let there = true;
  for (const id of ["send", "stop"]) $(id).disabled = id === "send";
  try {
    await read(await fetch("/live", { method: "POST", signal: mine.signal, body: JSON.stringify(body),
      headers: { "Content-Type": "application/json" } }));
    if (asking) throw new Error("The server has ended the answer.");
  } catch (error) {
    tell(mine.signal.aborted ? "Stopped." : error.message, !mine.signal.aborted);
    there = false;
  }
  asking = null;
  for (const id of ["send", "stop"]) $(id).disabled = id === "stop";
  draw();
  return there;
}
$("ask").addEventListener("submit", ask);
$("ask").addEventListener("keydown", (event) => {
  event.stopPropagation(); // the page has keys of its own
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("other").addEventListener("click", beside);
$("stop").addEventListener("click", () => asking && asking.abort());
})();
