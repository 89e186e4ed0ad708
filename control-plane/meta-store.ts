/**
 * What a control plane remembers, wherever it lies: a small ordered map of text with revisions, leases
 * and watches. Two stores do it, `lmdb-store.ts` for one control node and `etcd-store.ts` for several;
 * one suite of tests holds both to this file. It is for metadata: keys of at most 512 bytes, values of
 * at most 64 KiB, some hundred thousand of them.
 *
 * Every change has a *revision*, greater than all before it; entries changed together share theirs.
 */

/** The most changes in one transaction. */
export const TRANSACTION_OP_COUNT_MAX = 100;
/** The most bytes of a key, UTF-8. */
export const META_KEY_SIZE_MAX_BYTES = 512;
/** The most bytes of a value, UTF-8. */
export const META_VALUE_SIZE_MAX_BYTES = 64 * 1024;
/** The most bytes of keys and values that one transaction puts; etcd takes requests of 1.5 MiB. */
export const META_TRANSACTION_SIZE_MAX_BYTES = 1024 * 1024;

/** An entry. */
export interface MetaEntry {
  readonly key: string;
  readonly value: string;
  /** Of its last change. */
  readonly revision: number;
}

/** A lease of the store itself: entries put under it vanish when it is not kept alive. */
export interface MetaLease {
  readonly id: string;
  readonly ttlMs: number;
}

/** What must hold for a transaction: the entry has this revision; 0: there is none. */
export interface MetaCompare {
  readonly key: string;
  readonly revision: number;
}

/** One change of a transaction; a key comes once in it. */
export type MetaOp =
  | { readonly put: string; readonly value: string; readonly lease?: MetaLease }
  | { readonly remove: string };

/** A change that a watcher is told; `value` is undefined for a removal or an expiry. */
export interface MetaChange {
  readonly key: string;
  readonly value: string | undefined;
  readonly revision: number;
}

/** Takes what a watch sees. */
export interface MetaWatcher {
  /** Changes, in the order of their revisions. */
  onChanges(changes: readonly MetaChange[]): void;
  /** The watch has broken off, for instance because its revisions are compacted away: list again. */
  onLost(): void;
}

/**
 * See the top of the file. Errors of all calls: `ERR_CONTROL_STORE` (unreachable, full, damaged, beyond a
 * limit of this file). A change that fails so may have been made all the same, when the store took it and
 * its answer was lost: read again before you believe either.
 */
export interface MetaStore {
  /** What it is, for people: `embedded:/var/lib/...` or `etcd://...`; no secrets. */
  readonly description: string;
  /** The entry of a key. */
  get(key: string): Promise<MetaEntry | undefined>;
  /**
   * The entries whose keys begin with `prefix`, in the order of their UTF-8 bytes.
   *
   * @param options - `after`: only keys behind this one; `countMax`: at most so many (default 1000);
   *   `reverse`: from the last one backwards (`after` is then the key to stay before)
   * @returns and the revision of the store that all of them were read at
   */
  list(
    prefix: string,
    options?: { readonly after?: string; readonly countMax?: number; readonly reverse?: boolean },
  ): Promise<{ readonly entries: MetaEntry[]; readonly revision: number }>;
  /** Sets one entry whatever was there. @returns the revision */
  put(key: string, value: string, lease?: MetaLease): Promise<number>;
  /** Sets or, with undefined, removes one entry if it has the revision. @returns the new revision, or undefined when it was another */
  cas(key: string, revision: number, value: string | undefined): Promise<number | undefined>;
  /**
   * All of `ops` if all of `compares` hold, else nothing; durable when it resolves.
   *
   * @returns the revision, or undefined when a compare did not hold
   */
  transact(compares: readonly MetaCompare[], ops: readonly MetaOp[]): Promise<number | undefined>;
  /** A lease, at least a second long. The embedded store forgets leases, with their entries, when it is opened. */
  grant(ttlMs: number): Promise<MetaLease>;
  /** Begins the lease's time again. @returns false when it is over */
  keepalive(lease: MetaLease): Promise<boolean>;
  /** Ends a lease with all entries under it. Without effect when it is over. */
  revoke(lease: MetaLease): Promise<void>;
  /** Tells of changes under `prefix` with revisions above `after`. @returns a function that ends it */
  watch(prefix: string, after: number, watcher: MetaWatcher): () => void;
  /** Ends it; calls that run may fail. */
  close(): Promise<void>;
}
