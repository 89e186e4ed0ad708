/**
 * The store of a control plane with one control node: lmdb in a directory of its own, for one process at
 * a time. Changes wait in a queue while a transaction is written; then all that wait go together in the
 * next one, so that many changes share the sync to disk. A change is told, and answered, only when it is
 * on disk: lmdb writes new pages beside the old ones and then one page that makes them count, so a crash
 * leaves a transaction whole or absent.
 *
 * One process at a time is held by a flock(2), which ends with the process, however that ends. So store
 * leases can be in memory: entries under leases of a process that is gone are removed when it is opened.
 */
import fs from 'node:fs';
import { monotonicClock, type Clock } from '../common/clock.ts';
import { LmdbChanges } from './lmdb-changes.ts';
import { asStoreError, guarded, lockDirectory, openRecords, type Records } from './lmdb-files.ts';
import { LmdbLeases } from './lmdb-leases.ts';
import { LmdbQueue } from './lmdb-queue.ts';
import {
  anyLeasedPrefix,
  decodeEntry,
  decodeNumber,
  encodeEntry,
  encodeNumber,
  entryKey,
  entryPrefix,
  keyOfEntry,
  keyOfLeased,
  LAYOUT_VERSION,
  leasedKey,
  leasedPrefix,
  REVISION_KEY,
  utf8,
  VERSION_KEY,
} from './lmdb-record-codec.ts';
import {
  encodeTransaction,
  keyBytes,
  prefixBytes,
  prefixEnd,
  storeError,
  type EncodedCompare,
  type EncodedOp,
} from './meta-checks.ts';
import type {
  MetaChange,
  MetaCompare,
  MetaEntry,
  MetaLease,
  MetaOp,
  MetaStore,
  MetaWatcher,
} from './meta-store.ts';
import { SingleChanges } from './single-changes.ts';

/** Until the removal of entries under an expired lease is tried again after the disk failed, milliseconds. */
const EXPIRY_RETRY_MS = 1000;

/** What may be set otherwise, in tests. */
export interface LmdbStoreOptions {
  readonly clock?: Clock;
  /** Changes kept for watches that begin late. */
  readonly historyCountMax?: number;
}

/**
 * Opens the store in `directory`, and makes it if there is none: the directory 0700, its files 0600.
 *
 * @throws MemcloudError `ERR_DAEMON_BUSY` when another process has it open, `ERR_CONTROL_STORE` when it
 *   is damaged or the directory cannot be used
 */
export async function openLmdbStore(
  directory: string,
  options: LmdbStoreOptions = {},
): Promise<MetaStore> {
  const lock = guarded(directory, () => lockDirectory(directory));
  let records: Records | undefined;
  try {
    records = guarded(directory, () => openRecords(directory));
    return new LmdbStore(directory, records, lock, options);
  } catch (error) {
    await records?.close();
    fs.closeSync(lock);
    throw asStoreError(directory, error);
  }
}

/** What a change did. */
interface Outcome {
  /** Undefined: a condition did not hold. */
  readonly revision: number | undefined;
  readonly changes: readonly MetaChange[];
}

/** Makes one change within a transaction of lmdb; `last` is the revision before it. */
type Apply = (last: number) => Outcome;

class LmdbStore extends SingleChanges implements MetaStore {
  readonly description: string;
  readonly #records: Records;
  readonly #lock: number;
  readonly #queue: LmdbQueue<Apply, Outcome>;
  readonly #leases: LmdbLeases;
  readonly #changes: LmdbChanges;
  /** Leases that are over and whose entries could not be removed. */
  readonly #overdue = new Set<number>();
  #retry: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;

