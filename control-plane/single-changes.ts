/** The changes of one entry, which every store makes as a transaction of one. */
import { storeError } from './meta-checks.ts';
import type { MetaCompare, MetaLease, MetaOp } from './meta-store.ts';

/** What a store extends that can do transactions. */
export abstract class SingleChanges {
  /** Makes changes together, if every condition holds: `MetaStore.transact`. */
  abstract transact(
    compares: readonly MetaCompare[],
    ops: readonly MetaOp[],
  ): Promise<number | undefined>;

  /** Writes an entry, whatever it was: `MetaStore.put`. */
  async put(key: string, value: string, lease?: MetaLease): Promise<number> {
    const op = lease === undefined ? { put: key, value } : { put: key, value, lease };
    const revision = await this.transact([], [op]);
    if (revision === undefined) throw storeError('a change without conditions was refused');
    return revision;
  }

  /** Writes or removes an entry if it is as it was: `MetaStore.cas`. */
  cas(key: string, revision: number, value: string | undefined): Promise<number | undefined> {
    const op = value === undefined ? { remove: key } : { put: key, value };
    return this.transact([{ key, revision }], [op]);
  }
}
