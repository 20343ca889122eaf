// Mean cosine over all pairs of different rows of a class, pair by pair; a row of zeros has cosine 0 with every other.

/** features [n, D], labels [n]; NaN for classes of fewer than two rows. */
export function classCosine(features: Float64Array, labels: ArrayLike<number>, classes: number): Float64Array {
  const width = features.length / labels.length;
  const dot = (i: number, j: number): number => {
    let sum = 0;
    for (let d = 0; d < width; d++) sum += features[i * width + d]! * features[j * width + d]!;
    return sum;
  };
  return Float64Array.from({ length: classes }, (_, k) => {
    let [sum, pairs] = [0, 0];
    for (let i = 0; i < labels.length; i++)
      for (let j = 0; j < i; j++) {
        if (labels[i] !== k || labels[j] !== k) continue;
        const size = Math.sqrt(dot(i, i) * dot(j, j));
        sum += size > 0 ? dot(i, j) / size : 0;
        pairs++;
      }
    return sum / pairs;
  });
}
