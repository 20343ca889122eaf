// IEEE half precision from the definition: 10 fraction bits, exponents -14 .. 15, subnormals in steps of 2^-24, round to
// nearest, ties to even.

/** The bits of the half nearest to x; beyond 65520 in magnitude that is an infinity. NaN is not handled. */
export function halfBits(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  const exponent = size === 0 ? -14 : Math.max(-14, Math.floor(Math.log2(size)));
  const safe =
    size >= 2 ** (exponent + 1) ? exponent + 1 : size < 2 ** exponent && exponent > -14 ? exponent - 1 : exponent;
  const steps = size / 2 ** (safe - 10); // exact: a power of two
  const low = Math.floor(steps);
  const rest = steps - low;
  const rounded = rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
  const bits = rounded + (safe + 14) * 1024; // a carry into the exponent is the next binade
  return sign | Math.min(bits, 0x7c00);
}

/** The value of half bits. */
export function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}
