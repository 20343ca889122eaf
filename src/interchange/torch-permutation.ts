// The permutations torch.randperm draws from a seeded CPU generator, without torch: stores of SRe2L do not say which
// images a batch holds, the seed does. Not a source of randomness of this package, whose draws are Philox's (rng.ts).
// Source: M. Matsumoto, T. Nishimura, "Mersenne Twister" (1998), and the 2002 initialisation; the order of the draws in
// torch.randperm is that of pytorch 2.13 (test/interchange/permutation.test.ts holds its numbers).

import { expected, LpldError } from '../errors.ts';

const N = 624;
const M = 397;

/** MT19937 with 32-bit output. */
export class MersenneTwister {
  readonly #state = new Uint32Array(N);
  #next = N;

  /** @param seed - its low 32 bits count */
  constructor(seed: number) {
    this.#state[0] = seed >>> 0;
    for (let i = 1; i < N; i++) {
      const before = this.#state[i - 1]!;
      this.#state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
  }

  /** The next integer in [0, 2^32). */
  next(): number {
    if (this.#next === N) this.#twist();
    let y = this.#state[this.#next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < N; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % N]! & 0x7fffffff);
      state[i] = state[(i + M) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }
}

/** torch draws 64 bits at a time from this length on. */
const LONGEST = Math.floor((2 ** 32 - 1) / 20);

/**
 * The next torch.randperm(n, generator=g) of a generator.
 * @param n - in [0, 2^32 / 20)
 * @returns I32 [n]
 * @throws {LpldError} E_CONFIG for a longer one
 */
export function torchPermutation(generator: MersenneTwister, n: number): Int32Array {
  if (!(Number.isInteger(n) && n >= 0 && n < LONGEST))
    throw new LpldError('E_CONFIG', expected(`an integer below ${LONGEST}`, 'the length of a permutation', n));
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = 0; i + 1 < n; i++) {
    const j = i + (generator.next() % (n - i));
    const swapped = order[i]!;
    order[i] = order[j]!;
    order[j] = swapped;
  }
  return order;
}
