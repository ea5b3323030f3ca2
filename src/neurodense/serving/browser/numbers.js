// Rules about numbers that several files need.

// The threshold in [0, 1] of `scans/slices.otsu`.
export function otsu(histogram) {
  const bins = histogram.length, count = Math.max(1, histogram.reduce((a, b) => a + b, 0));
  const whole = histogram.reduce((sum, n, k) => sum + (n / count) * ((k + 0.5) / bins), 0);
  const between = new Float64Array(bins);
  let low = 0, moment = 0;
  histogram.forEach((n, k) => {
    low += n / count;
    moment += (n / count) * ((k + 0.5) / bins);
    const product = low * (1 - low);
    if (product > 1e-12) between[k] = (whole * low - moment) ** 2 / product;
  });
  const most = between.reduce((a, b) => Math.max(a, b), 0) * (1 - 1e-9);
  const first = between.findIndex((value) => value >= most), last = between.findLastIndex((value) => value >= most);
  return ((first + last) / 2 + 1) / bins;
}

// Of sorted numbers, as NumPy interpolates.
export function percentile(sorted, q) {
  const place = (q / 100) * (sorted.length - 1), below = Math.floor(place), above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}
