/**
 * Managed memory: what a control plane, the providers that lend by its word and the clients that borrow
 * by it are to each other, and the seams between the folders that take part.
 *
 * A *managed lease* is the right of one client to so many bytes of one provider until a deadline. The
 * control plane grants it, the provider keeps it: it sets the bytes aside, gives them out as slabs that
 * name the lease (`SlabRequest.under`), and wipes them at the deadline by its own monotonic clock. The
 * control plane is in no data path and never sees a page.
 *
 * docs/control-plane.md has the whole of it: who says what to whom, and what happens when somebody fails.
 */
import type { NodeId } from './ports.ts';

/** What a member of a control plane may do. One node may be several. */
export const MEMBER_ROLES = [
  /** Borrows. */
  'client',
  /** Lends. */
  'provider',
  /** Sees and changes everything. */
  'admin',
] as const;

/** One of {@link MEMBER_ROLES}. */
export type MemberRole = (typeof MEMBER_ROLES)[number];

/** The shortest time to live of a managed lease, milliseconds. */
export const MANAGED_TTL_MIN_MS = 5_000;
/** The longest, milliseconds. */
export const MANAGED_TTL_MAX_MS = 24 * 60 * 60 * 1000;
/** What a client asks for unless told otherwise, milliseconds. */
export const MANAGED_TTL_DEFAULT_MS = 10 * 60 * 1000;
/** The longest life of an allocation token, milliseconds. */
export const TOKEN_TTL_MAX_MS = 60_000;
/** Managed leases granted in one request at most. */
export const MANAGED_LEASE_COUNT_MAX = 256;
/** The most bytes that a provider offers: sums over the 255 that a control node has room for stay exact numbers. */
export const MANAGED_OFFER_MAX_BYTES = 2 ** 45;
/** Bytes of the body of a managed message at most, either way. */
export const MANAGED_BODY_SIZE_MAX_BYTES = 60_000;

/** How a managed lease ends. */
export const MANAGED_END_REASONS = [
  /** The client gave it back. */
  'released',
  /** Its deadline passed. */
  'expired',
  /** An admin, or the removal of the client, ended it. */
  'revoked',
  /** The provider ended it: short of memory, drained, or it shut down or died. */
  'provider',
  /** It was never presented. */
  'unused',
] as const;

/** One of {@link MANAGED_END_REASONS}. */
export type ManagedEndReason = (typeof MANAGED_END_REASONS)[number];

// --- Transport: peer -> control-plane ---------------------------------------------------------------
// MANAGE messages (docs/peer-protocol.md section 14): a body there, a body back, in any order.

/** Answers the MANAGE requests of every peer. */
export interface ManagedService {
  /**
   * Answers one request. It never rejects for what the request says: refusals are replies.
   *
   * @param from - who asks; its key is proved
   * @param body - the caller's again when this returns its promise
   * @returns the body of the reply, at most {@link MANAGED_BODY_SIZE_MAX_BYTES}
   */
  serveManaged(from: NodeId, body: Buffer): Promise<Uint8Array>;
}

/** The way to ask one peer; it outlives sessions. */
export interface ManagedLink {
  /** Who the peer is. */
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly name: string;
  /** True while a session lives on which the peer answers MANAGE. */
  readonly up: boolean;
  /** True while a session lives, on whatever the peer answers. */
  readonly connected: boolean;
  /**
   * Sends a request.
   *
   * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_CANCELLED`, `ERR_UNSUPPORTED`
   */
  request(body: Uint8Array, signal?: AbortSignal): Promise<Buffer>;
}

/** The ways to ask peers. */
export interface ManagedLinks {
  /** The link of a node that was ever let in. */
  find(nodeId: NodeId): ManagedLink | undefined;
  /** The link of the node that answered at an address which this node keeps connected, `HOST:PORT`. */
  at(address: string): ManagedLink | undefined;
  /** Calls `listener` when a session that answers MANAGE begins or ends. @returns a function that ends it */
  onChange(listener: (link: ManagedLink) => void): () => void;
}

/**
 * Nodes that are let in because the control plane says so: *guests*. A guest has a session and nothing
 * by it but MANAGE and page calls: no unmanaged leases, no objects, no word of other peers; and nothing
 * is placed on a guest but what a managed lease covers. Guests are in memory only.
 */
export interface Admissions {
  /**
   * Lets a key in for a time, or longer if it was let in before. Does nothing for a key that is trusted;
   * a key that was denied here stays out.
   *
   * @param publicKey - 32 bytes
   * @param ttlMs - how long new connections are let in; a session that lives goes on
   */
  admit(publicKey: Uint8Array, ttlMs: number): void;
  /** Lets a guest in no more and ends its session. Does nothing for others. */
  dismiss(nodeId: NodeId): void;
  /** Whether a node is a guest now: let in by this, and not trusted. */
  isGuest(nodeId: NodeId): boolean;
}

// --- The provider's half: provider -> control-plane -------------------------------------------------

/** A managed lease as its provider is told to keep it. */
export interface ManagedReservation {
  /** 32 hex digits. */
  readonly leaseId: string;
  /** Whose it is. */
  readonly client: NodeId;
  /** Bytes set aside, with all metadata of the slabs in it (`leaseChargeBytes`). */
  readonly sizeBytes: number;
  /** Until its end, milliseconds from now. */
  readonly ttlMs: number;
}

/** A managed lease as its provider keeps it now. */
export interface ManagedLeaseState extends ManagedReservation {
  /** Of its bytes, those given out as slabs. */
  readonly usedBytes: number;
}

/** The end of a managed lease, when the last of its bytes is wiped. */
export interface ManagedEnding {
  readonly leaseId: string;
  readonly client: NodeId;
  readonly sizeBytes: number;
  readonly reason: ManagedEndReason;
  /** Bytes of RAM that were wiped and went back to the system with it. */
  readonly wipedBytes: number;
  /** From the end to the last byte wiped, milliseconds. */
  readonly wipeMs: number;
}

/** The managed leases of a provider. Deadlines are enforced here, whoever else is gone. */
export interface ManagedMemory {
  /**
   * Sets bytes aside.
   *
   * @throws MemcloudError `ERR_LEASE_CAPACITY`, `ERR_LEASE_INVALID` (also when the id is in use)
   */
  reserve(reservation: ManagedReservation): void;
  /** Sets the deadline to `ttlMs` from now, never earlier than it is. Returns false when it has none such. */
  extend(leaseId: string, ttlMs: number): boolean;
  /** Page calls under the lease fail from now on; its bytes are wiped within a second. False as above. */
  end(leaseId: string, reason: ManagedEndReason): boolean;
  /** Every managed lease. */
  list(): ManagedLeaseState[];
  /** Calls `listener` after each end, when all is wiped. @returns a function that ends it */
  onEnded(listener: (ending: ManagedEnding) => void): () => void;
}
