// Native handles while they are being opened. One handle belongs to the scope that made it (`using`); several, or one that
// is filled before it is handed on, are held here until all of that has succeeded.
// The invariant: a handle is disposed or handed on, never left to the garbage collector.

/**
 * Held handles, disposed last first when their scope ends (`using`), unless they were moved to the caller. What
 * DisposableStack of later JavaScript versions does.
 */
export class Handles<T extends Disposable = Disposable> implements Disposable {
  #held: T[] = [];

  get all(): readonly T[] {
    return this.#held;
  }

  /** Holds a handle, and returns it. */
  add<H extends T>(handle: H): H {
    this.#held.push(handle);
    return handle;
  }

  /** Hands all of them on: from here on they are the caller's. */
  move(): Handles<T> {
    const moved = new Handles<T>();
    moved.#held = this.#held.splice(0);
    return moved;
  }

  [Symbol.dispose](): void {
    const last = this.#held.pop();
    if (last === undefined) return;
    try {
      last[Symbol.dispose]();
    } finally {
      this[Symbol.dispose]();
    }
  }
}
