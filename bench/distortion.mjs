// What a codec does to logits, in float64: KL divergence from the teacher at several temperatures, error of centred logits,
// agreement of the largest classes. Means over rows; natural logarithms. Source: issue of the label store, point 4.

export const TEMPERATURES = [20, 4, 2];
const TOP = 5;

/** ln of the softmax of one row at a temperature, into `out` [K]. */
function logSoftmax(row, temperature, out) {
  let largest = Number.NEGATIVE_INFINITY;
  for (const value of row) largest = Math.max(largest, value);
  let sum = 0;
  for (const value of row) sum += Math.exp((value - largest) / temperature);
  const norm = Math.log(sum);
  for (let k = 0; k < row.length; k++) out[k] = (row[k] - largest) / temperature - norm;
}

/** The classes of the n largest values, largest first; ties by rising class. */
function largest(row, n) {
  const out = [];
  for (let k = 0; k < row.length; k++) {
    let at = out.length;
    while (at > 0 && row[k] > row[out[at - 1]]) at--;
    if (at < n) out.splice(at, 0, k);
    if (out.length > n) out.pop();
  }
  return out;
}

const meanOf = (row) => {
  let sum = 0;
  for (const value of row) sum += value;
  return sum / row.length;
};

/**
 * @param {Float32Array} teacher - logits [M, K]
 * @param {Float32Array} decoded - the same rows after encode and decode
 * @param {number} classes - K
 * @returns {{kl: Record<string, number>, mse: number, top1: number, top5: number}} KL(teacher || decoded) by temperature, in
 *   nats a row; mean squared error per class of logits less their row's mean; share of rows whose largest class agrees; share
 *   of the teacher's five largest classes among the decoded five
 */
export function distortion(teacher, decoded, classes) {
  const rows = teacher.length / classes;
  const [p, q] = [new Float64Array(classes), new Float64Array(classes)];
  const kl = Object.fromEntries(TEMPERATURES.map((t) => [t, 0]));
  const top = Math.min(TOP, classes);
  let [mse, top1, top5] = [0, 0, 0];
  for (let row = 0; row < rows; row++) {
    const a = teacher.subarray(row * classes, (row + 1) * classes);
    const b = decoded.subarray(row * classes, (row + 1) * classes);
    for (const t of TEMPERATURES) {
      logSoftmax(a, t, p);
      logSoftmax(b, t, q);
      let sum = 0;
      for (let k = 0; k < classes; k++) sum += Math.exp(p[k]) * (p[k] - q[k]);
      kl[t] += sum / rows;
    }
    const shift = meanOf(a) - meanOf(b);
    let squares = 0;
    for (let k = 0; k < classes; k++) squares += (a[k] - b[k] - shift) ** 2;
    mse += squares / classes / rows;
    const [theirs, ours] = [largest(a, top), largest(b, top)];
    top1 += (theirs[0] === ours[0] ? 1 : 0) / rows;
    top5 += theirs.filter((k) => ours.includes(k)).length / top / rows;
  }
  return { kl, mse, top1, top5 };
}
