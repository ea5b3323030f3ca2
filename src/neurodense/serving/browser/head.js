// Where the head lies in a picture, and between which grey levels: the rule of `scans/head.py`.

import { otsu, percentile } from "./numbers.js";
import { resize } from "./preprocess.js";

export const MARGIN = 0.04;

const SIDE = 64, EDGE = 2, AIR = 0.05, CONTRAST = 0.02, SHARE = 0.03;

export function findHead(scan) {
  const small = resize(scan, SIDE, SIDE, "box").pixels, histogram = new Float64Array(256);
  for (const value of small) histogram[Math.trunc(Math.fround(value * 255))] += 1;
  let dark = 0, level = -1;
  while (dark < AIR * small.length) dark += histogram[(level += 1)];
  const air = level / 255, threshold = (air + otsu(histogram)) / 2;
  if (threshold - air < CONTRAST) return null;
  const mask = Uint8Array.from(small, (value, at) => {
    const y = Math.trunc(at / SIDE), x = at % SIDE;
    return Math.min(x, y) >= EDGE && Math.max(x, y) < SIDE - EDGE && value > threshold ? 1 : 0;
  });
  const found = largest(mask);
  if (!found) return null;
  const [top, left, bottom, right] = found;
  const inside = small.filter((_, at) => {
    const y = Math.trunc(at / SIDE), x = at % SIDE;
    return y >= top && y < bottom && x >= left && x < right;
  }).sort();
  const low = percentile(inside, 1), high = percentile(inside, 99.5);
  const down = scan.height / SIDE, across = scan.width / SIDE;
  const box = [Math.trunc(top * down), Math.trunc(left * across), Math.ceil(bottom * down), Math.ceil(right * across)];
  return { box, air, levels: high - low >= CONTRAST ? [low, high] : [0, 1] };
}

// The box around the largest piece once every pixel is widened by its neighbours; narrowed again.
function largest(mask) {
  const wide = new Uint8Array(mask.length);
  mask.forEach((value, at) => {
    if (value) for (const dy of [-SIDE, 0, SIDE]) wide.fill(1, at + dy - 1, at + dy + 2);
  });
  let best = null;
  for (let start = 0; start < wide.length; start += 1) {
    if (!wide[start]) continue;
    const piece = { size: 0, box: [SIDE, SIDE, 0, 0] }, queue = [start];
    wide[start] = 0;
    while (queue.length) {
      const at = queue.pop(), y = Math.trunc(at / SIDE), x = at % SIDE, [top, left, bottom, right] = piece.box;
      piece.size += 1;
      piece.box = [Math.min(top, y), Math.min(left, x), Math.max(bottom, y), Math.max(right, x)];
      for (const next of [at - 1, at + 1, at - SIDE, at + SIDE]) { // what is wide never touches the picture's edge
        if (!wide[next]) continue;
        wide[next] = 0;
        queue.push(next);
      }
    }
    if (!best || piece.size > best.size) best = piece;
  }
  if (!best || best.size < SHARE * mask.length) return null;
  const [top, left, bottom, right] = best.box;
  return [top + 1, left + 1, bottom, right];
}
