/**
 * The bodies of HELLO, CONTROL, CONTROL_REPLY and NOTICE (docs/peer-protocol.md section 7): small
 * MessagePack maps, rare, each field checked by hand before anyone sees it. A codec; pure and total:
 * a body gives a typed value or ERR_PEER_PROTOCOL. Unknown keys are ignored, so that later versions
 * can add some.
 */
import { Packr } from 'msgpackr';
import { isErrorCode, type ErrorCode, type MemcloudError } from '../common/errors.ts';
import { isLaneName, LANE_LENGTH_MAX } from '../common/holder.ts';
import type { NodeId, ProviderUsage, SlabGrant, SlabRecall, SlabRequest } from '../common/ports.ts';
import { printableAscii } from '../common/printable.ts';
import {
  FEATURE_COUNT_MAX,
  FEATURE_LENGTH_MAX,
  LEASE_ID_COUNT_MAX,
  REVOCATION_COUNT_MAX,
} from './constants.ts';
import {
  asHex,
  asList,
  asMap,
  booleanField,
  integerField,
  labelField,
  NUMBER_MAX,
  refuseBody,
  underField,
} from './control-fields.ts';
import { decodeDirectRequest, type DirectRequest } from './direct-control.ts';
import type { InviteProof } from './invites.ts';
import { unpackMap, type PackedMap } from './message-pack.ts';

/** The credits that a side grants the other. */
export interface CreditLimits {
  /** Requests in flight, 1 to 65536. */
  readonly requestCountMax: number;
  /** Bytes of sealed pages in flight, 64 sealed pages to 2^32 - 1. */
  readonly pageBytesMax: number;
}

/** The HELLO that lets the other side in. */
export interface AcceptedHello {
  /** Come in. */
  readonly verdict: 'accepted';
  /** What it may have in flight. */
  readonly limits: CreditLimits;
  /** The sender's room. */
  readonly usage: ProviderUsage;
  /** What the sender can do beyond version 1, see `Feature`; names that are unknown here included. */
  readonly features: readonly string[];
  /** Names the machine that the sender runs on; empty when it does not say. */
  readonly hostId: string;
  /** Its wider failure domain; empty for none. */
  readonly zone: string;
  /** False while it grants no leases. */
  readonly accepting: boolean;
  /** The lane that the sender dials on; empty for the node itself. */
  readonly lane: string;
  /** The TCP port on which the sender takes peers; 0 when it does not say. */
  readonly port: number;
  /** Proves an invitation of the receiver; only a dialler sends it. */
  readonly invite?: InviteProof;
}

/** The HELLO of a side that has not decided yet. */
export interface PendingHello {
  /** Wait. */
  readonly verdict: 'pending';
  /** The lane that the sender dials on; empty for the node itself. */
  readonly lane: string;
}

/** A HELLO; limits and usage come only with `accepted`. */
export type Hello = PendingHello | { readonly verdict: 'refused' } | AcceptedHello;

/** A control request. */
export type ControlRequest =
  | ({ readonly method: 'lease' } & SlabRequest)
  | { readonly method: 'renew'; readonly leaseIds: readonly string[]; readonly ttlMs: number }
  | { readonly method: 'release'; readonly leaseId: string }
  | { readonly method: 'usage' }
  | { readonly method: 'recall-room' }
  | { readonly method: 'peers' }
  | DirectRequest;

/** What a holder says to a provider that would like all of its leases back. All counts are bytes. */
export interface RecallRoom {
  /** Leased by it on the provider that asks. */
  readonly heldBytes: number;
  /** Free on the other providers that it may use. */
  readonly roomBytes: number;
  /** Why it cannot move everything, for people; empty when it can. At most 256 characters. */
  readonly problem: string;
}

/** A control reply: what the method returns, or an error. */
export type ControlReply =
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string }
  | { readonly ok: true; readonly fields: PackedMap };

/** What a provider tells unasked. */
export interface Notice {
  /** Its room, when it changed. */
  readonly usage?: ProviderUsage;
  /** Leases of the receiver that ended without its doing. */
  readonly leasesEnded?: readonly string[];
  /** Leases of the receiver that it is to give back. */
  readonly recall?: SlabRecall;
  /** Whether it grants leases, when that changed. */
  readonly accepting?: boolean;
  /** Every node that lost the sender's trust and has not got it back. */
  readonly revoked?: readonly RevokedNode[];
}

/** A node that lost the trust of another. */
export interface RevokedNode {
  /** Which. */
  readonly nodeId: NodeId;
  /** How long ago, seconds: ages need no common clock. */
  readonly ageS: number;
}

/** Codes that a reply may carry; others become ERR_PEER_PROTOCOL. */
const REPLY_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ERR_LEASE_CAPACITY',
  'ERR_LEASE_INVALID',
  'ERR_LEASE_UNKNOWN',
  'ERR_UNSUPPORTED',
  'ERR_INTERNAL',
]);

const REPLY_MESSAGE_LENGTH_MAX = 256;
const LEASE_ID_DIGITS = 16;
const INVITE_ID_DIGITS = 16;
const INVITE_PROOF_DIGITS = 64;
const NODE_ID_DIGITS = 32;
const PAGE_BYTES_MIN = 64 * 4112;

