/**
 * The calls of managed mode: one table of names, parameters and results for all who take part. A call
 * travels as the body of a MANAGE message (docs/peer-protocol.md section 14), JSON text either way, and
 * both ways it is checked against this table before anybody looks at it. docs/control-plane.md tells in
 * which order the calls come and who may make which.
 *
 * Fields are only ever added. Times are durations: no wall clock of one machine means anything on another.
 */
import * as v from 'valibot';
import {
  MANAGED_END_REASONS,
  MANAGED_LEASE_COUNT_MAX,
  MANAGED_OFFER_MAX_BYTES,
  MANAGED_TTL_MAX_MS,
  MEMBER_ROLES,
} from '../common/managed.ts';
import { hexDigits, wholeNumber } from '../common/schema-parts.ts';

const text = (max: number) =>
  v.pipe(v.string(), v.maxLength(max, `expected at most ${max} characters`));

const bytes = wholeNumber();
const offeredBytes = wholeNumber(MANAGED_OFFER_MAX_BYTES);
const nodeId = hexDigits(32);
const publicKey = hexDigits(64);
const leaseId = hexDigits(32);
const leaseIds = v.pipe(v.array(leaseId), v.maxLength(MANAGED_LEASE_COUNT_MAX));
const ttlMs = wholeNumber(MANAGED_TTL_MAX_MS);
const epoch = wholeNumber();
const name = text(64);
/** A JWT of ours has about 500 characters. */
const token = text(2048);
const role = v.picklist(MEMBER_ROLES);
const reason = v.picklist(MANAGED_END_REASONS);
const none = v.strictObject({});
/** Where a listing goes on; the `cursor` of its last page. */
const cursor = v.optional(text(512));
const countMax = v.optional(wholeNumber(500, 1));

/** A provider as the control plane sees it. */
const providerRow = v.object({
  nodeId,
  name,
  // `HOST:PORT` at which clients reach it.
  address: text(256),
  hostId: text(128),
  zone: text(128),
  // `up`, `full` (grants nothing now), `draining` or `down`.
  state: v.picklist(['up', 'full', 'draining', 'down']),
  offeredBytes: bytes,
  // Under managed leases.
  reservedBytes: bytes,
  leaseCount: wholeNumber(),
  // Since it was last heard of, milliseconds.
  seenMsAgo: wholeNumber(),
});

/** A managed lease as the control plane sees it. */
const leaseRow = v.object({
  leaseId,
  client: nodeId,
  clientName: name,
  provider: nodeId,
  providerName: name,
  sizeBytes: bytes,
  // `granted` (not presented yet), `active`, `ending` (revoked or over, the provider has not said that it is wiped).
  state: v.picklist(['granted', 'active', 'ending']),
  // Until its end.
  endsInMs: ttlMs,
  purpose: text(64),
});

/** What a client gets for each lease. */
const grantRow = v.object({
  leaseId,
  sizeBytes: bytes,
  ttlMs,
  // For the provider, within a minute, once.
  token,
  provider: v.object({
    nodeId,
    publicKey,
    name,
    address: text(256),
    hostId: text(128),
    zone: text(128),
  }),
});

/** A member as admins see it. */
const memberRow = v.object({
  // Empty while only a fingerprint is known.
  nodeId: text(32),
  publicKey: text(64),
  name,
  roles: v.array(role),
  // Bytes of managed leases at once; null: no limit.
  quotaBytes: v.nullable(bytes),
  // Managed leases at once; null: no limit.
  quotaLeases: v.nullable(wholeNumber()),
  usedBytes: bytes,
  usedLeases: wholeNumber(),
  connected: v.boolean(),
});

/** One line of the audit log. */
const auditRow = v.object({
  // Counts from 1 without a gap.
  sequence: wholeNumber(),
  // Wall clock of the control node that wrote it, ISO 8601: for people.
  at: text(32),
  // What happened: `lease.granted`, `lease.denied`, `lease.wiped`, `token.refused`, `member.put`, ...
  event: text(64),
  controlNode: nodeId,
  epoch,
  // The rest, by event: ids, names, bytes, reasons, receipts.
  detail: v.record(v.string(), v.unknown()),
  // SHA-256 over the hash of the line before and this line: nothing can be taken out or altered unseen.
  hash: hexDigits(64),
});

const usageRow = v.object({
  client: nodeId,
  name,
  usedBytes: bytes,
  usedLeases: wholeNumber(),
  quotaBytes: v.nullable(bytes),
  // From the beginning, or the last reset: integral of leased bytes over seconds.
  byteSeconds: v.number(),
  leasesGranted: wholeNumber(),
  leasesDenied: wholeNumber(),
  // The most bytes leased at once.
  peakBytes: bytes,
});

/** What happens at the control plane, for schedulers and people. */
const eventRow = v.object({
  // Names a place in the stream of this leader; strings are not comparable.
  cursor: text(64),
  // `provider.up`, `provider.down`, `provider.changed`, `lease.granted`, `lease.active`, `lease.renewed`, `lease.ended`, `capacity`, `leader`.
  event: text(64),
  detail: v.record(v.string(), v.unknown()),
});

