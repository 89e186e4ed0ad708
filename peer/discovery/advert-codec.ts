/**
 * What a node announces of itself, as DNS-SD has it (RFC 6763): the codec between an advert and the
 * records of a packet that the library took apart. Pure and total: of whatever comes, the adverts that
 * are right are read and the rest is left out. An advert is a claim and proves nothing.
 *
 * The library's own browser is not used: it keeps without bound what it hears, tells two nodes apart by
 * name alone, so that a forger could hide the real one, and does not say that a node answered again.
 */
import { fingerprintOf } from '../../common/fingerprint.ts';
import type { NodeId } from '../../common/ports.ts';
import {
  INSTANCE_NAME_SIZE_MAX,
  NODE_ID_DIGITS,
  PACKET_ADVERT_COUNT_MAX,
  PACKET_RECORD_COUNT_MAX,
  PROTOCOL_VERSION,
  SERVICE_DOMAIN,
} from './constants.ts';

/** A record as the library gives it; nothing about it is certain. */
export interface DnsRecord {
  readonly name?: unknown;
  readonly type?: unknown;
  readonly ttl?: unknown;
  readonly data?: unknown;
}

/** A packet as the library gives it. */
export interface DnsPacket {
  readonly questions?: readonly DnsRecord[];
  readonly answers?: readonly DnsRecord[];
  readonly additionals?: readonly DnsRecord[];
}

/** A node that announces itself. */
export interface Advert {
  /** The id that it claims. */
  readonly nodeId: NodeId;
  /** Its name, as far as it fits: letters, digits and dashes, safe to print. */
  readonly name: string;
  /** Where it takes peers, on the address that the packet came from. */
  readonly port: number;
  /** Version of the peer protocol, 1 to 255. */
  readonly protocol: number;
  /** Free bytes, 0 or a power of two; null when it does not say. */
  readonly freeBytes: number | null;
}

/** What a packet says. */
export interface AdvertNews {
  /** Who is there. */
  readonly alive: readonly Advert[];
  /** Who says goodbye. */
  readonly gone: readonly NodeId[];
}

const INSTANCE_PATTERN = /^([A-Za-z0-9][A-Za-z0-9 _-]{0,29})-([0-9a-f]{32})$/;

/**
 * The instance name of a node: its name, as far as it fits, and its id, so that no two are the same.
 *
 * @param name - a valid node name
 */
export function instanceName(name: string, nodeId: NodeId): string {
  const room = INSTANCE_NAME_SIZE_MAX - NODE_ID_DIGITS - 1;
  return `${name.replace(/[^A-Za-z0-9 _-]/g, '-').slice(0, room)}-${nodeId}`;
}

/** The greatest power of two that is at most `bytes`; 0 for 0. What an observer learns of our room. */
export function freeBucket(bytes: number): number {
  return bytes < 1 ? 0 : 2 ** Math.floor(Math.log2(bytes));
}

/** The TXT record of a node, all of it. */
export function txtFields(advert: {
  nodeId: NodeId;
  port: number;
  freeBytes: number;
}): Record<string, string> {
  const { nodeId, port, freeBytes } = advert;
  return {
    id: nodeId,
    fp: fingerprintOf(nodeId),
    port: String(port),
    v: String(PROTOCOL_VERSION),
    free: String(freeBucket(freeBytes)),
  };
}

/** Reads the adverts of a packet. */
export function readAdverts(packet: DnsPacket): AdvertNews {
  const { answers = [], additionals = [] } = packet;
  const records = [...answers, ...additionals].slice(0, PACKET_RECORD_COUNT_MAX);
  const alive: Advert[] = [];
  const gone: NodeId[] = [];
  const pointers = records.filter(({ type, name }) => type === 'PTR' && isService(name));
  for (const { data, ttl } of pointers.slice(0, PACKET_ADVERT_COUNT_MAX)) {
    if (typeof data !== 'string') continue;
    const named = instanceOf(data);
    if (named === undefined) continue;
    if (ttl === 0) {
      gone.push(named.nodeId);
      continue;
    }
    const own = records.filter(({ name }) => typeof name === 'string' && isSame(name, data));
    const advert = readAdvert(named, own);
    if (advert !== undefined) alive.push(advert);
  }
  return { alive, gone };
}

