import { spawn } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type Artifact, openArtifact, openDraft, stageKey } from '../src/artifact.ts';
import { fileError } from '../src/atomic-file.ts';
import { prettyJson } from '../src/canonical-json.ts';
import { tensor } from '../src/tensor.ts';
import { header, runStage, SEGMENTS } from './util/draft-child.ts';
import { badData, dice, refusal, scratch } from './util/hostile.ts';

const rows = tensor('I32', [3, 2], Int32Array.of(0, 1, 2, 3, 4, 5));

async function publish(dir: string): Promise<Artifact> {
  const draft = await openDraft(dir, header);
  await draft.writeTensors('weights.safetensors', { rows });
  await draft.writeJson('facts/a.json', { b: 1, a: [2] });
  await draft.writeFile('x.bin', new Uint8Array(10));
  await draft.note({ seconds: 2, memory: { peakBytes: 10 } });
  return draft.publish({ top1: 0.5 });
}

describe('stageKey', () => {
  test('is the same for equal content in any key order and differs for every part', () => {
    const shuffled = Object.fromEntries(Object.entries(header).reverse()) as unknown as typeof header;
    expect(stageKey(shuffled)).toBe(stageKey(header));
    const changes = {
      stage: 'x',
      stageVersion: 2,
      config: { seed: 4 },
      inputs: {},
      deviceClass: 'cuda',
      precision: 'bf16',
    };
    const keys = Object.entries(changes).map(([name, value]) => stageKey({ ...header, [name]: value }));
    expect(new Set([...keys, stageKey(header)]).size).toBe(7);
    expect(stageKey({ ...header, ...{ summary: 1 } })).toBe(stageKey(header));
  });
});

describe('publishing', () => {
  test('what was written is read back through the artifact, whole and by rows', async () => {
    const dir = join(scratch(), 'teacher');
    const made = await publish(dir);
    const opened = await openArtifact(dir, { verify: true });
    expect(opened.id).toBe(made.id);
    expect(opened.manifest).toEqual(made.manifest);
    expect(opened.manifest.files.map((f) => f.path)).toEqual(['facts/a.json', 'weights.safetensors', 'x.bin']);
    expect(await opened.readTensors('weights.safetensors')).toEqual({
      rows: { ...rows, data: new Uint8Array(rows.data) },
    });
    expect((await opened.readRows('weights.safetensors', 'rows', 1, 2)).data).toEqual(rows.data.slice(8, 16));
    expect(await opened.readJson('facts/a.json')).toEqual({ a: [2], b: 1 });
    expect(opened.has('absent')).toBe(false);
    await badData(join(dir, 'absent'), () => opened.path('absent'));
    expect(readdirSync(dir).sort()).toEqual(['facts', 'manifest.json', 'run.json', 'weights.safetensors', 'x.bin']);
    expect(existsSync(`${dir}.partial`)).toBe(false);
  });

  test('a final slash puts nothing inside the folder', async () => {
    const dir = join(scratch(), 'made');
    const draft = await openDraft(`${dir}//`, header);
    expect(existsSync(`${dir}.partial`)).toBe(true);
    await draft.writeJson('a.json', 1);
    await draft.publish(null);
    expect(readdirSync(dir).sort()).toEqual(['a.json', 'manifest.json', 'run.json']);
  });

  test('the id does not depend on the folder, the order of writing or run.json', async () => {
    const root = scratch();
    const a = await publish(join(root, 'a'));
    const draft = await openDraft(join(root, 'b'), header);
    await draft.writeFile('x.bin', new Uint8Array(10));
    await draft.note({ seconds: 100, host: 'other' });
    await draft.writeJson('facts/a.json', { a: [2], b: 1 });
    await draft.writeTensors('weights.safetensors', { rows });
    expect((await draft.publish({ top1: 0.5 })).id).toBe(a.id);
    const other = await openDraft(join(root, 'c'), header);
    await other.writeFile('x.bin', new Uint8Array(11));
    expect((await other.publish({ top1: 0.5 })).id).not.toBe(a.id);
  });

  test('replaces an older artifact that the user gave up, and refuses to replace anything else', async () => {
    const dir = join(scratch(), 'teacher');
    await publish(dir);
    const draft = await openDraft(dir, { ...header, config: { seed: 4 } }, { replace: true });
    await draft.writeFile('new.bin', new Uint8Array(1));
    expect((await openArtifact(dir)).manifest.config).toEqual({ seed: 3 }); // the old one stays until the rename
    await draft.publish(null);
    expect((await openArtifact(dir)).manifest.config).toEqual({ seed: 4 });
    expect(readdirSync(dir).sort()).toEqual(['manifest.json', 'new.bin', 'run.json']);
    const precious = join(scratch(), 'photos');
    mkdirSync(precious);
    writeFileSync(join(precious, 'holiday.jpg'), 'x');
    for (const replace of [false, true])
      expect((await refusal(() => openDraft(precious, header, { replace }))).code).toBe('E_CONFIG');
    expect(readdirSync(precious)).toEqual(['holiday.jpg']);
  });

  test('a published draft takes no more writes', async () => {
    const dir = join(scratch(), 'a');
    const draft = await openDraft(dir, header);
    await draft.publish(null);
    expect((await refusal(() => draft.writeFile('x', new Uint8Array(1)))).code).toBe('E_INTERNAL');
    expect((await refusal(() => draft.publish(null))).code).toBe('E_INTERNAL');
  });

  test.each([
    '',
    '/abs',
    '../up',
    'a/../b',
    'a//b',
    './a',
    'a\\b',
    'manifest.json',
    'run.json',
    '.draft/key.json',
    'a\0',
  ])('the name %j is refused', async (name) => {
    const draft = await openDraft(join(scratch(), 'a'), header);
    expect((await refusal(() => draft.writeFile(name, new Uint8Array(1)))).code).toBe('E_INTERNAL');
  });
});

