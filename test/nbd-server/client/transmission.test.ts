import fc from 'fast-check';
import t from 'tap';
import {
  ReplyMachine,
  type Extent,
  type NbdIoError,
} from '../../../nbd-server/client/transmission.ts';

const [READ, WRITE, BLOCK_STATUS] = [0, 1, 7];
const DONE = 1;
const [NONE, DATA, HOLE, STATUS, STATUS_EXT] = [0, 1, 2, 5, 6];
const [ERROR, ERROR_OFFSET] = [0x8001, 0x8002];

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index));
  return bytes;
}
function u64(...values: number[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  values.forEach((value, index) => bytes.writeBigUInt64BE(BigInt(value), 8 * index));
  return bytes;
}
function simple(cookie: number, error = 0, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u32(0x67446698, error), u64(cookie), data]);
}
function chunk(cookie: number, flags: number, type: number, ...data: Buffer[]): Buffer {
  const body = Buffer.concat(data);
  const kind = u32(flags * 0x10000 + type);
  return Buffer.concat([u32(0x668e33ef), kind, u64(cookie), u32(body.length), body]);
}
function wide(cookie: number, flags: number, type: number, ...data: Buffer[]): Buffer {
  const body = Buffer.concat(data);
  const kind = u32(flags * 0x10000 + type);
  return Buffer.concat([u32(0x6e8a278c), kind, u64(cookie), u64(0), u64(body.length), body]);
}
function error(number: number, text = '', ...rest: Buffer[]): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(text.length);
  return Buffer.concat([u32(number), length, Buffer.from(text), ...rest]);
}

interface Ended {
  cookie: number;
  error: NbdIoError | undefined;
  extents: readonly Extent[];
}

/** A machine with requests in flight whose ends are written down. */
function machine(
  style: 'simple' | 'structured' | 'extended',
  requests: { cookie: number; type: number; offset?: number; length: number }[],
): { machine: ReplyMachine; ended: Ended[]; into: Map<number, Buffer> } {
  const made = new ReplyMachine(style, 1);
  const ended: Ended[] = [];
  const into = new Map<number, Buffer>();
  for (const { cookie, type, offset = 0, length } of requests) {
    const buffer = type === READ ? Buffer.alloc(length, 0xee) : undefined;
    if (buffer !== undefined) into.set(cookie, buffer);
    made.expect(cookie, {
      type,
      offset,
      length,
      into: buffer,
      onEnd: (error, extents) => ended.push({ cookie, error, extents }),
    });
  }
  return { machine: made, ended, into };
}

t.test('replies end their requests in any order', async (t) => {
  const {
    machine: m,
    ended,
    into,
  } = machine('simple', [
    { cookie: 1, type: READ, length: 4 },
    { cookie: 2, type: WRITE, length: 9 },
    { cookie: 3, type: READ, length: 2 },
  ]);
  const bytes = Buffer.concat([
    simple(3, 0, Buffer.from('xy')),
    simple(2, 28),
    simple(1, 0, Buffer.from('abcd')),
  ]);
  t.equal(m.receive(bytes, 0, bytes.length), bytes.length);
  t.same(
    ended.map(({ cookie }) => cookie),
    [3, 2, 1],
  );
  t.equal(into.get(1)?.toString(), 'abcd');
  t.equal(into.get(3)?.toString(), 'xy');
  t.match(ended[1]?.error, { code: 'ERR_NBD_IO', nbdError: 28, message: /NBD_CMD_WRITE.*ENOSPC/ });
  t.equal(m.inFlightCount, 0);
});

/** A structured conversation that uses every chunk type. */
const structured = Buffer.concat([
  chunk(1, 0, DATA, u64(104), Buffer.from('efgh')),
  chunk(2, 0, STATUS, u32(1), u32(4096, 3, 8192, 0)),
  chunk(1, 0, HOLE, u64(108), u32(4)),
  chunk(2, DONE, NONE),
  chunk(1, DONE, DATA, u64(100), Buffer.from('abcd')),
  chunk(3, 0, ERROR, error(5, 'media\n')),
  chunk(3, DONE, NONE),
  simple(4),
  chunk(5, DONE, ERROR_OFFSET, error(22, '', u64(7))),
  chunk(6, DONE, 0x9999, error(1, 'new')),
]);
const structuredRequests = [
  { cookie: 1, type: READ, offset: 100, length: 12 },
  { cookie: 2, type: BLOCK_STATUS, length: 65536 },
  { cookie: 3, type: READ, length: 8 },
  { cookie: 4, type: WRITE, length: 8 },
  { cookie: 5, type: READ, length: 8 },
  { cookie: 6, type: READ, length: 8 },
];