/** True when a packet asks who is there. */
export function asksForNodes({ questions = [] }: DnsPacket): boolean {
  const some = questions.slice(0, PACKET_RECORD_COUNT_MAX);
  return some.some(({ name, type }) => type === 'PTR' && isService(name));
}

function readAdvert(
  { name, nodeId }: { name: string; nodeId: NodeId },
  records: readonly DnsRecord[],
): Advert | undefined {
  const service = records.find(({ type }) => type === 'SRV')?.data;
  const text = txtOf(records.find(({ type }) => type === 'TXT')?.data);
  const port = wholeNumber(text.get('port'), 1, 65535);
  const protocol = wholeNumber(text.get('v'), 1, 255);
  const isRight =
    text.get('id') === nodeId &&
    text.get('fp') === fingerprintOf(nodeId) &&
    port !== undefined &&
    typeof service === 'object' &&
    (service as { port?: unknown } | null)?.port === port;
  if (!isRight || protocol === undefined) return undefined;
  const free = wholeNumber(text.get('free'), 0, 2 ** 52);
  const isBucket = free !== undefined && freeBucket(free) === free;
  return { nodeId, name, port, protocol, freeBytes: isBucket ? free : null };
}

/** The first value of each key, as RFC 6763 section 6.4 has it. */
function txtOf(data: unknown): Map<string, string> {
  const fields = new Map<string, string>();
  const parts: unknown[] = Array.isArray(data) ? data : [data];
  for (const part of parts.slice(0, PACKET_RECORD_COUNT_MAX)) {
    if (!(part instanceof Uint8Array)) continue;
    const [, key = '', value = ''] =
      /^([a-z]+)=(.*)$/.exec(Buffer.from(part).toString('latin1')) ?? [];
    if (!fields.has(key)) fields.set(key, value);
  }
  return fields;
}

function wholeNumber(text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined || !/^(0|[1-9]\d{0,15})$/.test(text)) return undefined;
  const value = Number(text);
  return value >= min && value <= max ? value : undefined;
}

function isService(name: unknown): boolean {
  return typeof name === 'string' && isSame(name, SERVICE_DOMAIN);
}

/** DNS compares without case. */
function isSame(one: string, other: string): boolean {
  return one.length === other.length && one.toLowerCase() === other.toLowerCase();
}

function instanceOf(domain: string): { name: string; nodeId: NodeId } | undefined {
  const at = domain.length - SERVICE_DOMAIN.length - 1;
  if (at < 1 || domain[at] !== '.' || !isService(domain.slice(at + 1))) return undefined;
  const [, name, nodeId] = INSTANCE_PATTERN.exec(domain.slice(0, at)) ?? [];
  return name === undefined || nodeId === undefined ? undefined : { name, nodeId };
}

/**
 * What may leave on a link of the records that the library made: addresses of this link only, since those
 * of others are nobody's business here, and a TXT that is true now.
 *
 * @param addresses - of the link
 * @param text - the TXT of the instance
 */
export function recordsForLink(
  records: readonly DnsRecord[],
  addresses: readonly string[],
  text: Readonly<Record<string, string>>,
): DnsRecord[] {
  return records.flatMap((record) => {
    const { type, data } = record;
    if (type === 'A' || type === 'AAAA') return addresses.includes(String(data)) ? [record] : [];
    if (type !== 'TXT') return [record];
    const parts = Object.entries(text).map(([key, value]) => Buffer.from(`${key}=${value}`));
    return [{ ...record, data: parts }];
  });
}
