// The page: what was dropped is asked for a few at a time, shown as it comes, opened, filtered and exported.

import { Client, Refused } from "./client.js";
import { oncePerFrame } from "./frame.js";
import { ofDrop, ofInput, units } from "./gather.js";
import { arrange, card, fill, filtered, kindOf, thumbnail, thumbnailOf } from "./list.js";
import * as exports from "./exports.js";
import * as panel from "./panel.js";
import { decoded, key } from "./viewer.js";
import { capital } from "./words.js";

const byId = (id) => document.getElementById(id);
const AT_ONCE = 4; // requests
const SMALL = 96; // pixels of the longer side of what only the server can show

let model = null;
let scans = []; // {name, files, picture, state: waiting | asking | done, prediction, thumb, chosen, item, box, button}
let shown = []; // those in the list, in its order
let passedOver = 0;
const queue = [];
let asking = 0;

const client = new Client(
  (gone) => {
    byId("gone").hidden = !gone;
    byId("gone").textContent = gone ? "The server does not answer. Trying again; nothing is lost." : "";
  },
  askToken,
);

panel.connect(client);

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
    card(scan, panel.show, choose);
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
    if (k) card(into, panel.show, choose);
    into.state = "done";
    into.prediction = one.prediction;
    into.number = k;
    into.name = results.length > 1 ? one.prediction.source : scan.name;
    if (one.slices) into.thumb = thumbnailOf(decoded(one, one.scale));
    fill(into);
    return into;
  });
  const place = scans.indexOf(scan);
  if (place >= 0) scans.splice(place, 1, ...all);
  if (panel.opened() === scan) panel.fillViewer(scan);
}

// ---- the list -----------------------------------------------------------------------------------------------------

const refresh = oncePerFrame(() => {
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
  exports.print(exported(), model, panel.pictureOf));
byId("clear").addEventListener("click", () => {
  const some = shown.some((scan) => scan.chosen), gone = new Set(shown.filter((scan) => scan.chosen || !some));
  for (const scan of gone) {
    scan.removed = true;
    panel.forget(scan);
  }
  scans = scans.filter((scan) => !gone.has(scan));
  if (!scans.length) passedOver = 0;
  refresh();
});
byId("help-open").addEventListener("click", () => byId("help").showModal());
byId("about-open").addEventListener("click", () => byId("about").showModal());
addEventListener("beforeprint", () => document.title = "neurodense report");
addEventListener("afterprint", () => document.title = "neurodense");

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], input[type=password], select");
  if (event.key === "Escape" && panel.opened()) panel.close();
  else if (typing) return;
  else if (event.key === "/") byId("find").focus();
  else if (event.key === "x" && current()) choose(current(), !current().chosen);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") move(event.key === "ArrowDown" ? 1 : -1);
  else if (event.target.matches("input[type=range]") || !key(event.key)) return;
  event.preventDefault();
});

const current = () => shown.find((scan) => scan.item.contains(document.activeElement)) ?? panel.opened();

// Where the viewer is open it shows what the keys go to; else the card gets the focus.
function move(by) {
  const at = shown.indexOf(current()), next = shown[Math.min(shown.length - 1, Math.max(0, at + by))];
  if (!next) return;
  next.item.scrollIntoView({ block: "nearest" });
  if (panel.opened()) panel.show(next);
  else next.button.focus();
}

// ---- the model ----------------------------------------------------------------------------------------------------

try {
  model = await client.model();
  panel.say(model.notes);
  const { card: about, engine, precision, notes, limits } = model;
  byId("model").textContent = [`Model ${about.name}, ${precision}`, ...notes].join(". ");
  const f1 = about.metrics?.macro?.f1, scores = f1 === undefined ? [] : [["Macro F1 on its test images", f1.toFixed(3)]];
  byId("about-list").replaceChildren(...[
    ["Name", about.name], ["Made", about.created], ["Classes", about.classes.join(", ")], ["Trained on", about.data.name],
    ...scores, ["Engine", `${engine}, ${precision}`], ["Input", `${about.preprocess.size} × ${about.preprocess.size} pixels`],
    ...(limits ? [["One request", `up to ${Math.round(limits.request_bytes / 2 ** 20)} MiB, ${limits.files} files`]] : []),
    ["Note", model.notice],
  ].flatMap(panel.pair));
} catch (error) {
  byId("model").textContent = `The model cannot be shown: ${error.message}`;
}
