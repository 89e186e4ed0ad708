/**
 * Who is around, and whom to dial. A machine: sightings, ends of dials and time come in, dials and news
 * come out; it knows neither sockets nor clocks.
 *
 * Everything that comes in was said by somebody who proved nothing. So an entry is a claim (this node is
 * at this address) and two claims about one node live beside each other; a dial expects the claimed key,
 * and one that meets another key marks that claim alone. Tables and rates are bounded by origin and in
 * all, so that a flood of adverts fills its own share and makes us dial next to nobody; nodes that are
 * trusted come first, and push strangers out where room is short. What discovery can reach at most is a
 * question to a human.
 *
 * An entry lives as long as it is said again, and no longer: what is gone is not dialled.
 */
import type { NodeId } from '../../common/ports.ts';
import { hostOfAddress } from '../../common/units.ts';
import type { FoundDialEnd, Standing } from '../found-dial.ts';
import {
  ADDRESS_PER_NODE_COUNT_MAX,
  ENTRY_COUNT_MAX,
  ENTRY_PER_ORIGIN_COUNT_MAX,
  GREATER_ID_WAIT_MS,
  NEWCOMER_BURST_MAX,
  NEWCOMER_REFILL_MS,
  ORIGIN_COUNT_MAX,
  ORIGIN_REFILL_MS,
  PROTOCOL_VERSION,
  RETRY_IMPOSTOR_MS,
  RETRY_REFUSED_MS,
  RETRY_UNREACHABLE_MS,
  SHORT_SESSION_MS,
  TRUSTED_DIAL_COUNT_MAX,
  UNKNOWN_DIAL_COUNT_MAX,
  UNKNOWN_DIAL_PER_HOST_COUNT_MAX,
  UNKNOWN_DIAL_REFILL_MS,
  UNKNOWN_ID_WAIT_MS,
} from './constants.ts';
import { Permits } from './permits.ts';

/** How a node was found; of two, the first says more. */
export type FoundBy = 'mdns' | 'dns' | 'exchange';

/** Somebody says that a node is somewhere. */
export interface Sighting {
  /** The node's id, by that word; undefined when nobody said. */
  readonly nodeId: NodeId | undefined;
  /** Its name, safe to print; empty for none. */
  readonly name: string;
  /** `HOST:PORT`. */
  readonly address: string;
  /** Who said so: the address of an advert, the name looked up, the id of a peer. */
  readonly origin: string;
  readonly source: FoundBy;
  /** The interface of the advert; empty for none. */
  readonly networkInterface: string;
  /** Free bytes as announced; null when it does not say. */
  readonly freeBytes: number | null;
  /** Version of its peer protocol. */
  readonly protocol: number;
  /** It counts for so long, milliseconds. */
  readonly lifeMs: number;
}

/** What to do, or to note. */
export type DiscoveryAction =
  | {
      readonly type: 'dial';
      readonly key: string;
      readonly address: string;
      readonly nodeId: NodeId | undefined;
    }
  | {
      readonly type: 'found' | 'gone';
      readonly address: string;
      readonly nodeId: NodeId | undefined;
      readonly source: FoundBy;
    };

/** A claim as people see it. */
export interface DiscoveryRow extends Omit<Sighting, 'origin' | 'lifeMs'> {
  /** Milliseconds since it was last said. */
  readonly seenMsAgo: number;
  /** A `Standing`, or `new`, `refused`, `impostor` (another key answered there). */
  readonly state: string;
}

/** What the machine asks of the world. */
export interface DiscoveryWorld {
  /** Our own id. */
  readonly selfId: NodeId;
  /** How we stand with a node. */
  readonly standing: (nodeId: NodeId) => Standing;
  /** The nodes that are trusted for good. */
  readonly trusted: () => ReadonlySet<NodeId>;
  /** A number from 0 to 1, below 1. */
  readonly random: () => number;
}

interface Entry {
  readonly key: string;
  sighting: Sighting;
  seenAtMs: number;
  /** The node that answered there, where nobody had said which it is. */
  provedId: NodeId | undefined;
  dialling: boolean;
  notBeforeMs: number;
  failureCount: number;
  lastEnd: FoundDialEnd | undefined;
  /** Since when the node is up; undefined while it is not. */
  upSinceMs: number | undefined;
  wasTrusted: boolean;
}

