// The page: what was dropped is asked for a few at a time, shown as it comes, opened, filtered and exported.

import { Client, Refused } from "./client.js";
import { ofDrop, ofInput, units } from "./gather.js";
import { arrange, card, fill, filtered, kindOf, thumbnail, thumbnailOf } from "./list.js";
import * as exports from "./exports.js";
import * as viewer from "./viewer.js";
import { capital, others, percent, shares, verdict } from "./words.js";

const byId = (id) => document.getElementById(id);
const AT_ONCE = 4; // requests
const SMALL = 96, LARGE = 512, OF_VOLUME = 256; // pixels of the longer side
const KEPT = 4; // studies whose slices stay in memory

let model = null;
let scans = []; // {name, files, picture, state: waiting | asking | done, prediction, thumb, chosen, item, box, button}
let shown = []; // those in the list, in its order
let open = null;
let opening = null;
let passedOver = 0;
const cache = new Map();
const queue = [];
let asking = 0;

const client = new Client(
  (gone) => {
    byId("gone").hidden = !gone;
    byId("gone").textContent = gone ? "The server does not answer. Trying again; nothing is lost." : "";
  },
  askToken,
);

let askedToken = null;
function askToken() {
  askedToken ??= new Promise((done) => {
    byId("ask-form").onsubmit = () => {
      askedToken = null;
      done(byId("token").value);
      byId("token").value = "";
    };
    byId("ask").oncancel = (event) => event.preventDefault();
    byId("ask").showModal();
  });
  return askedToken;
}

// ---- what is asked ------------------------------------------------------------------------------------------------

async function add(found) {
  const { asked, passed } = await units(found);
  passedOver += passed;
  for (const unit of asked) {
    const scan = { ...unit, state: "waiting", prediction: null, thumb: null, chosen: false };
    card(scan, show, choose);
    scans.push(scan);
    queue.push(scan);
    if (scan.picture) thumbs.push(scan);
  }
  refresh();
  drawThumbs();
  work();
}

const thumbs = [];
let drawing = false;
async function drawThumbs() {
  if (drawing) return;
  drawing = true;
  while (thumbs.length) {
    await Promise.all(thumbs.splice(0, 8).map(async (scan) => {
      scan.thumb = await thumbnail(scan.files[0].file);
      if (scan.thumb) fill(scan);
    }));
  }
  drawing = false;
}

function work() {
  while (asking < AT_ONCE && queue.length) {
    const scan = queue.shift();
    if (scan.removed) continue;
    asking += 1;
    ask(scan).finally(() => {
      asking -= 1;
      refresh();
      work();
    });
  }
}

async function ask(scan) {
  scan.state = "asking";
  fill(scan);
  try {
    const ownPicture = scan.picture && (scan.thumb ??= await thumbnail(scan.files[0].file));
    if (ownPicture) {
      take(scan, (await client.predict(scan.files)).predictions.map((prediction) => ({ prediction })));
    } else {
      const { explanations, scale } = await client.explain(scan.files, SMALL);
      take(scan, explanations.map((one) => ({ ...one, scale })));
    }
  } catch (error) {
    if (!(error instanceof Refused)) console.error(error);
    const failed = error.problem?.predictions ?? [
      { source: scan.name, error: { type: "Problem", message: error.message } },
    ];
    take(scan, failed.map((prediction) => ({ prediction })));
  }
}

// One request may be of several studies: the first takes the card that was there, the others get their own.
function take(scan, results) {
  const all = results.map((one, k) => {
    const into = k ? { ...scan, thumb: null, chosen: false } : scan;
    if (k) card(into, show, choose);
    into.state = "done";
    into.prediction = one.prediction;
    into.number = k;
    into.name = results.length > 1 ? one.prediction.source : scan.name;
    if (one.slices) into.thumb = thumbnailOf(viewer.decoded(one, one.scale));
    fill(into);
    return into;
  });
  const place = scans.indexOf(scan);
  if (place >= 0) scans.splice(place, 1, ...all);
  if (open === scan) fillViewer(scan);
}

// ---- the list -----------------------------------------------------------------------------------------------------

let refreshing = false;
function refresh() {
  if (refreshing) return;
  refreshing = true;
  requestAnimationFrame(() => {
    refreshing = false;
    const some = scans.length > 0;
    document.body.classList.toggle("has-scans", some);
    byId("bar").hidden = !some;
    kinds();
    shown = filtered(scans, byId("find").value, byId("show").value, byId("order").value);
    arrange(shown);
    byId("none").hidden = !some || shown.length > 0;
    const done = scans.filter((scan) => scan.state === "done").length;
    byId("progress").max = scans.length || 1;
    byId("progress").value = done;
    byId("progress").hidden = done === scans.length;
    byId("state").textContent = some ? summary(done) : "";
    chosenText();
  });
}

