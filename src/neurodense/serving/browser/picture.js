// A picture file as the browser decodes it, made grey by the rules of `scans/raster.py`.

import { greyPng } from "./png.js";

const MAX_PIXELS = 2 ** 26, MIN_SIDE = 8;

const STARTS = {
  JPEG: [0xff, 0xd8, 0xff], PNG: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], BMP: [0x42, 0x4d], GIF: [0x47, 0x49, 0x46, 0x38],
};

// Which of the formats that are read a file of these first bytes is; null: none.
export function pictureFormat(head) {
  const text = String.fromCharCode(...head.subarray(0, 12));
  if (text.startsWith("RIFF") && text.endsWith("WEBP")) return "WEBP";
  return Object.keys(STARTS).find((name) => STARTS[name].every((byte, k) => head[k] === byte)) ?? null;
}

export async function readPicture(file, source, format) {
  if (format === "PNG") {
    const found = await greyPng(file, source, checked); // null unless it has 16 bits, which a canvas has not
    if (found) return found;
  }
  let image;
  try {
    image = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${source} cannot be decoded: it is a damaged ${format} or one of a kind that this browser does not know.`);
  }
  const { width, height } = image;
  try {
    checked(width, height, source);
    const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    pen.fillRect(0, 0, width, height); // transparency lies over black
    pen.drawImage(image, 0, 0);
    const { data } = pen.getImageData(0, 0, width, height), pixels = new Float32Array(width * height);
    for (let k = 0; k < pixels.length; k += 1) {
      // ITU-R 601 luma, in whole numbers as Pillow has it
      pixels[k] = ((data[4 * k] * 19595 + data[4 * k + 1] * 38470 + data[4 * k + 2] * 7471 + 0x8000) >> 16) / 255;
    }
    return { height, width, pixels, spacing: null };
  } finally {
    image.close();
  }
}

function checked(width, height, source) {
  if (width * height > MAX_PIXELS) throw new Error(`${source} is ${width} x ${height} pixels; at most ${MAX_PIXELS.toLocaleString("en")} in all are read.`);
  if (Math.min(width, height) < MIN_SIDE) throw new Error(`${source} is ${width} x ${height} pixels; each side must have at least ${MIN_SIDE}.`);
}