function checkStructured(ended: Ended[], into: Map<number, Buffer>): boolean {
  const [status, read, media, written, offset, unknown] = ended;
  return (
    into.get(1)?.toString() === 'abcdefgh\0\0\0\0' &&
    read?.cookie === 1 &&
    read.error === undefined &&
    JSON.stringify(status?.extents) ===
      JSON.stringify([
        { lengthBytes: 4096, flags: 3 },
        { lengthBytes: 8192, flags: 0 },
      ]) &&
    media?.error?.nbdError === 5 &&
    media.error.message.includes('(media )') &&
    written?.error === undefined &&
    offset?.error?.nbdError === 22 &&
    unknown?.error?.nbdError === 1
  );
}

t.test('chunks may come in any pieces: cut at each byte, or at random', async (t) => {
  for (let cut = 0; cut <= structured.length; cut += 1) {
    const { machine: m, ended, into } = machine('structured', structuredRequests);
    const at = m.receive(structured, 0, cut);
    m.receive(structured, at, structured.length);
    if (!checkStructured(ended, into)) return t.fail(`cut at ${cut}`);
  }
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 30 })), (steps) => {
      const { machine: m, ended, into } = machine('structured', structuredRequests);
      let at = 0;
      let end = 0;
      for (const step of [...steps, structured.length]) {
        end = Math.min(structured.length, end + step);
        at = m.receive(structured, at, end);
      }
      return at === structured.length && checkStructured(ended, into);
    }),
  );
  return t.pass();
});

t.test('extended chunks carry 64-bit extents', async (t) => {
  const {
    machine: m,
    ended,
    into,
  } = machine('extended', [
    { cookie: 1, type: BLOCK_STATUS, length: 2 ** 40 },
    { cookie: 2, type: READ, length: 2 },
  ]);
  const bytes = Buffer.concat([
    wide(1, DONE, STATUS_EXT, u32(1, 1), u64(2 ** 40, 3)),
    wide(2, DONE, DATA, u64(0), Buffer.from('ok')),
  ]);
  m.receive(bytes, 0, bytes.length);
  t.same(ended[0]?.extents, [{ lengthBytes: 2 ** 40, flags: 3 }]);
  t.equal(into.get(2)?.toString(), 'ok');
});

