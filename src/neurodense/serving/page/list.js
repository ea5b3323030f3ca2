// The list of scans: a card each, kept in step with what is known of it. Cards out of sight cost no layout.

import { capital, certainty, kind, percent, shares, verdict } from "./words.js";

const list = document.getElementById("list");
const SIDE = 144; // pixels of a thumbnail

export function card(scan, onOpen, onChoose) {
  const item = document.createElement("li");
  item.className = "card waiting";
  const tick = make("label", "tick"), box = make("input");
  box.type = "checkbox";
  box.setAttribute("aria-label", `Choose ${scan.name}`);
  box.addEventListener("change", () => onChoose(scan, box.checked));
  tick.append(box);
  const open = make("button", "open");
  open.type = "button";
  open.addEventListener("click", () => onOpen(scan));
  const words = make("span", "words");
  words.append(make("span", "verdict"), make("span", "bar"), make("span", "detail"), make("span", "name"));
  open.append(make("span", "thumb"), words);
  item.append(tick, open);
  scan.item = item;
  scan.box = box;
  scan.button = open;
  fill(scan);
}

function make(tag, name = "") {
  const element = document.createElement(tag);
  element.className = name;
  return element;
}

export function fill(scan) {
  const { item, prediction } = scan, part = (name) => item.querySelector(`.${name}`);
  item.className = `card ${scan.state}`;
  const name = part("name");
  name.textContent = name.title = scan.name;
  const bar = part("bar");
  bar.hidden = true;
  if (prediction?.probabilities) {
    const [first, second] = shares(prediction);
    if (kind(prediction) !== prediction.label) item.classList.add("unsure");
    part("verdict").textContent = verdict(prediction);
    const slices = prediction.slices ? ` · ${prediction.slices.length} of ${prediction.total} slices` : "";
    part("detail").textContent = `${first[0]} ${percent(first[1])}, ${second[0]} ${percent(second[1])}${slices}`;
    bar.hidden = false;
    const filled = make("i");
    filled.style.width = percent(first[1]).replace(" ", "");
    bar.replaceChildren(filled);
  } else if (prediction?.error) {
    item.classList.add("bad");
    part("verdict").textContent = verdict(prediction);
    part("detail").textContent = prediction.error.message;
  } else {
    part("verdict").textContent = scan.state === "asking" ? "Being read …" : "Waiting";
    part("detail").textContent = scan.files.length > 1 ? `${scan.files.length} files` : "";
  }
  if (scan.thumb) part("thumb").replaceChildren(scan.thumb);
  else part("thumb").textContent = prediction?.error ? "no picture" : capital(scan.name.split(".").at(-1).slice(0, 8));
}

// Order and filter: the same nodes, moved only where the order changed.
export function arrange(scans) {
  const wanted = scans.map((scan) => scan.item);
  if (wanted.length === list.children.length && wanted.every((item, k) => item === list.children[k])) return;
  list.replaceChildren(...wanted);
}

export function filtered(scans, text, show, order) {
  const low = text.toLowerCase();
  const found = scans.filter((scan) => scan.name.toLowerCase().includes(low) && (!show || kindOf(scan) === show));
  const by = {
    name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
    verdict: (a, b) => kindOf(a).localeCompare(kindOf(b)) || certainty(b.prediction ?? {}) - certainty(a.prediction ?? {}),
    unsure: (a, b) => sureness(a) - sureness(b),
  }[order];
  return by ? found.sort(by) : found;
}

export const kindOf = (scan) => (scan.prediction ? kind(scan.prediction) : "waiting");

const sureness = (scan) => (scan.prediction?.probabilities ? certainty(scan.prediction) : 2);

// A small picture of what the browser can read itself; null where it cannot.
export async function thumbnail(file) {
  try {
    const whole = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(whole.width, whole.height));
    const small = canvasOf(Math.max(1, Math.round(whole.width * scale)), Math.max(1, Math.round(whole.height * scale)));
    small.getContext("2d").drawImage(whole, 0, 0, small.width, small.height);
    whole.close();
    return small;
  } catch {
    return null;
  }
}

// The middle one of the slices that the server sent.
export function thumbnailOf(study) {
  const one = study.slices[study.slices.length >> 1], small = canvasOf(one.columns, one.rows);
  const image = new ImageData(one.columns, one.rows);
  one.levels.forEach((value, k) => image.data.set([value >> 8, value >> 8, value >> 8, 255], 4 * k));
  small.getContext("2d").putImageData(image, 0, 0);
  return small;
}

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  return Object.assign(canvas, { width, height });
}