const packr = new Packr({ useRecords: false });

function leaseId(value: unknown): string {
  return asHex(value, LEASE_ID_DIGITS, 'a lease id');
}

function leaseIds(value: unknown): string[] {
  return asList(value, LEASE_ID_COUNT_MAX, 'lease ids').map(leaseId);
}

/** Names are checked for being names; those that mean nothing here are somebody else's future. */
function features(value: unknown): string[] {
  if (value === undefined) return [];
  return asList(value, FEATURE_COUNT_MAX, 'features').map((name) => {
    if (typeof name !== 'string' || name.length > FEATURE_LENGTH_MAX) {
      refuseBody(`a feature: expected a name of at most ${FEATURE_LENGTH_MAX} characters`);
    }
    return name;
  });
}

function usage(value: unknown): ProviderUsage {
  const fields = asMap(value, 'usage');
  const count = (key: string): number => integerField(fields, key, 0, NUMBER_MAX);
  return {
    offeredBytes: count('offeredBytes'),
    usedBytes: count('usedBytes'),
    residentBytes: count('residentBytes'),
    leaseCount: count('leaseCount'),
    ...(fields['heldBytes'] === undefined ? {} : { heldBytes: count('heldBytes') }),
  };
}

function usageFields({
  offeredBytes,
  usedBytes,
  residentBytes,
  leaseCount,
  heldBytes,
}: ProviderUsage): ProviderUsage {
  const all = { offeredBytes, usedBytes, residentBytes, leaseCount };
  return heldBytes === undefined ? all : { ...all, heldBytes };
}

/** Encodes a HELLO. */
export function encodeHello(hello: Hello): Buffer {
  const { verdict } = hello;
  if (verdict === 'refused') return packr.pack({ verdict });
  const lane = hello.lane === '' ? {} : { lane: hello.lane };
  if (verdict === 'pending') return packr.pack({ verdict, ...lane });
  const { limits, port } = hello;
  return packr.pack({
    verdict,
    ...limits,
    usage: usageFields(hello.usage),
    features: hello.features,
    host: hello.hostId,
    zone: hello.zone,
    accepting: hello.accepting,
    ...lane,
    ...(port === 0 ? {} : { port }),
    ...(hello.invite === undefined ? {} : { invite: hello.invite }),
  });
}

/** Decodes a HELLO. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeHello(bytes: Buffer): Hello {
  const fields = unpackMap(bytes);
  const verdict = fields['verdict'];
  if (verdict === 'refused') return { verdict };
  if (verdict === 'pending') return { verdict, lane: lane(fields['lane']) };
  if (verdict !== 'accepted') refuseBody('verdict: expected accepted, pending or refused');
  const limits = {
    requestCountMax: integerField(fields, 'requestCountMax', 1, 65536),
    pageBytesMax: integerField(fields, 'pageBytesMax', PAGE_BYTES_MIN, 2 ** 32 - 1),
  };
  return {
    verdict,
    limits,
    usage: usage(fields['usage']),
    features: features(fields['features']),
    hostId: labelField(fields, 'host'),
    zone: labelField(fields, 'zone'),
    accepting: fields['accepting'] === undefined || booleanField(fields, 'accepting'),
    lane: lane(fields['lane']),
    port: fields['port'] === undefined ? 0 : integerField(fields, 'port', 1, 65535),
    ...(fields['invite'] === undefined ? {} : { invite: invite(fields['invite']) }),
  };
}

function invite(value: unknown): InviteProof {
  const fields = asMap(value, 'invite');
  return {
    id: asHex(fields['id'], INVITE_ID_DIGITS, 'an invitation'),
    proof: asHex(fields['proof'], INVITE_PROOF_DIGITS, 'a proof'),
  };
}

function lane(value: unknown): string {
  if (value === undefined) return '';
  return isLaneName(value)
    ? value
    : refuseBody(`lane: expected 1 to ${LANE_LENGTH_MAX} of a-z, 0-9 and dashes`);
}

/** Encodes a control request. Ids: at most as many as its method may carry. */
export function encodeControlRequest(request: ControlRequest): Buffer {
  return packr.pack(request);
}

/**
 * Decodes a control request. Pages and times are checked for being numbers; whether they are
 * acceptable is the provider's word.
 *
 * @throws MemcloudError `ERR_PEER_PROTOCOL`
 */
export function decodeControlRequest(bytes: Buffer): ControlRequest {
  const fields = unpackMap(bytes);
  const ttlMs = (): number => integerField(fields, 'ttlMs', 0, 2 ** 32 - 1);
  switch (fields['method']) {
    case 'lease':
      return {
        method: 'lease',
        pageCount: integerField(fields, 'pageCount', 0, 2 ** 32 - 1),
        ttlMs: ttlMs(),
        ...underField(fields),
      };
    case 'renew':
      return { method: 'renew', leaseIds: leaseIds(fields['leaseIds']), ttlMs: ttlMs() };
    case 'release':
      return { method: 'release', leaseId: leaseId(fields['leaseId']) };
    case 'usage':
      return { method: 'usage' };
    case 'recall-room':
      return { method: 'recall-room' };
    case 'peers':
      return { method: 'peers' };
    default:
      return decodeDirectRequest(fields) ?? refuseBody('method: expected a known one');
  }
}

