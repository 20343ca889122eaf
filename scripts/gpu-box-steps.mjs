// Which steps of scripts/gpu-box-run.mjs a call takes. By itself, so that it can be tested.

/**
 * The steps of a call: build, then those that are named; without names those not begun before, then those that failed.
 *
 * @param {string[]} all - every step, build first
 * @param {string[]} named
 * @param {Record<string, string>} before - how steps of earlier calls ended
 */
export function stepsOf(all, named, before) {
  const [build, ...rest] = all;
  if (named.length > 0) return [build, ...rest.filter((step) => named.includes(step))];
  const fresh = rest.filter((step) => before[step] === undefined);
  return [build, ...fresh, ...rest.filter((step) => before[step] !== undefined && before[step] !== 'ok')];
}
