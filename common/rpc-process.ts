/** What RPC methods tell about the process of the daemon. */

/** A handover, as the successor saw it. */
export interface HandoverInfo {
  /** Process id of the memnode before. */
  readonly fromPid: number;
  /** How long requests of clients were not read, milliseconds. */
  readonly pauseMs: number;
  /** From the same begin until every provider of a volume was connected again, milliseconds; null while not. */
  readonly providersMs: number | null;
  /** Bytes of memory that were handed over. */
  readonly bytes: number;
  /** Volumes, and connections of their clients. */
  readonly volumes: number;
  /** Connections of clients, the kernel's among them. */
  readonly connections: number;
}

/** Garbage collections that stopped the data plane. */
export interface GarbageCollectionInfo {
  /** Collections of any kind. */
  readonly count: number;
  /** Of these, of the whole heap. */
  readonly majorCount: number;
  /** Time in all, microseconds. */
  readonly totalUs: number;
  /** The longest, microseconds. */
  readonly longestUs: number;
  /** Bytes of the heap that outlived a collection; garbage that waits for a full one counts. */
  readonly oldHeapBytes: number;
}
