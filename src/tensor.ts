// The one tensor type at the border: the safetensors triple. It has no methods and does no arithmetic.

import { LpldError } from './errors.ts';

/** dtype names as safetensors writes them, with the size of one element in bytes. */
export const DTYPE_BYTES = {
  U8: 1,
  I8: 1,
  BOOL: 1,
  F16: 2,
  BF16: 2,
  U16: 2,
  I16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  I64: 8,
  F64: 8,
} as const;
export type DType = keyof typeof DTYPE_BYTES;

/** A dense row-major little-endian tensor. `data` holds exactly product(shape) elements; scalars have shape []. */
export interface TensorView {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export type TensorMap = Record<string, TensorView>;

type ArrayOf = {
  U8: Uint8Array;
  I8: Int8Array;
  BOOL: Uint8Array;
  F16: Uint16Array;
  BF16: Uint16Array;
  U16: Uint16Array;
  I16: Int16Array;
  U32: Uint32Array;
  I32: Int32Array;
  F32: Float32Array;
  I64: BigInt64Array;
  F64: Float64Array;
};
const ARRAYS = {
  U8: Uint8Array,
  I8: Int8Array,
  BOOL: Uint8Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  U16: Uint16Array,
  I16: Int16Array,
  U32: Uint32Array,
  I32: Int32Array,
  F32: Float32Array,
  I64: BigInt64Array,
  F64: Float64Array,
} as const;

/** Number of elements of a shape; 1 for []. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((n, d) => n * d, 1);
}

/**
 * Wraps a typed array as a TensorView without copying.
 * @throws {LpldError} E_INTERNAL if the array's length is not the product of the shape
 */
export function tensor<D extends DType>(dtype: D, shape: readonly number[], array: ArrayOf[D]): TensorView {
  if (array.length !== elements(shape))
    throw new LpldError(
      'E_INTERNAL',
      `expected ${elements(shape)} elements for shape [${shape}] but received ${array.length}`,
    );
  return { dtype, shape, data: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) };
}

/**
 * The elements of a TensorView as the matching typed array (f16 and bf16 as their bits). Shares memory where the
 * bytes are aligned, copies otherwise.
 * @throws {LpldError} E_INTERNAL if the view has another dtype
 */
export function arrayOf<D extends DType>(view: TensorView, dtype: D): ArrayOf[D] {
  if (view.dtype !== dtype) throw new LpldError('E_INTERNAL', `expected a ${dtype} tensor but received ${view.dtype}`);
  const size = DTYPE_BYTES[dtype];
  const { data } = view;
  const aligned = data.byteOffset % size === 0 ? data : new Uint8Array(data);
  const Ctor = ARRAYS[dtype] as unknown as new (b: ArrayBufferLike, o: number, n: number) => ArrayOf[D];
  return new Ctor(aligned.buffer, aligned.byteOffset, aligned.byteLength / size);
}
