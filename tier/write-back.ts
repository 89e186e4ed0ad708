/**
 * From the ring to the providers. Slots leave in the order in which they were filled; neighbours in
 * the ring that are neighbours in the volume leave as one call. A slot is free again when each copy of
 * its slab has answered for it and one that can be asked has it; a copy that failed to take it is
 * behind (replica.ts) and is brought up to date later. What nobody took stays in the ring, as does
 * everything while there is no copy: bytes that were acknowledged to the client stay until they are
 * somewhere else.
 */
import { IoStatus, PAGE_CALL_PAGE_COUNT_MAX, type IoStatusValue } from '../common/ports.ts';
import { SLAB_PAGE_COUNT } from '../common/units.ts';
import { CallKind, NOBODY } from './call-table.ts';
import { IndexQueue } from './index-queue.ts';
import { leaseIsGone } from './replica.ts';
import { SlotState } from './ring.ts';
import { SlabPhase, type Slab, type SlabTable } from './slab-table.ts';
import type { SourceLink } from './source-link.ts';
import type { VolumeState } from './volume-state.ts';

/**
 * The most writes and trims that may wait for credit of one provider before further trims are left
 * out. A trim only gives RAM back early; the end of the slab or of its lease gives it back all the same.
 */
const WAITING_COUNT_MAX_FOR_TRIM = 4096;

/** What the write path does as slots drain. */
export interface DrainEvents {
  /** Slots came free. */
  onRoom(): void;
  /** Flushes may have ended. */
  onEpochAdvanced(): void;
}

/** Drains the ring. */
export class WriteBack {
  readonly #state: VolumeState;
  readonly #slabs: SlabTable;
  readonly #events: DrainEvents;
  /** Slots whose slab has no replica set at the moment. */
  readonly #orphans: IndexQueue;
  readonly #pumpAll = (): void => this.#pump();
  #pumpScheduled = false;

  /** @param events - told when slots come free and when flushes may have ended */
  constructor(state: VolumeState, slabs: SlabTable, events: DrainEvents) {
    this.#state = state;
    this.#slabs = slabs;
    this.#events = events;
    this.#orphans = new IndexQueue(state.ring);
  }

  /** Puts a QUEUED slot on its way. */
  enqueue(slab: Slab, slot: number): void {
    const primary = this.#slabs.primaryOf(slab);
    if (primary === undefined) {
      this.#orphans.push(slot);
      return;
    }
    primary.link.sendQueue.push(slot);
    this.#schedulePump();
  }

  /** Forgets a slot whose page was rewritten or trimmed. */
  cancel(slot: number): void {
    const { ring, epochs } = this.#state;
    const sent = ring.state(slot) === SlotState.SENT;
    ring.setState(slot, sent ? SlotState.STALE : SlotState.CANCELLED);
    if (epochs.remove(ring.epoch[slot] as number)) this.#events.onEpochAdvanced();
  }

  /** Tells the providers of a slab to drop a run of its pages. */
  trim(slab: Slab, page: number, pageCount: number): void {
    const { calls } = this.#state;
    for (const replica of slab.replicas) {
      if (!replica.writable) continue;
      for (let done = 0; done < pageCount; done += PAGE_CALL_PAGE_COUNT_MAX) {
        if (replica.link.waitingWriteCount >= WAITING_COUNT_MAX_FOR_TRIM) break;
        const count = Math.min(PAGE_CALL_PAGE_COUNT_MAX, pageCount - done);
        const call = calls.take(CallKind.TRIM, slab.index, page + done, count, -1);
        calls.link[call] = replica.link.index;
        calls.slabHandle[call] = replica.slabHandle;
        slab.callsInFlight += 1;
        replica.link.write(call);
      }
    }
  }

