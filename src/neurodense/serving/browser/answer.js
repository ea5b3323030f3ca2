// From the graph's outputs to a prediction: the object that the server gives. What the card has no numbers for is left out.

const SETS_ERROR = 0.1;
const UNKNOWN = "This does not look like a brain MRI like those the model knows";
const UNKNOWN_STUDY = "Most slices do not look like a brain MRI like those the model knows";

// Logit of class k as the card scales it: affine, so it holds for the places of a map as well.
function scaled(card, value, k) {
  const vector = card.calibration?.chosen;
  return vector ? value * vector.scale[k] + vector.shift[k] : value / (card.temperature ?? 1);
}

function softmax(logits) {
  const top = Math.max(...logits), powers = logits.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

// Evidence for each class at each place, as `inference/explain.evidence`: {class: rows of numbers}.
export function evidence(card, { values, rows, columns }) {
  const places = rows * columns, count = card.classes.length;
  const maps = Array.from({ length: count }, (_, k) => Array.from({ length: places }, (_, at) => scaled(card, values[k * places + at], k)));
  const mean = Array.from({ length: places }, (_, at) => maps.reduce((sum, map) => sum + map[at], 0) / count);
  const grid = (map) => Array.from({ length: rows }, (_, y) => Array.from({ length: columns }, (_, x) => map[y * columns + x] - mean[y * columns + x]));
  return Object.fromEntries(card.classes.map((name, k) => [name, grid(maps[k])]));
}

// `outputs`: {source, logits, features, input} of each slice that was looked at. Of a study: by the mean of the logits, and the
// median of the scores, of two middle ones the smaller.
export function answer(card, rejection, { source, notes, total }, outputs) {
  const scores = outputs.map((one) => (rejection ? rejection.score(one.features, one.input) : null));
  const slices = outputs.map((one, k) => named(card, one.source, one.logits, scores[k]));
  const noted = notes.length ? { notes } : {};
  if (total === 1) return { ...slices[0], source, ...noted };
  const mean = card.classes.map((_, k) => outputs.reduce((sum, one) => sum + one.logits[k], 0) / outputs.length);
  const median = rejection ? [...scores].sort((a, b) => a - b)[(scores.length - 1) >> 1] : null;
  return { ...named(card, source, mean, median, UNKNOWN_STUDY), ...noted, total, slices };
}

function named(card, source, logits, score, unknown = UNKNOWN) {
  const { classes } = card, shares = softmax(logits.map((value, k) => scaled(card, value, k)));
  const order = [...classes.keys()].sort((a, b) => shares[b] - shares[a]), most = classes[order[0]];
  const sets = card.conformal?.sets?.find((one) => Math.abs(one.error - SETS_ERROR) < 1e-6);
  const prediction = { source, label: most, probabilities: Object.fromEntries(classes.map((name, k) => [name, shares[k]])) };
  const inside = sets && order.filter((k) => shares[k] >= sets.least[classes[k]]);
  if (inside?.length && inside[0] !== order[0]) inside.unshift(order[0]); // an answer is in its own set
  const fits = inside?.map((k) => classes[k]), strange = score !== null && score > 1;
  if (strange || fits?.length === 0) prediction.label = null;
  if (fits || score !== null) prediction.verdict = strange ? unknown : verdict(most, fits);
  if (fits) Object.assign(prediction, { prediction_set: fits, error_rate: sets.error });
  if (score !== null) Object.assign(prediction, { ood_score: score, in_distribution: !strange });
  return prediction;
}

function verdict(most, fits) {
  if (!fits) return `${capital(most)} is the most probable class`;
  if (!fits.length) return "No class fits";
  if (fits.length === 1) return `${capital(fits[0])} likely`;
  return `Uncertain between ${fits.slice(0, -1).join(", ")} and ${fits.at(-1)}`;
}

const capital = (name) => name.slice(0, 1).toUpperCase() + name.slice(1);
