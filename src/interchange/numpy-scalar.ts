// numpy scalars in a pickle (`numpy.int64(3)` in a list), read as plain numbers: the names they mention are data here and
// nothing is called. Official label batches hold the corners of the mixing box like this.
// Source: numpy/_core/src/multiarray/scalartypes.c.src and descriptor.c (what __reduce__ returns), not code.

import { expected, LpldError } from '../errors.ts';
import type { Value } from './pickle.ts';
import type { TorchExtension } from './torch-file.ts';

/** Kinds that are known, little-endian: how their bytes become a number. */
const KINDS: Readonly<Record<string, { readonly bytes: number; read(view: DataView): number }>> = {
  i4: { bytes: 4, read: (view) => view.getInt32(0, true) },
  i8: { bytes: 8, read: (view) => Number(view.getBigInt64(0, true)) },
  f4: { bytes: 4, read: (view) => view.getFloat32(0, true) },
  f8: { bytes: 8, read: (view) => view.getFloat64(0, true) },
};

class NumpyDtype {
  readonly kind: string;
  constructor(kind: string) {
    this.kind = kind;
  }
}

/**
 * The names a pickle needs for numpy's integer and float scalars.
 * @param path - of the file, for errors
 * @returns what readTorchFile takes; values come out as numbers
 */
export function numpyScalars(path: string): Pick<Required<TorchExtension>, 'globals' | 'setState'> {
  const refuse = (what: string, name: string, received: unknown): never => {
    throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
  };
  const dtype = ([kind]: readonly Value[]): Value =>
    typeof kind === 'string' && Object.hasOwn(KINDS, kind)
      ? new NumpyDtype(kind)
      : refuse(`one of ${Object.keys(KINDS).join(', ')}`, 'numpy.dtype', typeof kind === 'string' ? kind : typeof kind);
  const scalar = ([type, data]: readonly Value[]): Value => {
    const known = type instanceof NumpyDtype ? KINDS[type.kind]! : refuse('a dtype', 'a numpy scalar', typeof type);
    if (!(data instanceof Uint8Array) || data.byteLength !== known.bytes)
      return refuse(
        `${known.bytes} bytes`,
        'a numpy scalar',
        data instanceof Uint8Array ? data.byteLength : typeof data,
      );
    const value = known.read(new DataView(data.buffer, data.byteOffset, data.byteLength));
    if (Number.isInteger(value) && !Number.isSafeInteger(value))
      refuse('an integer below 2^53', 'a numpy scalar', value);
    return value;
  };
  // Protocol 2 has no bytes: Python writes them as text and names the codec that undoes it.
  const encode = ([text, codec]: readonly Value[]): Value => {
    if (typeof text !== 'string' || codec !== 'latin1') return refuse('text in latin1', '_codecs.encode', typeof text);
    if (text.length > 8) refuse('at most 8 bytes', '_codecs.encode', text.length);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 255) refuse('text in latin1', '_codecs.encode', `character ${code}`);
      bytes[i] = code;
    }
    return bytes;
  };
  return {
    globals: new Map([
      ['numpy.dtype', dtype],
      ['numpy.core.multiarray.scalar', scalar],
      ['numpy._core.multiarray.scalar', scalar],
      ['_codecs.encode', encode],
    ]),
    setState(target, state) {
      if (!(target instanceof NumpyDtype)) return false;
      if (!Array.isArray(state) || state[1] !== '<') refuse('little-endian numbers', 'numpy.dtype', 'another state');
      return true;
    },
  };
}
