/**
 * Which copy a read call goes to, and when a second one is asked. First the copies whose provider
 * answers, of those the one whose turn it is, unless another is much faster; what is late is asked of
 * another as well (hedge.ts): the two calls are twins, and the first answer counts.
 */
import { SLAB_PAGE_COUNT } from '../common/units.ts';
import { CallKind, NOBODY, NO_TWIN } from './call-table.ts';
import { HedgeWatch } from './hedge.ts';
import type { Replica } from './replica.ts';
import type { Slab, SlabTable } from './slab-table.ts';
import type { SourceLink } from './source-link.ts';
import type { VolumeState } from './volume-state.ts';

/** The link of a call that waits to be sent again. */
export const NO_LINK = 2 ** 32 - 1;
/** A copy is read first that answers in less than this part of the time of the one whose turn it is. */
const MUCH_FASTER = 0.5;
/** ... unless both are as near as makes no difference, milliseconds. */
const NEAR_MS = 1;

/** Sends read calls. */
export class ReadSender {
  readonly #state: VolumeState;
  readonly #slabs: SlabTable;
  readonly #watch = new HedgeWatch();
  readonly #hedgeTask = (): void => this.#hedgeLate();
  #hedgeArmed = false;

  /** @param slabs - the slabs of the volume */
  constructor(state: VolumeState, slabs: SlabTable) {
    this.#state = state;
    this.#slabs = slabs;
  }

  /** Sends a call to the copy that its number of attempts selects; false when none has all its pages. */
  send(call: number, slab: Slab): boolean {
    const { calls, version, world } = this.#state;
    const replica = this.#choose(slab, call);
    calls.issuedAt[call] = version;
    if (replica === undefined) return false;
    this.#sendTo(call, slab, replica);
    if (slab.replicas.length > 1) {
      this.#watch.add(call, calls.serial[call] as number, world.clock.nowMs());
      this.#armHedge();
    }
    return true;
  }

  /** A call was answered with pages. */
  onAnswer(call: number): void {
    const { calls, world } = this.#state;
    this.#watch.sample(world.clock.nowMs() - (calls.sentAtMs[call] as number));
  }

  /** A provider does not answer: what it was asked for is asked of another. */
  onSuspect(link: SourceLink): void {
    const { calls } = this.#state;
    for (let call = 0; call < calls.capacity; call += 1) {
      if (calls.kind[call] === CallKind.READ && calls.link[call] === link.index) this.#hedge(call);
    }
  }

  /** The replicas of the slab, as bits, that gave forged pages to the call or the ones before it. */
  forgersOf(slab: Slab, call: number): number {
    const { calls } = this.#state;
    return calls.membership[call] === slab.membership ? (calls.forged[call] as number) : 0;
  }

  /** The next copy that has the pages and has not forged them. */
  #choose(slab: Slab, call: number): Replica | undefined {
    const { calls } = this.#state;
    const attempt = calls.attempt[call] as number;
    const forgers = this.forgersOf(slab, call);
    const first = (calls.page[call] as number) % SLAB_PAGE_COUNT;
    const count = calls.pageCount[call] as number;
    const { replicas } = slab;
    let best: Replica | undefined;
    let doubtful: Replica | undefined;
    for (let step = 0; step < replicas.length; step += 1) {
      const position = (attempt + step) % replicas.length;
      const replica = replicas[position];
      if (replica === undefined || ((forgers >>> position) & 1) === 1) continue;
      if (!replica.hasRun(first, count)) continue;
      const { link } = replica;
      if (!link.healthy) {
        if (doubtful === undefined || (!doubtful.link.source.up && link.source.up)) {
          doubtful = replica;
        }
      } else if (best === undefined) {
        best = replica;
        if (attempt > 0) return best;
      } else if (link.latencyMs + NEAR_MS < best.link.latencyMs * MUCH_FASTER) {
        best = replica;
      }
    }
    return best ?? doubtful;
  }

  #sendTo(call: number, slab: Slab, replica: Replica): void {
    const { calls } = this.#state;
    calls.link[call] = replica.link.index;
    calls.slabHandle[call] = replica.slabHandle;
    slab.callsInFlight += 1;
    replica.link.read(call);
  }

  #armHedge(): void {
    if (this.#hedgeArmed) return;
    const { world } = this.#state;
    const delayMs = this.#watch.dueInMs(world.clock.nowMs());
    if (delayMs === undefined) return;
    this.#hedgeArmed = true;
    world.after(Math.max(1, Math.ceil(delayMs)), this.#hedgeTask);
  }

  /** Asks others for the reads that are late by now. */
  #hedgeLate(): void {
    this.#hedgeArmed = false;
    const { calls, world, closed, frozen } = this.#state;
    if (closed || frozen) return;
    const nowMs = world.clock.nowMs();
    for (let call = this.#watch.takeLate(nowMs); call !== -1; call = this.#watch.takeLate(nowMs)) {
      const same = calls.serial[call] === this.#watch.serial && calls.kind[call] === CallKind.READ;
      if (same && this.#mayHedge(call) && this.#watch.spend()) this.#hedge(call);
    }
    this.#armHedge();
  }

  #mayHedge(call: number): boolean {
    const { owner, twin, link } = this.#state.calls;
    return owner[call] !== NOBODY && twin[call] === NO_TWIN && link[call] !== NO_LINK;
  }

  /** Asks another provider for the pages of a call, if there is one that answers. */
  #hedge(call: number): void {
    if (!this.#mayHedge(call)) return;
    const { calls, counters } = this.#state;
    const slab = this.#slabs.at(calls.slab[call] as number);
    const page = calls.page[call] as number;
    const count = calls.pageCount[call] as number;
    const forgers = this.forgersOf(slab, call);
    const other = slab.replicas.find(
      (replica, position) =>
        replica.link.index !== calls.link[call] &&
        replica.link.healthy &&
        ((forgers >>> position) & 1) === 0 &&
        replica.hasRun(page % SLAB_PAGE_COUNT, count),
    );
    if (other === undefined) return;
    const twin = calls.take(CallKind.READ, slab.index, page, count, calls.owner[call] as number);
    calls.twin[call] = twin;
    calls.twin[twin] = call;
    calls.issuedAt[twin] = calls.issuedAt[call] as number;
    calls.forged[twin] = calls.forged[call] as number;
    calls.membership[twin] = calls.membership[call] as number;
    calls.attempt[twin] = Math.max(1, ((calls.attempt[call] as number) + 1) & 0xff);
    counters.hedgedReads += 1;
    this.#sendTo(twin, slab, other);
  }
}
