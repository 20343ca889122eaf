// PyTorch's .pth files, read without Python and without running what they say: the zip form (torch >= 1.6, data.pkl plus
// one stored entry per storage) and the legacy form (four pickles, then the storages). The result is the pickled object
// with tensors as TensorView; only storages that tensors use are read.
// Source: torch/serialization.py and torch/_utils.py (_rebuild_tensor_v2), pytorch 2.13: the layout, not code.

import { type FileHandle, open } from 'node:fs/promises';
import { fileError } from '../atomic-file.ts';
import { expected, LpldError } from '../errors.ts';
import { DTYPE_BYTES, type DType, elements, type TensorView } from '../tensor.ts';
import { Dict, Global, type PickleHost, readPickle, type Value } from './pickle.ts';
import { openZip, readAt } from './zip.ts';

const MAX_PICKLE_BYTES = 1 << 26;
const MAX_RANK = 64;
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;

const STORAGES: Readonly<Record<string, DType>> = {
  'torch.FloatStorage': 'F32',
  'torch.DoubleStorage': 'F64',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
};

class Storage {
  readonly dtype: DType;
  readonly key: string;
  readonly count: number; // elements
  data: Uint8Array | null = null;
  constructor(dtype: DType, key: string, count: number) {
    this.dtype = dtype;
    this.key = key;
    this.count = count;
  }
}

/** A tensor as the pickle describes it: a strided window of a storage. Strides and offset count elements. */
export class StoredTensor {
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  constructor(storage: Storage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

function refuse(path: string, what: string, name: string, received: unknown, advice?: string): never {
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received, advice)}`, { path });
}

/** A value in an error: containers are named only, since they may be endless in print. */
const shown = (value: Value): string => (typeof value === 'object' && value !== null ? 'a container' : String(value));
const isCount = (v: Value | undefined): v is number => typeof v === 'number' && Number.isSafeInteger(v) && v >= 0;
const isSizes = (v: Value | undefined): v is number[] => Array.isArray(v) && v.length <= MAX_RANK && v.every(isCount);

/** What a file may hold besides tensors, dicts, lists and plain values. */
export type TorchExtension = Pick<PickleHost, 'globals' | 'setState' | 'holds' | 'advice'>;

/** The names and storages a file of tensors may mention. */
class TorchHost implements PickleHost {
  readonly path: string;
  readonly setState?: (target: Value, state: Value) => boolean;
  readonly holds?: string;
  readonly advice?: string;
  readonly storages = new Map<string, Storage>();
  readonly tensors: StoredTensor[] = [];
  readonly globals: PickleHost['globals'];
  /** Bytes that all tensors together may take: small files may not ask for much memory by sharing or expanding storages. */
  readonly #budget: number;
  #bytes = 0;

  constructor(path: string, fileBytes: number, extension: TorchExtension | null) {
    this.path = path;
    if (extension?.setState !== undefined) this.setState = extension.setState;
    if (extension?.holds !== undefined) this.holds = extension.holds;
    if (extension?.advice !== undefined) this.advice = extension.advice;
    this.#budget = 4 * fileBytes + (1 << 24);
    this.globals = new Map<string, ((args: readonly Value[]) => Value) | null>([
      ['collections.OrderedDict', (args) => this.#orderedDict(args)],
      ['torch.Size', (args) => args[0] ?? []],
      ['torch._utils._rebuild_tensor_v2', (args) => this.#tensor(args)],
      ['torch._utils._rebuild_parameter', (args) => this.#parameter(args)],
      ...Object.keys(STORAGES).map((name) => [name, null] as const),
      ...(extension?.globals ?? []),
    ]);
  }

  /** Storage of a persistent id ('storage', type, key, location, elements, and in legacy files a view). */
  persistent(id: Value): Value {
    const [kind, type, key, , count, view] = Array.isArray(id) ? id : [];
    const dtype = type instanceof Global ? STORAGES[type.name] : undefined;
    if (kind !== 'storage' || dtype === undefined || typeof key !== 'string' || !isCount(count))
      return refuse(this.path, 'a storage', 'a persistent id', type instanceof Global ? type.name : typeof type);
    if (view !== undefined && view !== null)
      refuse(this.path, 'a whole storage', `storage ${key}`, 'a view of another');
    const known = this.storages.get(key);
    if (known === undefined) {
      const storage = new Storage(dtype, key, count);
      this.storages.set(key, storage);
      return storage;
    }
    if (known.dtype !== dtype || known.count !== count)
      refuse(this.path, `${known.dtype} [${known.count}] as before`, `storage ${key}`, `${dtype} [${count}]`);
    return known;
  }

  #orderedDict(args: readonly Value[]): Value {
    if (args.length !== 0) refuse(this.path, 'no arguments', 'OrderedDict', args.length);
    return new Dict();
  }

  #parameter(args: readonly Value[]): Value {
    const [data] = args;
    return data instanceof StoredTensor ? data : refuse(this.path, 'a tensor', '_rebuild_parameter', typeof data);
  }

  #tensor(args: readonly Value[]): Value {
    const [storage, offset, shape, strides] = args;
    if (!(storage instanceof Storage) || !isCount(offset) || !isSizes(shape) || !isSizes(strides))
      return refuse(this.path, 'storage, offset, size, stride', '_rebuild_tensor_v2', typeof storage);
    if (shape.length !== strides.length) refuse(this.path, `${shape.length} strides`, 'a tensor', strides.length);
    const count = elements(shape);
    const last = shape.reduce((at, size, i) => at + (size - 1) * strides[i]!, offset);
    if (!Number.isSafeInteger(count) || (count > 0 && last >= storage.count))
      refuse(this.path, `elements inside ${storage.count}`, `storage ${storage.key}`, `[${shape}] stride [${strides}]`);
    this.#bytes += count * DTYPE_BYTES[storage.dtype];
    if (this.#bytes > this.#budget) refuse(this.path, `at most ${this.#budget} bytes`, 'the tensors together', 'more');
    const tensor = new StoredTensor(storage, offset, [...shape], [...strides]);
    this.tensors.push(tensor);
    return tensor;
  }

