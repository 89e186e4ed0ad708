/**
 * What a provider has lent, exactly. A lease is charged its whole slab when it is granted, written
 * or not, and everything that it costs besides pages: tags (they are in the slab), its bit map and
 * its record. So `used` never has to be corrected later, and is checked before anything is taken.
 *
 * Charges are by holder, not by session, so they survive reconnects. What one node has under all its
 * holders (itself, its mounts, its direct exports: common/holder.ts) and in objects is one sum, which its
 * allowance limits: a node gets no more by coming under more names.
 *
 * What is set aside for managed leases (managed-leases.ts) is lent too, whether slabs are in it or not, but
 * no allowance counts it: the control plane has decided about it. Slabs in it are charged to it alone.
 * Pure.
 */
import assert from 'node:assert/strict';
import { holderParts } from '../common/holder.ts';
import type { NodeId } from '../common/ports.ts';
import { formatSize } from '../common/units.ts';
import { LivePages } from './live-pages.ts';
import { slabFileBytes } from './slab.ts';

/**
 * Bytes charged for the record of a lease: its objects, its entries in two maps, its arena run. A
 * test measures that the heap grows by less.
 */
export const LEASE_RECORD_SIZE_BYTES = 1024;

/** Bytes that a lease of `pageCount` pages is charged: 16 MiB + 65 KiB + 512 B for 4096. */
export function leaseChargeBytes(pageCount: number): number {
  return slabFileBytes(pageCount) + LivePages.sizeBytes(pageCount) + LEASE_RECORD_SIZE_BYTES;
}

/** The room of a provider as one node has it; all are bytes. */
export interface NodeRoom {
  /** The most that the node may have. */
  readonly offeredBytes: number;
  /** What of that it cannot get: what it has, and what others have taken of it. */
  readonly usedBytes: number;
  /** What it has. */
  readonly heldBytes: number;
}

/** The ledger of one provider. */
export class Quota {
  #limitBytes: number;
  readonly #leasedByHolder = new Map<string, number>();
  readonly #usedByNode = new Map<NodeId, number>();
  readonly #reservedByNode = new Map<NodeId, number>();
  #usedBytes = 0;
  #reservedBytes = 0;

  /** @param offeredBytes - 0 or more; 0 lends nothing */
  constructor(offeredBytes: number) {
    this.#limitBytes = offeredBytes;
  }

  /** The most that may be lent, bytes; never below what is lent already. */
  get offeredBytes(): number {
    return Math.max(this.#limitBytes, this.#usedBytes);
  }

  /**
   * Changes the offer. What is lent stays lent: below it the offer shrinks as leases end, and nothing
   * is granted meanwhile.
   */
  setOffer(offeredBytes: number): void {
    this.#limitBytes = offeredBytes;
  }

  /** Bytes lent. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Of the bytes lent, those set aside for managed leases. */
  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  /** Bytes set aside for managed leases of a node. */
  reservedBy(node: NodeId): number {
    return this.#reservedByNode.get(node) ?? 0;
  }

  /** Bytes of leases of `holder`. */
  leasedBy(holder: string): number {
    return this.#leasedByHolder.get(holder) ?? 0;
  }

  /** Bytes lent to a node that its allowance counts: all its holders, and objects. */
  usedBy(node: NodeId): number {
    return this.#usedByNode.get(node) ?? 0;
  }

  /**
   * The room as one node has it. What is offered and not used is exactly what it could still get, whether
   * its allowance or the others leave it least; so a consumer needs no more than the two numbers. Below
   * an allowance that became smaller than what it has, the offer is what it has, and nothing is free.
   */
  roomOf(node: NodeId, allowedBytes: number): NodeRoom {
    const heldBytes = this.usedBy(node);
    const offerFreeBytes = this.offeredBytes - this.#usedBytes;
    const freeBytes = Math.max(0, Math.min(offerFreeBytes, allowedBytes - heldBytes));
    const offeredBytes = Math.min(this.offeredBytes, Math.max(allowedBytes, heldBytes));
    return { offeredBytes, usedBytes: offeredBytes - freeBytes, heldBytes };
  }

  /**
   * Says why `bytes` more for `node` are too many.
   *
   * @param allowedBytes - the most that this node may have, Infinity for no limit
   * @returns a sentence with the numbers, or undefined when there is room
   */
  refusal(node: NodeId, bytes: number, allowedBytes: number): string | undefined {
    const freeBytes = this.offeredBytes - this.#usedBytes;
    if (bytes > freeBytes) {
      return `asked ${formatSize(bytes)}, free ${formatSize(freeBytes)} of ${formatSize(this.offeredBytes)} offered`;
    }
    const nodeFreeBytes = allowedBytes - this.usedBy(node);
    if (bytes > nodeFreeBytes) {
      return `asked ${formatSize(bytes)}, free ${formatSize(Math.max(0, nodeFreeBytes))} of the ${formatSize(allowedBytes)} that this node is allowed`;
    }
    return undefined;
  }

  /** Adds the charge of a lease that {@link Quota.refusal} found room for. */
  chargeLease(holder: string, bytes: number): void {
    this.noteLease(holder, bytes);
    this.charge(holderParts(holder).nodeId, bytes);
  }

  /** Takes the charge of a lease back, exactly as it was made. */
  refundLease(holder: string, bytes: number): void {
    this.noteLease(holder, -bytes);
    this.refund(holderParts(holder).nodeId, bytes);
  }

  /** Sets bytes aside that {@link Quota.refusal} found room for under no allowance. */
  reserve(node: NodeId, bytes: number): void {
    add(this.#reservedByNode, node, bytes);
    this.#reservedBytes += bytes;
    this.#usedBytes += bytes;
  }

  /** Takes back what was set aside, exactly as it was. */
  unreserve(node: NodeId, bytes: number): void {
    add(this.#reservedByNode, node, -bytes);
    this.#reservedBytes -= bytes;
    this.#usedBytes -= bytes;
  }

  /** Notes bytes of a lease in what was set aside, negative when it ends: nobody is charged for it. */
  noteLease(holder: string, bytes: number): void {
    add(this.#leasedByHolder, holder, bytes);
  }

  /** Adds a charge of a node that is no lease: of objects. */
  charge(node: NodeId, bytes: number): void {
    add(this.#usedByNode, node, bytes);
    this.#usedBytes += bytes;
  }

  /** Takes such a charge back; of several charges in any pieces, but never more than their sum. */
  refund(node: NodeId, bytes: number): void {
    add(this.#usedByNode, node, -bytes);
    this.#usedBytes -= bytes;
  }
}

/** Entries of nothing are not kept: a ledger is as large as what is lent, whoever came by. */
function add(sums: Map<string, number>, key: string, bytes: number): void {
  const sum = (sums.get(key) ?? 0) + bytes;
  assert(sum >= 0, 'a ledger never gives back what it did not take');
  if (sum === 0) sums.delete(key);
  else sums.set(key, sum);
}
