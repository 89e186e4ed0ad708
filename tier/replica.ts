/**
 * One provider's copy of a slab, and how far it may be believed. A copy is
 *
 * - *whole*: it has every page of the slab as the page map says;
 * - *behind*: it missed writes, because its provider was away or did not answer in time. Those pages
 *   are marked, nothing more is sent to it, and it still answers for the others;
 * - *catching up*: it gets every new write, and what is marked is copied to it (repair.ts). A new
 *   copy begins so with every page marked.
 *
 * So a provider that was away for a moment is brought up to date with what it missed, not anew.
 */
import { PageBits } from '../common/page-bits.ts';
import { IoStatus, type IoStatusValue } from '../common/ports.ts';
import { SLAB_PAGE_COUNT } from '../common/units.ts';
import type { SourceLink } from './source-link.ts';

/** True for an answer by which the provider no longer has the copy: it is to be dropped. */
export function leaseIsGone(status: IoStatusValue): boolean {
  return status === IoStatus.NO_LEASE || status === IoStatus.INVALID;
}

/** What another process needs to go on with a copy. */
export interface ReplicaState {
  /** As {@link Replica.writable}. */
  readonly writable: boolean;
  /** As {@link Replica.leaving}. */
  readonly leaving: boolean;
  /** As {@link Replica.urgent}. */
  readonly urgent: boolean;
  /** {@link PageBits.toBytes} of the pages that it lacks, base64; empty when it is whole. */
  readonly missing: string;
}

/** The copy. Pages are numbered within the slab. */
export class Replica {
  /** The way to the provider. */
  readonly link: SourceLink;
  /** For renewal and release. */
  readonly leaseId: string;
  /** For page calls. */
  readonly slabHandle: number;
  /** False while it is behind: new writes pass it by and mark their pages. */
  writable = true;
  /** It is to be replaced: its lease is asked back, its provider is drained or not believed. */
  leaving = false;
  /** It is given back as soon as another copy is whole, even if no new one can be had. */
  urgent = false;
  #missing: PageBits | undefined;

  /** A copy that has nothing to miss: its slab holds no page yet. */
  constructor(link: SourceLink, grant: { leaseId: string; slabHandle: number }) {
    this.link = link;
    this.leaseId = grant.leaseId;
    this.slabHandle = grant.slabHandle;
  }

  /** What it takes to go on with it elsewhere. */
  get state(): ReplicaState {
    const { writable, leaving, urgent } = this;
    return {
      writable,
      leaving,
      urgent,
      missing: this.#missing?.toBytes().toString('base64') ?? '',
    };
  }

  /** A copy that another process had; RangeError when the bits are not those of a slab. */
  static restore(
    link: SourceLink,
    grant: { leaseId: string; slabHandle: number },
    state: ReplicaState,
  ): Replica {
    const replica = new Replica(link, grant);
    const { writable, leaving, urgent, missing } = state;
    Object.assign(replica, { writable, leaving, urgent });
    if (missing !== '') {
      replica.#missing = PageBits.fromBytes(SLAB_PAGE_COUNT, Buffer.from(missing, 'base64'));
    }
    return replica;
  }

  /** True when it has every page. */
  get whole(): boolean {
    return this.#missing === undefined;
  }

  /** True when it is whole and its provider can be asked. */
  get sound(): boolean {
    return this.#missing === undefined && this.link.healthy;
  }

  /** Pages that it lacks. */
  get missingCount(): number {
    return this.#missing?.setCount ?? 0;
  }

  /** True when it has the page. */
  has(page: number): boolean {
    return this.#missing === undefined || !this.#missing.isSet(page);
  }

  /** True when it has every page of a run. */
  hasRun(first: number, count: number): boolean {
    if (this.#missing === undefined) return true;
    return this.#missing.nextSet(first, first + count) === first + count;
  }

  /** The first page from `from` on that it lacks, or `end`. */
  nextMissing(from: number, end: number): number {
    return this.#missing === undefined ? end : this.#missing.nextSet(from, end);
  }

  /** It did not get these pages, or gave false ones. */
  miss(first: number, count: number): void {
    this.#missing ??= new PageBits(SLAB_PAGE_COUNT);
    this.#missing.set(first, first + count);
  }

  /** It has these pages now, or they need no copy any more. It is whole when none is left. */
  gain(first: number, count: number): void {
    if (this.#missing === undefined) return;
    this.#missing.clear(first, first + count);
    if (this.#missing.setCount === 0 && this.writable) this.#missing = undefined;
  }

  /** Takes writes again, and is whole if it missed nothing. */
  rejoin(): void {
    this.writable = true;
    if (this.#missing?.setCount === 0) this.#missing = undefined;
  }
}
