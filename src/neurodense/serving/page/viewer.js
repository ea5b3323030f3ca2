// One study: its slices with the heat map over them, all drawn here from what /v1/explain sent.

import { oncePerFrame } from "./frame.js";

const canvas = document.getElementById("canvas");
const pen = canvas.getContext("2d");
const byId = (id) => document.getElementById(id);
const sliders = { slice: byId("slice"), opacity: byId("opacity"), window: byId("window"), level: byId("level") };

let study = null; // {slices: [{rows, columns, spacing, window, levels, evidence}], scale}
let label = null; // class of the heat map; null: none

export function decoded(explanation, scale) {
  const slices = explanation.slices.map((slice) => ({ ...slice, levels: slice.levels ?? levels(slice.pixels) }));
  return { slices, scale, classes: Object.keys(slices[0].evidence) };
}

function levels(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Uint16Array.from({ length: bytes.length / 2 }, (_, k) => view.getUint16(2 * k, true));
}

export function show(found, chosen, first) {
  study = found;
  const heat = byId("heat");
  heat.replaceChildren(new Option("no class", ""), ...study.classes.map((name) => new Option(name, name)));
  label = heat.value = chosen && study.classes.includes(chosen) ? chosen : study.classes[0];
  sliders.slice.max = study.slices.length - 1;
  sliders.slice.value = first;
  byId("slice-row").hidden = study.slices.length === 1;
  byId("scale-end").textContent = `${study.scale.full_scale}+ logits`;
  const scale = byId("scale"), strip = scale.getContext("2d"), fill = strip.createLinearGradient(0, 0, scale.width, 0);
  study.scale.colours.forEach((colour, k, all) => fill.addColorStop(k / (all.length - 1), colour));
  strip.fillStyle = fill;
  strip.fillRect(0, 0, scale.width, scale.height);
  byId("controls").hidden = byId("canvas-help").hidden = false;
  draw();
}

export function empty() {
  study = null;
  canvas.width = canvas.height = 1;
  byId("controls").hidden = byId("canvas-help").hidden = true;
}

export const shown = () => study !== null;
export const slice = () => Number(sliders.slice.value);

function draw() {
  if (!study) return;
  const one = study.slices[slice()];
  canvas.width = one.columns;
  canvas.height = one.rows;
  const [down, across] = one.spacing ?? [1, 1];
  canvas.style.aspectRatio = `${one.columns * across} / ${one.rows * down}`;
  pen.putImageData(picture(one), 0, 0);
  const window = Number(sliders.window.value), level = Number(sliders.level.value);
  byId("slice-out").textContent = `${slice() + 1} of ${study.slices.length} shown (${one.source.split("#").at(-1)})`;
  byId("opacity-out").textContent = `${sliders.opacity.value} %`;
  byId("window-out").textContent = `${window} %`;
  byId("level-out").textContent = `${level} %`;
  const heat = label ? `, heat map of ${label} at ${sliders.opacity.value} %` : "";
  canvas.setAttribute("aria-label", `Slice ${slice() + 1} of ${study.slices.length}${heat}`);
}

// Grey levels by window and level, in per cent of the full range; over them the evidence, 0 and below not drawn.
function picture(one) {
  const image = new ImageData(one.columns, one.rows), to = image.data;
  const width = (65535 * Number(sliders.window.value)) / 100, low = (65535 * Number(sliders.level.value)) / 100 - width / 2;
  const opacity = label ? Number(sliders.opacity.value) / 100 : 0, colours = palette();
  for (let y = 0, k = 0; y < one.rows; y += 1) {
    const places = opacity ? row(one, y) : null;
    for (let x = 0; x < one.columns; x += 1, k += 1) {
      const grey = Math.min(255, Math.max(0, (255 * (one.levels[k] - low)) / width));
      const heat = places ? Math.min(1, Math.max(0, places(x) / study.scale.full_scale)) : 0;
      const [red, green, blue] = colours[Math.round(255 * heat)], share = opacity * heat;
      to[4 * k] = grey + share * (red - grey);
      to[4 * k + 1] = grey + share * (green - grey);
      to[4 * k + 2] = grey + share * (blue - grey);
      to[4 * k + 3] = 255;
    }
  }
  return image;
}

// Evidence along row y: bilinear between the centres of the places, level outside of them, 0 outside of the window.
function row(one, y) {
  const grid = one.evidence[label], [top, left, bottom, right] = one.window;
  const place = (share, from, to, count) => Math.min(count - 1, Math.max(0, ((share - from) / (to - from)) * count - 0.5));
  const v = (y + 0.5) / one.rows;
  if (v < top || v > bottom) return () => 0;
  const down = place(v, top, bottom, grid.length), above = Math.floor(down), below = Math.min(above + 1, grid.length - 1);
  const line = grid[above].map((value, k) => value + (down - above) * (grid[below][k] - value));
  return (x) => {
    const u = (x + 0.5) / one.columns;
    if (u < left || u > right) return 0;
    const across = place(u, left, right, line.length), before = Math.floor(across), after = Math.min(before + 1, line.length - 1);
    return line[before] + (across - before) * (line[after] - line[before]);
  };
}

let table = null;
function palette() {
  if (table?.of === study.scale) return table;
  const ends = study.scale.colours.map((text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16)));
  table = Array.from({ length: 256 }, (_, k) => {
    const at = (k / 255) * (ends.length - 1), below = Math.floor(at), above = Math.min(below + 1, ends.length - 1);
    return ends[below].map((value, c) => value + (at - below) * (ends[above][c] - value));
  });
  table.of = study.scale;
  return table;
}

const redraw = oncePerFrame(() => draw());

function step(slider, by) {
  slider.value = Number(slider.value) + by;
  redraw();
}

export function reset() {
  Object.assign(sliders.window, { value: 100 });
  Object.assign(sliders.level, { value: 50 });
  Object.assign(sliders.opacity, { value: 70 });
  redraw();
}

// True where the key meant something here.
export function key(name) {
  if (!study) return false;
  if (name === "ArrowRight") step(sliders.slice, 1);
  else if (name === "ArrowLeft") step(sliders.slice, -1);
  else if (name === "+" || name === "=") step(sliders.opacity, 10);
  else if (name === "-") step(sliders.opacity, -10);
  else if (name === "0") reset();
  else if (name === "h") {
    const heat = byId("heat");
    heat.value = label ? "" : heat.dataset.last || study.classes[0];
    heat.dispatchEvent(new Event("change"));
  } else return false;
  return true;
}

// The picture as it is drawn now, for a report.
export const still = () => canvas;

for (const slider of Object.values(sliders)) slider.addEventListener("input", redraw);
byId("heat").addEventListener("change", ({ target }) => {
  if (label) target.dataset.last = label;
  label = target.value || null;
  redraw();
});
byId("reset").addEventListener("click", reset);
canvas.addEventListener("wheel", (event) => {
  if (!study || study.slices.length === 1) return;
  event.preventDefault();
  step(sliders.slice, Math.sign(event.deltaY));
}, { passive: false });
canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
canvas.addEventListener("pointermove", (event) => {
  if (!event.buttons || !study) return;
  sliders.window.value = Number(sliders.window.value) + event.movementX / 2;
  sliders.level.value = Number(sliders.level.value) + event.movementY / 4;
  redraw();
});
