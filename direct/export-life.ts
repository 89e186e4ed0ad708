/**
 * How long an export lives: without end while its data connection does, otherwise its time to live
 * after the later of the connection's end and the last renewal. Time is the caller's. Pure.
 */

/** The life of one export. */
export class ExportLife {
  readonly #ttlMs: number;
  #connected = false;
  #endsAtMs: number;

  /** A new export counts as renewed. */
  constructor(ttlMs: number, nowMs: number) {
    this.#ttlMs = ttlMs;
    this.#endsAtMs = nowMs + ttlMs;
  }

  /** True while a data connection lives. */
  get connected(): boolean {
    return this.#connected;
  }

  /** The data connection began. */
  connect(): void {
    this.#connected = true;
  }

  /** The data connection ended. */
  disconnect(nowMs: number): void {
    this.#connected = false;
    this.renew(nowMs);
  }

  /** The holder asked for more time. */
  renew(nowMs: number): void {
    this.#endsAtMs = Math.max(this.#endsAtMs, nowMs + this.#ttlMs);
  }

  /** True once the time is over. */
  hasEnded(nowMs: number): boolean {
    return !this.#connected && nowMs >= this.#endsAtMs;
  }
}
