// Files of tensors as torch.save writes them: a zip of stored entries with data.pkl and one entry per storage. Python's
// torch.load reads them with weights_only=True. Equal values give equal bytes: no times, no ids.
// Source: torch/serialization.py (_save), caffe2/serialize/inline_container.cc (alignment); APPNOTE.TXT of the zip format.

import { crc32 } from 'node:zlib';
import { expected, LpldError } from '../errors.ts';
import { type DType, elements, type TensorView } from '../tensor.ts';
import { PyName, PyPersistent, PyTuple, type PyValue, writePickle } from './pickle-writer.ts';

/** torch maps storages from the file, so their first byte stands at a multiple of this. */
const ALIGNMENT = 64;
const LOCAL_BYTES = 30;
const CENTRAL_BYTES = 46;

const STORAGES: Readonly<Partial<Record<DType, string>>> = {
  F32: 'FloatStorage',
  F16: 'HalfStorage',
  I64: 'LongStorage',
  BOOL: 'BoolStorage',
};

interface Entry {
  readonly name: Uint8Array;
  readonly data: Uint8Array;
}

/** The 26 bytes that local and central header share: version, flags, method, time, crc, sizes, lengths. */
function sharedHeader(entry: Entry, extra: number): Uint8Array {
  const bytes = new Uint8Array(26);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 20, true); // version 2.0; stored, no time
  view.setUint32(10, crc32(entry.data), true);
  view.setUint32(14, entry.data.byteLength, true);
  view.setUint32(18, entry.data.byteLength, true);
  view.setUint16(22, entry.name.byteLength, true);
  view.setUint16(24, extra, true);
  return bytes;
}

const signature = (kind: number): Uint8Array => Uint8Array.of(0x50, 0x4b, kind, kind + 1);

/** An extra field that fills up to the alignment; torch marks its own with the letters FB. */
function padding(at: number): Uint8Array {
  const fill = (ALIGNMENT - ((at + 4) % ALIGNMENT)) % ALIGNMENT;
  const bytes = new Uint8Array(4 + fill);
  new DataView(bytes.buffer).setUint16(2, fill, true);
  bytes.set([0x46, 0x42]);
  return bytes;
}

/**
 * A zip of stored entries, each aligned.
 * @returns the file in order, as chunks
 * @throws {LpldError} E_CONFIG above 4 GiB or 65535 entries: the plain format has no more
 */
function storedZip(entries: readonly Entry[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let at = 0;
  for (const entry of entries) {
    const extra = padding(at + LOCAL_BYTES + entry.name.byteLength);
    const rest = new Uint8Array(CENTRAL_BYTES - 4 - 2 - 26);
    new DataView(rest.buffer).setUint32(10, at, true);
    central.push(signature(1), Uint8Array.of(20, 0), sharedHeader(entry, 0), rest, entry.name);
    chunks.push(signature(3), sharedHeader(entry, extra.byteLength), entry.name, extra, entry.data);
    at += LOCAL_BYTES + entry.name.byteLength + extra.byteLength + entry.data.byteLength;
  }
  const directory = central.reduce((sum, part) => sum + part.byteLength, 0);
  if (at + directory >= 2 ** 32 || entries.length >= 2 ** 16)
    throw new LpldError('E_CONFIG', expected('less than 4 GiB', 'a file of tensors', `${at} bytes`));
  const end = new Uint8Array(18);
  const view = new DataView(end.buffer);
  view.setUint16(4, entries.length, true);
  view.setUint16(6, entries.length, true);
  view.setUint32(8, directory, true);
  view.setUint32(12, at, true);
  return [...chunks, ...central, signature(5), end];
}

const ROOT = 'archive';

/**
 * A file of torch.save.
 *
 * @param make - builds the pickled value; `tensor` gives the value that stands for a row-major tensor
 *   (F32, F16, I64 or BOOL), each with a storage of its own
 * @returns the file in order, as chunks that share memory with the tensors
 * @throws {LpldError} E_INTERNAL for another dtype, E_CONFIG above 4 GiB
 */
export function torchFile(make: (tensor: (view: TensorView) => PyValue) => PyValue): Uint8Array[] {
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  const storages: Entry[] = [];
  const tensor = ({ dtype, shape, data }: TensorView): PyValue => {
    const type = STORAGES[dtype];
    if (type === undefined) throw new LpldError('E_INTERNAL', expected('F32, F16, I64 or BOOL', 'a tensor', dtype));
    const key = String(storages.length);
    storages.push({ name: encode(`${ROOT}/data/${key}`), data });
    const id = new PyTuple(['storage', new PyName('torch', type), key, 'cpu', elements(shape)]);
    const strides = shape.map((_, d) => elements(shape.slice(d + 1)));
    const hooks = new PyName('collections', 'OrderedDict', new PyTuple([]));
    const args = [new PyPersistent(id), 0, new PyTuple(shape), new PyTuple(strides), false, hooks];
    return new PyName('torch._utils', '_rebuild_tensor_v2', new PyTuple(args));
  };
  const pickled = writePickle(make(tensor));
  return storedZip([
    { name: encode(`${ROOT}/data.pkl`), data: pickled },
    { name: encode(`${ROOT}/byteorder`), data: encode('little') },
    ...storages,
    { name: encode(`${ROOT}/version`), data: encode('3\n') },
  ]);
}
