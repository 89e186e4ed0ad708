/** What the processes of the benchmark `rack` are told, as one JSON argument, and what they print. */

/** The nodes that dial. */
export interface CrowdPlan {
  /** Where the hub takes peers, `HOST:PORT`. */
  readonly address: string;
  readonly count: number;
  /** The first of them has this number in its name. */
  readonly first: number;
}

/** What the hub prints first. */
export interface HubStart {
  readonly address: string;
  /** Heap that a node takes which is known and not connected, bytes. */
  readonly knownPeerBytes: number;
}

/** What the hub prints now and then. */
export interface HubReading {
  readonly sessions: number;
  /** After a full collection. */
  readonly heapBytes: number;
  /** ArrayBuffers and native memory that V8 knows of. */
  readonly externalBytes: number;
  readonly residentBytes: number;
  readonly virtualBytes: number;
  /** Locked when touched (VmLck): what RLIMIT_MEMLOCK counts. */
  readonly lockedBytes: number;
  /** Of it, what was touched. */
  readonly lockedResidentBytes: number;
  readonly descriptors: number;
}