t.test('what breaks the protocol', async (t) => {
  const read = [{ cookie: 1, type: READ, offset: 100, length: 8 }];
  const write = [{ cookie: 1, type: WRITE, length: 8 }];
  const status = [{ cookie: 1, type: BLOCK_STATUS, length: 4096 }];
  const half = chunk(1, 0, DATA, u64(100), Buffer.from('abcd'));
  type Case = [Parameters<typeof machine>[0], Parameters<typeof machine>[1], Buffer];
  const cases: Record<string, Case> = {
    'wrong magic': ['simple', read, u32(0x12345678)],
    'structured among simple': ['simple', read, half],
    'simple among extended': ['extended', write, simple(1)],
    'structured among extended': ['extended', read, half],
    'simple read after STRUCTURED_REPLY': ['structured', read, simple(1, 0, Buffer.alloc(8))],
    'simple read error after STRUCTURED_REPLY': ['structured', read, simple(1, 5)],
    'unknown cookie': ['simple', read, simple(2)],
    'an ended cookie': ['simple', write, Buffer.concat([simple(1), simple(1)])],
    'NONE with payload': ['structured', write, chunk(1, DONE, NONE, u32(0))],
    'NONE without DONE': ['structured', write, chunk(1, 0, NONE)],
    'data before the request': ['structured', read, chunk(1, 0, DATA, u64(99), Buffer.alloc(2))],
    'data behind the request': ['structured', read, chunk(1, 0, DATA, u64(107), Buffer.alloc(2))],
    'data far away': ['structured', read, chunk(1, 0, DATA, u64(2 ** 52), Buffer.alloc(2))],
    'data of no bytes': ['structured', read, chunk(1, 0, DATA, u64(100))],
    'data without offset': ['structured', read, chunk(1, 0, DATA, u32(0))],
    'data twice': ['structured', read, Buffer.concat([half, half])],
    'hole over data': [
      'structured',
      read,
      Buffer.concat([half, chunk(1, 0, HOLE, u64(103), u32(2))]),
    ],
    'hole of no bytes': ['structured', read, chunk(1, 0, HOLE, u64(100), u32(0))],
    'hole of 13 bytes': ['structured', read, chunk(1, 0, HOLE, u64(100), u32(1), Buffer.alloc(1))],
    'a read that ends half': ['structured', read, Buffer.concat([half, chunk(1, DONE, NONE)])],
    'data for a write': ['structured', write, chunk(1, 0, DATA, u64(0), Buffer.alloc(1))],
    'unknown chunk type': ['structured', read, chunk(1, 0, 99)],
    'error of 5 bytes': ['structured', read, chunk(1, 0, ERROR, Buffer.alloc(5, 1))],
    'error zero': ['structured', read, chunk(1, 0, ERROR, error(0))],
    'error text longer than its chunk': [
      'structured',
      read,
      chunk(1, 0, ERROR, u32(5), Buffer.from([0, 9]), Buffer.from('short')),
    ],
    'error chunk of 5 KiB': ['structured', read, chunk(1, 0, ERROR, error(5, 'x'.repeat(5000)))],
    'status for a read': ['structured', read, chunk(1, 0, STATUS, u32(1, 4096, 0))],
    'status of another context': ['structured', status, chunk(1, 0, STATUS, u32(2, 4096, 0))],
    'status without extents': ['structured', status, chunk(1, 0, STATUS, u32(1))],
    'status of half an extent': ['structured', status, chunk(1, 0, STATUS, u32(1, 4096))],
    'status of an empty extent': ['structured', status, chunk(1, 0, STATUS, u32(1, 0, 0))],
    'status twice': [
      'structured',
      status,
      Buffer.concat([chunk(1, 0, STATUS, u32(1, 1, 0)), chunk(1, 0, STATUS, u32(1, 1, 0))]),
    ],
    'status never': ['structured', status, chunk(1, DONE, NONE)],
    'status by a simple reply': ['structured', status, simple(1)],
    'wide status in compact headers': [
      'structured',
      status,
      chunk(1, 0, STATUS_EXT, u32(1, 1), u64(1, 0)),
    ],
    'narrow status in wide headers': ['extended', status, wide(1, 0, STATUS, u32(1, 1, 0))],
    'wide status whose count lies': [
      'extended',
      status,
      wide(1, 0, STATUS_EXT, u32(1, 2), u64(1, 0)),
    ],
    'payload of 2^53': [
      'extended',
      read,
      Buffer.concat([u32(0x6e8a278c, 1), u64(1, 0), Buffer.from('0020000000000000', 'hex')]),
    ],
  };
  for (const [name, [style, requests, bytes]] of Object.entries(cases)) {
    const { machine: m, ended } = machine(style, requests);
    t.throws(() => m.receive(bytes, 0, bytes.length), { code: 'ERR_NBD_PROTOCOL' }, name);
    t.ok(
      ended.every((end) => end.cookie === 1 && name === 'an ended cookie'),
      `${name}: nothing ended well before`,
    );
  }
});

t.test('extents beyond the bound are dropped, not kept', async (t) => {
  const { machine: m, ended } = machine('structured', [
    { cookie: 1, type: BLOCK_STATUS, length: 2 ** 32 - 1 },
  ]);
  const extents = Buffer.alloc(8 * 70_000);
  for (let at = 0; at < extents.length; at += 8) extents.writeUInt32BE(4096, at);
  const bytes = chunk(1, DONE, STATUS, u32(1), extents);
  m.receive(bytes, 0, bytes.length);
  t.equal(ended[0]?.extents.length, 65_536);
});
