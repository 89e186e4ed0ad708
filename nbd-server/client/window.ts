/**
 * Bounds what is in flight on a connection: a number of requests and a number of payload bytes.
 * Whoever comes beyond waits in order. A request larger than the whole window enters alone.
 */

interface Waiter {
  readonly sizeBytes: number;
  readonly admit: () => void;
}

/** A counting gate of two measures. */
export class RequestWindow {
  readonly #countMax: number;
  readonly #sizeMax: number;
  readonly #waiters: Waiter[] = [];
  readonly #idleWaiters: (() => void)[] = [];
  #count = 0;
  #sizeBytes = 0;

  /**
   * @param countMax - requests
   * @param sizeMax - payload bytes
   */
  constructor(countMax: number, sizeMax: number) {
    this.#countMax = countMax;
    this.#sizeMax = sizeMax;
  }

  /** Waits for room and takes it. Each enter is followed by one {@link RequestWindow.leave}. */
  enter(sizeBytes: number): Promise<void> {
    if (this.#waiters.length === 0 && this.#hasRoom(sizeBytes)) {
      this.#take(sizeBytes);
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiters.push({ sizeBytes, admit: resolve }));
  }

  /** Gives room back. */
  leave(sizeBytes: number): void {
    this.#count -= 1;
    this.#sizeBytes -= sizeBytes;
    for (;;) {
      const next = this.#waiters[0];
      if (next === undefined || !this.#hasRoom(next.sizeBytes)) break;
      this.#waiters.shift();
      this.#take(next.sizeBytes);
      next.admit();
    }
    if (this.#count > 0) return;
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  /** Resolves when nothing is in flight and nothing waits. */
  idle(): Promise<void> {
    if (this.#count === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  #hasRoom(sizeBytes: number): boolean {
    if (this.#count === 0) return true;
    return this.#count < this.#countMax && this.#sizeBytes + sizeBytes <= this.#sizeMax;
  }

  #take(sizeBytes: number): void {
    this.#count += 1;
    this.#sizeBytes += sizeBytes;
  }
}