function summary(done) {
  const bad = scans.filter((scan) => scan.prediction?.error).length, count = (n) => n.toLocaleString("en");
  const parts = [done === scans.length ? `${count(done)} ${done === 1 ? "scan" : "scans"}` : `${count(done)} of ${count(scans.length)} done`];
  if (shown.length !== scans.length) parts.push(`${count(shown.length)} shown`);
  if (bad) parts.push(`${count(bad)} could not be read`);
  if (passedOver) parts.push(`${count(passedOver)} other files passed over`);
  return parts.join(" · ");
}

function kinds() {
  const counts = new Map();
  for (const scan of scans) counts.set(kindOf(scan), (counts.get(kindOf(scan)) ?? 0) + 1);
  const select = byId("show"), now = select.value;
  const options = [...counts].sort(([a], [b]) => a.localeCompare(b)).map(([name, n]) => new Option(`${capital(name)} (${n})`, name));
  select.replaceChildren(new Option(`Everything (${scans.length})`, ""), ...options);
  select.value = counts.has(now) ? now : "";
}

function choose(scan, yes) {
  scan.chosen = scan.box.checked = yes;
  chosenText();
}

function chosenText() {
  const count = shown.filter((scan) => scan.chosen).length, all = byId("all");
  all.checked = count > 0 && count === shown.length;
  all.indeterminate = count > 0 && count < shown.length;
  byId("chosen").textContent = count ? `${count.toLocaleString("en")} chosen` : "None chosen: all are exported";
  const ready = exported().length > 0;
  for (const id of ["csv", "json", "print"]) byId(id).disabled = !ready;
}

function exported() {
  const some = shown.filter((scan) => scan.chosen);
  return (some.length ? some : shown).filter((scan) => scan.prediction);
}

// ---- the viewer ---------------------------------------------------------------------------------------------------

function show(scan) {
  open?.item.classList.remove("open-now");
  open = scan;
  scan.item.classList.add("open-now");
  byId("viewer").hidden = false;
  document.body.classList.add("viewing");
  fillViewer(scan);
  byId("verdict").focus({ preventScroll: true });
  if (innerWidth < 1024) byId("viewer").scrollIntoView();
}

function close() {
  opening?.abort();
  open?.item.classList.remove("open-now");
  open?.button.focus();
  open = null;
  viewer.empty();
  byId("viewer").hidden = true;
  document.body.classList.remove("viewing");
}

