/**
 * The bodies of HELLO, CONTROL, CONTROL_REPLY and NOTICE (docs/peer-protocol.md section 7): small
 * MessagePack maps, rare, each field checked by hand before anyone sees it. A codec; pure and total:
 * a body gives a typed value or ERR_PEER_PROTOCOL. Unknown keys are ignored, so that later versions
 * can add some.
 */
import { Packr } from 'msgpackr';
import { isErrorCode, MemcloudError, type ErrorCode } from '../common/errors.ts';
import type { ProviderUsage, SlabGrant, SlabRequest } from '../common/ports.ts';
import { LEASE_ID_COUNT_MAX } from './constants.ts';
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
}

/** A HELLO; limits and usage come only with `accepted`. */
export type Hello =
  { readonly verdict: 'pending' } | { readonly verdict: 'refused' } | AcceptedHello;

/** A control request. */
export type ControlRequest =
  | ({ readonly method: 'lease' } & SlabRequest)
  | { readonly method: 'renew'; readonly leaseIds: readonly string[]; readonly ttlMs: number }
  | { readonly method: 'release'; readonly leaseId: string }
  | { readonly method: 'usage' };

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
}

/** Codes that a reply may carry; others become ERR_PEER_PROTOCOL. */
const REPLY_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ERR_LEASE_CAPACITY',
  'ERR_LEASE_INVALID',
  'ERR_LEASE_UNKNOWN',
  'ERR_INTERNAL',
]);

const REPLY_MESSAGE_LENGTH_MAX = 256;
const LEASE_ID_PATTERN = /^[0-9a-f]{16}$/;
const PAGE_BYTES_MIN = 64 * 4112;

const packr = new Packr({ useRecords: false });

function fail(message: string): never {
  throw new MemcloudError('ERR_PEER_PROTOCOL', `control body: ${message}`);
}

function integer(map: PackedMap, key: string, min: number, max: number): number {
  const value = map[key];
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
    fail(`${key}: expected an integer from ${min} to ${max}`);
  }
  return value as number;
}

function map(value: unknown, key: string): PackedMap {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    fail(`${key}: expected a map`);
  }
  return value as PackedMap;
}

function leaseId(value: unknown): string {
  if (typeof value !== 'string' || !LEASE_ID_PATTERN.test(value)) {
    fail('a lease id: expected 16 hex digits');
  }
  return value;
}

function leaseIds(value: unknown): string[] {
  if (!Array.isArray(value) || value.length > LEASE_ID_COUNT_MAX) {
    fail(`lease ids: expected a list of at most ${LEASE_ID_COUNT_MAX}`);
  }
  return value.map(leaseId);
}

function usage(value: unknown): ProviderUsage {
  const fields = map(value, 'usage');
  const count = (key: string): number => integer(fields, key, 0, Number.MAX_SAFE_INTEGER);
  return {
    offeredBytes: count('offeredBytes'),
    usedBytes: count('usedBytes'),
    residentBytes: count('residentBytes'),
    leaseCount: count('leaseCount'),
  };
}

function usageFields({
  offeredBytes,
  usedBytes,
  residentBytes,
  leaseCount,
}: ProviderUsage): ProviderUsage {
  return { offeredBytes, usedBytes, residentBytes, leaseCount };
}

/** Encodes a HELLO. */
export function encodeHello(hello: Hello): Buffer {
  if (hello.verdict !== 'accepted') return packr.pack({ verdict: hello.verdict });
  const { verdict, limits } = hello;
  return packr.pack({ verdict, ...limits, usage: usageFields(hello.usage) });
}

/** Decodes a HELLO. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeHello(bytes: Buffer): Hello {
  const fields = unpackMap(bytes);
  const verdict = fields['verdict'];
  if (verdict === 'pending' || verdict === 'refused') return { verdict };
  if (verdict !== 'accepted') fail('verdict: expected accepted, pending or refused');
  const limits = {
    requestCountMax: integer(fields, 'requestCountMax', 1, 65536),
    pageBytesMax: integer(fields, 'pageBytesMax', PAGE_BYTES_MIN, 2 ** 32 - 1),
  };
  return { verdict, limits, usage: usage(fields['usage']) };
}

/** Encodes a control request. Lease ids: at most {@link LEASE_ID_COUNT_MAX}. */
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
  const ttlMs = (): number => integer(fields, 'ttlMs', 0, 2 ** 32 - 1);
  switch (fields['method']) {
    case 'lease':
      return {
        method: 'lease',
        pageCount: integer(fields, 'pageCount', 0, 2 ** 32 - 1),
        ttlMs: ttlMs(),
      };
    case 'renew':
      return { method: 'renew', leaseIds: leaseIds(fields['leaseIds']), ttlMs: ttlMs() };
    case 'release':
      return { method: 'release', leaseId: leaseId(fields['leaseId']) };
    case 'usage':
      return { method: 'usage' };
    default:
      return fail('method: expected lease, renew, release or usage');
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
    fail('a reply: expected ok, or an error code that a reply may carry');
  }
  // It ends up on a terminal: nothing but printable ASCII survives.
  const text = typeof message === 'string' ? message.replace(/[^\x20-\x7e]/g, '?') : '';
  return { ok: false, code, message: text.slice(0, REPLY_MESSAGE_LENGTH_MAX) };
}

/** The grant in a reply to `lease`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeGrant(fields: PackedMap): SlabGrant {
  return {
    leaseId: leaseId(fields['leaseId']),
    slabHandle: integer(fields, 'slabHandle', 0, 2 ** 32 - 1),
    ttlMs: integer(fields, 'ttlMs', 0, 2 ** 32 - 1),
  };
}

/** The ids in a reply to `renew`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeUnknownLeases(fields: PackedMap): string[] {
  return leaseIds(fields['unknown']);
}

/** Encodes a NOTICE. */
export function encodeNotice(notice: Notice): Buffer {
  const leasesEnded = notice.leasesEnded;
  return packr.pack({
    ...(notice.usage === undefined ? {} : { usage: usageFields(notice.usage) }),
    ...(leasesEnded === undefined ? {} : { leasesEnded }),
  });
}

/** Decodes a NOTICE. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeNotice(bytes: Buffer): Notice {
  const fields = unpackMap(bytes);
  return {
    ...(fields['usage'] === undefined ? {} : { usage: usage(fields['usage']) }),
    ...(fields['leasesEnded'] === undefined
      ? {}
      : { leasesEnded: leaseIds(fields['leasesEnded']) }),
  };
}