describe('opening a damaged artifact', () => {
  const manifestOf = (dir: string): Record<string, unknown> =>
    JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'));
  const edit = (change: (m: Record<string, unknown>) => void) => (dir: string) => {
    const manifest = manifestOf(dir);
    change(manifest);
    writeFileSync(join(dir, 'manifest.json'), prettyJson(manifest));
  };
  const files = (m: Record<string, unknown>): Record<string, unknown>[] => m.files as Record<string, unknown>[];
  const cases: [string, (dir: string) => void, string, RegExp][] = [
    ['no manifest', (d) => unlinkSync(join(d, 'manifest.json')), 'manifest.json', /an artifact folder/],
    ['manifest cut', (d) => truncateSync(join(d, 'manifest.json'), 40), 'manifest.json', /JSON/],
    [
      'duplicate key',
      (d) => writeFileSync(join(d, 'manifest.json'), '{"format":1,"format":1}'),
      'manifest.json',
      /duplicate/,
    ],
    ['a list', (d) => writeFileSync(join(d, 'manifest.json'), '[]'), 'manifest.json', /an object/],
    ['format 2', edit((m) => Object.assign(m, { format: 2 })), 'manifest.json', /format/],
    ['no stage', edit((m) => Reflect.deleteProperty(m, 'stage')), 'manifest.json', /stage/],
    ['version as text', edit((m) => Object.assign(m, { stageVersion: '1' })), 'manifest.json', /stageVersion/],
    ['device class', edit((m) => Object.assign(m, { deviceClass: 'tpu' })), 'manifest.json', /deviceClass/],
    ['inputs', edit((m) => Object.assign(m, { inputs: { a: 1 } })), 'manifest.json', /inputs/],
    ['no summary', edit((m) => Reflect.deleteProperty(m, 'summary')), 'manifest.json', /summary/],
    ['files', edit((m) => Object.assign(m, { files: {} })), 'manifest.json', /files/],
    ['config edited, key not', edit((m) => Object.assign(m, { config: { seed: 9 } })), 'manifest.json', /for key/],
    ['path upwards', edit((m) => Object.assign(files(m)[0]!, { path: '../a' })), 'manifest.json', /relative path/],
    [
      'path absolute',
      edit((m) => Object.assign(files(m)[0]!, { path: '/etc/passwd' })),
      'manifest.json',
      /relative path/,
    ],
    ['path twice', edit((m) => files(m).splice(1, 0, files(m)[0]!)), 'manifest.json', /rising order/],
    ['negative size', edit((m) => Object.assign(files(m)[0]!, { bytes: -1 })), 'manifest.json', /size in bytes/],
    ['hash form', edit((m) => Object.assign(files(m)[0]!, { sha256: 'abc' })), 'manifest.json', /SHA-256/],
    ['file missing', (d) => unlinkSync(join(d, 'x.bin')), 'x.bin', /10 bytes/],
    ['file renamed', (d) => renameSync(join(d, 'x.bin'), join(d, 'y.bin')), 'x.bin', /10 bytes/],
    ['file one byte short', (d) => truncateSync(join(d, 'x.bin'), 9), 'x.bin', /10 bytes/],
    ['file one byte long', (d) => appendFileSync(join(d, 'x.bin'), 'x'), 'x.bin', /10 bytes/],
  ];
  test.each(cases)('%s is E_DATA', async (_, damage, path, message) => {
    const dir = join(scratch(), 'a');
    await publish(dir);
    damage(dir);
    expect(await badData(join(dir, path), () => openArtifact(dir))).toMatch(message);
  });

  test('a symbolic link instead of a file is refused', async () => {
    const dir = join(scratch(), 'a');
    await publish(dir);
    renameSync(join(dir, 'x.bin'), `${dir}-x.bin`);
    symlinkSync(`${dir}-x.bin`, join(dir, 'x.bin'));
    await badData(join(dir, 'x.bin'), () => openArtifact(dir));
  });

  test('changed content of the same size is found by verifying only', async () => {
    const dir = join(scratch(), 'a');
    await publish(dir);
    writeFileSync(join(dir, 'x.bin'), new Uint8Array(10).fill(1));
    await openArtifact(dir);
    expect(await badData(join(dir, 'x.bin'), () => openArtifact(dir, { verify: true }))).toMatch('SHA-256');
  });
});

