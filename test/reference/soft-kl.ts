// Distillation loss of lpld-sre2l-cda 6.2: scale / B * sum q (log q - log p) with q, p softmax of logits / T, and its
// gradient with respect to the student, scale (p - q) / (T B).

/** log softmax of a row. */
export function logSoftmax(row: Float64Array): Float64Array {
  const top = Math.max(...row);
  const log = top + Math.log(row.reduce((s, v) => s + Math.exp(v - top), 0));
  return row.map((v) => v - log);
}

/** student, teacher [rows, K]. */
export function softKl(
  student: Float64Array,
  teacher: Float64Array,
  classes: number,
  temperature: number,
  scale: number,
): { loss: number; dStudent: Float64Array } {
  const rows = student.length / classes;
  const dStudent = new Float64Array(student.length);
  let loss = 0;
  for (let b = 0; b < rows; b++) {
    const part = (v: Float64Array): Float64Array => v.slice(b * classes, (b + 1) * classes).map((a) => a / temperature);
    const p = logSoftmax(part(student));
    const q = logSoftmax(part(teacher));
    for (let k = 0; k < classes; k++) {
      loss += (scale / rows) * Math.exp(q[k]!) * (q[k]! - p[k]!);
      dStudent[b * classes + k] = (scale * (Math.exp(p[k]!) - Math.exp(q[k]!))) / (temperature * rows);
    }
  }
  return { loss, dStudent };
}
