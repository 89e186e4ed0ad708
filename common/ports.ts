/**
 * The seams of the program: what each folder offers to the others, and what it may fail with. The
 * middle folders import this file and never each other; `daemon/wire.ts` joins them.
 *
 * Two kinds of calls cross a seam. *Control* calls (leases, volumes) are rare and return promises.
 * *Page* calls run hundreds of thousands of times a second, so they make no object: the caller
 * names a request by a number of its own, the `tag`, and gets it back exactly once, through a sink
 * that it registered. Page data passes as native buffers with offsets.
 */
import type { ByteStream, ByteStreamHandler } from './byte-stream.ts';
import type { NativeBuffer } from './native-memory.ts';

/** How a page call ended. Shells map it to an NBD or FUSE errno; see docs/errors.md. */
export const IoStatus = {
  /** Done. */
  OK: 0,
  /** The request is out of range or malformed. */
  INVALID: 1,
  /** The request would write past the end, or no provider has room. */
  NO_SPACE: 2,
  /** Every copy of a page is gone or damaged; the bytes are lost. */
  LOST: 3,
  /** No provider that holds the pages answered before the deadline; they may come back. */
  UNREACHABLE: 4,
  /** The volume is shutting down. */
  SHUTDOWN: 5,
  /** The lease under the pages has expired or was never the caller's. */
  NO_LEASE: 6,
} as const;

/** One of the values of {@link IoStatus}. */
export type IoStatusValue = (typeof IoStatus)[keyof typeof IoStatus];

/** The identity of a node: 32 lower-case hex digits, the first half of SHA-256 of its public key. */
export type NodeId = string;

// --- A block device: tier -> nbd-server ---------------------------------------------------------

/** Takes the ends of page requests made on a {@link BlockQueue}. */
export interface BlockCompletionSink {
  /** Request `tag` ended; its buffers are the caller's again. May be called before the request returns. */
  onBlockDone(tag: number, status: IoStatusValue): void;
}

/** Flags of an extent, equal to `base:allocation` of NBD proto.md "Metadata querying". */
export const ExtentFlag = {
  /** Not provisioned: a write may need new space. */
  HOLE: 1,
  /** Reads as zeroes. */
  ZERO: 2,
} as const;

/** One client's way into a block device. Offsets and lengths are bytes, any alignment, checked by the caller to lie in range. */
export interface BlockQueue {
  /** Reads into `into.bytes[intoOffset, +length)`, borrowed until the end of the request. */
  read(tag: number, offset: number, length: number, into: NativeBuffer, intoOffset: number): void;
  /**
   * Takes the bytes of a write at once if there is room for them.
   *
   * @param forceUnitAccess - end only when the bytes are on all promised copies (NBD FUA)
   * @returns false when nothing was taken and the tag will not end: call {@link BlockQueue.write}
   */
  tryWrite(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    forceUnitAccess: boolean,
  ): boolean;
  /** Writes; the bytes are borrowed until the end of the request. */
  write(
    tag: number,
    offset: number,
    length: number,
    from: NativeBuffer,
    fromOffset: number,
    forceUnitAccess: boolean,
  ): void;
  /** Ends when every write that ended before this call is on all promised copies. */
  flush(tag: number): void;
  /** Drops the whole pages inside the range; their contents become zeroes and their RAM goes back. */
  trim(tag: number, offset: number, length: number): void;
  /** Makes the range read as zeroes; keeps nothing provisioned (a pool has no better than best effort). */
  writeZeroes(tag: number, offset: number, length: number, forceUnitAccess: boolean): void;
  /**
   * Where the bytes of a page lie, on devices in memory of this process; others have no such call. The address
   * is good until the next call of the device.
   *
   * @returns the address of its 4096 bytes, or 0 when it has none and reads as zeroes
   */
  addressOf?(page: number): number;
  /** As many of the `pageCount` pages from `page` on as lie back to back, or as have no bytes: 1 or more. */
  runLength?(page: number, pageCount: number): number;
  /** Gives up the queue; requests in flight end with SHUTDOWN or as they would. */
  close(): void;
}

/** A block device that a server can export. */
export interface BlockDevice {
  /** The name under which it is exported. */
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  /** Bytes, a whole number of pages. */
  readonly sizeBytes: number;
  /** Opens a way in for one client. */
  openQueue(sink: BlockCompletionSink): BlockQueue;
  /**
   * Reports runs of equal state from `offset` on, at most to `offset + length`, by calling `emit`
   * with the bytes of each run and its {@link ExtentFlag} bits until it returns false.
   */
  extents(
    offset: number,
    length: number,
    emit: (lengthBytes: number, flags: number) => boolean,
  ): void;
}

