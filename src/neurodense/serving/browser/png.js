// A PNG of 16-bit grey, decoded here: a canvas keeps 8 bits, and what was written with 12 of 16 would lose all but four.

const LIMIT = 2 ** 28; // bytes of pixels and filters

// The picture; null where the file is a PNG of another kind.
export async function greyPng(file, source, checked) {
  const bytes = new Uint8Array(await file.arrayBuffer()), view = new DataView(bytes.buffer);
  if (bytes.length < 33 || bytes[24] !== 16 || bytes[25] !== 0) return null;
  const width = view.getUint32(16), height = view.getUint32(20);
  checked(width, height, source);
  if (bytes[28]) throw new Error(`${source} is an interlaced PNG of 16 bits, which is not read here.`);
  const parts = [];
  let clear = -1, at = 8;
  while (at + 12 <= bytes.length) {
    const size = view.getUint32(at), kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IDAT") parts.push(bytes.subarray(at + 8, at + 8 + size));
    if (kind === "tRNS" && size >= 2) clear = view.getUint16(at + 8); // the one level that is transparent
    at += 12 + size;
  }
  const line = 1 + 2 * width, raw = await inflated(parts, height * line, source), pixels = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    unfilter(raw, y * line + 1, line, raw[y * line], y > 0, source);
    for (let x = 0; x < width; x += 1) {
      const k = y * line + 1 + 2 * x, value = (raw[k] << 8) | raw[k + 1];
      pixels[y * width + x] = value === clear ? 0 : value / 65535;
    }
  }
  return { height, width, pixels, spacing: null };
}

async function inflated(parts, size, source) {
  const out = new Uint8Array(Math.min(size, LIMIT)), reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  let filled = 0;
  try {
    while (filled < size) {
      const { value, done } = await reader.read();
      if (done) break;
      out.set(value.subarray(0, size - filled), filled);
      filled += value.length;
    }
  } catch {
    filled = 0;
  }
  reader.cancel().catch(() => {});
  if (filled < size) throw new Error(`${source} is damaged: its pixels end too early.`);
  return out;
}

// PNG specification, section 9; two bytes a pixel.
function unfilter(raw, from, line, filter, above, source) {
  if (filter > 4) throw new Error(`${source} is damaged: it has a filter of the unknown kind ${filter}.`);
  for (let k = from; k < from + line - 1; k += 1) {
    const a = k - from >= 2 ? raw[k - 2] : 0, b = above ? raw[k - line] : 0, c = above && k - from >= 2 ? raw[k - line - 2] : 0;
    if (filter === 1) raw[k] += a;
    else if (filter === 2) raw[k] += b;
    else if (filter === 3) raw[k] += (a + b) >> 1;
    else if (filter === 4) {
      const p = a + b - c, da = Math.abs(p - a), db = Math.abs(p - b), dc = Math.abs(p - c);
      raw[k] += da <= db && da <= dc ? a : db <= dc ? b : c;
    }
  }
}
