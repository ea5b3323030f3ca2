// What leaves the page: CSV, JSON, and a report for the printer. Predictions are given as the server gave them.

import { others, percent, shares, verdict } from "./words.js";

export function csv(scans, classes) {
  const rows = [["source", "verdict", "label", ...classes.map((name) => `p:${name}`), "slices", "error"]];
  for (const { prediction } of scans) {
    const of = classes.map((name) => prediction.probabilities?.[name] ?? "");
    const count = prediction.slices?.length ?? "";
    rows.push([prediction.source, verdict(prediction), prediction.label ?? "", ...of, count, prediction.error?.message ?? ""]);
  }
  save("neurodense.csv", "text/csv", rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n");
}

// Quoted where needed; a text that a spreadsheet would run as a formula gets an apostrophe.
function cell(value) {
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function json(scans, model) {
  const { card, engine, precision, notes, notice } = model;
  const about = { name: card.name, created: card.created, files: card.files, engine, precision };
  const whole = { notice, notes, model: about, predictions: scans.map((scan) => scan.prediction) };
  save("neurodense.json", "application/json", JSON.stringify(whole, null, 1));
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// `pictureOf(scan)` gives a canvas or null; it is copied, as one canvas cannot be in two places.
export function print(scans, model, pictureOf) {
  const report = document.getElementById("report");
  const head = element("h1", `Brain MRI: ${scans.length === 1 ? "one scan" : `${scans.length} scans`}`);
  const { card } = model;
  const about = element("p", `Model ${card.name}, made ${card.created}, ${model.engine} ${model.precision}. Printed ${new Date().toISOString().slice(0, 16)} UTC.`);
  const stop = element("p", model.notice);
  stop.className = "stop";
  report.replaceChildren(head, about, stop, ...model.notes.map((note) => element("p", note)));
  for (const scan of scans) {
    const article = document.createElement("article"), words = document.createElement("div");
    words.append(element("h2", verdict(scan.prediction)), element("p", scan.prediction.source));
    if (scan.prediction.error) words.append(element("p", scan.prediction.error.message));
    words.append(element("p", shares(scan.prediction).map(([name, share]) => `${name} ${percent(share)}`).join(", ")));
    for (const [name, value] of others(scan.prediction)) words.append(element("p", `${name}: ${value}`));
    for (const note of scan.prediction.notes ?? []) words.append(element("p", note));
    article.append(copy(pictureOf(scan)), words);
    report.append(article);
  }
  window.print();
}

function copy(picture) {
  const made = Object.assign(document.createElement("canvas"), { width: picture?.width ?? 1, height: picture?.height ?? 1 });
  if (picture) made.getContext("2d").drawImage(picture, 0, 0);
  return made;
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