  /** The link takes more writes. */
  onLinkReady(link: SourceLink): void {
    if (!this.#state.closed) this.#pumpLink(link);
  }

  /** A slab got its replica set, or a copy that takes writes: its orphans go on their way. */
  onLeased(): void {
    this.#adoptOrphans();
  }

  /** A write or trim call ended. */
  onWriteDone(call: number, status: IoStatusValue): void {
    const { calls, closed } = this.#state;
    const slab = this.#slabs.at(calls.slab[call] as number);
    slab.callsInFlight -= 1;
    const waited = calls.kind[call] === CallKind.WRITE && calls.owner[call] !== NOBODY;
    if (waited && !closed) this.#settle(call, slab, status);
    calls.give(call);
    if (!closed) this.#slabs.releaseIfEmpty(slab);
  }

  /**
   * A provider does not answer: where another copy can do without it, its writes count as missed.
   * Their ends, however late, mean nothing any more.
   */
  onSuspect(link: SourceLink): void {
    const { calls } = this.#state;
    this.#failVainWrites(link);
    for (let call = 0; call < calls.capacity; call += 1) {
      if (calls.kind[call] !== CallKind.WRITE || calls.link[call] !== link.index) continue;
      if (calls.owner[call] === NOBODY) continue;
      const slab = this.#slabs.at(calls.slab[call] as number);
      if (!this.#slabs.otherIsHealthy(slab, link)) continue;
      this.#settle(call, slab, IoStatus.UNREACHABLE);
      calls.owner[call] = NOBODY;
    }
  }

  /** Finds homes for orphans, frees what waits for a stuck link in vain. */
  tick(): void {
    for (const link of this.#slabs.links) {
      if (!link.source.up) this.#failVainWrites(link);
      if (!link.takesWrites) this.#sweep(link);
      this.#pumpLink(link);
    }
    this.#adoptOrphans();
  }

  /** One copy has answered for a run of slots. */
  #settle(call: number, slab: Slab, status: IoStatusValue): void {
    const { ring, calls } = this.#state;
    const first = calls.page[call] as number;
    const count = calls.pageCount[call] as number;
    const firstSlot = calls.owner[call] as number;
    const inSlab = first % SLAB_PAGE_COUNT;
    const handle = calls.slabHandle[call] as number;
    const replica = this.#slabs.replicaOf(slab, calls.link[call] as number, handle);
    if (replica !== undefined) {
      if (leaseIsGone(status)) {
        this.#slabs.dropReplica(slab, replica, status);
      } else {
        // Pages rewritten meanwhile are STALE here: their newer bytes go their own way.
        for (let index = 0; index < count; index += 1) {
          if (ring.state(firstSlot + index) !== SlotState.SENT) continue;
          if (status === IoStatus.OK) replica.gain(inSlab + index, 1);
          else this.#slabs.fallBehind(slab, replica, inSlab + index, 1);
        }
      }
    }
    this.#acknowledge(firstSlot, count, slab);
  }

  /** Ends the writes that wait for a provider that is away, where another can go on without it. */
  #failVainWrites(link: SourceLink): void {
    const { calls } = this.#state;
    link.failWaitingWrites((call) => {
      const slab = this.#slabs.at(calls.slab[call] as number);
      const handle = calls.slabHandle[call] as number;
      const counts = this.#slabs.replicaOf(slab, link.index, handle) !== undefined;
      return !counts || this.#slabs.otherIsHealthy(slab, link);
    }, IoStatus.UNREACHABLE);
  }