  /** Storages whose elements a tensor really reads. Entries of a zip may share bytes, so their sum is checked. */
  used(fileBytes: number): Storage[] {
    const storages = [...new Set(this.tensors.filter((t) => elements(t.shape) > 0).map((t) => t.storage))];
    const bytes = storages.reduce((sum, { count, dtype }) => sum + count * DTYPE_BYTES[dtype], 0);
    if (bytes > fileBytes) refuse(this.path, `at most ${fileBytes} bytes`, 'the storages together', bytes);
    return storages;
  }
}

/** Copies a stored tensor into row-major order. */
export function materialize({ storage, offset, shape, strides }: StoredTensor): TensorView {
  const { dtype } = storage;
  const size = DTYPE_BYTES[dtype];
  const count = elements(shape);
  const data = new Uint8Array(count * size);
  if (count === 0) return { dtype, shape, data };
  const source = storage.data!;
  // The longest run of trailing dimensions that lie as in row-major order is copied at once.
  let run = 1;
  let outer = shape.length;
  while (outer > 0 && (shape[outer - 1] === 1 || strides[outer - 1] === run)) run *= shape[--outer]!;
  const position = new Array<number>(outer).fill(0);
  let at = offset;
  for (let done = 0; done < count; done += run) {
    data.set(source.subarray(at * size, (at + run) * size), done * size);
    for (let d = outer - 1; d >= 0; d--) {
      at += strides[d]!;
      position[d]! += 1;
      if (position[d]! < shape[d]!) break;
      at -= strides[d]! * shape[d]!;
      position[d] = 0;
    }
  }
  return { dtype, shape, data };
}