describe('resuming a draft', () => {
  test('keeps whole files and state, deletes the rest', async () => {
    const dir = join(scratch(), 'a');
    const first = await openDraft(dir, header);
    expect(first.resumed).toBe(false);
    await first.writeFile('whole.bin', new Uint8Array(5));
    await first.writeFile('resized.bin', new Uint8Array(5));
    await first.writeFile('lost.bin', new Uint8Array(5));
    await first.writeFile('sub/removed.bin', new Uint8Array(5));
    await first.remove('sub/removed.bin');
    await first.saveState('loop', { rows }, { step: 7 });
    await first.note({ seconds: 2, memory: { peakBytes: 10 } });
    const part = `${dir}.partial`;
    truncateSync(join(part, 'resized.bin'), 3);
    unlinkSync(join(part, 'lost.bin'));
    writeFileSync(join(part, 'stray.bin'), 'never journalled');
    writeFileSync(join(part, 'half.safetensors.tmp-1-1'), 'half');
    writeFileSync(join(part, '.draft', 'loop.safetensors.tmp-1-2'), 'half');
    mkdirSync(join(part, 'deep/er'), { recursive: true });
    writeFileSync(join(part, 'deep/er/stray'), 'x');
    appendFileSync(join(part, '.draft', 'journal.jsonl'), '\n{"path":"torn.bin","byt');
    const second = await openDraft(dir, header);
    expect(second.resumed).toBe(true);
    expect(second.files.map((f) => f.path)).toEqual(['whole.bin']);
    expect(readdirSync(part).sort()).toEqual(['.draft', 'run.json', 'whole.bin']);
    expect(readdirSync(join(part, '.draft')).sort()).toEqual(['journal.jsonl', 'key.json', 'loop.safetensors']);
    const state = await second.loadState('loop');
    expect(state!.json).toEqual({ step: 7 });
    expect(new Uint8Array(state!.tensors.rows!.data)).toEqual(new Uint8Array(rows.data));
    expect(await second.loadState('other')).toBeNull();
    await badData(join(part, 'lost.bin'), () => second.readJson('lost.bin'));
    await second.note({ seconds: 3, memory: { peakBytes: 4 } });
    await second.publish(null);
    const run = JSON.parse(readFileSync(join(dir, 'run.json'), 'utf8'));
    expect(run).toEqual({ seconds: 5, memory: { peakBytes: 10 } });
    expect(readdirSync(dir).sort()).toEqual(['manifest.json', 'run.json', 'whole.bin']);
  });

  test('a file after a torn journal line is still known', async () => {
    const dir = join(scratch(), 'a');
    const draft = await openDraft(dir, header);
    appendFileSync(join(`${dir}.partial`, '.draft', 'journal.jsonl'), '\n{"path":"torn');
    await draft.writeFile('a.bin', new Uint8Array(1));
    expect((await openDraft(dir, header)).has('a.bin')).toBe(true);
  });

  test('a file replaced while the process dies is either journalled with its own hash or gone', async () => {
    const dir = join(scratch(), 'a');
    const draft = await openDraft(dir, header);
    await draft.writeFile('a.bin', new Uint8Array(4).fill(1));
    const journal = join(`${dir}.partial`, '.draft', 'journal.jsonl');
    await draft.writeFile('a.bin', new Uint8Array(4).fill(2));
    const lines = readFileSync(journal, 'utf8').split('\n');
    writeFileSync(journal, lines.slice(0, -1).join('\n')); // killed after the rename, before the last journal line
    const resumed = await openDraft(dir, header);
    expect(resumed.has('a.bin')).toBe(false);
    expect(existsSync(join(`${dir}.partial`, 'a.bin'))).toBe(false);
  });

  test('a kill between moving the old artifact aside and the rename loses nothing', async () => {
    const dir = join(scratch(), 'a');
    await publish(dir);
    const next = { ...header, config: { seed: 4 } };
    const draft = await openDraft(dir, next, { replace: true });
    await draft.writeFile('new.bin', new Uint8Array(3));
    renameSync(dir, join(`${dir}.partial`, '.draft', 'replaced'));
    const resumed = await openDraft(dir, next);
    expect(resumed.has('new.bin')).toBe(true);
    await resumed.publish(null);
    expect(readdirSync(dir).sort()).toEqual(['manifest.json', 'new.bin', 'run.json']);
  });

  test('a kill right after the rename leaves a whole artifact and its leftovers go when it is opened', async () => {
    const dir = join(scratch(), 'a');
    const { id } = await publish(dir);
    mkdirSync(join(dir, '.draft'));
    writeFileSync(join(dir, '.draft', 'journal.jsonl'), '');
    expect((await openArtifact(dir)).id).toBe(id);
    expect(existsSync(join(dir, '.draft'))).toBe(false);
  });

  test('a copy of the folder at every durable step resumes to the same artifact', async () => {
    const root = scratch();
    let copies = 0;
    const id = await runStage(join(root, 'a'), async () => {
      cpSync(join(root, 'a.partial'), join(root, `copy${copies}.partial`), { recursive: true });
      copies += 1;
    });
    expect(copies).toBe(2 * SEGMENTS + 2);
    for (let i = 0; i < copies; i++) expect(await runStage(join(root, `copy${i}`), async () => {}), `${i}`).toBe(id);
  });

  test('a process killed with SIGKILL again and again resumes to the same artifact', async () => {
    const root = scratch();
    const id = await runStage(join(root, 'whole'), async () => {});
    const roll = dice(11);
    let kills = 0;
    for (let attempt = 0; attempt < 30; attempt++) {
      const got = await child(join(root, 'killed'), attempt < 8 ? 5 + roll(60) : null);
      if (got !== null) {
        expect(got).toBe(id);
        break;
      }
      kills += 1;
    }
    expect(kills).toBeGreaterThan(3);
    expect((await openArtifact(join(root, 'killed'), { verify: true })).id).toBe(id);
    expect(readdirSync(root).sort()).toEqual(['killed', 'whole']);
  }, 60_000);
});

