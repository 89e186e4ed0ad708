/**
 * What happens in a rack when donors die: volumes find out, ask for other donors and copy what is missing,
 * by the rules of `tier/repair.ts` and with its numbers, many volumes on shared links. A slab is the unit;
 * time goes in the ticks of a volume. In one tick
 *
 *   a volume that has found out      -> asks for at most 4 slabs, by the product's placement
 *   the first slab that catches up   -> is copied: donor -> owner -> new donor, at the pace of the slowest
 *                                       of the repair budget, the batches in flight and four shared links
 *   a whole slab                     -> counts as repaired, and the next one begins
 *
 * A link is shared equally by the volumes that use it in the tick, so that what one leaves unused is lost:
 * times are a little too long rather than too short. Every page of a slab is taken to be in use. Pure, and
 * repeats from its seed.
 */
import { ASKING_COUNT_MAX, BUSY_BATCH_COUNT, ASK_AGAIN_MS } from '../../tier/repair.ts';
import { REPAIR_BYTES_PER_S, REPLACE_AFTER_MS } from '../../tier/repair.ts';
import { COPY_BATCH_COUNT } from '../../tier/copy-buffer.ts';
import { placeCopy } from '../../tier/placement.ts';
import { VOLUME_TICK_MS } from '../../tier/volume.ts';
import { PAGE_CALL_PAGE_COUNT_MAX } from '../../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../../common/units.ts';
import type { Random } from '../statistics.ts';
import { SLAB_CHARGE_BYTES, type Donor } from './donors.ts';
import type { Rack, Slab } from './fill.ts';

/** Bytes that travel to copy a slab once. */
export const SLAB_BYTES = SLAB_PAGE_COUNT * SEALED_PAGE_SIZE_BYTES;
const BATCH_BYTES = PAGE_CALL_PAGE_COUNT_MAX * SEALED_PAGE_SIZE_BYTES;
/** `tier/repair.ts`: what is saved up while there is nothing to do. */
const BUDGET_SAVED_S = 1 / 4;
const TICK_S = VOLUME_TICK_MS / 1000;

/** Under what a rack is repaired. */
export interface RepairPlan {
  readonly copies: number;
  /** Of each machine, each way, as pages can use it. */
  readonly linkBytesPerS: number;
  /** From the death of a donor until its silence is noticed. */
  readonly noticedAfterMs: number;
  /** Clients read all the while: fewer batches are in flight. */
  readonly busy: boolean;
  /** The most that a volume copies; default: the product's. */
  readonly repairBytesPerS?: number;
}

/** A copy that is being made. */
interface Coming {
  readonly to: Donor;
  leftBytes: number;
}

/** A slab that lacks copies. */
interface Damaged {
  readonly slab: Slab;
  /** When it lost the first of the copies that it lacks. */
  readonly sinceMs: number;
  /** Nobody is asked before: the dead donor may come back. */
  askFromMs: number;
  readonly coming: Coming[];
}

/** What a volume does. */
interface Owner {
  readonly damaged: Map<Slab, Damaged>;
  readonly slabs: Set<Slab>;
  budgetBytes: number;
  budgetAtMs: number;
  askAgainAtMs: number;
}

/** The bytes that went over the links of a machine. */
export interface LinkLoad {
  /** Read by others when they repaired. */
  servedBytes: number;
  /** Taken as a new donor. */
  takenBytes: number;
  /** Through it as the owner, each way. */
  relayedBytes: number;
}

/** What has happened so far. */
export interface RepairCounts {
  deadCount: number;
  /** Slabs, of which no copy was left; and the bytes of them that were not on their way. */
  lostSlabs: number;
  lostBytes: number;
  /** Copies made, and the bytes that arrived at new donors. */
  madeCopies: number;
  movedBytes: number;
  /** Leases that were asked for in vain. */
  vainCount: number;
  /** For each slab made whole: milliseconds since it was damaged. */
  readonly wholeAfterMs: number[];
}

/** See the top of the file. */
export class RackRepair {
  readonly counts: RepairCounts = {
    ...{ deadCount: 0, lostSlabs: 0, lostBytes: 0, madeCopies: 0, movedBytes: 0, vainCount: 0 },
    wholeAfterMs: [],
  };
  /** By machine. */
  readonly loads: LinkLoad[] = [];
  nowMs = 0;
  readonly #rack: Rack;
  readonly #plan: RepairPlan;
  readonly #random: Random;
  readonly #owners: Owner[];
  readonly #held: Set<Slab>[];
  /** The most that the batches in flight carry. */
  readonly #batchBytesPerS: number;
  readonly #repairBytesPerS: number;