async function readZip(
  handle: FileHandle,
  size: number,
  path: string,
  extension: TorchExtension | null,
): Promise<Value> {
  const { entries, read } = await openZip(handle, size, path);
  const pickled = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickled.length !== 1) refuse(path, 'one data.pkl', 'a PyTorch zip file', pickled.length);
  const root = pickled[0]!.slice(0, -'data.pkl'.length);
  const order = entries.get(`${root}byteorder`);
  if (order !== undefined && new TextDecoder().decode(await read(order)) !== 'little')
    refuse(path, 'little', 'byteorder', 'another order');
  const entry = entries.get(pickled[0]!)!;
  if (entry.uncompressedSize > MAX_PICKLE_BYTES)
    refuse(path, `at most ${MAX_PICKLE_BYTES} bytes`, 'data.pkl', entry.uncompressedSize);
  const host = new TorchHost(path, size, extension);
  const { value } = readPickle(await read(entry), 0, host);
  for (const storage of host.used(size)) {
    const stored = entries.get(`${root}data/${storage.key}`);
    const bytes = storage.count * DTYPE_BYTES[storage.dtype];
    if (stored === undefined || stored.uncompressedSize < bytes)
      refuse(path, `${bytes} bytes`, `data/${storage.key}`, stored?.uncompressedSize);
    storage.data = await read(stored, bytes);
  }
  return value;
}

async function readLegacy(
  handle: FileHandle,
  size: number,
  path: string,
  extension: TorchExtension | null,
): Promise<Value> {
  const head = await readAt(handle, 0, Math.min(size, MAX_PICKLE_BYTES), path);
  const host = new TorchHost(path, size, extension);
  const magic = readPickle(head, 0, host);
  if (magic.value !== LEGACY_MAGIC) refuse(path, 'the magic number of torch.save', 'the file', shown(magic.value));
  const protocol = readPickle(head, magic.end, host);
  if (protocol.value !== 1001) refuse(path, '1001', 'the protocol version', shown(protocol.value));
  const system = readPickle(head, protocol.end, host);
  if (!(system.value instanceof Dict) || system.value.get('little_endian') !== true)
    refuse(path, 'a little-endian file', 'the system info', 'another');
  const { value, end } = readPickle(head, system.end, host);
  const keys = readPickle(head, end, host);
  if (!Array.isArray(keys.value)) return refuse(path, 'a list', 'the storage keys', typeof keys.value);
  const used = new Set(host.used(size));
  let at = keys.end;
  for (const key of keys.value) {
    const storage = typeof key === 'string' ? host.storages.get(key) : undefined;
    if (storage === undefined || storage.data !== null)
      return refuse(path, 'a storage of the pickle', 'keys', shown(key));
    const count = Buffer.from(await readAt(handle, at, 8, path)).readBigInt64LE();
    if (count !== BigInt(storage.count)) refuse(path, `${storage.count} elements`, `storage ${storage.key}`, count);
    const bytes = storage.count * DTYPE_BYTES[storage.dtype];
    if (bytes > size - at - 8)
      refuse(path, `${bytes} bytes`, `storage ${storage.key}`, `${size - at - 8} (truncated?)`);
    if (used.delete(storage)) storage.data = await readAt(handle, at + 8, bytes, path);
    at += 8 + bytes;
  }
  for (const storage of used) refuse(path, 'its data', `storage ${storage.key}`, 'none');
  return value;
}

/**
 * Reads a file that torch.save wrote.
 * @param extension - names allowed besides those of tensors; null for a file of weights
 * @returns the pickled object; tensors in it are StoredTensor, whose storages are loaded
 * @throws {LpldError} E_DATA with details.path: another format, a name that is not whitelisted, anything out of bounds
 */
export async function readTorchFile(path: string, extension: TorchExtension | null = null): Promise<Value> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    const { size } = await handle.stat();
    const first = await readAt(handle, 0, Math.min(size, 4), path);
    if (first[0] === 0x50 && first[1] === 0x4b) return await readZip(handle, size, path, extension);
    if (first[0] !== 0x80) refuse(path, 'a file of torch.save', 'weights', `first bytes ${[...first]}`);
    return await readLegacy(handle, size, path, extension);
  } catch (thrown) {
    if (thrown instanceof LpldError || (thrown as { code?: unknown })?.code !== undefined)
      throw fileError(thrown, path);
    return refuse(path, 'a whole zip file', 'weights', (thrown as Error).message);
  } finally {
    await handle?.close();
  }
}
