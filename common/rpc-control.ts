/**
 * What admins of a control plane see and say over RPC. `control.call` carries the `admin.*` calls of
 * `control-plane/schema.ts`; their answers are told here once more for the command line, which may not
 * import that folder: a test holds both equal. The methods of this file are about the door of one control
 * node, and only that node answers them.
 */
import * as v from 'valibot';
import { MEMBER_ROLES, type MemberRole } from './managed.ts';
import type { InviteInfo } from './rpc-nodes.ts';
import { wholeNumber } from './schema-parts.ts';

const limit = v.optional(v.nullable(wholeNumber()));
/** What a new member gets; null: no limit. */
const GRANT = {
  roles: v.pipe(
    v.array(v.picklist(MEMBER_ROLES)),
    v.minLength(1, 'expected a role'),
    v.maxLength(MEMBER_ROLES.length),
  ),
  quotaBytes: limit,
  quotaLeases: limit,
};

/** The parameters of these methods. */
export const CONTROL_RPC_PARAMS = {
  /** Opens an invitation; whoever joins by it becomes a member. */
  'control.invite': v.strictObject({
    ...GRANT,
    ttlMs: v.optional(
      v.pipe(v.number(), v.integer(), v.minValue(1000), v.maxValue(7 * 86_400_000)),
    ),
    // Where the joining machine reaches this control node, `HOST:PORT`; without: all that are known.
    addresses: v.optional(v.array(v.string())),
  }),
  /** Makes a stranger that waits a member, and lets it in. */
  'control.consent': v.strictObject({ ...GRANT, request: v.string() }),
} as const;

/** The results of these methods. */
export interface ControlRpcResults {
  /** The invitation, with the token that is shown this once. */
  'control.invite': InviteInfo & {
    readonly token: string;
    readonly roles: readonly MemberRole[];
  };
  /** The member. */
  'control.consent': ControlMember;
}

/** `admin.status`. */
export interface ControlStatus {
  /** Names the control plane. */
  readonly cluster: string;
  /** What it keeps its words in. */
  readonly store: string;
  /** The control nodes that are there. */
  readonly controlNodes: readonly {
    readonly nodeId: string;
    readonly name: string;
    readonly leads: boolean;
    readonly address: string;
  }[];
  /** The term of the leader. */
  readonly epoch: number;
  readonly providers: { readonly up: number; readonly known: number };
  readonly members: number;
  readonly leaseCount: number;
  readonly offeredBytes: number;
  readonly reservedBytes: number;
  readonly grantedLastMinute: number;
  readonly deniedLastMinute: number;
}

/** A row of `admin.providers`. */
export interface ControlProvider {
  readonly nodeId: string;
  readonly name: string;
  readonly address: string;
  readonly hostId: string;
  readonly zone: string;
  /** `up`, `full`, `draining` or `down`. */
  readonly state: string;
  readonly offeredBytes: number;
  readonly reservedBytes: number;
  readonly leaseCount: number;
  readonly seenMsAgo: number;
}

/** A row of `admin.members`. */
export interface ControlMember {
  /** Empty while only a fingerprint is known. */
  readonly nodeId: string;
  readonly publicKey: string;
  readonly name: string;
  readonly roles: readonly MemberRole[];
  /** Null: no limit. */
  readonly quotaBytes: number | null;
  /** Null: no limit. */
  readonly quotaLeases: number | null;
  readonly usedBytes: number;
  readonly usedLeases: number;
  readonly connected: boolean;
}

/** A row of `lease.list`. */
export interface ControlLease {
  readonly leaseId: string;
  readonly client: string;
  readonly clientName: string;
  readonly provider: string;
  readonly providerName: string;
  readonly sizeBytes: number;
  /** `granted`, `active` or `ending`. */
  readonly state: string;
  readonly endsInMs: number;
  readonly purpose: string;
}

/** A row of `admin.usage`. */
export interface ControlUsage {
  readonly client: string;
  readonly name: string;
  readonly usedBytes: number;
  readonly usedLeases: number;
  readonly quotaBytes: number | null;
  readonly byteSeconds: number;
  readonly leasesGranted: number;
  readonly leasesDenied: number;
  readonly peakBytes: number;
}

/** A row of `admin.audit`. */
export interface ControlAuditLine {
  readonly sequence: number;
  readonly at: string;
  readonly event: string;
  readonly controlNode: string;
  readonly epoch: number;
  readonly detail: Readonly<Record<string, unknown>>;
  readonly hash: string;
}

/** `admin.watch`. */
export interface ControlEvents {
  readonly events: readonly {
    readonly cursor: string;
    readonly event: string;
    readonly detail: Readonly<Record<string, unknown>>;
  }[];
  readonly cursor: string;
  /** Events before these were lost. */
  readonly missed: boolean;
}

/** A page of rows; `cursor` is where the next begins, null behind the last. */
interface Page<T> {
  readonly rows: readonly T[];
  readonly cursor: string | null;
}

/** The answers of the calls that the command line makes, by name. */
export interface ControlAnswers {
  'admin.status': ControlStatus;
  'admin.providers': Page<ControlProvider>;
  'admin.members': Page<ControlMember>;
  'admin.member-put': ControlMember;
  'admin.member-remove': { readonly revokedLeases: number };
  'admin.revoke': { readonly revoked: number; readonly unknown: readonly string[] };
  'admin.drain': ControlProvider;
  'admin.usage': Page<ControlUsage>;
  'admin.audit': { readonly rows: readonly ControlAuditLine[] };
  'admin.watch': ControlEvents;
  'lease.list': Page<ControlLease>;
}
