/**
 * What the messages of membership weigh on the wire: the product's own codecs and record writer make each
 * one, and the bytes are counted. A record of its own for each, as it is when nothing else leaves in the
 * turn. No socket.
 */
import { createRequire } from 'node:module';
import { Service } from 'bonjour-service';
import { NativeMemory } from '../../common/native-memory.ts';
import type { ProviderUsage } from '../../common/ports.ts';
import { encodeManagedCall, encodeManagedResult } from '../../control-plane/messages.ts';
import { MessageType, OUTPUT_CHUNK_SIZE_BYTES } from '../../peer/constants.ts';
import { encodeControlOk, encodeControlRequest, encodeNotice } from '../../peer/control.ts';
import {
  instanceName,
  recordsForLink,
  txtFields,
  type DnsRecord,
} from '../../peer/discovery/advert-codec.ts';
import { SERVICE_DOMAIN, SERVICE_TYPE } from '../../peer/discovery/constants.ts';
import { exchangeFields, shareInTurn, type PeerHint } from '../../peer/exchange-control.ts';
import { RecordSealer } from '../../peer/record-cipher.ts';
import { RecordWriter } from '../../peer/record-writer.ts';

/** Ethernet II with its check sequence, IPv4, TCP with timestamps: RFC 894, 791, 9293, 7323. */
const SEGMENT_HEADER_BYTES = 18 + 20 + 32;
/** Ethernet II with its check sequence, IPv4, UDP. */
const DATAGRAM_HEADER_BYTES = 18 + 20 + 8;
/** Bytes of TCP in one segment on Ethernet. */
const SEGMENT_SIZE_BYTES = 1448;

/** Bytes of records, or of a datagram; with {@link onWire} as frames on Ethernet. */
export interface MessageSizes {
  readonly ping: number;
  readonly pong: number;
  /** NOTICE of a provider's room. */
  readonly usage: number;
  readonly exchangeRequest: number;
  /** CONTROL of `renew`, for so many leases. */
  readonly renew: (leaseCount: number) => number;
  readonly renewReply: number;
  readonly exchangeReply: (hintCount: number) => number;
  readonly heartbeat: number;
  readonly heartbeatReply: number;
  readonly hello: number;
  readonly helloReply: number;
  /** UDP payload: the question who is there. */
  readonly query: number;
  /** UDP payload: a node's answer, one IPv4 and one IPv6 address. */
  readonly advert: number;
}

/** Bytes of frames that carry a record; the acknowledgement rides on what goes back. */
export function onWire(recordBytes: number): number {
  return recordBytes + Math.ceil(recordBytes / SEGMENT_SIZE_BYTES) * SEGMENT_HEADER_BYTES;
}

/** Bytes of the frame around a datagram. */
export function datagramOnWire(payloadBytes: number): number {
  return payloadBytes + DATAGRAM_HEADER_BYTES;
}

const NODE_ID = '0123456789abcdef0123456789abcdef';
const USAGE: ProviderUsage = {
  offeredBytes: 16 * 2 ** 30,
  usedBytes: 411 * 16_844_288,
  residentBytes: 398 * 16_844_288,
  leaseCount: 411,
  heldBytes: 2 * 16_844_288,
};

/** dns-packet, with which the library below bonjour-service makes packets. */
interface DnsPackets {
  encodingLength(packet: object): number;
}

function dnsPackets(): DnsPackets {
  const require = createRequire(import.meta.url);
  const bonjour = createRequire(require.resolve('bonjour-service'));
  return createRequire(bonjour.resolve('multicast-dns'))('dns-packet') as DnsPackets;
}

