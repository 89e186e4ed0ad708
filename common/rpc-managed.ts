/**
 * The RPC methods of managed mode (docs/control-plane.md): what a memnode does for its users as a client
 * of a control plane, and the door to the control plane itself. Both memnode and a control node answer
 * `control.call`; the rest is memnode's.
 */
import * as v from 'valibot';
import { MANAGED_TTL_MAX_MS, MANAGED_TTL_MIN_MS } from './managed.ts';
import { hexDigits, wholeNumber } from './schema-parts.ts';

const bytes = wholeNumber(undefined, 1);
const ttl = v.pipe(
  v.number(),
  v.integer('expected whole milliseconds'),
  v.minValue(MANAGED_TTL_MIN_MS, `expected at least ${MANAGED_TTL_MIN_MS} ms`),
  v.maxValue(MANAGED_TTL_MAX_MS, `expected at most ${MANAGED_TTL_MAX_MS} ms`),
);
const leaseIds = v.pipe(v.array(hexDigits(32)), v.minLength(1), v.maxLength(256));

/** How a volume, a mount or a direct device is taken from managed leases. */
export const MANAGED_OPTIONS = v.strictObject({
  // Time to live of its leases, milliseconds; renewed for as long as it lives.
  ttlMs: v.optional(ttl),
  // Only providers of this zone.
  zone: v.optional(v.string()),
});

/** The parameters of these methods. */
export const MANAGED_RPC_PARAMS = {
  /** How this node stands with its control plane. */
  'managed.status': v.strictObject({}),
  'managed.request': v.strictObject({
    sizeBytes: bytes,
    ttlMs: v.optional(ttl),
    count: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(8))),
    zone: v.optional(v.string()),
    /** Names or ids of the only providers to use. */
    providers: v.optional(v.array(v.string())),
    /** Renewed until it is released; without, it ends at its deadline. */
    renew: v.optional(v.boolean()),
  }),
  'managed.list': v.strictObject({}),
  'managed.renew': v.strictObject({ leaseIds, ttlMs: v.optional(ttl) }),
  'managed.release': v.strictObject({ leaseIds, force: v.optional(v.boolean()) }),
  /** One call of control-plane/schema.ts to the leader, as this node; on a control node's own socket as an admin. */
  'control.call': v.strictObject({ call: v.string(), params: v.optional(v.unknown()) }),
} as const;

/** How this node stands with its control plane. */
export interface ManagedStatus {
  /** Addresses of the configuration; empty: not managed. */
  readonly addresses: readonly string[];
  /** Those of them for which it has no key. */
  readonly unpinned: readonly string[];
  /** Whether a leader answers. */
  readonly connected: boolean;
  /** Name of the leader; empty while none answers. */
  readonly leader: string;
  /** Names the control plane; empty until it was heard of. */
  readonly cluster: string;
  /** What this node is there. */
  readonly roles: readonly string[];
  /** Milliseconds since a leader answered last; null: never. */
  readonly heardMsAgo: number | null;
  /** What this node lends by its word; null when it is no provider. */
  readonly provider: {
    readonly registered: boolean;
    readonly leaseCount: number;
    readonly reservedBytes: number;
  } | null;
  /** Why something is not as it should be; empty when all is. */
  readonly problem: string;
}

/** {@link ManagedStatus}, and what this node has leased by it. */
export interface ManagedSummary extends ManagedStatus {
  /** Managed leases of this node, as a client. */
  readonly leaseCount: number;
  /** Their bytes. */
  readonly leasedBytes: number;
  /** Until the first of them ends unless it is renewed, milliseconds; null without any. */
  readonly endsInMs: number | null;
}

/** A managed lease of this node, as its client. */
export interface ManagedLeaseInfo {
  readonly leaseId: string;
  /** Node id of the provider. */
  readonly provider: string;
  readonly providerName: string;
  readonly sizeBytes: number;
  /** Of that, in use as slabs. */
  readonly usedBytes: number;
  /** `active`, `ending` (it will not be renewed) or `ended`. */
  readonly state: string;
  /** Until its end, by the last word of the provider. */
  readonly endsInMs: number;
  /** What is asked for at each renewal, milliseconds. */
  readonly ttlMs: number;
  /** The last warning was of so much time left, milliseconds; null: none since it was renewed. */
  readonly warnedMs: number | null;
  /** Whether it is renewed. */
  readonly renews: boolean;
  /** What it is for: `volume NAME`, `mount DIR`, `swap DEVICE`, or `reserve`. */
  readonly purpose: string;
  /** Why it ends or ended: `released`, `expired`, `revoked`, `provider`, `unused`; empty while nobody says so. */
  readonly reason: string;
  /** Why the last renewal failed; empty when it did not. */
  readonly problem: string;
}

/** The results of these methods. */
export interface ManagedRpcResults {
  /** The node's standing. */
  'managed.status': ManagedStatus;
  /** The new leases, presented to their providers. */
  'managed.request': ManagedLeaseInfo[];
  /** The leases of this node. */
  'managed.list': ManagedLeaseInfo[];
  /** As they are now. */
  'managed.renew': ManagedLeaseInfo[];
  /** Nothing; the providers wipe. */
  'managed.release': null;
  /** What the control plane answered. */
  'control.call': unknown;
}
