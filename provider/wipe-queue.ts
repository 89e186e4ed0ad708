/**
 * Leases that are over and wait for their wipe, in order. Wiping 16 MiB takes some milliseconds, so when
 * many end at once they are wiped a slice at a time, and page calls of other holders run in between.
 */
import type { NodeId } from '../common/ports.ts';
import type { Lease } from './leases.ts';
import type { ManagedLease } from './managed-leases.ts';
import type { Slab } from './slab.ts';

/** RAM wiped in one go before other work gets its turn: about 7 ms. */
const WIPE_SLICE_BYTES = 32 * 2 ** 20;

/** How a lease ended. */
export type LeaseEndReason = 'released' | 'expired' | 'revoked' | 'recalled' | 'closed';

/** A slab under its lease, which may lie in a managed one. */
export type SlabLease = Lease<Slab, ManagedLease>;

/** What becomes of leases whose turn has come. */
export interface WipeQueueOptions {
  /** Wipes one and gives its bytes back. */
  readonly end: (lease: SlabLease, reason: LeaseEndReason) => void;
  /** Tells a holder of some that were wiped. */
  readonly tell: (holder: NodeId, leaseIds: readonly string[]) => void;
}

/** See the top of the file. */
export class WipeQueue {
  readonly #options: WipeQueueOptions;
  #due: { readonly lease: SlabLease; readonly reason: LeaseEndReason }[] = [];
  #next: NodeJS.Immediate | undefined;

  constructor(options: WipeQueueOptions) {
    this.#options = options;
  }

  /** Leases that wait. */
  get count(): number {
    return this.#due.length;
  }

  /** Wipes leases, which page calls find no more: one slice now, the rest in later turns. */
  add(leases: readonly SlabLease[], reason: LeaseEndReason): void {
    for (const lease of leases) this.#due.push({ lease, reason });
    if (this.#next === undefined) this.#slice();
  }

  /** Wipes all that wait, without a word to anybody. */
  close(): void {
    clearImmediate(this.#next);
    const due = this.#due;
    this.#due = [];
    for (const { lease, reason } of due) this.#options.end(lease, reason);
  }

  #slice(): void {
    this.#next = undefined;
    let wipedBytes = 0;
    let done = 0;
    for (const { lease, reason } of this.#due) {
      if (wipedBytes >= WIPE_SLICE_BYTES) break;
      wipedBytes += lease.slab.residentBytes;
      done += 1;
      this.#options.end(lease, reason);
    }
    const leases = this.#due.splice(0, done).map(({ lease }) => lease);
    const byHolder = idsByHolder(leases);
    for (const [holder, ids] of byHolder) this.#options.tell(holder, ids);
    if (this.#due.length > 0) this.#next = setImmediate(() => this.#slice());
  }
}

/** Lease ids by who holds them. */
export function idsByHolder(
  leases: Iterable<Pick<SlabLease, 'id' | 'holder'>>,
): Map<NodeId, string[]> {
  const byHolder = new Map<NodeId, string[]>();
  for (const { id, holder } of leases) {
    const ids = byHolder.get(holder);
    if (ids === undefined) byHolder.set(holder, [id]);
    else ids.push(id);
  }
  return byHolder;
}