const RANK: Readonly<Record<FoundBy, number>> = { mdns: 2, dns: 1, exchange: 0 };
const NEWS_COUNT_MAX = 1024;

function keyOf({ nodeId, address }: Sighting): string {
  return `${nodeId ?? ''} ${address}`;
}

function nodeOf({ sighting, provedId }: Entry): NodeId | undefined {
  return sighting.nodeId ?? provedId;
}

/** The wait after a failure. */
function retryMs(end: FoundDialEnd, failureCount: number): number {
  if (end === 'impostor') return RETRY_IMPOSTOR_MS;
  const { first, longest } = end === 'refused' ? RETRY_REFUSED_MS : RETRY_UNREACHABLE_MS;
  return Math.min(longest, first * 2 ** Math.min(failureCount - 1, 20));
}

/** See the top of the file. */
export class DiscoveryMachine {
  readonly #world: DiscoveryWorld;
  readonly #entries = new Map<string, Entry>();
  readonly #origins = new Map<string, Permits>();
  readonly #newcomers: Permits;
  readonly #unknownDials: Permits;
  #news: DiscoveryAction[] = [];

  constructor(world: DiscoveryWorld, nowMs: number) {
    this.#world = world;
    this.#newcomers = new Permits(NEWCOMER_BURST_MAX, NEWCOMER_REFILL_MS, nowMs);
    this.#unknownDials = new Permits(UNKNOWN_DIAL_COUNT_MAX, UNKNOWN_DIAL_REFILL_MS, nowMs);
  }

  /** Entries now. */
  get size(): number {
    return this.#entries.size;
  }

  // --- Sightings -----------------------------------------------------------------------------------

