// A pickle reader that executes nothing. Pickle is a small stack machine whose REDUCE calls any importable function; this
// one knows the opcodes that PyTorch's files use and the handful of names in GLOBALS, and refuses every other by name.
// Work and memory are linear in the bytes read, and bounded: values are shared by reference and never copied or walked, not
// even to be shown, because a list of lists of the same lists is 2^n long in print.
// Source of the opcodes: CPython's Lib/pickletools.py (documentation, not code).

import { expected, LpldError } from '../errors.ts';

/** A name that was looked up, not called yet. */
export class Global {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** What a Python value becomes. Lists and tuples are arrays, dicts are Maps, long integers beyond 2^53 are bigints. */
export type Value = null | boolean | number | bigint | string | Uint8Array | Value[] | Dict | Global | object;
export class Dict extends Map<Value, Value> {}

export interface PickleHost {
  readonly path: string; // for errors
  /** Names that may appear, and what calling them gives; null where a name may stand but not be called. */
  readonly globals: ReadonlyMap<string, ((args: readonly Value[]) => Value) | null>;
  /** Called for BINPERSID. */
  persistent(id: Value): Value;
  /** Called for BUILD on anything but a dict; false refuses the state. Without it every such state is refused. */
  readonly setState?: (target: Value, state: Value) => boolean;
  /** What the file may hold, and what to do when it holds more; weights where they are absent. */
  readonly holds?: string;
  readonly advice?: string;
}

/** Most opcodes of one pickle: a state dict takes about 40 a tensor. One byte may ask for a hundred bytes of memory. */
const MAX_OPCODES = 1 << 22;
const MARK = Symbol('mark');
type Slot = Value | typeof MARK;

const ADVICE = 'save the weights alone: torch.save(model.state_dict(), path), or as .safetensors';

/** Everything the machine needs while it runs over one pickle. */
class Machine {
  readonly stack: Slot[] = [];
  readonly memo = new Map<number, Value>();
  readonly host: PickleHost;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at: number;

  constructor(bytes: Uint8Array, at: number, host: PickleHost) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
    this.host = host;
  }

  refuse(what: string, name: string, received: unknown, advice?: string): never {
    const { path } = this.host;
    throw new LpldError('E_DATA', `${path}: ${expected(what, name, received, advice)}`, { path, offset: this.at });
  }

  /** Moves past `count` bytes and returns where they start. */
  skip(count: number): number {
    const start = this.at;
    if (count > this.#bytes.byteLength - start) this.refuse(`${count} more bytes`, 'the pickle', 'its end');
    this.at = start + count;
    return start;
  }

  u8 = (): number => this.#view.getUint8(this.skip(1));
  u16 = (): number => this.#view.getUint16(this.skip(2), true);
  i32 = (): number => this.#view.getInt32(this.skip(4), true);
  u32 = (): number => this.#view.getUint32(this.skip(4), true);
  f64 = (): number => this.#view.getFloat64(this.skip(8), false);
  bytes = (count: number): Uint8Array => this.#bytes.subarray(this.skip(count), this.at);

  text(count: number): string {
    const part = this.bytes(count);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(part);
    } catch {
      return this.refuse('UTF-8', 'a string of the pickle', `${count} other bytes`);
    }
  }

  /** A line without its newline. */
  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.at);
    if (end < 0 || end - this.at > 1000) this.refuse('a short line', 'a name of the pickle', 'none');
    const text = this.text(end - this.at);
    this.at = end + 1;
    return text;
  }

  long(count: number): number | bigint {
    let value = 0n;
    const part = this.bytes(count);
    for (let i = count - 1; i >= 0; i--) value = (value << 8n) | BigInt(part[i]!);
    value = BigInt.asIntN(8 * count, value);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  pop(): Value {
    const value = this.stack.pop();
    if (value === undefined || value === MARK) return this.refuse('a value', 'the pickle stack', 'none');
    return value;
  }

  /** The values above the latest mark. */
  popMark(): Value[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) this.refuse('a mark', 'the pickle stack', 'none');
    const values = this.stack.splice(mark) as Value[];
    return values.slice(1);
  }

  top(): Value {
    const value = this.pop();
    this.stack.push(value);
    return value;
  }

  put(index: number): void {
    this.memo.set(index, this.top());
  }

  get(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) this.refuse('a memo entry', 'the pickle', index);
    this.stack.push(value);
  }

  append(values: readonly Value[]): void {
    const list = this.top();
    if (!Array.isArray(list)) this.refuse('a list', 'APPEND', typeof list);
    for (const value of values) list.push(value);
  }

  setItems(values: readonly Value[]): void {
    const dict = this.top();
    if (!(dict instanceof Dict) || values.length % 2 !== 0) this.refuse('a dict and pairs', 'SETITEMS', typeof dict);
    for (let i = 0; i < values.length; i += 2) dict.set(values[i]!, values[i + 1]!);
  }

  /** A part of a name that stands on the stack. */
  name(): string {
    const value = this.pop();
    return typeof value === 'string' ? value : this.refuse('text', 'a name in the pickle', typeof value);
  }

  global(name: string): void {
    if (!this.host.globals.has(name))
      this.refuse(this.host.holds ?? 'weights only', 'a name in the pickle', name, this.advice);
    this.stack.push(new Global(name));
  }

  reduce(): void {
    const args = this.pop();
    const callee = this.pop();
    if (!(callee instanceof Global) || !Array.isArray(args)) this.refuse('a known name', 'REDUCE', typeof callee);
    const call = this.host.globals.get(callee.name);
    this.stack.push(call ? call(args) : this.refuse('a function', 'REDUCE', callee.name, this.advice));
  }

  /** State given to an object. Dicts may carry attributes (a state dict's _metadata); they are dropped. */
  build(): void {
    const state = this.pop();
    const target = this.top();
    if (target instanceof Dict || this.host.setState?.(target, state) === true) return;
    this.refuse('a dict', 'BUILD', 'another object', this.advice);
  }

  get advice(): string {
    return this.host.advice ?? ADVICE;
  }
}