const page = <T extends v.GenericSchema>(row: T) =>
  v.object({ rows: v.array(row), cursor: v.nullable(text(512)) });

/** Every call: what is asked and what is answered. */
export const MANAGED_CALLS = {
  // --- Any member asks a control node -------------------------------------------------------------
  /** Who are you, who leads, and what am I here. Every control node answers it, all others only the leader. */
  'control.hello': {
    params: none,
    result: v.object({
      // Names the control plane: 32 hex digits, random, made with its store.
      cluster: hexDigits(32),
      controlNode: nodeId,
      name,
      leads: v.boolean(),
      // The leader; null while there is none.
      leader: v.nullable(nodeId),
      // Its term: grows with each change of leader.
      epoch,
      roles: v.array(role),
      quotaBytes: v.nullable(bytes),
    }),
  },

  // --- A client asks a control node ---------------------------------------------------------------
  /** Asks for memory: `count` leases of `sizeBytes` each, on as many different machines; all or none. */
  'lease.request': {
    params: v.strictObject({
      // Random; the same request asked again is answered with the same leases, and fresh tokens.
      requestId: hexDigits(32),
      sizeBytes: wholeNumber(undefined, 1),
      ttlMs,
      count: wholeNumber(8, 1),
      purpose: text(64),
      // Only in this zone.
      zone: v.optional(text(128)),
      // Providers not to use; more than the machine asked from, which is never used unless `include` says so.
      exclude: v.optional(v.pipe(v.array(nodeId), v.maxLength(64))),
      // Only these.
      include: v.optional(v.pipe(v.array(nodeId), v.maxLength(64))),
      // Names the asker's machine, as providers name theirs.
      hostId: v.optional(text(128)),
    }),
    result: v.object({ leases: v.array(grantRow), epoch }),
  },
  /** A new token for a lease that was not presented yet. */
  'lease.token': { params: v.strictObject({ leaseId }), result: v.object({ lease: grantRow }) },
  /** Sets deadlines to `ttlMs` from now; the provider knows before this is answered. */
  'lease.renew': {
    params: v.strictObject({ leaseIds, ttlMs }),
    result: v.object({
      renewed: v.array(v.object({ leaseId, ttlMs })),
      // Why not: `unknown`, or a sentence.
      refused: v.array(v.object({ leaseId, why: text(256) })),
    }),
  },
  /** Gives leases back; the provider is told. For leases whose provider does not answer the client. */
  'lease.release': {
    params: v.strictObject({ leaseIds }),
    result: v.object({ unknown: leaseIds }),
  },
  /** The asker's leases; an admin's with `all` everybody's. */
  'lease.list': {
    params: v.strictObject({ all: v.optional(v.boolean()), cursor, countMax }),
    result: page(leaseRow),
  },

  // --- A provider asks a control node -------------------------------------------------------------
  /** "I am here, with these leases": after every new session, and to every new leader. In parts: all but the last say `more`. */
  'provider.register': {
    params: v.strictObject({
      // Random, names the life of this process: with another one all earlier leases are gone.
      life: hexDigits(32),
      hostId: text(128),
      zone: text(128),
      // TCP port for clients; the host is the one that the session comes from, unless `host` says otherwise.
      port: wholeNumber(65_535, 1),
      host: v.optional(text(253)),
      offeredBytes,
      // Of the offer, what others than managed clients have.
      otherBytes: bytes,
      accepting: v.boolean(),
      draining: v.boolean(),
      leases: v.pipe(
        v.array(v.object({ leaseId, client: nodeId, sizeBytes: bytes, ttlMs })),
        v.maxLength(MANAGED_LEASE_COUNT_MAX),
      ),
      more: v.optional(v.boolean()),
    }),
    result: v.object({
      epoch,
      // Of the leases told of: to be ended, the control plane knows them no more.
      end: leaseIds,
      // How often a heartbeat is wanted, milliseconds.
      heartbeatMs: wholeNumber(60_000, 100),
    }),
  },
  'provider.heartbeat': {
    params: v.strictObject({
      life: hexDigits(32),
      offeredBytes,
      otherBytes: bytes,
      accepting: v.boolean(),
      draining: v.boolean(),
      // 0 (idle) to 1 (cannot take more); for placement.
      load: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
    }),
    result: v.object({
      epoch,
      // The leader has no registration of this life: register again.
      register: v.optional(v.boolean()),
    }),
  },
  /** "May I honour this token, which this client presents": once for each token. Error `ERR_TOKEN`. */
  'provider.redeem': {
    params: v.strictObject({ life: hexDigits(32), token, client: nodeId }),
    result: v.object({ leaseId, sizeBytes: bytes, ttlMs, epoch }),
  },
  /** Leases that ended here, wiped. */
  'provider.ended': {
    params: v.strictObject({
      life: hexDigits(32),
      endings: v.pipe(
        v.array(
          v.object({
            leaseId,
            client: nodeId,
            sizeBytes: bytes,
            reason,
            wipedBytes: bytes,
            wipeMs: v.number(),
            // A JWS by the provider's identity key over the fields above.
            receipt: token,
          }),
        ),
        v.maxLength(64),
      ),
    }),
    result: none,
  },

  // --- A control node tells a provider --------------------------------------------------------------
  // Each has the epoch of who says it; a provider that heard of a higher one answers ERR_CONTROL_NOT_LEADER.
  /** Lets a client in: it will present a token. */
  'manage.admit': {
    params: v.strictObject({ epoch, publicKey, name, ttlMs }),
    result: none,
  },
  'manage.extend': {
    params: v.strictObject({
      epoch,
      leases: v.pipe(
        v.array(v.strictObject({ leaseId, ttlMs })),
        v.maxLength(MANAGED_LEASE_COUNT_MAX),
      ),
    }),
    result: v.object({ unknown: leaseIds }),
  },
  /** Ends leases now. */
  'manage.end': {
    params: v.strictObject({ epoch, leaseIds, reason }),
    result: v.object({ unknown: leaseIds }),
  },

  // --- A control node tells a client ----------------------------------------------------------------
  /** A lease will end, or has ended, and not because the client gave it back. */
  'manage.ending': {
    params: v.strictObject({ epoch, leaseIds, reason, endsInMs: ttlMs }),
    result: none,
  },

  // --- A client asks a provider ---------------------------------------------------------------------
  /** Takes the lease of a token into use. */
  'lease.present': {
    params: v.strictObject({ token }),
    result: v.object({ leaseId, sizeBytes: bytes, ttlMs }),
  },
  /** Gives leases back; page calls under them fail from now on. */
  'lease.return': { params: v.strictObject({ leaseIds }), result: v.object({ unknown: leaseIds }) },

  // --- An admin asks a control node ---------------------------------------------------------------
  'admin.status': {
    params: none,
    result: v.object({
      cluster: hexDigits(32),
      store: text(512),
      controlNodes: v.array(v.object({ nodeId, name, leads: v.boolean(), address: text(256) })),
      epoch,
      providers: v.object({ up: wholeNumber(), known: wholeNumber() }),
      members: wholeNumber(),
      leaseCount: wholeNumber(),
      offeredBytes: bytes,
      reservedBytes: bytes,
      // Requests in the last minute, granted and denied.
      grantedLastMinute: wholeNumber(),
      deniedLastMinute: wholeNumber(),
    }),
  },
  'admin.providers': { params: v.strictObject({ cursor, countMax }), result: page(providerRow) },
  'admin.members': { params: v.strictObject({ cursor, countMax }), result: page(memberRow) },
  /** Adds a member or changes one. `key`: fingerprint words, node id or public key. */
  'admin.member-put': {
    params: v.strictObject({
      key: text(256),
      name: v.optional(name),
      roles: v.optional(v.pipe(v.array(role), v.minLength(1))),
      quotaBytes: v.optional(v.nullable(bytes)),
      quotaLeases: v.optional(v.nullable(wholeNumber())),
    }),
    result: memberRow,
  },
  /** Takes membership away: leases of a client are revoked, a provider gets nothing more. */
  'admin.member-remove': {
    params: v.strictObject({ key: text(256) }),
    result: v.object({ revokedLeases: wholeNumber() }),
  },
  /** Ends leases at once: some, or all of a client, or all on a provider. */
  'admin.revoke': {
    params: v.strictObject({
      leaseIds: v.optional(leaseIds),
      client: v.optional(text(256)),
      provider: v.optional(text(256)),
    }),
    result: v.object({ revoked: wholeNumber(), unknown: leaseIds }),
  },
  /** Nothing more is placed on a provider, or again. Its leases go on. */
  'admin.drain': {
    params: v.strictObject({ provider: text(256), draining: v.boolean() }),
    result: providerRow,
  },
  'admin.usage': { params: v.strictObject({ cursor, countMax }), result: page(usageRow) },
  /** Lines of the audit log, oldest first; `after` is a sequence number. */
  'admin.audit': {
    params: v.strictObject({ after: v.optional(wholeNumber()), countMax }),
    result: v.object({ rows: v.array(auditRow) }),
  },
  /** Events behind a cursor; waits up to `waitMs` for the first. Without a cursor: from now on, answered at once. */
  'admin.watch': {
    params: v.strictObject({ cursor, waitMs: v.optional(wholeNumber(4_000)) }),
    result: v.object({
      events: v.array(eventRow),
      cursor: text(64),
      // Events between were lost: the cursor was too old, or of another leader.
      missed: v.boolean(),
    }),
  },
} as const;

/** The name of a call. */
export type ManagedCall = keyof typeof MANAGED_CALLS;
/** What is asked. */
export type ManagedParams<C extends ManagedCall> = v.InferOutput<
  (typeof MANAGED_CALLS)[C]['params']
>;
/** What is answered. */
export type ManagedResult<C extends ManagedCall> = v.InferOutput<
  (typeof MANAGED_CALLS)[C]['result']
>;