  /** Somebody says that a node is somewhere. */
  onSighting(sighting: Sighting, nowMs: number): void {
    if (sighting.nodeId === this.#world.selfId) return;
    const known = this.#entries.get(keyOf(sighting));
    if (known !== undefined) return this.#refresh(known, sighting, nowMs);
    if (!this.#mayEnter(sighting, nowMs)) return;
    const entry: Entry = {
      ...{ key: keyOf(sighting), sighting, seenAtMs: nowMs, provedId: undefined, dialling: false },
      ...{ failureCount: 0, lastEnd: undefined, upSinceMs: undefined, wasTrusted: false },
      notBeforeMs: nowMs + this.#firstWaitMs(sighting.nodeId),
    };
    this.#entries.set(entry.key, entry);
    this.#tell('found', entry);
  }

  /** A node says goodbye, and only for what the same origin said of it. */
  onGoodbye(nodeId: NodeId, origin: string): void {
    for (const entry of [...this.#entries.values()]) {
      const { sighting } = entry;
      if (sighting.nodeId === nodeId && sighting.origin === origin) this.#drop(entry);
    }
  }

  /** We stood still for a while, so that we could hear nobody: that time does not count. */
  onStandstill(durationMs: number): void {
    for (const entry of this.#entries.values()) entry.seenAtMs += durationMs;
  }

  /** The word of the better source counts, and the other one when that has fallen silent. */
  #refresh(entry: Entry, sighting: Sighting, nowMs: number): void {
    const { source, lifeMs, origin } = entry.sighting;
    const isFresh = nowMs - entry.seenAtMs < lifeMs;
    if (isFresh && RANK[sighting.source] < RANK[source]) return;
    // Whoever said it first is charged for it, as long as it is said.
    entry.sighting = isFresh && source === sighting.source ? { ...sighting, origin } : sighting;
    entry.seenAtMs = nowMs;
  }

  /** Holds newcomers to their rates, and makes room for those that are trusted. */
  #mayEnter(sighting: Sighting, nowMs: number): boolean {
    const { origin, source, nodeId } = sighting;
    const originKey = `${source} ${origin}`;
    const countMax = ENTRY_PER_ORIGIN_COUNT_MAX[source];
    const permits = this.#permitsOf(originKey, countMax, nowMs);
    const own = this.#count(
      (each) => `${each.sighting.source} ${each.sighting.origin}` === originKey,
    );
    if (own >= countMax || !permits.take(nowMs)) return false;
    if (!this.#newcomers.take(nowMs)) return false;
    if (nodeId !== undefined && !this.#hasAddressRoom(nodeId)) return false;
    if (this.#entries.size < ENTRY_COUNT_MAX) return true;
    if (nodeId === undefined || !this.#world.trusted().has(nodeId)) return false;
    const stranger = [...this.#entries.values()].find(
      (each) => !each.wasTrusted && !each.dialling && each.upSinceMs === undefined,
    );
    if (stranger !== undefined) this.#drop(stranger);
    return stranger !== undefined;
  }

  /** An address that was proved false makes room for another of the same node. */
  #hasAddressRoom(nodeId: NodeId): boolean {
    const own = [...this.#entries.values()].filter(({ sighting }) => sighting.nodeId === nodeId);
    if (own.length < ADDRESS_PER_NODE_COUNT_MAX) return true;
    const worst = own.find(({ lastEnd }) => lastEnd === 'impostor');
    if (worst !== undefined) this.#drop(worst);
    return worst !== undefined;
  }

  #permitsOf(originKey: string, countMax: number, nowMs: number): Permits {
    const known = this.#origins.get(originKey);
    const permits = known ?? new Permits(countMax, ORIGIN_REFILL_MS, nowMs);
    this.#origins.delete(originKey);
    this.#origins.set(originKey, permits);
    if (this.#origins.size > ORIGIN_COUNT_MAX) {
      const oldest = this.#origins.keys().next();
      if (oldest.done !== true) this.#origins.delete(oldest.value);
    }
    return permits;
  }

  // --- Dials ---------------------------------------------------------------------------------------

  /**
   * A dial has ended.
   *
   * @param nodeId - who answered, if anybody did
   */
  onDialEnded(key: string, end: FoundDialEnd, nodeId: NodeId | undefined, nowMs: number): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.dialling = false;
    entry.lastEnd = end;
    if (end === 'up') {
      if (entry.sighting.nodeId === undefined) entry.provedId = nodeId;
      entry.upSinceMs ??= nowMs;
      return;
    }
    // A hint that led nowhere has done its work; it comes again from whoever still believes it.
    if (end === 'unreachable' && entry.sighting.source === 'exchange') return this.#drop(entry);
    this.#postpone(entry, end, nowMs);
  }

  /** Lets time pass; returns what to do. */
  tick(nowMs: number): DiscoveryAction[] {
    for (const entry of [...this.#entries.values()]) {
      if (nowMs - entry.seenAtMs >= entry.sighting.lifeMs) this.#drop(entry);
    }
    const trusted = this.#world.trusted();
    const due: Entry[] = [];
    for (const entry of this.#entries.values()) {
      this.#look(entry, trusted, nowMs);
      const { dialling, notBeforeMs, sighting } = entry;
      const isOurs = sighting.protocol === PROTOCOL_VERSION;
      if (isOurs && !dialling && notBeforeMs <= nowMs && entry.upSinceMs === undefined)
        due.push(entry);
    }
    // Trusted ones first; the sort keeps the order of the rest.
    due.sort((a, b) => Number(b.wasTrusted) - Number(a.wasTrusted));
    const dials = due.filter((entry) => this.#mayDial(entry, nowMs));
    const news = this.#news;
    this.#news = [];
    return [
      ...news,
      ...dials.map(({ key, sighting }) => {
        const { address, nodeId } = sighting;
        return { type: 'dial' as const, key, address, nodeId };
      }),
    ];
  }

  /** Sees whether the node is up, has gone down or has become trusted. */
  #look(entry: Entry, trusted: ReadonlySet<NodeId>, nowMs: number): void {
    const nodeId = nodeOf(entry);
    if (nodeId === undefined) return;
    const isTrusted = trusted.has(nodeId);
    if (isTrusted && !entry.wasTrusted && entry.lastEnd === 'refused') entry.notBeforeMs = nowMs;
    entry.wasTrusted = isTrusted;
    const isUp = this.#world.standing(nodeId) === 'up';
    if (isUp === (entry.upSinceMs !== undefined)) return;
    if (isUp) {
      entry.upSinceMs = nowMs;
      return;
    }
    const lastedMs = nowMs - (entry.upSinceMs ?? nowMs);
    entry.upSinceMs = undefined;
    if (lastedMs < SHORT_SESSION_MS) return this.#postpone(entry, 'unreachable', nowMs);
    entry.failureCount = 0;
    entry.notBeforeMs = nowMs + this.#firstWaitMs(nodeId);
  }

  /** Takes the entry's place among the dials, if there is one. */
  #mayDial(entry: Entry, nowMs: number): boolean {
    const nodeId = nodeOf(entry);
    if (nodeId !== undefined) {
      if (this.#world.standing(nodeId) !== 'down') return false;
      if (this.#count((each) => each.dialling && nodeOf(each) === nodeId) > 0) return false;
    }
    const { wasTrusted } = entry;
    const atOnce = this.#count((each) => each.dialling && each.wasTrusted === wasTrusted);
    if (atOnce >= (wasTrusted ? TRUSTED_DIAL_COUNT_MAX : UNKNOWN_DIAL_COUNT_MAX)) return false;
    if (!wasTrusted) {
      // Several addresses of one name may be one node: one after the other, it is dialled once.
      const isNameless = nodeId === undefined;
      if (isNameless && this.#count((each) => each.dialling && nodeOf(each) === undefined) > 0) {
        return false;
      }
      const host = hostOfAddress(entry.sighting.address);
      const isThere = (each: Entry): boolean => hostOfAddress(each.sighting.address) === host;
      const there = this.#count((each) => each.dialling && !each.wasTrusted && isThere(each));
      if (there >= UNKNOWN_DIAL_PER_HOST_COUNT_MAX || !this.#unknownDials.take(nowMs)) return false;
    }
    entry.dialling = true;
    return true;
  }

  #postpone(entry: Entry, end: FoundDialEnd, nowMs: number): void {
    entry.failureCount += 1;
    entry.notBeforeMs = nowMs + retryMs(end, entry.failureCount) + this.#firstWaitMs(nodeOf(entry));
  }

  /**
   * Of two nodes that see each other the one with the smaller id dials, and its connection would be
   * the one that stays (section 8). The other waits, for it may be the only one that sees: two that ask
   * their humans about each other on two connections would each refuse the other's.
   */
  #firstWaitMs(nodeId: NodeId | undefined): number {
    if (nodeId === undefined) return this.#world.random() * UNKNOWN_ID_WAIT_MS;
    return this.#world.selfId < nodeId ? 0 : GREATER_ID_WAIT_MS;
  }

  // --- What is known -------------------------------------------------------------------------------

  /** One row for each node, by its best claim, and one for each claim that was proved false. */
  list(nowMs: number): DiscoveryRow[] {
    const rows = new Map<string, Entry>();
    for (const entry of this.#entries.values()) {
      const rowKey = entry.lastEnd === 'impostor' ? entry.key : (nodeOf(entry) ?? entry.key);
      const other = rows.get(rowKey);
      if (other === undefined || isBetter(entry, other)) rows.set(rowKey, entry);
    }
    return [...rows.values()].map((entry) => this.#row(entry, nowMs));
  }

  #row(entry: Entry, nowMs: number): DiscoveryRow {
    const { name, address, source, networkInterface, freeBytes, protocol } = entry.sighting;
    return {
      ...{ nodeId: nodeOf(entry), name, address, source, networkInterface, freeBytes, protocol },
      seenMsAgo: Math.max(0, Math.round(nowMs - entry.seenAtMs)),
      state: this.#stateOf(entry),
    };
  }

  #stateOf(entry: Entry): string {
    if (entry.lastEnd === 'impostor') return 'impostor';
    const nodeId = nodeOf(entry);
    const standing = nodeId === undefined ? 'down' : this.#world.standing(nodeId);
    if (standing === 'barred') return 'refused';
    if (standing !== 'down') return standing;
    if (entry.dialling) return 'connecting';
    if (entry.lastEnd === undefined) return 'new';
    return entry.lastEnd === 'refused' ? 'refused' : 'down';
  }

  #count(fits: (entry: Entry) => boolean): number {
    let count = 0;
    for (const entry of this.#entries.values()) if (fits(entry)) count += 1;
    return count;
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.key);
    this.#tell('gone', entry);
  }

  #tell(type: 'found' | 'gone', entry: Entry): void {
    if (this.#news.length >= NEWS_COUNT_MAX) return;
    const { address, source } = entry.sighting;
    this.#news.push({ type, address, nodeId: nodeOf(entry), source });
  }
}

/** The better word about a node: one that led to it, then the better source. */
function isBetter(one: Entry, other: Entry): boolean {
  const led = Number(one.lastEnd === 'up') - Number(other.lastEnd === 'up');
  return (led !== 0 ? led : RANK[one.sighting.source] - RANK[other.sighting.source]) > 0;
}