function fillViewer(scan) {
  const { prediction } = scan;
  byId("source").textContent = scan.name;
  byId("verdict").textContent = prediction ? verdict(prediction) : "Not answered yet";
  byId("probabilities").hidden = !prediction?.probabilities;
  byId("probabilities").previousElementSibling.hidden = !prediction?.probabilities;
  byId("probabilities").tBodies[0].replaceChildren(...(prediction ? shares(prediction) : []).map(probabilityRow));
  const facts = prediction ? others(prediction) : [];
  if (prediction?.slices) facts.unshift(["Slices", `${prediction.slices.length} of ${prediction.total} looked at`]);
  byId("more").replaceChildren(...facts.flatMap(pair));
  const notes = [...(prediction?.notes ?? []), ...(model?.notes ?? [])];
  if (prediction?.error) notes.unshift(prediction.error.message);
  byId("notes").replaceChildren(...notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  viewer.empty();
  stage(prediction?.error ? "No picture" : "");
  if (prediction?.probabilities) explain(scan);
}

const stage = (text) => (byId("stage-state").textContent = text);

async function explain(scan) {
  opening?.abort();
  const mine = (opening = new AbortController());
  stage("Loading the heat map …");
  try {
    if (!cache.has(scan)) {
      const side = scan.prediction.slices ? OF_VOLUME : LARGE;
      const { explanations, scale } = await client.explain(scan.files, side, mine.signal);
      cache.set(scan, viewer.decoded(explanations[scan.number ?? 0], scale));
      if (cache.size > KEPT) cache.delete(cache.keys().next().value);
    }
    if (open !== scan) return;
    const { slices, label, probabilities } = scan.prediction;
    const named = label ?? shares({ probabilities })[0][0];
    viewer.show(cache.get(scan), named, slices ? strongest(slices, named) : 0);
    stage("");
  } catch (error) {
    if (error.name !== "AbortError" && open === scan) stage(error.message);
  }
}

// The slice that speaks most for the answer.
function strongest(slices, label) {
  const of = slices.map((one) => one.probabilities[label]);
  return of.indexOf(Math.max(...of));
}

function probabilityRow([name, share]) {
  const row = document.createElement("tr"), cell = document.createElement("td"), track = document.createElement("div");
  const head = Object.assign(document.createElement("td"), { textContent: name });
  const bar = document.createElement("span"), filled = document.createElement("i"), text = document.createElement("b");
  filled.style.width = `${100 * share}%`;
  text.textContent = percent(share);
  bar.append(filled);
  track.className = "track";
  track.append(bar, text);
  cell.className = "share";
  cell.append(track);
  row.append(head, cell);
  return row;
}

const pair = ([name, value]) => [
  Object.assign(document.createElement("dt"), { textContent: name }),
  Object.assign(document.createElement("dd"), { textContent: value }),
];

// ---- hands --------------------------------------------------------------------------------------------------------

byId("add-files").addEventListener("click", () => byId("files").click());
byId("add-folder").addEventListener("click", () => byId("folder").click());
for (const id of ["files", "folder"]) {
  byId(id).addEventListener("change", ({ target }) => {
    add(ofInput(target));
    target.value = "";
  });
}
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dragging"));
addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  add(await ofDrop(event.dataTransfer));
});
for (const id of ["find", "show", "order"]) byId(id).addEventListener("input", refresh);
byId("all").addEventListener("change", ({ target }) => shown.forEach((scan) => choose(scan, target.checked)));
byId("csv").addEventListener("click", () => exports.csv(exported(), model.card.classes));
byId("json").addEventListener("click", () => exports.json(exported(), model));
byId("print").addEventListener("click", () =>
  exports.print(exported(), model, (scan) => (scan === open && viewer.shown() ? viewer.still() : scan.thumb)));
byId("clear").addEventListener("click", () => {
  const some = shown.some((scan) => scan.chosen), gone = new Set(shown.filter((scan) => scan.chosen || !some));
  if (gone.has(open)) close();
  for (const scan of gone) {
    scan.removed = true;
    cache.delete(scan);
  }
  scans = scans.filter((scan) => !gone.has(scan));
  if (!scans.length) passedOver = 0;
  refresh();
});
byId("close").addEventListener("click", close);
byId("help-open").addEventListener("click", () => byId("help").showModal());
byId("about-open").addEventListener("click", () => byId("about").showModal());
addEventListener("beforeprint", () => document.title = "neurodense report");
addEventListener("afterprint", () => document.title = "neurodense");

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], input[type=password], select");
  if (event.key === "Escape" && open) close();
  else if (typing) return;
  else if (event.key === "/") byId("find").focus();
  else if (event.key === "x" && current()) choose(current(), !current().chosen);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") move(event.key === "ArrowDown" ? 1 : -1);
  else if (event.target.matches("input[type=range]") || !viewer.key(event.key)) return;
  event.preventDefault();
});

const current = () => shown.find((scan) => scan.item.contains(document.activeElement)) ?? open;

// Where the viewer is open it shows what the keys go to; else the card gets the focus.
function move(by) {
  const at = shown.indexOf(current()), next = shown[Math.min(shown.length - 1, Math.max(0, at + by))];
  if (!next) return;
  next.item.scrollIntoView({ block: "nearest" });
  if (open) show(next);
  else next.button.focus();
}

// ---- the model ----------------------------------------------------------------------------------------------------

try {
  model = await client.model();
  const { card: about, engine, precision, notes, limits } = model;
  byId("model").textContent = [`Model ${about.name}, ${precision}`, ...notes].join(". ");
  const f1 = about.metrics?.macro?.f1, scores = f1 === undefined ? [] : [["Macro F1 on its test images", f1.toFixed(3)]];
  byId("about-list").replaceChildren(...[
    ["Name", about.name], ["Made", about.created], ["Classes", about.classes.join(", ")], ["Trained on", about.data.name],
    ...scores, ["Engine", `${engine}, ${precision}`], ["Input", `${about.preprocess.size} × ${about.preprocess.size} pixels`],
    ["One request", `up to ${Math.round(limits.request_bytes / 2 ** 20)} MiB, ${limits.files} files`], ["Note", model.notice],
  ].flatMap(pair));
} catch (error) {
  byId("model").textContent = `The model cannot be shown: ${error.message}`;
}
