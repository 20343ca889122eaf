// An artifact in the making: `<finalDir>.partial/`, on the same file system, becomes `<finalDir>` by one rename. A
// journal names the files that are whole; a SIGKILL at any moment leaves a folder that the same stage resumes, and what
// the journal does not name is deleted then. Saved state (optimizer moments, iterates) lives beside the journal in
// .draft/ and is never published. Invariant: a journal line exists only while the file it names is whole on disk.

import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type Artifact,
  DRAFT,
  type FileEntry,
  isArtifactPath,
  MANIFEST,
  type Manifest,
  openArtifact,
  RUN,
  readJsonFile,
  type StageHeader,
  stageKey,
} from './artifact.ts';
import { fileError, guarded, syncFolder, syncParent, writeFileAtomic } from './atomic-file.ts';
import { begunIn, JOURNAL_FILE, KEY_FILE, whyDiscarded } from './begun.ts';
import { canonicalJson, prettyJson } from './canonical-json.ts';
import { expected, LpldError } from './errors.ts';
import { finishedIn, type Replacing, whyReplaced } from './finished.ts';
import { appendJournal, type JournalLine, readJournal, sweep, writeJournal } from './journal.ts';
import { mergeNotes } from './notes.ts';
import { parseSafetensors, readSafetensors, safetensorsChunks } from './safetensors.ts';
import type { TensorMap } from './tensor.ts';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A header, with nothing else the object may have. */
function decidingOf({ stage, stageVersion, config, inputs, deviceClass, precision }: StageHeader): StageHeader {
  return { stage, stageVersion, config, inputs, deviceClass, precision };
}

/** Made by openDraft. Writes may run side by side as long as each file has one writer. */
export class ArtifactDraft {
  readonly finalDir: string;
  readonly dir: string; // <finalDir>.partial
  readonly key: string;
  /** Whether an interrupted run of the same key was taken up. */
  readonly resumed: boolean;
  /** Why an interrupted run of another key was discarded; null where none was. */
  readonly discarded: string | null;
  /** Why the finished artifact of another key gives way to this one when it is published; null where none stands. */
  readonly replaces: string | null;
  readonly #header: StageHeader;
  readonly #files: Map<string, FileEntry>;
  #notes: Record<string, unknown>;
  #published = false;

  /** Use openDraft, which prepares the folder. */
  constructor(
    finalDir: string,
    header: StageHeader,
    found: { files: Map<string, FileEntry>; notes: unknown } | string | null,
    replaces: string | null,
  ) {
    const whole = typeof found === 'string' ? null : found;
    this.finalDir = finalDir;
    this.dir = `${finalDir}.partial`;
    this.key = stageKey(header);
    this.resumed = whole !== null;
    this.discarded = typeof found === 'string' ? found : null;
    this.replaces = replaces;
    this.#header = header;
    this.#files = whole?.files ?? new Map();
    this.#notes = (whole?.notes as Record<string, unknown> | null | undefined) ?? {};
  }

  /** What run.json says so far, of interrupted runs too. */
  get notes(): Readonly<Record<string, unknown>> {
    return this.#notes;
  }