  /** @param rack - taken over: donors and slabs are changed */
  constructor(rack: Rack, plan: RepairPlan, random: Random) {
    this.#rack = rack;
    this.#plan = plan;
    this.#random = random;
    this.#repairBytesPerS = plan.repairBytesPerS ?? REPAIR_BYTES_PER_S;
    const savedBytes = this.#repairBytesPerS * BUDGET_SAVED_S;
    this.#held = rack.donors.map(() => new Set<Slab>());
    this.#owners = rack.donors.map(() => ({
      ...{ damaged: new Map<Slab, Damaged>(), slabs: new Set<Slab>(), askAgainAtMs: -Infinity },
      ...{ budgetBytes: savedBytes, budgetAtMs: 0 },
    }));
    for (const slab of rack.slabs) {
      this.#owners[slab.owner.index]?.slabs.add(slab);
      for (const copy of slab.copies) this.#held[copy.index]?.add(slab);
    }
    const hostCount = Math.max(...rack.donors.map(({ hostIndex }) => hostIndex)) + 1;
    for (let host = 0; host < hostCount; host += 1) {
      this.loads.push({ servedBytes: 0, takenBytes: 0, relayedBytes: 0 });
    }
    // A batch is read, then written: two round trips, and the link twice.
    const roundTripS = (rack.donors[0]?.roundTripMs ?? 0) / 1000;
    const batchS = 2 * roundTripS + (2 * BATCH_BYTES) / plan.linkBytesPerS;
    const batchCount = plan.busy ? BUSY_BATCH_COUNT : COPY_BATCH_COUNT;
    this.#batchBytesPerS = (batchCount * BATCH_BYTES) / batchS;
  }

  /** Slabs that lack copies. */
  get damagedCount(): number {
    return this.#owners.reduce((sum, { damaged }) => sum + damaged.size, 0);
  }

  /** Slabs that a donor has. */
  heldCount(donor: Donor): number {
    return this.#held[donor.index]?.size ?? 0;
  }

  /** Nodes die together, with all that they have; their own volumes end with them. */
  kill(...donors: readonly Donor[]): void {
    for (const donor of donors) this.#forgetVolumes(donor);
    for (const donor of donors) this.#killOne(donor);
  }

  /** What it had borrowed is given back; in the product when the leases end. */
  #forgetVolumes(donor: Donor): void {
    const { slabs, damaged } = this.#owners[donor.index] as Owner;
    for (const slab of slabs) {
      const coming = damaged.get(slab)?.coming ?? [];
      for (const copy of [...slab.copies, ...coming.map(({ to }) => to)]) {
        this.#held[copy.index]?.delete(slab);
        copy.give();
        copy.tell();
      }
      slab.copies = [];
    }
    slabs.clear();
    damaged.clear();
  }

  #killOne(donor: Donor): void {
    const { noticedAfterMs } = this.#plan;
    if (!donor.up) return;
    donor.up = false;
    this.counts.deadCount += 1;
    const askFromMs = this.nowMs + noticedAfterMs + REPLACE_AFTER_MS;
    for (const slab of this.#held[donor.index] ?? []) {
      slab.copies = slab.copies.filter((copy) => copy !== donor);
      const { damaged } = this.#owners[slab.owner.index] as Owner;
      const known = damaged.get(slab);
      if (slab.copies.length === 0) {
        this.#lose(slab, known);
      } else if (known === undefined) {
        damaged.set(slab, { slab, sinceMs: this.nowMs, askFromMs, coming: [] });
      } else {
        known.askFromMs = askFromMs;
      }
    }
    // Copies that were on their way to it.
    for (const { damaged } of this.#owners) {
      for (const each of damaged.values()) {
        const at = each.coming.findIndex(({ to }) => to === donor);
        if (at >= 0) each.coming.splice(at, 1);
      }
    }
    this.#held[donor.index]?.clear();
    donor.usedBytes = 0;
    donor.freeBytes = 0;
  }

  /** A donor comes back, empty. */
  revive(donor: Donor): void {
    donor.up = true;
    donor.tell();
  }

  /** Lets one tick pass. */
  tick(): void {
    this.nowMs += VOLUME_TICK_MS;
    // What was copied since the last tick, of what was asked for until then.
    const flows = this.#flows();
    for (const { owner, bytesPerS } of flows) this.#copy(owner, bytesPerS * TICK_S);
    for (const [index, owner] of this.#owners.entries()) {
      if (owner.damaged.size > 0) this.#ask(index, owner);
    }
  }

  /** Runs until nothing is damaged, or `limitMs` have passed. */
  runUntilWhole(limitMs: number): void {
    while (this.damagedCount > 0 && this.nowMs < limitMs) this.tick();
  }

  #lose(slab: Slab, known: Damaged | undefined): void {
    const { damaged, slabs } = this.#owners[slab.owner.index] as Owner;
    const [coming] = known?.coming ?? [];
    this.counts.lostSlabs += 1;
    this.counts.lostBytes += coming?.leftBytes ?? SLAB_BYTES;
    for (const { to } of known?.coming ?? []) {
      to.give();
      to.tell();
    }
    damaged.delete(slab);
    slabs.delete(slab);
  }

  /** Asks for new copies. */
  #ask(index: number, owner: Owner): void {
    if (this.nowMs < owner.askAgainAtMs) return;
    let asking = 0;
    for (const { slab, askFromMs, coming } of owner.damaged.values()) {
      if (asking >= ASKING_COUNT_MAX) return;
      if (this.nowMs < askFromMs) continue;
      if (slab.copies.length + coming.length >= this.#plan.copies) continue;
      asking += 1;
      const placed = [...slab.copies, ...coming.map(({ to }) => to)];
      const candidates = this.#rack.views[index] ?? [];
      const up = candidates.filter((candidate) => candidate.up);
      const to = placeCopy(up, SLAB_CHARGE_BYTES, placed, this.#random);
      if (to?.take() === true) {
        to.tell();
        coming.push({ to, leftBytes: SLAB_BYTES });
      } else {
        this.counts.vainCount += 1;
        owner.askAgainAtMs = this.nowMs + ASK_AGAIN_MS;
        return;
      }
    }
  }

  /** Which volumes copy in this tick, and how fast. */
  #flows(): { owner: Owner; bytesPerS: number }[] {
    const users = this.loads.map(() => ({ out: 0, in: 0 }));
    const active: { owner: Owner; own: number; from: number; to: number }[] = [];
    for (const [index, owner] of this.#owners.entries()) {
      const first = firstComing(owner);
      if (first === undefined) continue;
      const own = this.#rack.donors[index]?.hostIndex ?? 0;
      const [from, to] = [first.from.hostIndex, first.coming.to.hostIndex];
      active.push({ owner, own, from, to });
      for (const host of [own, from]) (users[host] as { out: number }).out += 1;
      for (const host of [own, to]) (users[host] as { in: number }).in += 1;
    }
    const { linkBytesPerS } = this.#plan;
    return active.map(({ owner, own, from, to }) => {
      const outMax = Math.max(users[own]?.out ?? 1, users[from]?.out ?? 1);
      const inMax = Math.max(users[own]?.in ?? 1, users[to]?.in ?? 1);
      const linkShare = linkBytesPerS / Math.max(outMax, inMax);
      return { owner, bytesPerS: Math.min(linkShare, this.#batchBytesPerS) };
    });
  }

  /** Copies what the link and the budget allow, slab after slab. */
  #copy(owner: Owner, linkBytes: number): void {
    const earned = ((this.nowMs - owner.budgetAtMs) / 1000) * this.#repairBytesPerS;
    const saved = this.#repairBytesPerS * BUDGET_SAVED_S;
    owner.budgetBytes = Math.min(owner.budgetBytes + earned, saved);
    owner.budgetAtMs = this.nowMs;
    let left = Math.min(linkBytes, owner.budgetBytes);
    const all = left;
    for (let next = firstComing(owner); next !== undefined && left > 0; next = firstComing(owner)) {
      const { damaged, coming, from } = next;
      const bytes = Math.min(left, coming.leftBytes);
      left -= bytes;
      coming.leftBytes -= bytes;
      this.counts.movedBytes += bytes;
      const own = damaged.slab.owner.hostIndex;
      (this.loads[from.hostIndex] as LinkLoad).servedBytes += bytes;
      (this.loads[coming.to.hostIndex] as LinkLoad).takenBytes += bytes;
      (this.loads[own] as LinkLoad).relayedBytes += bytes;
      if (coming.leftBytes <= 0) this.#finish(owner, damaged, coming, 1 - left / all);
    }
    owner.budgetBytes -= all - left;
  }

  /** A copy is whole. */
  #finish(owner: Owner, damaged: Damaged, coming: Coming, tickShare: number): void {
    const { slab, sinceMs } = damaged;
    damaged.coming.splice(damaged.coming.indexOf(coming), 1);
    slab.copies.push(coming.to);
    this.#held[coming.to.index]?.add(slab);
    this.counts.madeCopies += 1;
    if (slab.copies.length < this.#plan.copies) return;
    owner.damaged.delete(slab);
    this.counts.wholeAfterMs.push(this.nowMs - (1 - tickShare) * VOLUME_TICK_MS - sinceMs);
  }
}

/** The slab that is copied now: the first that catches up, from the first copy that is whole. */
function firstComing(owner: Owner): { damaged: Damaged; coming: Coming; from: Donor } | undefined {
  for (const damaged of owner.damaged.values()) {
    const [coming] = damaged.coming;
    const [from] = damaged.slab.copies;
    if (coming !== undefined && from !== undefined) return { damaged, coming, from };
  }
  return undefined;
}
