/**
 * Every decoder of the peer protocol over mutated good bytes and over noise: a value, or that
 * protocol's error, nothing else.
 */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import {
  decodeControlReply,
  decodeControlRequest,
  decodeGrant,
  decodeHello,
  decodeNotice,
  decodeRecallRoom,
  decodeUnknownLeases,
  encodeControlOk,
  encodeControlRequest,
  encodeHello,
  encodeNotice,
} from '../../peer/control.ts';
import { decodeCredentials, encodeCredentials } from '../../peer/credentials.ts';
import {
  decodeDirectExports,
  decodeDirectTicket,
  decodeOpenedExport,
  decodeUnknownExports,
} from '../../peer/direct-control.ts';
import { directTicketId, opensDirect } from '../../peer/direct-preface.ts';
import { emptyRecordLayout, handshakeFrameSize, readRecordLayout } from '../../peer/frame.ts';
import { Identity } from '../../peer/identity.ts';
import { unpackMap, type PackedMap } from '../../peer/message-pack.ts';
import { MessageCursor } from '../../peer/messages.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';

const USAGE = { offeredBytes: 2 ** 40, usedBytes: 70000, residentBytes: 4, leaseCount: 1 };
const ID = '0123456789abcdef';
const EXPORT = {
  exportId: ID,
  sizeBytes: 2 ** 40,
  residentBytes: 70000,
  connected: true,
  ttlMs: 1000,
};
const BODIES = [
  encodeHello({
    verdict: 'accepted',
    limits: { requestCountMax: 1024, pageBytesMax: 2 ** 24 },
    usage: USAGE,
    features: ['direct', 'later'],
    ...{ hostId: 'h', zone: 'z', accepting: false, lane: 'mount-1', port: 7070 },
  }),
  encodeHello({ verdict: 'pending', lane: 'mount-1' }),
  encodeControlRequest({ method: 'lease', pageCount: 4096, ttlMs: 60000 }),
  encodeControlRequest({ method: 'lease', pageCount: 1, ttlMs: 60000, under: ID.repeat(2) }),
  encodeControlRequest({
    ...{ method: 'direct-open', sizeBytes: 2 ** 40, ttlMs: 60000 },
    under: ID.repeat(2),
  }),
  encodeControlRequest({ method: 'renew', leaseIds: [ID, ID], ttlMs: 60000 }),
  encodeControlRequest({ method: 'release', leaseId: ID }),
  encodeControlRequest({ method: 'direct-open', sizeBytes: 2 ** 40, ttlMs: 60000 }),
  encodeControlRequest({ method: 'direct-ticket', exportId: ID, consumerNonce: ID.repeat(4) }),
  encodeControlRequest({ method: 'direct-renew', exportIds: [ID, ID] }),
  encodeControlRequest({ method: 'direct-close', exportId: ID }),
  encodeControlRequest({ method: 'direct-list' }),
  encodeControlOk({ export: EXPORT }),
  encodeControlOk({ exports: [EXPORT, EXPORT] }),
  encodeControlOk({ ticketId: ID.repeat(2), secret: ID.repeat(4), port: 7070 }),
  encodeControlOk({ leaseId: ID, slabHandle: 7, ttlMs: 1000 }),
  encodeControlOk({ unknown: [ID] }),
  encodeNotice({ usage: USAGE, leasesEnded: [ID] }),
  encodeNotice({ recall: { leaseIds: [ID, ID], endsInMs: 10_000 }, accepting: false }),
  encodeControlRequest({ method: 'recall-room' }),
  encodeControlOk({ heldBytes: 70000, roomBytes: 2 ** 40, problem: 'no room' }),
];

/** Fails unless `decode` returns or throws one of `codes`. */
function total(decode: () => unknown, ...codes: string[]): void {
  try {
    decode();
  } catch (error) {
    if (error instanceof MemcloudError && codes.includes(error.code)) return;
    throw error;
  }
}

const noiseOr = (random: Random, good: Uint8Array): Buffer =>
  random.below(4) === 0 ? random.bytes(random.below(300)) : random.mutate(good);

t.test('control bodies', async (t) => {
  await fuzz(t, (random) => {
    const bytes = noiseOr(random, random.pick(BODIES));
    const decoders = [
      unpackMap,
      decodeHello,
      decodeControlRequest,
      decodeControlReply,
      decodeNotice,
    ];
    for (const decode of decoders) total(() => decode(bytes), 'ERR_PEER_PROTOCOL');
  });
});