  /** One answer less to wait for, for each slot of a run. */
  #acknowledge(first: number, count: number, slab: Slab): void {
    const { ring, epochs, map } = this.#state;
    let freed = false;
    let advanced = false;
    for (let slot = first; slot < first + count; slot += 1) {
      const left = (ring.acksLeft[slot] as number) - 1;
      ring.acksLeft[slot] = left;
      if (left > 0) continue;
      if (ring.state(slot) === SlotState.STALE) {
        ring.release(slot);
        freed = true;
      } else if (ring.generation[slot] !== slab.generation || !this.#kept(slab, slot)) {
        ring.setState(slot, SlotState.QUEUED);
        // Not at once: what nobody took now, nobody takes in this turn.
        this.#orphans.push(slot);
      } else {
        map.setRingSlot(ring.page[slot] as number, -1);
        if (epochs.remove(ring.epoch[slot] as number)) advanced = true;
        ring.release(slot);
        freed = true;
      }
    }
    if (advanced) this.#events.onEpochAdvanced();
    if (freed) this.#events.onRoom();
  }

  /** True when a copy that takes writes has the page of a slot. */
  #kept(slab: Slab, slot: number): boolean {
    const page = (this.#state.ring.page[slot] as number) % SLAB_PAGE_COUNT;
    for (const replica of slab.replicas) {
      if (replica.writable && replica.has(page)) return true;
    }
    return false;
  }

  #adoptOrphans(): void {
    for (let left = this.#orphans.length; left > 0; left -= 1) {
      const slot = this.#orphans.shift();
      if (this.#dropIfCancelled(slot)) continue;
      const slab = this.#slabs.of(this.#state.ring.page[slot] as number);
      this.#slabs.ensureLeased(slab);
      this.enqueue(slab, slot);
    }
  }

  /** Looks through the slots of a link that takes none: some are cancelled, some may go elsewhere. */
  #sweep(link: SourceLink): void {
    const { ring } = this.#state;
    for (let left = link.sendQueue.length; left > 0; left -= 1) {
      const slot = link.sendQueue.shift();
      if (this.#dropIfCancelled(slot)) continue;
      const slab = this.#slabs.of(ring.page[slot] as number);
      this.enqueue(slab, slot);
    }
  }

  #dropIfCancelled(slot: number): boolean {
    if (this.#state.ring.state(slot) !== SlotState.CANCELLED) return false;
    this.#state.ring.release(slot);
    this.#events.onRoom();
    return true;
  }

  #schedulePump(): void {
    if (this.#pumpScheduled) return;
    this.#pumpScheduled = true;
    this.#state.world.defer(this.#pumpAll);
  }

  #pump(): void {
    this.#pumpScheduled = false;
    if (this.#state.closed) return;
    for (const link of this.#slabs.links) this.#pumpLink(link);
  }

  #pumpLink(link: SourceLink): void {
    const { ring } = this.#state;
    const queue = link.sendQueue;
    while (!this.#state.frozen && link.takesWrites && queue.head !== -1) {
      const first = queue.shift();
      if (this.#dropIfCancelled(first)) continue;
      const page = ring.page[first] as number;
      const slab = this.#slabs.of(page);
      if (slab.phase !== SlabPhase.LEASED || this.#slabs.primaryOf(slab)?.link !== link) {
        this.enqueue(slab, first);
        continue;
      }
      const slabEnd = (slab.index + 1) * SLAB_PAGE_COUNT;
      const countMax = Math.min(PAGE_CALL_PAGE_COUNT_MAX, slabEnd - page);
      let count = 1;
      while (
        count < countMax &&
        queue.head === first + count &&
        ring.page[first + count] === page + count &&
        ring.state(first + count) === SlotState.QUEUED
      ) {
        queue.shift();
        count += 1;
      }
      this.#send(slab, first, count);
    }
  }

  #send(slab: Slab, first: number, count: number): void {
    const { ring, calls, counters } = this.#state;
    const page = ring.page[first] as number;
    const inSlab = page % SLAB_PAGE_COUNT;
    let copies = 0;
    for (const replica of slab.replicas) {
      const passedBy = !replica.link.healthy && this.#slabs.otherIsHealthy(slab, replica.link);
      if (!replica.writable || passedBy) this.#slabs.fallBehind(slab, replica, inSlab, count);
      else copies += 1;
    }
    for (let slot = first; slot < first + count; slot += 1) {
      ring.setState(slot, SlotState.SENT);
      ring.acksLeft[slot] = copies;
      ring.generation[slot] = slab.generation;
    }
    counters.pagesSent += count * copies;
    slab.callsInFlight += copies;
    for (const replica of slab.replicas) {
      if (!replica.writable) continue;
      const call = calls.take(CallKind.WRITE, slab.index, page, count, first);
      calls.link[call] = replica.link.index;
      calls.slabHandle[call] = replica.slabHandle;
      replica.link.write(call);
    }
  }
}
