// The small readers of a report: files that may be absent, broken or foreign, of which only what makes sense is taken.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [number, number])[];
}

/** The series of a curves file, without points that are no numbers; none where it is absent or broken. */
export async function readCurves(path: string): Promise<{ x: string; series: Series[] }> {
  const parsed = (await readJson(path)) as { x?: unknown; series?: unknown } | null;
  const x = typeof parsed?.x === 'string' ? parsed.x : 'step';
  if (!Array.isArray(parsed?.series)) return { x, series: [] };
  const series = (parsed.series as Series[])
    .filter((s) => typeof s?.name === 'string' && Array.isArray(s.points))
    .map((s) => ({ name: s.name, points: s.points.filter((p) => Number.isFinite(p?.[0]) && Number.isFinite(p?.[1])) }))
    .filter((s) => s.points.length > 0);
  return { x, series };
}

/** Class names of a SyntheticSet's set.json, by class id; empty where there is none. */
export async function classNames(folder: string): Promise<string[]> {
  const { classNames: names } = ((await readJson(join(folder, 'set.json'))) ?? {}) as { classNames?: unknown };
  return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : [];
}

/** A JSON file, or null where it is absent or broken. */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    return null;
  }
}

/** Width in px from a PNG's IHDR or a JPEG's frame header; 0 for anything else. */
export function pixelWidth(bytes: Buffer): number {
  if (bytes.length >= 24 && bytes.toString('latin1', 1, 4) === 'PNG') return bytes.readUInt32BE(16);
  if (bytes.length < 4 || bytes.readUInt16BE(0) !== 0xffd8) return 0;
  for (let at = 2; at + 9 <= bytes.length && bytes[at] === 0xff; at += 2 + bytes.readUInt16BE(at + 2)) {
    const marker = bytes[at + 1] ?? 0;
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return bytes.readUInt16BE(at + 7);
  }
  return 0;
}