/** Runs the stage in a process of its own; killed `afterMs` after it began, where that is given. */
function child(finalDir: string, afterMs: number | null): Promise<string | null> {
  const script = fileURLToPath(new URL('./util/draft-child.ts', import.meta.url));
  const runner = `import { runnerImport } from 'vite'; await runnerImport(${JSON.stringify(script)}, { configFile: false });`;
  const args = ['--input-type=module', '-e', runner, finalDir, '30'];
  const env = { ...process.env, LPLD_DRAFT_CHILD: '1' };
  // With -e, argv holds no script: a placeholder keeps the arguments where the child expects them.
  args.splice(3, 0, 'draft-child');
  const running = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  return new Promise((resolve, reject) => {
    let out = '';
    let err = '';
    running.stderr.on('data', (text) => {
      err += text;
    });
    running.stdout.on('data', (text) => {
      if (out === '' && afterMs !== null) setTimeout(() => running.kill('SIGKILL'), afterMs);
      out += text;
    });
    running.on('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve(null);
      else if (code === 0) resolve(out.trim().split('\n').at(-1)!);
      else reject(new Error(err));
    });
  });
}

describe('failing writes', () => {
  test('no space is E_DEVICE and names the path and what to do', () => {
    const error = fileError(
      Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }),
      '/run/a',
    );
    expect(error.code).toBe('E_DEVICE');
    expect(error.details).toEqual({ reason: 'ENOSPC', path: '/run/a' });
    expect(error.message).toMatch(/\/run\/a\nfree some space/);
  });

  test('a write that the system refuses keeps the files before it', async () => {
    const dir = join(scratch(), 'a');
    const draft = await openDraft(dir, header);
    await draft.writeFile('before.bin', new Uint8Array(1));
    const long = `${'n'.repeat(250)}`; // the temporary name beside it is longer than a name may be
    await refusal(() =>
      draft.writeFiles([
        ['with.bin', new Uint8Array(2)],
        [long, new Uint8Array(3)],
      ]),
    );
    expect(draft.files.map((f) => f.path)).toEqual(['before.bin', 'with.bin']);
    expect((await openDraft(dir, header)).files.map((f) => f.path)).toEqual(['before.bin', 'with.bin']);
  });
});
