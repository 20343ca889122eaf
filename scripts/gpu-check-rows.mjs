// Runs the checks of scripts/gpu-check.mjs in a process of their own, and the rest of them in another when one crashes it or
// breaks the device's context, after which everything would fail. A child says on stdout, a line of JSON each: {info, names},
// {begin: i}, {row: {...}}, and {done: true} when it has reached the end; what else it prints is shown.

import { createInterface } from 'node:readline';

/** Errors of CUDA stay in the process: what comes after them says nothing. */
export const breaksContext = (error) =>
  /CUDA error|CUDA driver error|cudnn|cublas|the kernel failed/i.test(error ?? '');

const STALLED = 120_000; // ms a check may take before its process is ended

/** @typedef {{name: string, passed: boolean, distance: number | null, tolerance: number, error?: string, seconds?: number}} Row */

/** One child from its start to its end. @returns {Promise<{code: number | null, signal: string | null, done: boolean, begun: number | null}>} */
async function oneChild(child, state, onRow, until) {
  const left = () => Math.min(STALLED, until - performance.now());
  let watch = setTimeout(() => child.kill('SIGKILL'), left());
  const ended = new Promise((done) => {
    child.on('error', (error) => done({ code: null, signal: error.message }));
    child.on('close', (code, signal) => done({ code, signal }));
  });
  let begun = null;
  let done = false;
  for await (const line of createInterface({ input: child.stdout })) {
    let said = null;
    try {
      said = JSON.parse(line);
    } catch {
      console.log(line);
      continue;
    }
    clearTimeout(watch);
    watch = setTimeout(() => child.kill('SIGKILL'), left());
    if (said.names !== undefined) Object.assign(state, said);
    if (said.begin !== undefined) begun = said.begin;
    if (said.done) done = true;
    if (said.row === undefined) continue;
    begun = null;
    state.rows.push(said.row);
    onRow(said.row, state);
  }
  const ending = await ended;
  clearTimeout(watch);
  return { ...ending, done, begun };
}

/**
 * Collects the rows of all checks, whatever single ones do to their process.
 *
 * @param {(from: number) => import('node:child_process').ChildProcess} start - a child for the checks from that one on
 * @param {(row: Row, state: {info: object, names: string[], rows: Row[]}) => void} onRow - called after each
 * @param {number} [until] - performance.now() at which whatever runs is ended and nothing more is begun
 * @returns {Promise<{code: number, rows: Row[], left: number}>} code: 0, though rows may have failed, or what the first child
 *   that could not begin ended with; left: checks that were not begun in time
 */
export async function collectRows(start, onRow, until = Number.POSITIVE_INFINITY) {
  const state = { info: null, names: [], rows: [] };
  for (;;) {
    const from = state.rows.length;
    const { code, signal, done, begun } = await oneChild(start(from), state, onRow, until);
    if (begun !== null) {
      const error = `its process ended with ${signal ?? `exit code ${code}`}`;
      const row = { name: state.names[begun], passed: false, distance: null, tolerance: 0, error };
      state.rows.push(row);
      onRow(row, state);
    } else if (!done && state.rows.length === from) return { code: code || 1, rows: state.rows, left: 0 };
    const left = state.names.length - state.rows.length;
    if (done || left === 0 || performance.now() >= until) return { code: 0, rows: state.rows, left };
  }
}
