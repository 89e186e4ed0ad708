/**
 * Signs receipts in the background, a few at a time: when thousands of leases end in one turn, taking
 * memory back comes first, and the receipts follow in turns of their own.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ManagedEnding } from '../common/managed.ts';
import { signReceipt } from '../common/receipts.ts';
import type { SigningKey } from '../common/signatures.ts';
import type { SignedEnding } from './endings-queue.ts';

/** Receipts that are signed in one turn. */
const SIGNED_IN_A_TURN = 16;

/** What takes what was signed. */
export interface ReceiptEvents {
  /** A receipt is there; in the order of the endings. */
  readonly onSigned: (ending: SignedEnding) => void;
  /** There will be none of this ending. */
  readonly onFailed: (ending: ManagedEnding, error: unknown) => void;
}

/** See the top of the file. */
export class ReceiptSigner {
  readonly #key: SigningKey;
  readonly #events: ReceiptEvents;
  #waiting: ManagedEnding[] = [];
  #signing = 0;
  #runs = false;

  constructor(key: SigningKey, events: ReceiptEvents) {
    this.#key = key;
    this.#events = events;
  }

  /** Endings whose receipt is not there yet. */
  get length(): number {
    return this.#waiting.length + this.#signing;
  }

  /** Has the receipt of an ending signed. */
  push(ending: ManagedEnding): void {
    this.#waiting.push(ending);
    if (!this.#runs) void this.#run();
  }

  async #run(): Promise<void> {
    this.#runs = true;
    while (this.#waiting.length > 0) {
      await nextTurn();
      const batch = this.#waiting;
      this.#waiting = batch.splice(SIGNED_IN_A_TURN);
      this.#signing = batch.length;
      const results = await Promise.allSettled(batch.map((each) => signReceipt(this.#key, each)));
      this.#signing = 0;
      for (const [index, ending] of batch.entries()) {
        const result = results[index];
        if (result?.status === 'fulfilled') {
          this.#events.onSigned({ ...ending, receipt: result.value });
        } else this.#events.onFailed(ending, result?.reason);
      }
    }
    this.#runs = false;
  }
}
