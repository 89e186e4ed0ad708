/** What RPC methods about other nodes, and about this one in numbers, answer with. */
import type { ObjectUsage } from './objects.ts';
import type { ProviderUsage } from './ports.ts';

/** How long requests to a peer take. Times are microseconds. */
export interface PeerPing {
  /** Node id. */
  readonly nodeId: string;
  /** Its name. */
  readonly name: string;
  /** Where it is reached. */
  readonly address: string;
  /** How pages go there, for people: `session over TCP to 10.0.0.2:7070, ChaCha20-Poly1305`. */
  readonly path: string;
  /** Round trips of an empty request. */
  readonly roundTrip: Percentiles;
  /** A page of 4 KiB there; null when it lends us nothing. */
  readonly write: Percentiles | null;
  /** A page of 4 KiB back; null when it lends us nothing. */
  readonly read: Percentiles | null;
}

/** Percentiles of measured times, microseconds. */
export interface Percentiles {
  /** Samples. */
  readonly count: number;
  /** The least. */
  readonly min: number;
  /** The median. */
  readonly p50: number;
  /** 90 of 100 are not above. */
  readonly p90: number;
  /** 99 of 100 are not above. */
  readonly p99: number;
  /** The greatest. */
  readonly max: number;
}

/** A node that is announced on a network of this machine. */
export interface DiscoveredNode {
  /** Node id as announced: a claim, until it has shown its key. */
  readonly nodeId: string;
  /** Name as announced, made safe to print. */
  readonly name: string;
  /** Where the announcement came from, `HOST:PORT`. */
  readonly address: string;
  /** How it was found: `mdns`, `dns`, `exchange` (a trusted peer told us) or `static`. */
  readonly source: string;
  /** Network interface of the announcement; empty when it has none. */
  readonly networkInterface: string;
  /** Free bytes, about: a power of two, as announced; null when it does not say. */
  readonly freeBytes: number | null;
  /** Version of the peer protocol. */
  readonly protocol: number;
  /** Milliseconds since it was last heard of. */
  readonly seenMsAgo: number;
  /** State of the peer behind it, as in `PeerInfo`; `new` when nobody has dialled it yet. */
  readonly state: string;
}

/** An invitation that waits for a machine to join by it. */
export interface InviteInfo {
  /** Its name here: 16 hex digits. */
  readonly invite: string;
  /** Where the joining machine is to come, `HOST:PORT`. */
  readonly addresses: readonly string[];
  /** Seconds until it lapses. */
  readonly expiresInS: number;
  /** What the machine that joins may use here, bytes; null: what any peer may. */
  readonly allowedBytes: number | null;
}

/** Counters and gauges of a daemon. Counters run from its start. */
export interface StatsInfo {
  /** Seconds since its start. */
  readonly uptimeS: number;
  /** Everybody's objects here. */
  readonly objects: ObjectUsage;
  /** Of objects: hits and misses of reads, and writes, as this node's clients and peers asked. */
  readonly objectCounters: {
    readonly hitCount: number;
    readonly missCount: number;
    readonly putCount: number;
    readonly deleteCount: number;
    readonly evictedCount: number;
    readonly expiredCount: number;
  };
  /** What is lent. */
  readonly provider: ProviderUsage;
  /** Peers that are up, and all that are known. */
  readonly peers: { readonly up: number; readonly known: number };
  /** Volumes, and bytes of pages in them. */
  readonly volumes: { readonly count: number; readonly storedBytes: number };
  /** RPC: connections now, calls so far, calls that failed. */
  readonly rpc: {
    readonly connectionCount: number;
    readonly callCount: number;
    readonly errorCount: number;
  };
  /** Resident memory of the process, bytes. */
  readonly residentBytes: number;
}

/** Pressure of memory on a provider, and what it asks back for it. Counters run from its start. */
export interface GiveBackInfo {
  /** `calm`, `pressed` or `emergency`. */
  readonly level: string;
  /** Whether an operator wants the node empty. */
  readonly draining: boolean;
  /** Whether leases are granted. */
  readonly accepting: boolean;
  /** MemAvailable of the machine at the last look. */
  readonly availableBytes: number;
  /** What is to stay available. */
  readonly reserveBytes: number;
  /** What is missing. */
  readonly shortageBytes: number;
  /** Share of the last second in which some program waited for memory, 0 to 1. */
  readonly stallShare: number;
  /** Leases that are asked back now. */
  readonly askedCount: number;
  /** Times that pressure began. */
  readonly pressureCount: number;
  /** Leases that were asked back and came. */
  readonly givenBackCount: number;
  /** RAM that came with them. */
  readonly givenBackBytes: number;
  /** Leases that were ended in an emergency, lost to their holders. */
  readonly endedCount: number;
  /** RAM that came with those. */
  readonly endedBytes: number;
  /** From asking to the first lease that came, the last time, milliseconds; null before. */
  readonly firstBackMs: number | null;
}

/** Who has something on a node that is drained, and whether it can go. */
export interface DrainHolder {
  /** Node id of the consumer. */
  readonly nodeId: string;
  /** Its name. */
  readonly name: string;
  /** Bytes leased. */
  readonly heldBytes: number;
  /** Bytes free on the other providers that it may use. */
  readonly roomBytes: number;
  /** Why it cannot move everything; empty when it can. */
  readonly problem: string;
}

/** Objects of one node on a node that is drained. */
export interface DrainObjects {
  /** Node id of their owner. */
  readonly nodeId: string;
  /** Its name. */
  readonly name: string;
  /** How many. */
  readonly objectCount: number;
  /** Bytes of their values. */
  readonly valueBytes: number;
}

/** How far a drain is. */
export interface DrainInfo {
  /** Node id of the node that is to be empty. */
  readonly nodeId: string;
  /** Its name. */
  readonly name: string;
  /** `provider`: this node, of everybody's pages; `consumer`: a peer, of this node's pages. */
  readonly side: 'provider' | 'consumer';
  /** Whether it is being drained. */
  readonly draining: boolean;
  /** Bytes leased still, without direct ones. */
  readonly heldBytes: number;
  /** Who has them. */
  readonly holders: readonly DrainHolder[];
  /** Objects here, by owner: nothing makes them leave, and they end with this node. None of a peer. */
  readonly objects: readonly DrainObjects[];
  /** What only `memcloud swap move`, on the machine `mover`, can make leave. */
  readonly direct: readonly {
    readonly what: string;
    readonly sizeBytes: number;
    readonly mover: string;
  }[];
}