// --- A provider's slabs: provider -> peer (remote) -> tier --------------------------------------

/** What a holder asks a provider for: one slab. */
export interface SlabRequest {
  /** Pages in the slab, 1 to 65536. */
  readonly pageCount: number;
  /** Time to live, milliseconds, 1 s to 24 h; the provider wipes at its end unless renewed. */
  readonly ttlMs: number;
  /**
   * The managed lease that it is taken from (common/managed.ts), 32 hex digits: then no other quota counts,
   * and it ends with that lease at the latest. Without, it is taken from what the provider lends to peers.
   */
  readonly under?: string;
}

/** What the provider grants. */
export interface SlabGrant {
  /** The lease, for renewal and release: a random 64-bit number, 16 hex digits. */
  readonly leaseId: string;
  /** The number by which page calls name the slab, unsigned 32 bits, unique for the provider's life. */
  readonly slabHandle: number;
  /** Time to live granted, milliseconds, at most what was asked. */
  readonly ttlMs: number;
}

/** The room of a provider. All counts are bytes, metadata included. */
export interface ProviderUsage {
  /** The most that it lends. */
  readonly offeredBytes: number;
  /** Lent under live leases. */
  readonly usedBytes: number;
  /** Of the used bytes, those that hold pages (resident in RAM). */
  readonly residentBytes: number;
  /** Leases alive. */
  readonly leaseCount: number;
  /**
   * Of the used bytes, those of the node that is told: its leases under every holder, direct exports and
   * objects. Only in what one node is told, and not by providers of before.
   */
  readonly heldBytes?: number;
}

/**
 * A provider as one holder sees it: its own leases and nobody else's. In process it is the
 * provider itself, so page calls end before they return. `NO_LEASE` answers a slab handle that is
 * unknown, expired or somebody else's (the three are not told apart), `INVALID` a range outside it.
 */
export interface SlabAccess {
  /** @throws MemcloudError `ERR_LEASE_CAPACITY`, `ERR_LEASE_INVALID` */
  lease(request: SlabRequest): SlabGrant;
  /** Renews each lease to `ttlMs` from now; returns the ids that are unknown or expired. */
  renew(leaseIds: readonly string[], ttlMs: number): string[];
  /** Wipes and gives back. @throws MemcloudError `ERR_LEASE_UNKNOWN` */
  release(leaseId: string): void;
  /** Copies sealed pages out to `into.bytes[intoOffset, +pageCount * SEALED_PAGE_SIZE_BYTES)`. */
  readPages(
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    into: NativeBuffer,
    intoOffset: number,
  ): IoStatusValue;
  /** Copies sealed pages in. */
  writePages(
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
  ): IoStatusValue;
  /** Wipes pages and gives their RAM back to the system; the lease stays. */
  trimPages(slabHandle: number, firstPage: number, pageCount: number): IoStatusValue;
  /** The provider's room now, as the holder's node may use it. */
  usage(): ProviderUsage;
}

/** What a provider tells a holder unasked. */
export interface SlabAccessEvents {
  /** Leases of the holder ended by expiry, pressure or revocation, not by its own release. */
  onLeasesEnded(leaseIds: readonly string[]): void;
  /** The provider asks for leases of the holder back; again when their end changed, or none came. */
  onRecall(recall: SlabRecall): void;
  /** Whether new leases are granted has changed. */
  onAccepting(accepting: boolean): void;
}

/** The provider of this machine, as the peer server sees it. */
export interface SlabProvider {
  /**
   * The view of one holder (common/holder.ts); leases outlive it and are there again for the same holder.
   *
   * @param events - replaces those of the holder's last view; a provider may leave it unused
   */
  openAccess(holder: string, events?: SlabAccessEvents): SlabAccess;
  /**
   * The holder has no view any more and will not come again under this name: it is forgotten as soon as
   * it has no leases, which end as they would.
   */
  closeAccess(holder: string): void;
  /** False while it grants no leases: it is being drained, or its machine is short of memory. */
  readonly accepting: boolean;
  /**
   * The provider's room now.
   *
   * @param node - as this node may use it: then what is offered and not used is what it could still get
   */
  usage(node?: NodeId): ProviderUsage;
}

