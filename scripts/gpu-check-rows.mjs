// Runs the checks of scripts/gpu-check.mjs in a process of their own, and the rest of them in another when one crashes it or
// breaks the device's context, after which everything would fail. A child says on stdout, a line of JSON each: {info, names},
// {begin: i}, {row: {...}}, and {done: true} when it has reached the end; what else it prints is shown.

import { createInterface } from 'node:readline';

/** Errors of CUDA stay in the process: what comes after them says nothing. */
export const breaksContext = (error) => /CUDA error|CUDA driver error|cudnn|cublas/i.test(error ?? '');

/** @typedef {{name: string, passed: boolean, distance: number | null, tolerance: number, error?: string, seconds?: number}} Row */

/** One child from its start to its end. @returns {Promise<{code: number | null, signal: string | null, done: boolean, begun: number | null}>} */
async function oneChild(child, state, onRow) {
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
    if (said.names !== undefined) Object.assign(state, said);
    if (said.begin !== undefined) begun = said.begin;
    if (said.done) done = true;
    if (said.row === undefined) continue;
    begun = null;
    state.rows.push(said.row);
    onRow(said.row, state);
  }
  return { ...(await ended), done, begun };
}

/**
 * Collects the rows of all checks, whatever single ones do to their process.
 *
 * @param {(from: number) => import('node:child_process').ChildProcess} start - a child for the checks from that one on
 * @param {(row: Row, state: {info: object, names: string[], rows: Row[]}) => void} onRow - called after each
 * @returns {Promise<{code: number, rows: Row[]}>} code: 0 all rows are there (some may have failed), else what the first
 *   child that could not begin ended with
 */
export async function collectRows(start, onRow) {
  const state = { info: null, names: [], rows: [] };
  for (;;) {
    const from = state.rows.length;
    const { code, signal, done, begun } = await oneChild(start(from), state, onRow);
    if (begun !== null) {
      const error = `its process ended with ${signal ?? `exit code ${code}`}`;
      const row = { name: state.names[begun], passed: false, distance: null, tolerance: 0, error };
      state.rows.push(row);
      onRow(row, state);
    } else if (!done && state.rows.length === from) return { code: code || 1, rows: state.rows };
    if (done || state.rows.length === state.names.length) return { code: 0, rows: state.rows };
  }
}
