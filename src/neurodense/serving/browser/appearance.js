// What an image looks like, in numbers: `inference/appearance.py`, each operation in float32 as there.

import { resize } from "./preprocess.js";

const SIDE = 128, GRID = 16, GREYS = 16, OCTAVES = 11, LEVELS = 5, LOCAL = 3, LEAST = 116, CLIP = 8;
const { fround } = Math, bits = new Uint32Array(1), single = new Float32Array(bits.buffer);

// The network's input, {size, pixels}, to numbers.
export function describe({ size, pixels }) {
  let shown = resize({ height: size, width: size, pixels }, SIDE, SIDE, "bilinear").pixels, side = SIDE, greys;
  const shares = [rootShares(shown.map((value) => Math.min(GREYS - 1, Math.max(0, Math.trunc(fround(value * GREYS))))), GREYS)];
  const squares = means(shown.map((value) => value * value), SIDE), local = [];
  for (let level = 0; level < LEVELS; level += 1) {
    const half = side / 2, details = [0, 1, 2].map(() => new Float32Array(half * half)), next = new Float32Array(half * half);
    for (let y = 0, at = 0; y < half; y += 1) {
      for (let x = 0; x < half; x += 1, at += 1) {
        const upper = 2 * y * side + 2 * x, lower = upper + side;
        const p = fround(shown[upper] + shown[upper + 1]), r = fround(shown[upper] - shown[upper + 1]);
        const q = fround(shown[lower] + shown[lower + 1]), s = fround(shown[lower] - shown[lower + 1]);
        next[at] = fround(p + q) * 0.25;
        details[0][at] = fround(r + s) * 0.25;
        details[1][at] = fround(p - q) * 0.25;
        details[2][at] = fround(r - s) * 0.25;
      }
    }
    for (const detail of details) shares.push(rootShares(detail.map(octave), OCTAVES));
    if (level < LOCAL) {
      const [a, b, c] = details, strength = a.map((value, k) => Math.sqrt(value ** 2 + b[k] ** 2 + c[k] ** 2));
      local.push(means(strength, half).map((value) => Math.log(value + 0.002)));
    }
    [shown, side] = [next, half];
    if (level === LOCAL - 1) greys = shown;
  }
  const contrast = squares.map((value, k) => Math.log(Math.sqrt(Math.max(0, value - fround(greys[k] ** 2))) + 0.01));
  return [greys, contrast, ...local, ...shares].flatMap((part) => [...part]);
}

// At least 0: the loss of the rule, {centre, scale, weights, offset}, taking these numbers for those of a known image.
export function strangeness({ centre, scale, weights, offset }, numbers) {
  const sum = numbers.reduce((total, value, k) => total + weights[k] * Math.min(CLIP, Math.max(-CLIP, (value - centre[k]) * scale[k])), offset[0]);
  return Math.max(0, sum) + Math.log1p(Math.exp(-Math.abs(sum)));
}

// How strong detail is, in doublings, by the exponent of its float32.
function octave(value) {
  single[0] = value;
  return Math.min(OCTAVES - 1, Math.max(0, ((bits[0] >>> 23) & 255) - LEAST));
}

function rootShares(bins, count) {
  const found = new Float64Array(count);
  for (const bin of bins) found[bin] += 1;
  return found.map((value) => Math.sqrt(value / bins.length));
}

// Means over the places of the grid.
function means(values, side) {
  while (side > GRID) {
    const half = side / 2, next = new Float32Array(half * half);
    for (let y = 0, at = 0; y < half; y += 1) {
      for (let x = 0; x < half; x += 1, at += 1) {
        const upper = 2 * y * side + 2 * x, lower = upper + side;
        next[at] = fround(fround(values[upper] + values[lower]) + fround(values[upper + 1] + values[lower + 1])) * 0.25;
      }
    }
    [values, side] = [next, half];
  }
  return values;
}
