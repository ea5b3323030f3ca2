// The preprocessing of `scans/preprocess.py`: a picture becomes the network's input. A picture is {height, width, pixels:
// Float32Array of rows, in [0, 1], spacing: [rows, columns] in millimetres or null}. The canvas scales differently from
// one browser to the next; this is Pillow's filter (Resample.c), double precision between two float32 passes.

import { MARGIN, findHead } from "./head.js";

const NARROW = 0.25;

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
};

export function preprocess(rules, scan) {
  const head = headOf(rules, scan), { size } = rules;
  const part = rules.crop === "head" ? cut(scan, around(rules, scan, head), head ? head.air : 0) : scan;
  const { pixels } = resize(part, size, size, "bilinear");
  if (!head || rules.intensity !== "percentile") return pixels;
  const [low, high] = head.levels;
  return pixels.map((value) => Math.min(1, Math.max(0, (value - low) / (high - low))));
}

// Top, left, bottom, right of what becomes the input, in pixels; it may reach beyond the picture.
export const window = (rules, scan) => around(rules, scan, headOf(rules, scan));

const headOf = (rules, scan) => (rules.crop === "head" || rules.intensity === "percentile" ? findHead(scan) : null);

function around(rules, { height, width, spacing }, head) {
  if (rules.crop !== "head") return [0, 0, height, width];
  const [top, left, bottom, right] = head?.box ?? [0, 0, height, width], [down, along] = spacing ?? [1, 1];
  const across = Math.min(Math.max(along / down, NARROW), 1 / NARROW);
  const side = Math.max(bottom - top, (right - left) * across) * (head ? 1 + 2 * MARGIN : 1);
  const rows = Math.max(1, even(side)), columns = Math.max(1, even(side / across));
  const first = even((top + bottom - rows) / 2), start = even((left + right - columns) / 2);
  return [first, start, first + rows, start + columns];
}

// To the nearest whole number, of two the even one, as Python rounds.
function even(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
}

function cut({ height, width, pixels }, [top, left, bottom, right], air) {
  const rows = bottom - top, columns = right - left, out = new Float32Array(rows * columns).fill(air);
  const from = Math.max(0, left), to = Math.min(width, right);
  for (let y = Math.max(0, top); y < Math.min(height, bottom); y += 1) {
    out.set(pixels.subarray(y * width + from, y * width + to), (y - top) * columns + from - left);
  }
  return { height: rows, width: columns, pixels: out };
}

export function resize({ height, width, pixels }, rows, columns, filter) {
  const across = width === columns ? pixels : shrunk(pixels, height, width, columns, FILTERS[filter], { line: width, step: 1, lineOut: columns, stepOut: 1 });
  const down = height === rows ? across : shrunk(across, columns, height, rows, FILTERS[filter], { line: 1, step: columns, lineOut: 1, stepOut: columns });
  return { height: rows, width: columns, pixels: down };
}

// One pass: each of `lines` lines of `from` pixels becomes one of `to`.
function shrunk(pixels, lines, from, to, { support, weight }, { line, step, lineOut, stepOut }) {
  const scale = from / to, wide = Math.max(scale, 1), out = new Float32Array(lines * to);
  for (let x = 0; x < to; x += 1) {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support * wide + 0.5)), end = Math.min(from, Math.trunc(centre + support * wide + 0.5));
    const weights = Float64Array.from({ length: end - first }, (_, k) => weight((k + first - centre + 0.5) / wide));
    const sum = weights.reduce((a, b) => a + b, 0);
    weights.forEach((value, k) => (weights[k] = value / sum));
    for (let y = 0; y < lines; y += 1) {
      let total = 0;
      for (let k = 0, at = y * line + first * step; k < weights.length; k += 1, at += step) total += pixels[at] * weights[k];
      out[y * lineOut + x * stepOut] = total;
    }
  }
  return out;
}