/** What a node answers, as it leaves a link: `peer/discovery/mdns-link.ts`. */
function advertRecords(): DnsRecord[] {
  const txt = txtFields({ nodeId: NODE_ID, port: 7070, freeBytes: 16 * 2 ** 30 });
  const host = `memcloud-${NODE_ID.slice(0, 12)}.local`;
  const service = new Service(
    { name: instanceName('machine-17', NODE_ID), type: SERVICE_TYPE, port: 7070, txt, host },
    () => undefined,
    () => undefined,
  );
  const addresses = { A: '10.20.30.40', AAAA: 'fe80::5054:ff:fe12:3456' } as const;
  const hosts = (Object.keys(addresses) as (keyof typeof addresses)[]).map((type) => ({
    ...{ name: host, type, ttl: 120, data: addresses[type] },
  }));
  const records = (service.records() as DnsRecord[]).filter(
    ({ type }) => type !== 'A' && type !== 'AAAA',
  );
  return recordsForLink([...records, ...hosts], Object.values(addresses), txt);
}

/** Makes each message once. */
export function measureMessages(): MessageSizes {
  const output = new NativeMemory(OUTPUT_CHUNK_SIZE_BYTES);
  const sealer = new RecordSealer(new Uint8Array(32).fill(7), 0);
  const target = { reserve: () => 0, unreserve: () => undefined, output, backlogBytes: 0 };
  const writer = new RecordWriter(target, sealer, 0);
  const record = (put: (to: RecordWriter) => void): number => {
    const before = writer.byteCount;
    put(writer);
    writer.close();
    return writer.byteCount - before;
  };
  const body = (type: number, bytes: Uint8Array): number =>
    record((to) => to.body(type, 1, 0, bytes));
  const hints = (count: number): PeerHint[] =>
    Array.from({ length: count }, (_, at) => ({
      nodeId: at.toString(16).padStart(32, 'f'),
      address: `10.20.${at % 256}.${100 + (at % 100)}:7070`,
    }));
  const leaseIds = (count: number): string[] =>
    Array.from({ length: count }, (_, at) => at.toString(16).padStart(16, 'a'));
  const variable = (of: (count: number) => number): ((count: number) => number) => {
    const known = new Map<number, number>();
    return (count) => {
      const size = known.get(count) ?? of(count);
      known.set(count, size);
      return size;
    };
  };
  const { CONTROL, CONTROL_REPLY, MANAGE, MANAGE_REPLY, NOTICE, PING, PONG } = MessageType;
  const renew = variable((count) =>
    body(
      CONTROL,
      encodeControlRequest({ method: 'renew', leaseIds: leaseIds(count), ttlMs: 120_000 }),
    ),
  );
  const exchangeReply = variable((count) =>
    body(CONTROL_REPLY, encodeControlOk(exchangeFields(shareInTurn(hints(count), 0)))),
  );
  const room = {
    offeredBytes: USAGE.offeredBytes,
    otherBytes: 0,
    accepting: true,
    draining: false,
  };
  const life = NODE_ID;
  const dns = dnsPackets();
  const [pointer, ...rest] = advertRecords();
  return {
    ping: record((to) => to.plain(PING, 0, 1, 0)),
    pong: record((to) => to.plain(PONG, 0, 1, 0)),
    usage: body(NOTICE, encodeNotice({ usage: USAGE })),
    exchangeRequest: body(CONTROL, encodeControlRequest({ method: 'peers' })),
    renew,
    renewReply: body(CONTROL_REPLY, encodeControlOk({ unknown: [] })),
    exchangeReply,
    heartbeat: body(MANAGE, encodeManagedCall('provider.heartbeat', { life, ...room, load: 0.25 })),
    heartbeatReply: body(MANAGE_REPLY, encodeManagedResult('provider.heartbeat', { epoch: 17 })),
    hello: body(MANAGE, encodeManagedCall('control.hello', {})),
    helloReply: body(
      MANAGE_REPLY,
      encodeManagedResult('control.hello', {
        ...{ cluster: NODE_ID, controlNode: NODE_ID, name: 'tower', leads: true, leader: NODE_ID },
        ...{ epoch: 17, roles: ['client', 'provider'], quotaBytes: null },
      }),
    ),
    query: dns.encodingLength({
      type: 'query',
      questions: [{ name: SERVICE_DOMAIN, type: 'PTR' }],
    }),
    advert: dns.encodingLength({ type: 'response', answers: [pointer], additionals: rest }),
  };
}
