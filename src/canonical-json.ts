// JSON with one spelling per value, so that it can be hashed: keys sorted by UTF-16 code units, no spaces, numbers as
// JavaScript prints them. And the strict way in: JSON.parse silently keeps the last of two equal keys, which lets one
// file mean two things to two readers; parseStrictJson refuses it.

import { createHash } from 'node:crypto';
import { expected, LpldError } from './errors.ts';

function refuse(path: string, value: unknown): never {
  throw new LpldError('E_INTERNAL', expected('a JSON value', path, typeof value === 'object' ? 'an object' : value));
}

function write(value: unknown, path: string): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') return Number.isFinite(value) ? JSON.stringify(value) : refuse(path, value);
  if (Array.isArray(value)) return `[${value.map((v, i) => write(v, `${path}[${i}]`)).join(',')}]`;
  if (typeof value !== 'object') return refuse(path, value);
  const prototype = Object.getPrototypeOf(value);
  // Objects of another realm (a worker, a test runner) are plain too: their prototype's prototype is null.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) return refuse(path, value);
  const members = Object.entries(value).filter(([, v]) => v !== undefined);
  members.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([k, v]) => `${JSON.stringify(k)}:${write(v, `${path}.${k}`)}`).join(',')}}`;
}

/**
 * The canonical text of a JSON value. Object members that are undefined are absent, as in JSON.stringify.
 * @throws {LpldError} E_INTERNAL naming the place of a value that JSON does not have (NaN, bigint, Map, undefined in a list)
 */
export function canonicalJson(value: unknown): string {
  return write(value, '$');
}

/** The same content laid out for people: sorted keys, two spaces, a final newline. */
export function prettyJson(value: unknown): string {
  return `${JSON.stringify(JSON.parse(canonicalJson(value)), null, 2)}\n`;
}

/** SHA-256 of the canonical text, hex. */
export function hashJson(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

const MAX_DEPTH = 200; // far above any file of ours, far below what recursion over the value can take

/** Index of the quote that closes the string opened at `at`; the text is valid JSON. */
function closingQuote(text: string, at: number): number {
  let end = at + 1;
  while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  return end;
}

/**
 * Parses JSON and refuses objects with two equal keys, and nesting deeper than MAX_DEPTH.
 * @throws {SyntaxError} with the reason; the caller knows the file and names it
 */
export function parseStrictJson(text: string): unknown {
  const value = JSON.parse(text) as unknown;
  // The text is known to be valid, so a string is a key exactly where a colon follows it.
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const c = text[at];
    if (c === '{' || c === '[') {
      if (open.length === MAX_DEPTH) throw new SyntaxError(`more than ${MAX_DEPTH} levels`);
      open.push(new Set());
    } else if (c === '}' || c === ']') open.pop();
    else if (c === '"') {
      const end = closingQuote(text, at);
      const token = text.slice(at, end + 1);
      at = end;
      let next = at + 1;
      while (/\s/.test(text[next] ?? '')) next += 1;
      if (text[next] !== ':') continue;
      const key = JSON.parse(token) as string;
      const keys = open[open.length - 1]!;
      if (keys.has(key)) throw new SyntaxError(`duplicate key ${JSON.stringify(key)}`);
      keys.add(key);
    }
  }
  return value;
}
