// An artifact: a folder with manifest.json (deterministic, hashed), run.json (timings, never hashed) and files; whole or
// absent. Opening checks names and sizes, verifying re-hashes. The manifest names the ids of what the artifact was made
// from, so the id of the last artifact of a chain stands for the whole chain. Making one is artifact-draft.ts.
// Source: DESIGN section 2 (the manifest, the stage key).

import { lstat, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, hashFile } from './atomic-file.ts';
import { hashJson, parseStrictJson } from './canonical-json.ts';
import { expected, LpldError } from './errors.ts';
import { readSafetensors, SafetensorsFile } from './safetensors.ts';
import type { TensorMap, TensorView } from './tensor.ts';

export const MANIFEST = 'manifest.json';
export const RUN = 'run.json';
/** Folder inside an artifact in the making that holds its journal and saved state; never part of the artifact. */
export const DRAFT = '.draft';

export interface FileEntry {
  readonly path: string; // relative, with forward slashes
  readonly bytes: number;
  readonly sha256: string; // hex
}

/** What decides an artifact's content: equal header, equal key, not run again. */
export interface StageHeader {
  readonly stage: string;
  readonly stageVersion: number;
  readonly config: unknown; // resolved config of the stage, JSON
  readonly inputs: Readonly<Record<string, string>>; // role -> artifact id or dataset id
  readonly deviceClass: 'cpu' | 'cuda';
  readonly precision: string;
}

export interface Manifest extends StageHeader {
  readonly format: 1;
  readonly key: string;
  readonly summary: unknown; // deterministic facts
  readonly files: readonly FileEntry[]; // sorted by path
}

/** SHA-256 (hex) of the canonical JSON of what decides an artifact's content. */
export function stageKey(header: StageHeader): string {
  const { stage, stageVersion, config, inputs, deviceClass, precision } = header;
  return hashJson({ stage, stageVersion, config, inputs, deviceClass, precision });
}

/**
 * Whether a path may name a file of an artifact: relative, forward slashes, no empty, `.` or `..` part, and none of the
 * names that artifacts keep for themselves.
 */
export function isArtifactPath(path: unknown): path is string {
  if (typeof path !== 'string' || path.includes('\\') || path.includes('\0')) return false;
  const parts = path.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..')) return false;
  return ![MANIFEST, RUN, DRAFT].includes(parts[0]!);
}