t.test('fields of replies', async (t) => {
  await fuzz(t, (random) => {
    const bytes = noiseOr(random, random.pick(BODIES));
    const decoders: ((fields: PackedMap) => unknown)[] = [
      decodeGrant,
      decodeUnknownLeases,
      decodeRecallRoom,
      (fields) => decodeOpenedExport(fields, 2 ** 40),
      decodeDirectExports,
      decodeDirectTicket,
      (fields) => decodeUnknownExports(fields, [ID]),
    ];
    for (const decode of decoders) total(() => decode(unpackMap(bytes)), 'ERR_PEER_PROTOCOL');
  });
});

t.test('openings of connections', async (t) => {
  const good = Buffer.from('MCDIRECT0123456789abcdef and what follows');
  await fuzz(
    t,
    (random) => {
      const bytes = noiseOr(random, good);
      const end = random.below(bytes.length + 1);
      const start = random.below(end + 1);
      const text = bytes.toString('latin1', start, Math.min(end, start + 8));
      const opens = text !== '' && 'MCDIRECT'.startsWith(text);
      if (opensDirect(bytes, start, end) !== opens) throw new Error('another opening');
      if (!opens) return;
      const ticketId = directTicketId(bytes, start, end);
      if ((ticketId !== undefined) !== end - start >= 24)
        throw new Error('a ticket of half a preface');
      if (ticketId !== undefined && !/^[0-9a-f]{32}$/.test(ticketId))
        throw new Error('no ticket id');
    },
    0.5,
  );
});

t.test('message heads', async (t) => {
  const good = Buffer.concat([
    Buffer.from('0100080078563412050000000900000000000000400000000', 'hex'),
    Buffer.from('8100080000000000050000000900000004000000000000008200000006000000', 'hex'),
    Buffer.from('ffffffff000000802000030000000000010000000200000001020300000000000', 'hex'),
    Buffer.from('40000200000000000000004001000000' + '7b7d000000000000', 'hex'),
    Buffer.from('c0000200000000000000004001000000' + '7b7d000000000000', 'hex'),
    Buffer.from('73000000010000000000000000000000', 'hex'),
  ]);
  await fuzz(t, (random) => {
    const bytes = noiseOr(random, good);
    const length = bytes.length - (bytes.length % 8);
    const cursor = new MessageCursor();
    cursor.reset(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, length);
    total(() => {
      for (let count = 0; cursor.next(); count += 1) {
        if (count > length / 16) throw new Error('more messages than fit');
        if (cursor.bodyOffset + cursor.bodyLength > length) throw new Error('a body outside');
        if (cursor.pageCount > 64) throw new Error('a page count outside');
      }
    }, 'ERR_PEER_PROTOCOL');
  });
});

t.test('frames', async (t) => {
  await fuzz(
    t,
    (random) => {
      const bytes = random.bytes(random.below(40));
      const end = bytes.length;
      const start = random.below(end + 1);
      total(() => {
        const size = handshakeFrameSize(bytes, start, end);
        if (size > end - start) throw new Error('a frame longer than its bytes');
      }, 'ERR_PEER_HANDSHAKE');
      const layout = emptyRecordLayout();
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      total(() => {
        if (!readRecordLayout(view, start, end, layout)) return;
        const { size, headLength, pagesLength } = layout;
        if (size > end - start || headLength + pagesLength + 24 !== size)
          throw new Error('a layout that does not add up');
      }, 'ERR_PEER_PROTOCOL');
    },
    0.5,
  );
});

t.test('credentials', async (t) => {
  const hash = new Uint8Array(32).fill(4);
  const good = encodeCredentials(Identity.ephemeral(), 'node', 'initiator', hash);
  await fuzz(
    t,
    (random) => {
      const bytes = noiseOr(random, good);
      if (Buffer.from(good).equals(bytes)) return;
      let verified = true;
      total(
        () => {
          verified = false;
          decodeCredentials(bytes, 'initiator', hash);
          verified = true;
        },
        'ERR_PEER_HANDSHAKE',
        'ERR_PEER_AUTHENTICATION',
      );
      // The name is not under the signature but under the AEAD of the handshake message.
      if (verified && !bytes.subarray(0, 97).equals(good.subarray(0, 97)))
        throw new Error('forged');
    },
    0.5,
  );
});
