/**
 * The members, as the store has them, on every control node whether it leads or not: who is to be let in.
 * A list is told only when it was really read; while the store is away the last one stands.
 */
import type { Logger } from '../common/log.ts';
import { asMemcloudError } from '../common/errors.ts';
import { listAll } from './load-state.ts';
import type { MetaStore } from './meta-store.ts';
import type { After } from './outbox.ts';
import { PREFIX, readRecord, type MemberRecord } from './record-codec.ts';

const RETRY_MS = 1_000;

/** See the top of the file. */
export class MembersWatch {
  readonly #store: MetaStore;
  readonly #logger: Logger;
  readonly #after: After;
  readonly #members = new Map<string, MemberRecord>();
  readonly #listeners = new Set<(members: readonly MemberRecord[]) => void>();
  #unwatch: (() => void) | undefined;
  #callOff: (() => void) | undefined;
  #isRead = false;
  #closed = false;

  constructor(store: MetaStore, logger: Logger, after: After) {
    this.#store = store;
    this.#logger = logger;
    this.#after = after;
  }

  /** By key and, where a node id is known, by that. */
  get list(): readonly MemberRecord[] {
    return [...this.#members.values()];
  }

  /** Reads the members and follows them. */
  start(): void {
    void this.#read();
  }

  /** Calls `listener` with the whole list now, once it was read, and on every change. @returns a function that ends it */
  onChange(listener: (members: readonly MemberRecord[]) => void): () => void {
    this.#listeners.add(listener);
    if (this.#isRead) listener(this.list);
    return () => this.#listeners.delete(listener);
  }

  /** Ends it. */
  close(): void {
    this.#closed = true;
    this.#callOff?.();
    this.#unwatch?.();
    this.#listeners.clear();
  }

  async #read(): Promise<void> {
    try {
      const { entries, revision } = await listAll(this.#store, PREFIX.member);
      if (this.#closed) return;
      const members = entries.map(({ key, value }) => [key, readRecord.member(value)] as const);
      this.#members.clear();
      for (const [key, member] of members) this.#members.set(key, member);
      this.#unwatch = this.#store.watch(PREFIX.member, revision, {
        onChanges: (changes) => {
          for (const { key, value } of changes) {
            if (value === undefined) this.#members.delete(key);
            else this.#take(key, value);
          }
          this.#tell();
        },
        onLost: () => {
          this.#unwatch = undefined;
          this.#retry();
        },
      });
      this.#isRead = true;
      this.#tell();
    } catch (error) {
      this.#logger.warn({ error: asMemcloudError(error).message }, 'the members cannot be read');
      this.#retry();
    }
  }

  #take(key: string, value: string): void {
    try {
      this.#members.set(key, readRecord.member(value));
    } catch (error) {
      this.#logger.error({ key, error: asMemcloudError(error).message }, 'a member cannot be read');
    }
  }

  #retry(): void {
    if (this.#closed) return;
    this.#callOff?.();
    this.#callOff = this.#after(RETRY_MS, () => void this.#read());
  }

  #tell(): void {
    for (const listener of this.#listeners) listener(this.list);
  }
}
