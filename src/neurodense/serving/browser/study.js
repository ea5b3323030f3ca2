// What was dropped, as studies: {source, notes, total, scans}, or {source, error}. The content decides, not the name.

import { pictureFormat, readPicture } from "./picture.js";

const KNOWN = "This site reads JPEG, PNG, WebP, BMP and GIF pictures; neurodense serve reads more.";

export async function readStudies(files) {
  const found = [];
  for (const { file, path } of files) {
    try {
      found.push(await readOne(file, path));
    } catch (error) {
      found.push({ source: path, error });
    }
  }
  return found;
}

async function readOne(file, source) {
  const head = new Uint8Array(await file.slice(0, 352).arrayBuffer()), format = pictureFormat(head);
  if (!format) throw new Error(`${source} is ${named(head)}. ${KNOWN}`);
  const scan = await readPicture(file, source, format);
  return { source, notes: [], total: 1, scans: [{ source, read: () => scan }] };
}

function named(head) {
  const text = String.fromCharCode(...head.subarray(0, 4));
  if (!head.length) return "empty";
  if (["II*\0", "MM\0*", "II+\0", "MM\0+"].includes(text)) return "a TIFF, which browsers do not decode";
  if (text === "PK\x03\x04") return "a zip archive, which has to be unpacked first";
  if (String.fromCharCode(...head.subarray(128, 132)) === "DICM") return "a DICOM file";
  if (head[0] === 0x1f && head[1] === 0x8b) return "compressed with gzip, as NIfTI volumes are";
  if (["n+1\0", "ni1\0"].includes(String.fromCharCode(...head.subarray(344, 348)))) return "a NIfTI volume";
  return "of no format that is known here, whatever its name says";
}
