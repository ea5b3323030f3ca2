// One worker: files in, predictions out, by the same graph and the same preprocessing as on a server.

import * as ort from "../runtime/ort.js";
import { answer, evidence } from "./answer.js";
import { preprocess, resize, window } from "./preprocess.js";
import { Rejection } from "./rejection.js";
import { readStudies } from "./study.js";

const SITE = new URL("../", import.meta.url);

ort.env.wasm.numThreads = 1; // threads would need a server that isolates the page; workers need nothing
ort.env.wasm.wasmPaths = { mjs: new URL("runtime/ort-wasm.js", SITE).href, wasm: new URL("runtime/ort-wasm.wasm", SITE).href };

let loading = null;

async function load() {
  const { card, graph } = await (await got("model.json")).json();
  const rejection = card.out_of_distribution ? new Rejection(await (await got("ood.safetensors")).arrayBuffer()) : null;
  const session = await ort.InferenceSession.create(new Uint8Array(await (await got(graph)).arrayBuffer()), {
    executionProviders: ["wasm"],
  });
  return { card, session, rejection };
}

async function got(name) {
  const answered = await fetch(new URL(name, SITE));
  if (!answered.ok) throw new Error(`${name}: ${answered.status} ${answered.statusText}`);
  return answered;
}

async function run({ card, session }, scan) {
  const { size } = card.preprocess, pixels = preprocess(card.preprocess, scan);
  const input = new ort.Tensor("float32", pixels, [1, 1, size, size]);
  const { logits, activation_maps: maps, features } = await session.run({ [card.graph.input]: input });
  return { logits: [...logits.data], maps: { values: maps.data, rows: maps.dims[2], columns: maps.dims[3] }, features: features.data, input: { size, pixels } };
}

async function explained(model, study, side) {
  const { source, notes, scans, total } = study, outputs = [], pictures = [];
  for (const { source: slice, read } of scans) {
    const scan = read(), of = await run(model, scan);
    outputs.push({ source: slice, ...of });
    if (side) pictures.push(picture(model.card, scan, slice, of.maps, side));
  }
  const prediction = answer(model.card, model.rejection, { source, notes, total }, outputs);
  return side ? { prediction, slices: pictures } : { prediction };
}

// What is shown of a slice, as /v1/explain has it.
function picture(card, scan, source, maps, side) {
  const { height, width, spacing } = scan, scale = Math.min(1, side / Math.max(height, width));
  const rows = Math.max(1, Math.round(height * scale)), columns = Math.max(1, Math.round(width * scale));
  const small = resize(scan, rows, columns, "box");
  const levels = Uint16Array.from(small.pixels, (value) => Math.round(65535 * Math.min(1, Math.max(0, value))));
  const [top, left, bottom, right] = window(card.preprocess, scan);
  const seen = [top / height, left / width, bottom / height, right / width];
  return { source, rows, columns, spacing, window: seen, levels, evidence: evidence(card, maps) };
}

const failure = (source, error) => ({ prediction: { source, error: { type: "ScanError", message: error.message } } });

async function results({ files, side }) {
  const model = await (loading ??= load());
  const found = [];
  for (const study of files.length ? await readStudies(files) : []) {
    if (study.error) found.push(failure(study.source, study.error));
    else found.push(await explained(model, study, side).catch((error) => failure(study.source, error)));
  }
  return found;
}

onmessage = async ({ data }) => {
  try {
    postMessage({ results: await results(data) });
  } catch (error) {
    loading = null; // the next task tries to load again
    postMessage({ error: `The model cannot be loaded: ${error.message}` });
  }
};
