// Philox4x32-10 in BigInt, word by word from the paper (Salmon et al., SC 2011, section 3.3), and Box-Muller normals in
// doubles by the rule of docs/streams.md.

const MASK = 0xffffffffn;

/** One block: four u32 of a four-word counter and a two-word key. */
export function philox(counter: readonly number[], key: readonly number[]): number[] {
  let c = counter.map(BigInt);
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c[0]!;
    const p1 = 0xcd9e8d57n * c[2]!;
    c = [(p1 >> 32n) ^ c[1]! ^ k0, p1 & MASK, (p0 >> 32n) ^ c[3]! ^ k1, p0 & MASK];
    k0 = (k0 + 0x9e3779b9n) & MASK;
    k1 = (k1 + 0xbb67ae85n) & MASK;
  }
  return c.map(Number);
}

/** Standard normals [count]: words (0, 1) of a block give lanes 0 (cosine) and 1 (sine), words (2, 3) lanes 2 and 3. */
export function normals(seed: bigint, purpose: number, object: number, view: number, count: number): Float64Array {
  const key = [Number(seed & MASK), Number(seed >> 32n)];
  const out = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const words = philox([object, view, purpose, i >> 2], key);
    const pair = i & 2;
    const radius = Math.sqrt(-2 * Math.log((words[pair]! + 0.5) / 2 ** 32));
    const angle = (2 * Math.PI * words[pair + 1]!) / 2 ** 32;
    out[i] = radius * (i & 1 ? Math.sin(angle) : Math.cos(angle));
  }
  return out;
}
