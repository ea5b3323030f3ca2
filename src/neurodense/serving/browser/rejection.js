// How unlike the images that the model knows: the score of `inference/rejection.py`, from the same ood.safetensors.

import { describe, strangeness } from "./appearance.js";

const LOOKS = "appearance.";

export class Rejection {
  #part; // name -> {shape, values}

  constructor(bytes) {
    const size = Number(new DataView(bytes).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, size)));
    const floats = Object.entries(header).filter(([, { dtype }]) => dtype === "F32");
    this.#part = Object.fromEntries(floats.map(([name, { shape, data_offsets: [from, to] }]) =>
      [name, { shape, values: new Float32Array(bytes.slice(8 + size + from, 8 + size + to)) }]));
  }

  // Of the graph's features for its input, {size, pixels}: at least 0; 1 is the limit.
  score(features, input) {
    const { limit, reach } = this.#part, distance = this.#distance(features);
    const looks = Object.entries(this.#part).filter(([name]) => name.startsWith(LOOKS));
    if (!looks.length) return distance / limit.values[0]; // calibrated before there was an appearance
    const rule = Object.fromEntries(looks.map(([name, { values }]) => [name.slice(LOOKS.length), values]));
    const [far, strange] = reach?.values ?? [1, 1];
    return Math.max(distance / far, strangeness(rule, describe(input)) / strange) / limit.values[0];
  }

  #distance(features) {
    const { means, directions, variances, rest } = this.#part, [count, wide] = means.shape, long = variances.values.length;
    let least = Infinity;
    for (let c = 0; c < count; c += 1) {
      const off = features.map((value, k) => value - means.values[c * wide + k]); // float32, as there
      const along = new Float64Array(long);
      let across = 0;
      for (let k = 0; k < wide; k += 1) {
        across += off[k] ** 2;
        for (let r = 0; r < long; r += 1) along[r] += off[k] * directions.values[k * long + r];
      }
      let square = 0;
      along.forEach((value, r) => {
        across -= value ** 2;
        square += value ** 2 / variances.values[r];
      });
      least = Math.min(least, square + Math.max(0, across) / rest.values[0]);
    }
    return Math.sqrt(least);
  }
}
