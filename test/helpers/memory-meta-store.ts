/** A `MetaStore` in memory whose transactions can be held back, refused or lost by a test. */
import { MemcloudError } from '../../common/errors.ts';
import type {
  MetaChange,
  MetaCompare,
  MetaEntry,
  MetaLease,
  MetaOp,
  MetaStore,
  MetaWatcher,
} from '../../control-plane/meta-store.ts';

/** What happens to a transaction: done, refused before it is done, or done and its answer lost. */
export type Fate = 'done' | 'failed' | 'lost';

/** See the top of the file. */
export class MemoryMetaStore implements MetaStore {
  readonly description = 'memory';
  readonly entries = new Map<string, { value: string; revision: number }>();
  revision = 0;
  /** Transactions that were done. */
  transactionCount = 0;
  /** The most changes in one. */
  opCountMax = 0;
  /** Decides the fate of each call; a promise holds it back. */
  fate: () => Fate | Promise<Fate> = () => 'done';
  readonly #watches = new Set<{ prefix: string; watcher: MetaWatcher }>();

  async get(key: string): Promise<MetaEntry | undefined> {
    await this.#mayRead();
    const entry = this.entries.get(key);
    return entry && { key, ...entry };
  }

  async list(
    prefix: string,
    options: { after?: string; countMax?: number; reverse?: boolean } = {},
  ): Promise<{ entries: MetaEntry[]; revision: number }> {
    await this.#mayRead();
    const { after, countMax = 1000, reverse = false } = options;
    let keys = [...this.entries.keys()].filter((key) => key.startsWith(prefix)).sort();
    if (reverse) keys.reverse();
    if (after !== undefined) keys = keys.filter((key) => (reverse ? key < after : key > after));
    const entries = keys.slice(0, countMax).map((key) => ({ key, ...this.entries.get(key)! }));
    return { entries, revision: this.revision };
  }

  async put(key: string, value: string): Promise<number> {
    return (await this.transact([], [{ put: key, value }]))!;
  }

  async cas(key: string, revision: number, value: string | undefined): Promise<number | undefined> {
    return this.transact(
      [{ key, revision }],
      [value === undefined ? { remove: key } : { put: key, value }],
    );
  }

  async transact(
    compares: readonly MetaCompare[],
    ops: readonly MetaOp[],
  ): Promise<number | undefined> {
    const fate = await this.fate();
    if (fate === 'failed') throw this.#away();
    const holds = compares.every(
      ({ key, revision }) => (this.entries.get(key)?.revision ?? 0) === revision,
    );
    if (!holds) return undefined;
    const keys = ops.map((op) => ('put' in op ? op.put : op.remove));
    if (new Set(keys).size < keys.length) throw new Error('a key comes twice in a transaction');
    if (ops.length > 100) throw new Error(`${ops.length} changes in a transaction`);
    this.revision += 1;
    this.transactionCount += 1;
    this.opCountMax = Math.max(this.opCountMax, ops.length);
    const { revision } = this;
    const changes: MetaChange[] = ops.map((op) => {
      if ('put' in op) this.entries.set(op.put, { value: op.value, revision });
      else this.entries.delete(op.remove);
      return 'put' in op
        ? { key: op.put, value: op.value, revision }
        : { key: op.remove, value: undefined, revision };
    });
    for (const { prefix, watcher } of this.#watches) {
      const seen = changes.filter(({ key }) => key.startsWith(prefix));
      if (seen.length > 0) watcher.onChanges(seen);
    }
    if (fate === 'lost') throw this.#away();
    return revision;
  }

  async grant(ttlMs: number): Promise<MetaLease> {
    return { id: 'lease', ttlMs };
  }

  async keepalive(): Promise<boolean> {
    return true;
  }

  async revoke(): Promise<void> {}

  watch(prefix: string, _after: number, watcher: MetaWatcher): () => void {
    const watch = { prefix, watcher };
    this.#watches.add(watch);
    return () => this.#watches.delete(watch);
  }

  async close(): Promise<void> {}

  async #mayRead(): Promise<void> {
    if ((await this.fate()) === 'failed') throw this.#away();
  }

  #away(): MemcloudError {
    return new MemcloudError('ERR_CONTROL_STORE', 'the store is away');
  }
}
