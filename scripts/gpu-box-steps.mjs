// What scripts/gpu-box-run.mjs and scripts/gpu-probe.mjs decide, by itself, so that it can be tested.

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

/**
 * What a run of the probe under a tool of compute-sanitizer says: its count of errors with the first lines, or why there is
 * none. Errors count though they ended the program; no error counts only if it came to its end.
 *
 * @param {{status: number | null, text: string}} run
 * @returns {{errors: number, text?: string[]} | {errors: null, why: string}}
 */
export function judged({ status, text }) {
  const summary = /ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard/.exec(text);
  const errors = summary === null ? 0 : Number(summary[1] ?? summary[2]);
  const lines = text.split('\n').filter((line) => line.startsWith('====='));
  if (errors > 0) return { errors, text: lines.slice(0, 60) };
  if (summary !== null && /"cases": \d+/.test(text)) return { errors };
  return { errors: null, why: text.trim().split('\n').at(-1) || `exit code ${status}` };
}
