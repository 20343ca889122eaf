// Which native handles are alive: every model and store that is made while a test watches, by its own state.

import { onTestFinished, vi } from 'vitest';
import type { NativeImageStore, NativeModel } from '../../src/native.ts';
import { native } from './native.ts';

export interface HandleWatch {
  /** Handles made since the watch began. */
  readonly made: number;
  /** What kind each handle is that was not disposed. */
  live(): string[];
  /** Forgets the handles made so far. */
  clear(): void;
}

/** Watches all handles of this process until the test ends. */
export function watchHandles(): HandleWatch {
  let handles: [kind: string, handle: NativeModel | NativeImageStore][] = [];
  const binding = native();
  const keep = <H extends NativeModel | NativeImageStore>(kind: string, handle: H): H => {
    handles.push([kind, handle]);
    return handle;
  };
  const { createModel, createImageStore } = binding;
  const spies = [
    vi.spyOn(binding, 'createModel').mockImplementation((spec) => keep('model', createModel(spec))),
    vi.spyOn(binding, 'createImageStore').mockImplementation((spec) => keep('store', createImageStore(spec))),
  ];
  onTestFinished(() => {
    for (const spy of spies) spy.mockRestore();
  });
  return {
    get made() {
      return handles.length;
    },
    live: () => handles.filter(([, { state }]) => state !== 'disposed').map(([kind, { state }]) => `${kind} ${state}`),
    clear: () => {
      handles = [];
    },
  };
}
