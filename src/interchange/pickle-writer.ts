// Writes the small pickles that files of tensors need, protocol 2, without a memo: every value is written where it
// stands. Arrays are Python lists, integers are ints; what JavaScript cannot tell apart has a class here.
// Source of the opcodes: CPython's Lib/pickletools.py (documentation, not code).

import { expected, LpldError } from '../errors.ts';

/** A Python float; a plain number is an int. */
export class PyFloat {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

export class PyTuple {
  readonly items: readonly PyValue[];
  constructor(items: readonly PyValue[]) {
    this.items = items;
  }
}

/** A name of a module, looked up; with arguments it is also called. */
export class PyName {
  readonly module: string;
  readonly name: string;
  readonly args: PyTuple | null;
  constructor(module: string, name: string, args: PyTuple | null = null) {
    this.module = module;
    this.name = name;
    this.args = args;
  }
}

/** An object kept outside the pickle, by its id. */
export class PyPersistent {
  readonly id: PyTuple;
  constructor(id: PyTuple) {
    this.id = id;
  }
}

export type PyValue = null | boolean | number | string | PyFloat | PyTuple | PyName | PyPersistent | readonly PyValue[];

const MARK = 0x28;

function writeInt(value: number, out: number[]): void {
  if (!Number.isInteger(value) || value < -(2 ** 31) || value >= 2 ** 31)
    throw new LpldError('E_INTERNAL', expected('a 32-bit integer', 'a pickled int', value));
  if (value >= 0 && value < 256)
    out.push(0x4b, value); // BININT1
  else out.push(0x4a, value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255); // BININT
}

function writeText(text: string, out: number[]): void {
  const bytes = new TextEncoder().encode(text);
  const length = bytes.length;
  out.push(0x58, length & 255, (length >> 8) & 255, (length >> 16) & 255, length >> 24); // BINUNICODE
  for (const byte of bytes) out.push(byte);
}

function writeTuple({ items }: PyTuple, out: number[]): void {
  if (items.length === 0)
    out.push(0x29); // EMPTY_TUPLE
  else if (items.length > 3) {
    out.push(MARK);
    for (const item of items) write(item, out);
    out.push(0x74); // TUPLE
  } else {
    for (const item of items) write(item, out);
    out.push(0x84 + items.length); // TUPLE1 .. TUPLE3
  }
}

function writeName({ module, name, args }: PyName, out: number[]): void {
  out.push(0x63, ...new TextEncoder().encode(`${module}\n${name}\n`)); // GLOBAL
  if (args === null) return;
  writeTuple(args, out);
  out.push(0x52); // REDUCE
}

function write(value: PyValue, out: number[]): void {
  if (value === null) out.push(0x4e);
  else if (typeof value === 'boolean') out.push(value ? 0x88 : 0x89);
  else if (typeof value === 'number') writeInt(value, out);
  else if (typeof value === 'string') writeText(value, out);
  else if (value instanceof PyFloat) {
    const word = new DataView(new ArrayBuffer(8));
    word.setFloat64(0, value.value, false);
    out.push(0x47, ...new Uint8Array(word.buffer)); // BINFLOAT
  } else if (value instanceof PyTuple) writeTuple(value, out);
  else if (value instanceof PyName) writeName(value, out);
  else if (value instanceof PyPersistent) {
    writeTuple(value.id, out);
    out.push(0x51); // BINPERSID
  } else {
    out.push(0x5d, MARK); // EMPTY_LIST
    for (const item of value) write(item, out);
    out.push(0x65); // APPENDS
  }
}

/**
 * The bytes of one pickle.
 * @throws {LpldError} E_INTERNAL for an integer that needs more than 32 bits
 */
export function writePickle(value: PyValue): Uint8Array {
  const out = [0x80, 2]; // PROTO 2
  write(value, out);
  out.push(0x2e); // STOP
  return Uint8Array.from(out);
}