/** Encodes a reply of success. */
export function encodeControlOk(fields: object): Buffer {
  return packr.pack({ ok: true, ...fields });
}

/** Encodes a reply of failure; the message is for people and is cut to 256 characters. */
export function encodeControlError(error: MemcloudError): Buffer {
  const code = REPLY_CODES.has(error.code) ? error.code : 'ERR_INTERNAL';
  const message = code === 'ERR_INTERNAL' ? 'the provider failed' : error.message;
  return packr.pack({ ok: false, code, message: message.slice(0, REPLY_MESSAGE_LENGTH_MAX) });
}

/** Decodes a reply; what it holds beyond `ok` is for the `decode...` of its method. */
export function decodeControlReply(bytes: Buffer): ControlReply {
  const fields = unpackMap(bytes);
  if (fields['ok'] === true) return { ok: true, fields };
  const { code, message } = fields;
  if (fields['ok'] !== false || !isErrorCode(code) || !REPLY_CODES.has(code)) {
    refuseBody('a reply: expected ok, or an error code that a reply may carry');
  }
  return { ok: false, code, message: forPeople(message) };
}

/** Text that ends up on a terminal: nothing but printable ASCII survives. */
function forPeople(text: unknown): string {
  return typeof text === 'string' ? printableAscii(text, REPLY_MESSAGE_LENGTH_MAX) : '';
}

/** The grant in a reply to `lease`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeGrant(fields: PackedMap): SlabGrant {
  return {
    leaseId: leaseId(fields['leaseId']),
    slabHandle: integerField(fields, 'slabHandle', 0, 2 ** 32 - 1),
    ttlMs: integerField(fields, 'ttlMs', 0, 2 ** 32 - 1),
  };
}

/** The ids in a reply to `renew`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeUnknownLeases(fields: PackedMap): string[] {
  return leaseIds(fields['unknown']);
}

/** The room in a reply to `recall-room`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeRecallRoom(fields: PackedMap): RecallRoom {
  return {
    heldBytes: integerField(fields, 'heldBytes', 0, NUMBER_MAX),
    roomBytes: integerField(fields, 'roomBytes', 0, NUMBER_MAX),
    problem: forPeople(fields['problem']),
  };
}

/** The fields of {@link RecallRoom} that travel; the problem is cut to 256 characters. */
export function recallRoomFields({ heldBytes, roomBytes, problem }: RecallRoom): RecallRoom {
  return { heldBytes, roomBytes, problem: problem.slice(0, REPLY_MESSAGE_LENGTH_MAX) };
}

/** Encodes a NOTICE. A recall without an end has no `endsInMs`. */
export function encodeNotice(notice: Notice): Buffer {
  const { usage, leasesEnded, recall, accepting, revoked } = notice;
  return packr.pack({
    ...(revoked === undefined ? {} : { revoked }),
    ...(usage === undefined ? {} : { usage: usageFields(usage) }),
    ...(leasesEnded === undefined ? {} : { leasesEnded }),
    ...(recall === undefined ? {} : { recall: recallFields(recall) }),
    ...(accepting === undefined ? {} : { accepting }),
  });
}

function recallFields({ leaseIds: ids, endsInMs }: SlabRecall): object {
  const isFinal = Number.isFinite(endsInMs);
  return { leaseIds: ids, ...(isFinal ? { endsInMs: Math.max(0, Math.round(endsInMs)) } : {}) };
}

/** Decodes a NOTICE. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeNotice(bytes: Buffer): Notice {
  const fields = unpackMap(bytes);
  return {
    ...(fields['usage'] === undefined ? {} : { usage: usage(fields['usage']) }),
    ...(fields['leasesEnded'] === undefined
      ? {}
      : { leasesEnded: leaseIds(fields['leasesEnded']) }),
    ...(fields['recall'] === undefined ? {} : { recall: recall(fields['recall']) }),
    ...(fields['accepting'] === undefined ? {} : { accepting: booleanField(fields, 'accepting') }),
    ...(fields['revoked'] === undefined ? {} : { revoked: revoked(fields['revoked']) }),
  };
}

function revoked(value: unknown): RevokedNode[] {
  return asList(value, REVOCATION_COUNT_MAX, 'revocations').map((row) => {
    const fields = asMap(row, 'a revocation');
    return {
      nodeId: asHex(fields['nodeId'], NODE_ID_DIGITS, 'a node id'),
      ageS: integerField(fields, 'ageS', 0, NUMBER_MAX),
    };
  });
}

function recall(value: unknown): SlabRecall {
  const fields = asMap(value, 'recall');
  const endsInMs =
    fields['endsInMs'] === undefined ? Infinity : integerField(fields, 'endsInMs', 0, 2 ** 32 - 1);
  return { leaseIds: leaseIds(fields['leaseIds']), endsInMs };
}