  /** Files that are whole, sorted by path. */
  get files(): readonly FileEntry[] {
    return [...this.#files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  /** Whether a file is whole (journalled). */
  has(rel: string): boolean {
    return this.#files.has(rel);
  }

  /** Where a file of this draft lives until publishing. @throws {LpldError} E_INTERNAL for a name that may not be used */
  path(rel: string): string {
    if (!isArtifactPath(rel)) throw new LpldError('E_INTERNAL', expected('a relative path', 'an artifact file', rel));
    return join(this.dir, rel);
  }

  /** Writes one file whole. @throws {LpldError} E_DEVICE naming the path (no space, no permission); whole files stay */
  async writeFile(rel: string, bytes: Uint8Array): Promise<void> {
    await this.#write([[rel, [bytes]]]);
  }

  /** Writes many files with one journal entry, so that thousands of small images do not cost a sync each. */
  async writeFiles(files: Iterable<readonly [rel: string, bytes: Uint8Array]>): Promise<void> {
    await this.#write([...files].map(([rel, bytes]) => [rel, [bytes]]));
  }

  async writeJson(rel: string, value: unknown): Promise<void> {
    await this.writeFile(rel, encode(prettyJson(value)));
  }

  async writeTensors(rel: string, tensors: TensorMap, metadata: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.#write([[rel, safetensorsChunks(tensors, metadata)]]);
  }

  /** Removes a file; absent files are none the less absent. */
  async remove(rel: string): Promise<void> {
    const path = this.path(rel);
    this.#checkOpen();
    if (this.#files.delete(rel)) await this.#journal([{ path: rel, removed: true }]);
    await guarded(path, () => rm(path, { force: true }));
  }

  async readTensors(rel: string): Promise<TensorMap> {
    return readSafetensors(this.#whole(rel));
  }

  async readJson<T>(rel: string): Promise<T> {
    return readJsonFile<T>(this.#whole(rel));
  }

  /**
   * Saves resumable state: one safetensors file with the JSON in its metadata, replaced atomically. Not published.
   * @param name - letters, digits, `.`, `_`, `-`
   */
  async saveState(name: string, tensors: TensorMap, json: unknown): Promise<void> {
    this.#checkOpen();
    const path = this.statePath(name);
    await writeFileAtomic(path, safetensorsChunks(tensors, { json: canonicalJson(json) }));
    await syncParent(path);
  }

  /** Where the state of this name is kept while the draft lives. */
  statePath(name: string): string {
    if (!/^[\w-][\w.-]*$/.test(name)) throw new LpldError('E_INTERNAL', expected('a plain name', 'saved state', name));
    return join(this.dir, DRAFT, `${name}.safetensors`);
  }

  /** The state saved last under this name, or null. @throws {LpldError} E_DATA if the file was damaged */
  async loadState(name: string): Promise<{ tensors: TensorMap; json: unknown } | null> {
    const path = this.statePath(name);
    const bytes = await readFile(path).catch((e: { code?: string }) => {
      if (e.code === 'ENOENT') return null;
      throw fileError(e, path);
    });
    if (bytes === null) return null;
    const { tensors, header } = parseSafetensors(bytes, path);
    const json = header.metadata.json;
    if (json === undefined)
      throw new LpldError('E_DATA', `${path}: ${expected('metadata json', 'state', 'none')}`, { path });
    return { tensors, json: JSON.parse(json) as unknown };
  }

  /** Forgets a saved state. */
  async dropState(name: string): Promise<void> {
    const path = this.statePath(name);
    await guarded(path, () => rm(path, { force: true }));
  }

  /**
   * Merges values into run.json. Nested objects merge; `seconds` add up over calls and resumes; names that begin with
   * `peak` keep the largest; everything else is replaced.
   */
  async note(values: Record<string, unknown>): Promise<void> {
    this.#checkOpen();
    this.#notes = mergeNotes(this.#notes, values);
    await writeFileAtomic(join(this.dir, RUN), [encode(prettyJson(this.#notes))]);
  }

  /**
   * Makes the artifact appear under its final name, whole. An older artifact there is moved into .draft/ first and
   * removed after the rename.
   * @param summary - deterministic facts, JSON; part of the id
   * @throws {LpldError} E_CONFIG if the final folder holds something else than an artifact of this stage; E_DEVICE
   */
  async publish(summary: unknown): Promise<Artifact> {
    this.#checkOpen();
    await finishedIn(this.finalDir, this.#header.stage);
    const manifest: Manifest = { format: 1, ...decidingOf(this.#header), key: this.key, summary, files: this.files };
    await this.note({});
    await writeFileAtomic(join(this.dir, MANIFEST), [encode(prettyJson(manifest))]);
    await syncFolder(this.dir);
    const replaced = join(this.dir, DRAFT, 'replaced');
    await guarded(this.finalDir, async () => {
      await rm(replaced, { recursive: true, force: true });
      await rename(this.finalDir, replaced).catch((e: { code?: string }) => {
        if (e.code !== 'ENOENT') throw e;
      });
      await rename(this.dir, this.finalDir);
      this.#published = true;
      await syncParent(this.finalDir);
    });
    return openArtifact(this.finalDir); // removes .draft/ with the journal, the saved state and the replaced artifact
  }

  /** Removes the draft where nothing in it is worth a resume: no file is whole and no state was saved. */
  async abandonEmpty(): Promise<void> {
    const state = await readdir(join(this.dir, DRAFT)).catch((): string[] => []);
    if (this.#published || this.#files.size > 0 || state.some((name) => name.endsWith('.safetensors'))) return;
    await rm(this.dir, { recursive: true, force: true });
  }

  #checkOpen(): void {
    if (this.#published) throw new LpldError('E_INTERNAL', expected('an open draft', this.finalDir, 'a published one'));
  }

  #whole(rel: string): string {
    const path = this.path(rel);
    if (this.has(rel)) return path;
    throw new LpldError('E_DATA', `${path}: ${expected('a whole file', 'the draft', 'none')}`, { path });
  }

  async #write(files: readonly [rel: string, chunks: readonly Uint8Array[]][]): Promise<void> {
    this.#checkOpen();
    const paths = files.map(([rel]) => this.path(rel));
    const replaced = files.filter(([rel]) => this.#files.delete(rel));
    if (replaced.length > 0) await this.#journal(replaced.map(([path]) => ({ path, removed: true })));
    const folders = [...new Set(paths.map((p) => dirname(p)))];
    for (const folder of folders) await guarded(folder, () => mkdir(folder, { recursive: true }));
    const whole: FileEntry[] = [];
    try {
      for (const [i, [rel, chunks]] of files.entries())
        whole.push({ path: rel, ...(await writeFileAtomic(paths[i]!, chunks)) });
    } finally {
      // After a full disk, what was written before it is still kept.
      for (const folder of folders) await syncFolder(folder);
      await this.#journal(whole);
      for (const file of whole) this.#files.set(file.path, file);
    }
  }

  async #journal(lines: readonly JournalLine[]): Promise<void> {
    if (lines.length > 0) await appendJournal(join(this.dir, DRAFT, JOURNAL_FILE), lines);
  }
}

/**
 * Opens the draft of an artifact. An interrupted draft of the same key is resumed: its journalled files and saved state
 * are there, everything else is deleted. A draft of another key is discarded if nothing is lost by that, or if the user
 * says so; a finished artifact of another key is replaced on that word only.
 *
 * @param finalDir - where the artifact will stand; work happens in `<finalDir>.partial`
 * @param replacing - what is allowed with work of another key, finished or begun
 * @throws {LpldError} E_CONFIG if finalDir holds something else than an artifact of this stage, or work of another key
 *   stands or was begun there; E_DEVICE if it cannot be written
 */
export async function openDraft(given: string, header: StageHeader, replacing: Replacing = {}): Promise<ArtifactDraft> {
  const finalDir = given.replace(/(?<=.)\/+$/, ''); // a final slash would put the draft inside
  const finished = await finishedIn(finalDir, header.stage);
  const replaces = finished === null ? null : whyReplaced(finalDir, finished, header, replacing);
  const dir = `${finalDir}.partial`;
  const journal = join(dir, DRAFT, JOURNAL_FILE);
  const begun = await begunIn(dir);
  const key = stageKey(header);
  if (begun?.key === key) {
    const files = await readJournal(journal);
    await sweep(dir, files);
    await writeJournal(journal, [...files.values()]);
    const notes = await readJsonFile<unknown>(join(dir, RUN)).catch(() => null);
    return new ArtifactDraft(finalDir, header, { files, notes }, replaces);
  }
  const discarded = begun === null ? null : await whyDiscarded(dir, begun, header, replacing);
  await guarded(dir, async () => {
    await rm(dir, { recursive: true, force: true });
    await mkdir(join(dir, DRAFT), { recursive: true });
  });
  await writeFileAtomic(join(dir, DRAFT, KEY_FILE), [encode(prettyJson({ key, ...decidingOf(header) }))]);
  await syncFolder(join(dir, DRAFT));
  await syncParent(dir);
  return new ArtifactDraft(finalDir, header, discarded, replaces);
}
