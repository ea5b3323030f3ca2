// What a prediction says, in words first. A model that has no numbers for a verdict names its most probable class.

export const capital = (name) => name.slice(0, 1).toUpperCase() + name.slice(1);

export const shares = (prediction) => Object.entries(prediction.probabilities ?? {}).sort((a, b) => b[1] - a[1]);

const listed = (names) => `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

export function verdict(prediction) {
  if (prediction.error) return "Could not be read";
  if (prediction.verdict) return prediction.verdict;
  if (prediction.in_distribution === false) return "This does not look like a brain MRI";
  const set = prediction.prediction_set;
  if (set?.length === 1) return `${capital(set[0])} likely`;
  if (set?.length > 1) return `Uncertain between ${listed(set)}`;
  if (set) return "No class fits";
  return `${capital(shares(prediction)[0][0])} is the most probable class`;
}

// What the list is filtered by: a class, or why there is none.
export function kind(prediction) {
  if (prediction.error) return "unreadable";
  if (prediction.in_distribution === false) return "unlike a brain MRI";
  if (prediction.prediction_set && prediction.prediction_set.length !== 1) return "uncertain";
  return prediction.label ?? "uncertain";
}

export const certainty = (prediction) => shares(prediction)[0]?.[1] ?? -1;

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

// Members that are shown by themselves; whatever else a prediction has is listed as it is.
const SHOWN = new Set(["source", "label", "probabilities", "verdict", "notes", "slices", "total", "overlay", "error"]);

export function others(prediction) {
  return Object.entries(prediction)
    .filter(([name, value]) => !SHOWN.has(name) && value !== null)
    .map(([name, value]) => [capital(name.replaceAll("_", " ")), said(value)]);
}

function said(value) {
  if (Array.isArray(value)) return value.length ? value.map(said).join(", ") : "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