  constructor(directory: string, records: Records, lock: number, options: LmdbStoreOptions) {
    super();
    this.description = `embedded:${directory}`;
    this.#records = records;
    this.#lock = lock;
    this.#leases = new LmdbLeases(options.clock ?? monotonicClock, (id) => {
      this.#expire([id]);
    });
    this.#checkLayout();
    this.#check();
    // Nobody holds a lease of the process before this one.
    records.transactionSync(() => {
      const last = this.#revision();
      const { revision } = this.#remove(last, this.#keysUnder(anyLeasedPrefix()));
      if (revision !== last) this.#setRevision(revision ?? last);
    });
    this.#changes = new LmdbChanges(this.#revision(), options.historyCountMax);
    this.#queue = new LmdbQueue(
      (batch) => this.#commit(batch),
      (outcomes) => {
        for (const { changes } of outcomes) {
          if (changes.length > 0) this.#changes.publish(changes);
        }
      },
    );
  }

  get(key: string): Promise<MetaEntry | undefined> {
    return this.#read(() => {
      const name = keyBytes(key);
      const bytes = this.#records.get(entryKey(name));
      if (bytes === undefined) return undefined;
      const { revision, value } = decodeEntry(name, bytes);
      return { key, value: utf8(value), revision };
    });
  }

  list(
    prefix: string,
    options: {
      readonly after?: string;
      readonly countMax?: number;
      readonly reverse?: boolean;
    } = {},
  ): Promise<{ readonly entries: MetaEntry[]; readonly revision: number }> {
    return this.#read(() => {
      const { after, countMax = 1000, reverse = false } = options;
      const first = entryKey(prefixBytes(prefix));
      const end = prefixEnd(first) ?? Buffer.alloc(0);
      const mark = after === undefined ? undefined : entryKey(prefixBytes(after));
      const transaction = this.#records.useReadTransaction();
      try {
        const revision = this.#revision(transaction);
        const entries: MetaEntry[] = [];
        const from = mark !== undefined && mark.compare(first) >= 0 ? mark : first;
        const to = mark !== undefined && mark.compare(end) < 0 ? mark : end;
        const range = this.#records.getRange(
          reverse
            ? {
                start: to,
                end: first,
                reverse,
                exclusiveStart: true,
                inclusiveEnd: true,
                transaction,
              }
            : { start: from, end, exclusiveStart: from === mark, transaction },
        );
        for (const { key, value } of range) {
          if (entries.length >= countMax) break;
          // Where the cursor begins is lmdb's business; what is in the range is checked here.
          if (key.compare(first) < 0 || key.compare(end) >= 0) continue;
          const name = keyOfEntry(key);
          const record = decodeEntry(name, value);
          entries.push({
            key: utf8(name),
            value: utf8(record.value),
            revision: record.revision,
          });
        }
        return { entries, revision };
      } finally {
        transaction.done();
      }
    });
  }

  async transact(
    compares: readonly MetaCompare[],
    ops: readonly MetaOp[],
  ): Promise<number | undefined> {
    const encoded = encodeTransaction(compares, ops);
    this.#requireOpen();
    for (const { op } of encoded.ops) {
      if ('put' in op && op.lease !== undefined) this.#requireLease(op.lease);
    }
    return (await this.#queue.add((last) => this.#apply(last, encoded))).revision;
  }

  grant(ttlMs: number): Promise<MetaLease> {
    return this.#read(() => {
      const { id, ttlMs: lengthMs } = this.#leases.grant(ttlMs);
      return { id: String(id), ttlMs: lengthMs };
    });
  }

  keepalive(lease: MetaLease): Promise<boolean> {
    return this.#read(() => this.#leases.keepalive(Number(lease.id)));
  }

  async revoke(lease: MetaLease): Promise<void> {
    this.#requireOpen();
    const id = Number(lease.id);
    if (!this.#leases.drop(id)) return;
    try {
      await this.#removeUnder(id);
    } catch (error) {
      this.#expire([id]);
      throw error;
    }
  }

  watch(prefix: string, after: number, watcher: MetaWatcher): () => void {
    prefixBytes(prefix);
    this.#requireOpen();
    return this.#changes.watch(prefix, after, watcher);
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    clearTimeout(this.#retry);
    this.#leases.close();
    await this.#queue.close();
    this.#changes.close();
    await this.#records.close();
    fs.closeSync(this.#lock);
  }

  #requireOpen(): void {
    if (this.#closed !== undefined) throw storeError('the embedded store is closed');
  }

  #requireLease(lease: MetaLease): number {
    const id = Number(lease.id);
    if (this.#leases.holds(id)) return id;
    throw storeError('the store lease that the entry is to lie under is over');
  }

  #read<T>(read: () => T): Promise<T> {
    return new Promise((resolve) => {
      this.#requireOpen();
      resolve(read());
    }).catch((error: unknown) => {
      throw asStoreError(this.description, error);
    }) as Promise<T>;
  }

  #checkLayout(): void {
    const version = this.#records.get(VERSION_KEY);
    if (version === undefined) {
      this.#records.transactionSync(() => {
        void this.#records.put(VERSION_KEY, encodeNumber(LAYOUT_VERSION));
      });
      return;
    }
    const number = decodeNumber(version);
    if (number === LAYOUT_VERSION) return;
    throw storeError(
      `${this.description} was written by another version: expected layout ${LAYOUT_VERSION}, got ${number}`,
    );
  }

  /** Reads everything once: what is damaged shows now, not in the middle of a term. */
  #check(): void {
    const { entryCount } = this.#records.getStats() as { entryCount: number };
    const [tag] = entryPrefix();
    let count = 0;
    for (const { key, value } of this.#records.getRange({ start: Buffer.of(0) })) {
      // The way down to it has to be right as well.
      if (this.#records.get(key)?.equals(value)) count += 1;
      if (key[0] === tag) decodeEntry(keyOfEntry(key), value);
    }
    if (count === entryCount) return;
    throw storeError(
      `${this.description} is damaged: expected ${entryCount} records, found ${count}`,
    );
  }

  // --- Within a transaction of lmdb; what put and remove return there says nothing -------------------

  #revision(transaction?: ReturnType<Records['useReadTransaction']>): number {
    const bytes = this.#records.get(
      REVISION_KEY,
      transaction === undefined ? undefined : { transaction },
    );
    return bytes === undefined ? 0 : decodeNumber(bytes);
  }

  #setRevision(revision: number): void {
    void this.#records.put(REVISION_KEY, encodeNumber(revision));
  }

  /** Makes all changes of a batch in one transaction of lmdb. */
  async #commit(batch: readonly Apply[]): Promise<Outcome[]> {
    try {
      return await this.#records.childTransaction(() => {
        const first = this.#revision();
        let last = first;
        const outcomes = batch.map((apply) => {
          const outcome = apply(last);
          if (outcome.changes.length > 0) last = outcome.revision ?? last;
          return outcome;
        });
        if (last !== first) this.#setRevision(last);
        return outcomes;
      });
    } catch (error) {
      const { commitError } = error as { commitError?: Promise<unknown> };
      if (commitError === undefined) throw asStoreError(this.description, error);
      const cause: unknown = await commitError.catch((reason: unknown) => reason);
      throw storeError(
        `${this.description} could not be written (${(cause as Error).message}); is the disk full?`,
        cause,
      );
    }
  }

  #apply(
    last: number,
    { compares, ops }: { compares: readonly EncodedCompare[]; ops: readonly EncodedOp[] },
  ): Outcome {
    const holds = compares.every(({ key, revision }) => {
      const bytes = this.#records.get(entryKey(key));
      return (bytes === undefined ? 0 : decodeEntry(key, bytes).revision) === revision;
    });
    if (!holds) return { revision: undefined, changes: [] };
    const revision = last + 1;
    const changes: MetaChange[] = [];
    for (const { key, op, value } of ops) {
      if (value !== undefined && 'put' in op) {
        // A lease that ended since: its removal waits in the queue behind this change.
        const lease = op.lease === undefined ? 0 : Number(op.lease.id);
        this.#detach(key);
        void this.#records.put(entryKey(key), encodeEntry(key, { revision, lease, value }));
        if (lease !== 0) void this.#records.put(leasedKey(lease, key), Buffer.alloc(0));
        changes.push({ key: op.put, value: op.value, revision });
      } else if (this.#detach(key)) {
        void this.#records.remove(entryKey(key));
        changes.push({ key: utf8(key), value: undefined, revision });
      }
    }
    return { revision: changes.length > 0 ? revision : last, changes };
  }

  /** Takes an entry out of its lease. @returns false when there is no such entry */
  #detach(key: Buffer): boolean {
    const bytes = this.#records.get(entryKey(key));
    if (bytes === undefined) return false;
    const { lease } = decodeEntry(key, bytes);
    if (lease !== 0) void this.#records.remove(leasedKey(lease, key));
    return true;
  }

  /** The keys of entries under leases. */
  #keysUnder(prefix: Buffer): Buffer[] {
    const end = prefixEnd(prefix) ?? Buffer.alloc(0);
    // Copies: lmdb may use its buffers again.
    return [...this.#records.getKeys({ start: prefix, end })].map((record) =>
      Buffer.from(keyOfLeased(record)),
    );
  }

  #remove(last: number, keys: readonly Buffer[]): Outcome {
    const ops = keys.map((key) => ({ key, op: { remove: utf8(key) }, value: undefined }));
    return this.#apply(last, { compares: [], ops });
  }

  async #removeUnder(lease: number): Promise<void> {
    await this.#queue.add((last) => this.#remove(last, this.#keysUnder(leasedPrefix(lease))));
  }

  /** Removes the entries of leases that are over; later again those that the disk did not take. */
  #expire(ids: readonly number[]): void {
    for (const id of ids) {
      this.#removeUnder(id).catch(() => {
        if (this.#closed !== undefined) return;
        this.#overdue.add(id);
        this.#retry ??= setTimeout(() => {
          this.#retry = undefined;
          const again = [...this.#overdue];
          this.#overdue.clear();
          this.#expire(again);
        }, EXPIRY_RETRY_MS);
      });
    }
  }
}
