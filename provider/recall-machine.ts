/**
 * Which leases are asked back, when, and what becomes of those that do not come. Under pressure as
 * many as the shortage needs, those first that were used longest ago (their pages are missed least);
 * when the node is drained all of them. A lease that was asked for is counted as on its way, so that a
 * shortage is asked for once; one that does not come is asked for again after a while, since its
 * holder may have found room, and meanwhile others are asked too.
 *
 * ```
 *   held -(shortage, drain)-> asked -(holder moves the slab)-> given back
 *                               |-(calm, no drain)-> held
 *                               `-(emergency)-> asked with a deadline -(deadline, still emergency)-> ended
 * ```
 *
 * A machine: pure; leases and time are arguments, what to do is returned.
 */
import type { NodeId } from '../common/ports.ts';
import type { PressureLevel } from './pressure-machine.ts';

/** The most bytes on their way back under pressure, short of an emergency: what moves in some seconds. */
export const RECALL_BYTES_MAX = 2 ** 30;
/** A lease that did not come is asked for again after this, milliseconds. */
export const RECALL_REPEAT_MS = 10_000;

/** A lease that may be asked back. */
export interface RecallableLease {
  readonly id: string;
  readonly holder: NodeId;
  /** RAM that comes back with it. */
  readonly residentBytes: number;
  /** When it was used last; any unit, greater is later. */
  readonly lastUse: number;
}

/** The state that a plan is made for. */
export interface RecallNeed {
  /** Everything is to go. */
  readonly draining: boolean;
  readonly level: PressureLevel;
  readonly shortageBytes: number;
  /** How long a holder has in an emergency, milliseconds. */
  readonly graceMs: number;
}

/** Leases to ask of one holder. */
export interface RecallCall {
  readonly holder: NodeId;
  /** The most urgent first. */
  readonly leaseIds: string[];
  /** Infinity without an emergency. */
  readonly endsInMs: number;
}

/** What to do now. */
export interface RecallPlan {
  readonly calls: readonly RecallCall[];
  /** Leases that end now. */
  readonly ended: readonly string[];
}

interface Ask {
  /** When their holder was told first, and last. */
  readonly sinceMs: number;
  toldAtMs: number;
  endsAtMs: number;
}

const NOTHING: RecallPlan = { calls: [], ended: [] };

/** The leases of one provider that are asked back. */
export class RecallMachine {
  readonly #asks = new Map<string, Ask>();

  /** Leases asked for and not given back. */
  get askedCount(): number {
    return this.#asks.size;
  }

  /** Since when a lease is asked for, milliseconds; undefined when it is not. */
  askedSinceMs(leaseId: string): number | undefined {
    return this.#asks.get(leaseId)?.sinceMs;
  }

  /** A lease ended, in whatever way. */
  forget(leaseId: string): void {
    this.#asks.delete(leaseId);
  }

  /** The holder lost its connection: what it was told it has to be told again. */
  untell(leaseIds: Iterable<string>): void {
    for (const id of leaseIds) {
      const ask = this.#asks.get(id);
      if (ask !== undefined) ask.toldAtMs = -Infinity;
    }
  }

  /** Makes a plan; what it says counts as done. `leases` are all that may be asked for. */
  plan(leases: Iterable<RecallableLease>, need: RecallNeed, nowMs: number): RecallPlan {
    if (!need.draining && need.level === 'calm') {
      this.#asks.clear();
      return NOTHING;
    }
    if (need.level !== 'emergency') for (const ask of this.#asks.values()) ask.endsAtMs = Infinity;
    const calls = new Map<string, RecallCall>();
    const ended: string[] = [];
    let onTheWayBytes = 0;
    for (const lease of this.#inOrder(leases)) {
      const isForPressure = onTheWayBytes < neededBytes(need) && lease.residentBytes > 0;
      if (!isForPressure && !need.draining) continue;
      const ask = this.#ask(lease.id, nowMs);
      if (nowMs - ask.sinceMs < RECALL_REPEAT_MS || need.level === 'emergency') {
        onTheWayBytes += lease.residentBytes;
      }
      const isUrgent = isForPressure && need.level === 'emergency';
      if (isUrgent && nowMs >= ask.endsAtMs) {
        ended.push(lease.id);
        this.#asks.delete(lease.id);
        continue;
      }
      const isNewlyUrgent = isUrgent && ask.endsAtMs === Infinity;
      if (isNewlyUrgent) ask.endsAtMs = nowMs + need.graceMs;
      if (!isNewlyUrgent && nowMs - ask.toldAtMs < RECALL_REPEAT_MS) continue;
      ask.toldAtMs = nowMs;
      addTo(calls, lease, ask.endsAtMs - nowMs);
    }
    return { calls: [...calls.values()], ended };
  }

  /** Those asked for already, in the order of asking; then the rest, the coldest first. */
  #inOrder(leases: Iterable<RecallableLease>): RecallableLease[] {
    return [...leases].sort((a, b) => {
      const [askedA, askedB] = [this.#asks.get(a.id), this.#asks.get(b.id)];
      if (askedA !== undefined && askedB !== undefined) {
        return askedA.sinceMs - askedB.sinceMs || a.lastUse - b.lastUse;
      }
      if (askedA !== undefined) return -1;
      if (askedB !== undefined) return 1;
      return a.lastUse - b.lastUse;
    });
  }

  #ask(leaseId: string, nowMs: number): Ask {
    const known = this.#asks.get(leaseId);
    if (known !== undefined) return known;
    const ask = { sinceMs: nowMs, toldAtMs: -Infinity, endsAtMs: Infinity };
    this.#asks.set(leaseId, ask);
    return ask;
  }
}

function neededBytes({ level, shortageBytes }: RecallNeed): number {
  if (level === 'calm') return 0;
  return level === 'emergency' ? shortageBytes : Math.min(shortageBytes, RECALL_BYTES_MAX);
}

function addTo(calls: Map<string, RecallCall>, lease: RecallableLease, endsInMs: number): void {
  const key = `${lease.holder} ${endsInMs}`;
  const call = calls.get(key);
  if (call !== undefined) call.leaseIds.push(lease.id);
  else calls.set(key, { holder: lease.holder, leaseIds: [lease.id], endsInMs });
}