type Step = (m: Machine) => void;
const push =
  (make: (m: Machine) => Value): Step =>
  (m) => {
    m.stack.push(make(m));
  };
const tuple = (count: number): Step =>
  push((m) => {
    const values: Value[] = [];
    for (let i = 0; i < count; i++) values.unshift(m.pop());
    return values;
  });

/** Opcode byte -> what it does. STOP (0x2e) ends the loop. One line per opcode that is allowed. */
const OPCODES = new Map<number, Step>([
  [0x80, (m) => m.u8() <= 5 || m.refuse('protocol 0 to 5', 'the pickle', 'a later one')], // PROTO
  [0x95, (m) => void m.skip(8)], // FRAME
  [0x28, (m) => void m.stack.push(MARK)], // MARK
  [0x4e, push(() => null)], // NONE
  [0x88, push(() => true)], // NEWTRUE
  [0x89, push(() => false)], // NEWFALSE
  [0x4a, push((m) => m.i32())], // BININT
  [0x4b, push((m) => m.u8())], // BININT1
  [0x4d, push((m) => m.u16())], // BININT2
  [0x8a, push((m) => m.long(m.u8()))], // LONG1
  [0x47, push((m) => m.f64())], // BINFLOAT
  [0x58, push((m) => m.text(m.u32()))], // BINUNICODE
  [0x8c, push((m) => m.text(m.u8()))], // SHORT_BINUNICODE
  [0x54, push((m) => m.text(m.u32()))], // BINSTRING
  [0x55, push((m) => m.text(m.u8()))], // SHORT_BINSTRING
  [0x42, push((m) => m.bytes(m.u32()))], // BINBYTES
  [0x43, push((m) => m.bytes(m.u8()))], // SHORT_BINBYTES
  [0x7d, push(() => new Dict())], // EMPTY_DICT
  [0x5d, push(() => [])], // EMPTY_LIST
  [0x29, push(() => [])], // EMPTY_TUPLE
  [0x74, push((m) => m.popMark())], // TUPLE
  [0x85, tuple(1)], // TUPLE1
  [0x86, tuple(2)], // TUPLE2
  [0x87, tuple(3)], // TUPLE3
  [0x61, (m) => m.append([m.pop()])], // APPEND
  [0x65, (m) => m.append(m.popMark())], // APPENDS
  [0x73, (m) => m.setItems([m.pop(), m.pop()].reverse())], // SETITEM
  [0x75, (m) => m.setItems(m.popMark())], // SETITEMS
  [0x71, (m) => m.put(m.u8())], // BINPUT
  [0x72, (m) => m.put(m.u32())], // LONG_BINPUT
  [0x94, (m) => m.put(m.memo.size)], // MEMOIZE
  [0x68, (m) => m.get(m.u8())], // BINGET
  [0x6a, (m) => m.get(m.u32())], // LONG_BINGET
  [0x63, (m) => m.global(`${m.line()}.${m.line()}`)], // GLOBAL
  [0x93, (m) => m.global([m.name(), m.name()].reverse().join('.'))], // STACK_GLOBAL
  [0x52, (m) => m.reduce()], // REDUCE
  [0x62, (m) => m.build()], // BUILD
  [0x51, push((m) => m.host.persistent(m.pop()))], // BINPERSID
]);

/**
 * Reads one pickle.
 *
 * @param bytes - may hold more behind the pickle
 * @param at - where it begins
 * @returns its value, and where the next byte after it is
 * @throws {LpldError} E_DATA with details.path and the offset: an opcode or a name that is not allowed, or a broken stream
 */
export function readPickle(bytes: Uint8Array, at: number, host: PickleHost): { value: Value; end: number } {
  const machine = new Machine(bytes, at, host);
  for (let done = 0; ; done++) {
    if (done === MAX_OPCODES) machine.refuse(`at most ${MAX_OPCODES} opcodes`, 'the pickle', 'more');
    const opcode = machine.u8();
    if (opcode === 0x2e) break;
    const step = OPCODES.get(opcode);
    if (step === undefined)
      return machine.refuse('an opcode of a weights file', 'the pickle', `0x${opcode.toString(16)}`, machine.advice);
    step(machine);
  }
  return { value: machine.pop(), end: machine.at };
}
