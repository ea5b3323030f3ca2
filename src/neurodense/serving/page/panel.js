// The panel beside the list: what is said of one scan, in words first, and its heat map.

import { others, percent, shares, verdict } from "./words.js";
import * as viewer from "./viewer.js";

const byId = (id) => document.getElementById(id);
const LARGE = 512, OF_VOLUME = 256; // pixels of the longer side
const KEPT = 4; // studies whose slices stay in memory

let client = null;
let about = []; // what must be said of the model
let open = null;
let opening = null;
const cache = new Map();

export const connect = (server) => (client = server);
export const say = (notes) => (about = notes);
export const opened = () => open;
export const pictureOf = (scan) => (scan === open && viewer.shown() ? viewer.still() : scan.thumb);

export function forget(scan) {
  if (scan === open) close();
  cache.delete(scan);
}

export function show(scan) {
  open?.item.classList.remove("open-now");
  open = scan;
  scan.item.classList.add("open-now");
  byId("viewer").hidden = false;
  document.body.classList.add("viewing");
  fillViewer(scan);
  byId("verdict").focus({ preventScroll: true });
  if (innerWidth < 1024) byId("viewer").scrollIntoView();
}

export function close() {
  opening?.abort();
  open?.item.classList.remove("open-now");
  open?.button.focus();
  open = null;
  viewer.empty();
  byId("viewer").hidden = true;
  document.body.classList.remove("viewing");
}

export function fillViewer(scan) {
  const { prediction } = scan;
  byId("source").textContent = scan.name;
  byId("verdict").textContent = prediction ? verdict(prediction) : "Not answered yet";
  byId("probabilities").hidden = !prediction?.probabilities;
  byId("probabilities").previousElementSibling.hidden = !prediction?.probabilities;
  byId("probabilities").tBodies[0].replaceChildren(...(prediction ? shares(prediction) : []).map(probabilityRow));
  const facts = prediction ? others(prediction) : [];
  if (prediction?.slices) facts.unshift(["Slices", `${prediction.slices.length} of ${prediction.total} looked at`]);
  byId("more").replaceChildren(...facts.flatMap(pair));
  const notes = [...(prediction?.notes ?? []), ...about];
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

export const pair = ([name, value]) => [
  Object.assign(document.createElement("dt"), { textContent: name }),
  Object.assign(document.createElement("dd"), { textContent: value }),
];

byId("close").addEventListener("click", close);
