// bfloat16 from the definition: the upper half of a float32's bits, rounded to nearest, ties to even.

const value = new Float32Array(1);
const bits = new Uint32Array(value.buffer);

/** The bits of the bfloat16 nearest to the float32 nearest to x; a NaN stays one. */
export function bfloatBits(x: number): number {
  value[0] = x;
  const high = bits[0]! >>> 16;
  if (Number.isNaN(x)) return high | 0x40;
  const rest = bits[0]! & 0xffff;
  const up = rest > 0x8000 || (rest === 0x8000 && high % 2 === 1);
  return up ? high + 1 : high; // a carry into the exponent is the next binade
}

/** The value of bfloat16 bits, exact. */
export function bfloatValue(half: number): number {
  bits[0] = half << 16;
  return value[0]!;
}

/** x rounded to bfloat16. */
export const toBfloat = (x: number): number => bfloatValue(bfloatBits(x));