function refuse(path: string, what: string, name: string, received: unknown, advice?: string): never {
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received, advice)}`, { path });
}

const isRecord = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

function checkFile(path: string, value: unknown, previous: string | undefined): FileEntry {
  const file = isRecord(value) ? value : {};
  if (!isArtifactPath(file.path))
    refuse(path, 'a relative path inside the artifact', 'files', JSON.stringify(file.path));
  if (previous !== undefined && previous >= file.path) refuse(path, 'paths in rising order', 'files', file.path);
  if (!Number.isSafeInteger(file.bytes) || (file.bytes as number) < 0)
    refuse(path, 'a size in bytes', file.path, JSON.stringify(file.bytes));
  if (typeof file.sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(file.sha256))
    refuse(path, 'a SHA-256 in hex', file.path, JSON.stringify(file.sha256));
  return { path: file.path, bytes: file.bytes as number, sha256: file.sha256 };
}

/** Checks the text of a manifest.json. @throws {LpldError} E_DATA with details.path naming the field */
export function parseManifest(text: string, path: string): Manifest {
  let json: unknown;
  try {
    json = parseStrictJson(text);
  } catch (thrown) {
    refuse(path, 'JSON', 'the manifest', (thrown as Error).message);
  }
  if (!isRecord(json)) refuse(path, 'an object', 'the manifest', JSON.stringify(json));
  if (json.format !== 1) refuse(path, '1', 'format', JSON.stringify(json.format));
  for (const name of ['stage', 'precision', 'key'])
    if (typeof json[name] !== 'string') refuse(path, 'a string', name, JSON.stringify(json[name]));
  if (!Number.isSafeInteger(json.stageVersion)) refuse(path, 'an integer', 'stageVersion', `${json.stageVersion}`);
  if (json.deviceClass !== 'cpu' && json.deviceClass !== 'cuda')
    refuse(path, 'cpu or cuda', 'deviceClass', JSON.stringify(json.deviceClass));
  if (!isRecord(json.inputs) || !Object.values(json.inputs).every((v) => typeof v === 'string'))
    refuse(path, 'an object of ids', 'inputs', JSON.stringify(json.inputs));
  if (!('config' in json) || !('summary' in json)) refuse(path, 'config and summary', 'the manifest', 'neither or one');
  if (!Array.isArray(json.files)) refuse(path, 'a list', 'files', JSON.stringify(json.files));
  const files: FileEntry[] = [];
  for (const value of json.files) files.push(checkFile(path, value, files.at(-1)?.path));
  const manifest = { ...json, files } as unknown as Manifest;
  let key: string;
  try {
    hashJson(manifest); // 1e999 is JSON to JSON.parse, but no number
    key = stageKey(manifest);
  } catch (thrown) {
    refuse(path, 'finite numbers', 'the manifest', (thrown as Error).message);
  }
  if (key !== manifest.key) refuse(path, key, 'key', manifest.key);
  return manifest;
}

/** A finished artifact. Its files are read through it; nothing is ever written to it. */
export class Artifact {
  readonly dir: string;
  readonly id: string;
  readonly manifest: Manifest;
  readonly #files: ReadonlyMap<string, FileEntry>;

  /** Use openArtifact, which checks. */
  constructor(dir: string, manifest: Manifest) {
    this.dir = dir;
    this.manifest = manifest;
    this.id = hashJson(manifest);
    this.#files = new Map(manifest.files.map((f) => [f.path, f]));
  }

  has(rel: string): boolean {
    return this.#files.has(rel);
  }

  /** Absolute path of a file of the manifest. @throws {LpldError} E_DATA if the manifest does not list it */
  path(rel: string): string {
    if (!this.has(rel)) refuse(join(this.dir, rel), `a file of the ${this.manifest.stage} artifact`, 'path', rel);
    return join(this.dir, rel);
  }

  /** Reads a JSON file. The caller checks what it means. @throws {LpldError} E_DATA if it is not JSON */
  async readJson<T>(rel: string): Promise<T> {
    return readJsonFile<T>(this.path(rel));
  }

  /** Reads all tensors of a safetensors file. @throws {LpldError} E_DATA */
  async readTensors(rel: string): Promise<TensorMap> {
    return readSafetensors(this.path(rel));
  }

  /** Reads rows [start, end) of one tensor without reading the rest. @throws {LpldError} E_DATA */
  async readRows(rel: string, name: string, start: number, end: number): Promise<TensorView> {
    const file = await SafetensorsFile.open(this.path(rel));
    try {
      return await file.rows(name, start, end);
    } finally {
      await file.close();
    }
  }
}

/** What mends a damaged artifact. */
const adviceFor = (dir: string): string => `restore the file, or remove ${dir} and run the command that made it again`;

/** Reads a JSON file, refusing duplicate keys. @throws {LpldError} E_DATA with details.path */
export async function readJsonFile<T>(path: string): Promise<T> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    throw fileError(thrown, path);
  }
  try {
    return parseStrictJson(text) as T;
  } catch (thrown) {
    refuse(path, 'JSON', 'the file', (thrown as Error).message);
  }
}

/**
 * Opens a finished artifact: the manifest is checked, every file it names exists with its size.
 *
 * @param options.verify - also hash every file
 * @throws {LpldError} E_DATA with details.path: no manifest, a broken one, a missing or resized file, a wrong hash
 */
export async function openArtifact(dir: string, options: { verify?: boolean } = {}): Promise<Artifact> {
  const path = join(dir, MANIFEST);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'ENOENT') refuse(path, 'an artifact folder', 'artifact', dir);
    throw fileError(thrown, path);
  }
  const manifest = parseManifest(text, path);
  for (const file of manifest.files) {
    const at = join(dir, file.path);
    const stat = await lstat(at).catch(() => undefined);
    const wanted = `a file of ${file.bytes} bytes`;
    if (stat === undefined || !stat.isFile()) refuse(at, wanted, file.path, undefined, adviceFor(dir));
    if (stat.size !== file.bytes) refuse(at, wanted, file.path, `${stat.size} bytes`, adviceFor(dir));
    if (options.verify === true) {
      const sha256 = await hashFile(at);
      if (sha256 !== file.sha256) refuse(at, `SHA-256 ${file.sha256}`, file.path, sha256, adviceFor(dir));
    }
  }
  // A process killed right after publishing leaves the journal and the saved state; nobody needs them any more.
  await rm(join(dir, DRAFT), { recursive: true, force: true }).catch(() => {});
  return new Artifact(dir, manifest);
}

export { ArtifactDraft, openDraft } from './artifact-draft.ts';
