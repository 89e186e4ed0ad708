/**
 * The entry by which a control node is known to the others: put under a store lease of its own, kept
 * alive, put again when the lease is over or what it says has changed. It vanishes with the node.
 */
import type { Logger } from '../common/log.ts';
import { asMemcloudError } from '../common/errors.ts';
import type { MetaLease, MetaStore } from './meta-store.ts';

/** What it needs. */
export interface ControlEntryOptions {
  readonly store: MetaStore;
  readonly logger: Logger;
  readonly key: string;
  /** What the entry says now. */
  readonly value: () => string;
  /** Of the store lease, milliseconds. */
  readonly ttlMs: number;
}

/** See the top of the file. */
export class ControlEntry {
  readonly #options: ControlEntryOptions;
  #lease: MetaLease | undefined;
  #said: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: ControlEntryOptions) {
    this.#options = options;
  }

  /** Puts the entry, and keeps it. */
  start(): void {
    this.#running = this.#renew().finally(() => {
      this.#running = undefined;
      if (this.#closed) return;
      this.#timer = setTimeout(() => {
        this.start();
      }, this.#options.ttlMs / 3);
    });
  }

  /** Removes the entry, if the store answers. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
    const { store } = this.#options;
    if (this.#lease !== undefined) await store.revoke(this.#lease).catch(() => undefined);
  }

  /** Never rejects: it is tried again. */
  async #renew(): Promise<void> {
    const { store, key, value, ttlMs, logger } = this.#options;
    try {
      if (this.#lease !== undefined && !(await store.keepalive(this.#lease))) {
        this.#lease = undefined;
        this.#said = undefined;
      }
      this.#lease ??= await store.grant(ttlMs);
      const text = value();
      if (text === this.#said) return;
      this.#said = undefined;
      await store.put(key, text, this.#lease);
      this.#said = text;
    } catch (error) {
      logger.debug({ error: asMemcloudError(error).message }, 'the entry of this node was not put');
    }
  }
}