/** Takes the ends of page calls made on a {@link PageQueue}. */
export interface PageCompletionSink {
  /**
   * A read ended. With `OK`, the sealed pages lie at `pages.bytes[offset]`, borrowed until the
   * return; they were authenticated as coming from the provider, but not opened.
   */
  onPagesRead(tag: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void;
  /** A write or trim ended. */
  onPagesDone(tag: number, status: IoStatusValue): void;
  /** A call that had been refused for want of credit would be taken now. */
  onCredit(): void;
}

/**
 * One consumer's way to the slabs of one provider, anywhere. Each call that returns true ends
 * exactly once, by its deadline, with `UNREACHABLE` if no answer came; a call that returns false
 * was not taken (no credit, or the provider is down) and does not end. Ends never come before the
 * call returns. Calls take effect at the provider in the order in which they were made, those of an
 * earlier connection before those of a later one; they may end in any order.
 */
export interface PageQueue {
  /** Reads `pageCount` sealed pages. */
  readPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean;
  /** Writes sealed pages, whose bytes are taken before the return. */
  writePages(
    tag: number,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean;
  /** Drops pages. */
  trimPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean;
  /** Gives up the queue; calls in flight end with `SHUTDOWN`. */
  close(): void;
}

/** The most pages in one page call. */
export const PAGE_CALL_PAGE_COUNT_MAX = 64;

/** A provider asks for leases back: their slabs are to be moved elsewhere and released. */
export interface SlabRecall {
  /** Which, the most urgent first. Ids of other holders or of leases that have ended mean nothing. */
  readonly leaseIds: readonly string[];
  /** Until the provider ends them by itself, milliseconds; Infinity when it will not. */
  readonly endsInMs: number;
}

/** A provider that volumes can be placed on, near or far. */
export interface SlabSource {
  /** Who it is. */
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly nodeName: string;
  /** True when calls have a chance. */
  readonly up: boolean;
  /** The provider's last word on its room. */
  readonly usage: ProviderUsage;
  /**
   * Names the machine that it runs on: two copies of a slab are never on one. Empty when the provider
   * does not say; then it counts as a machine of its own.
   */
  readonly hostId: string;
  /** A wider failure domain (a rack, a room, a power line) as its operator names it; empty for none. */
  readonly zone: string;
  /** Smoothed round trip, milliseconds; 0 while unknown. */
  readonly roundTripMs: number;
  /** False while it takes no new slabs: it is drained or short of memory. What it holds it serves. */
  readonly accepting: boolean;
  /** Why its pages are not believed any more; undefined while they are. Nothing is placed there then. */
  readonly quarantineReason: string | undefined;
  /** Stops believing it, for every volume of this node, until a person says otherwise. */
  quarantine(reason: string): void;
  /** Calls `listener` when the provider asks for leases back. Returns a function that stops it. */
  onRecall(listener: (recall: SlabRecall) => void): () => void;
  /** @throws MemcloudError `ERR_LEASE_CAPACITY`, `ERR_LEASE_INVALID`, `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT` */
  lease(request: SlabRequest): Promise<SlabGrant>;
  /** Renews; resolves to the ids that the provider no longer has. Errors as {@link SlabSource.lease}. */
  renew(leaseIds: readonly string[], ttlMs: number): Promise<string[]>;
  /** Gives back. Errors as {@link SlabSource.lease} and `ERR_LEASE_UNKNOWN`. */
  release(leaseId: string): Promise<void>;
  /** Opens a way in for one volume; it survives reconnects of the source. */
  openPageQueue(sink: PageCompletionSink): PageQueue;
}

/** The place of last resort of one volume: on this machine, used only when no provider can be. */
export interface SpillStore extends SlabSource {
  /** Ends it; what it held is gone. */
  close(): void;
}

/** The providers that volumes may choose from. */
export interface SlabSources {
  /** Every source known now, up or not. */
  list(): readonly SlabSource[];
}

// --- Direct exports: direct -> peer -------------------------------------------------------------
// A device on one provider that the kernel of the consumer reaches by itself, over a connection of
// its own that speaks TLS 1.3 records and NBD (docs/peer-protocol.md section 11). Sessions only set it up.

/** What a holder asks a provider for: one direct export. */
export interface DirectRequest {
  /** Bytes, a whole number of pages. */
  readonly sizeBytes: number;
  /** Life without a connection, milliseconds. */
  readonly ttlMs: number;
  /** The managed lease that its slabs are taken from; as in {@link SlabRequest.under}. */
  readonly under?: string;
}

/** A direct export as its provider describes it to its holder. */
export interface DirectExport {
  /** Its name on this provider: 16 hex digits, random. */
  readonly exportId: string;
  /** Bytes, a whole number of pages; all of them are leased, RAM is taken by what is written. */
  readonly sizeBytes: number;
  /** Bytes that hold data now. */
  readonly residentBytes: number;
  /** True while a data connection lives: so long the export does not expire. */
  readonly connected: boolean;
  /** Life after the last connection ended or the last renewal, whichever is later: milliseconds. */
  readonly ttlMs: number;
}

/**
 * What protects a data connection: TLS 1.3 records of the kernels; or nothing of ours, for a link that
 * is protected below (WireGuard), or for who insists.
 */
export type DirectTransport = 'tls' | 'plain';

/** The right to open one data connection, once, within {@link DIRECT_TICKET_TTL_MS}. */
export interface DirectTicket {
  /** 16 bytes as 32 hex digits: what the connection begins with. */
  readonly ticketId: string;
  /** 32 random bytes as 64 hex digits: the provider's share of the connection's keys. */
  readonly secret: string;
  /** TCP port of the provider, on the host that the session leads to. */
  readonly port: number;
  /** What the connection must be, as it was asked for: it is nothing else's ticket. */
  readonly transport: DirectTransport;
}

/** The direct exports of one holder on one provider. */
export interface DirectAccess {
  /** @throws MemcloudError `ERR_LEASE_CAPACITY`, `ERR_LEASE_INVALID` */
  open(request: DirectRequest): DirectExport;
  /**
   * @param consumerNonce - 32 random bytes as 64 hex digits: the holder's share of the keys
   * @param transport - `tls` unless told
   * @throws MemcloudError `ERR_LEASE_UNKNOWN`, `ERR_LEASE_CAPACITY` beyond the tickets of a holder,
   *   `ERR_UNSUPPORTED` when this provider takes no `plain` connections
   */
  ticket(exportId: string, consumerNonce: string, transport?: DirectTransport): DirectTicket;
  /** Renews; returns the ids that are unknown or expired. */
  renew(exportIds: readonly string[]): string[];
  /** Cuts the connection, wipes and gives back. @throws MemcloudError `ERR_LEASE_UNKNOWN` */
  close(exportId: string): void;
  /** Every export of the holder, also of its earlier processes. */
  list(): DirectExport[];
}

/** The direct exports of this machine, as the peer server sees them. */
export interface DirectProvider {
  /** The exports of one holder. */
  openDirect(holder: NodeId): DirectAccess;
  /**
   * Takes over a data connection whose preface named the ticket.
   *
   * @returns the handler of what follows the preface; undefined when the ticket is unknown, used
   *   or too old: the connection is to be closed without a word
   */
  takeConnection(stream: ByteStream, ticketId: string): ByteStreamHandler | undefined;
  /** The holder lost its trust: its connections are cut, its exports wiped. */
  revoke(holder: NodeId): void;
}

/** How long a {@link DirectTicket} can be used: milliseconds. */
export const DIRECT_TICKET_TTL_MS = 15_000;

/** The direct exports of a provider as a consumer far away uses them; see {@link DirectAccess}. */
export interface DirectSource {
  /** Who the provider is. */
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly nodeName: string;
  /** True when calls have a chance. */
  readonly up: boolean;
  /** The provider's last word on its room. */
  readonly usage: ProviderUsage;
  /** Host that the session leads to, empty while there is none. */
  readonly host: string;
  /** Errors as {@link DirectAccess.open}, and `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_UNSUPPORTED` (an older provider). */
  openDirect(request: DirectRequest): Promise<DirectExport>;
  /** As {@link DirectAccess.ticket}; never resolves to a ticket of another transport. */
  directTicket(
    exportId: string,
    consumerNonce: string,
    transport?: DirectTransport,
  ): Promise<DirectTicket>;
  /** As {@link DirectAccess.renew}. */
  renewDirect(exportIds: readonly string[]): Promise<string[]>;
  /** As {@link DirectAccess.close}. */
  closeDirect(exportId: string): Promise<void>;
  /** As {@link DirectAccess.list}. */
  listDirect(): Promise<DirectExport[]>;
}
