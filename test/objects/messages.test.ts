/** Bodies of requests and replies: what travels comes back, byte for byte where the wire is written down. */
import t from 'tap';
import type { ObjectInfo, ObjectOptions } from '../../common/objects.ts';
import {
  decodeRequest,
  encodeDone,
  encodeInfo,
  encodeListing,
  encodeMissing,
  encodePiece,
  encodeRefusal,
  encodeRequest,
  encodeUpload,
  encodeUsage,
  openReply,
  readInfoReply,
  readListingReply,
  readPieceReply,
  readUploadReply,
  readUsageReply,
  replySizeMax,
  type ObjectRequest,
} from '../../objects/messages.ts';

const HOLDER = 'abcdef0123456789abcdef0123456789';
const OWNER = '00112233445566778899aabbccddeeff';
const KEY = { kind: 'key', key: 'kä' } as const;
const BLOCK = { kind: 'block', id: '18446744073709551615' } as const;
const FULL: ObjectOptions = {
  ...{ mode: 'cache', ttlMs: 2 ** 40, readers: [OWNER, HOLDER], ifVersion: 0 },
  meta: Buffer.from('notes'),
};
const BARE = { mode: 'pinned', readers: 'trusted', meta: Buffer.alloc(0) } as const;
const value = Buffer.from('value');

const REQUESTS: ObjectRequest[] = [
  { method: 'put', key: 'k', options: FULL, value },
  { method: 'put', key: undefined, options: { ...BARE, readers: 'private' }, value },
  { method: 'put', key: 'x'.repeat(1024), options: BARE, value: Buffer.alloc(49_152) },
  { method: 'get', name: KEY, offset: 2 ** 53 - 1, length: 49_152, ifVersion: undefined },
  { method: 'get', name: BLOCK, offset: 0, length: 0, ifVersion: 7 },
  { method: 'stat', name: BLOCK },
  { method: 'delete', name: KEY, ifVersion: 3 },
  { method: 'list', query: { kind: 'all', countMax: 512, cursor: 'c', patterns: ['a*', '?'] } },
  { method: 'list', query: { kind: 'key', countMax: 1 } },
  { method: 'flush' },
  { method: 'usage' },
  { method: 'begin', key: undefined, options: BARE, sizeHint: 2 ** 40 },
  { method: 'begin', key: 'k', options: FULL, sizeHint: undefined },
  { method: 'append', upload: '17', offset: 5, piece: value },
  { method: 'commit', upload: '17' },
  { method: 'abort', upload: '17' },
];

const INFO: ObjectInfo = {
  ...{ name: KEY, holder: HOLDER, owner: OWNER, sizeBytes: 5, version: 2 },
  ...{ mode: 'cache', readers: [OWNER], expiresInMs: 1000, meta: Uint8Array.of(1, 2) },
};

t.test('requests come back as they were sent', (t) => {
  for (const request of REQUESTS) {
    const body = encodeRequest(request);
    t.ok(body.length <= 60_000);
    t.same(decodeRequest(body), request, request.method);
  }
  t.end();
});

t.test('the bytes of requests and replies', (t) => {
  const hex = (body: Buffer): string => body.toString('hex');
  t.equal(
    hex(encodeRequest({ method: 'put', key: 'k', options: FULL, value: Buffer.from([0xfe]) })),
    '01' + // put
      '0101006b' + // a key of 1 byte
      '01' + // cache
      '010000000000010000' + // 2^40 ms
      '010000000000000000' + // if there is none
      `02${OWNER}${HOLDER}` + // two readers
      '05006e6f746573' + // notes
      'fe',
  );
  t.equal(
    hex(encodeRequest({ method: 'get', name: BLOCK, offset: 1, length: 2, ifVersion: undefined })),
    '0202ffffffffffffffff' + '0100000000000000' + '0200000000000000' + '00',
  );
  t.equal(
    hex(encodeRequest({ method: 'append', upload: '7', offset: 3, piece: Buffer.of(9) })),
    '09010037030000000000000009',
  );
  t.equal(hex(encodeDone()), '00');
  t.equal(hex(encodeMissing()), '01');
  t.equal(hex(encodeRefusal({ code: 'ERR_OBJECT_DENIED', message: 'no' })), '020302006e6f');
  t.equal(
    hex(encodeInfo(INFO)),
    `0001` +
      `03006bc3a4${OWNER}` +
      '0500000000000000' +
      '0200000000000000' +
      '01' +
      '01e803000000000000' +
      `01${OWNER}` +
      '02000102',
  );
  t.end();
});

t.test('replies come back as they were sent', (t) => {
  const open = (body: Buffer) => openReply(body, 'n')!;
  t.same(readInfoReply(open(encodeInfo(INFO)), HOLDER), INFO);
  const piece = { info: INFO, offset: 2, bytes: Buffer.from('abc') };
  t.same(readPieceReply(open(encodePiece(piece)), HOLDER, 2, 3), piece);
  t.equal(readUploadReply(open(encodeUpload('12'))), '12');
  const usage = {
    ...{ objectCount: 1, valueBytes: 2, chargedBytes: 3, uploadCount: 4, evictedCount: 2 ** 50 },
  };
  t.same(readUsageReply(open(encodeUsage(usage))), usage);
  const listing = { objects: [INFO, { ...INFO, name: BLOCK, expiresInMs: null }], cursor: 'c' };
  t.same(readListingReply(open(encodeListing(listing) as Buffer), HOLDER, 2), listing);
  const empty = { objects: [], cursor: null };
  t.same(readListingReply(open(encodeListing(empty) as Buffer), HOLDER, 2), empty);
  t.equal(openReply(encodeMissing(), 'n'), undefined);
  t.end();
});

t.test('a refusal carries a code that makes sense and a printable line', (t) => {
  const refused = (code: Parameters<typeof encodeRefusal>[0]['code'], message: string) => {
    try {
      openReply(encodeRefusal({ code, message }), 'n');
      return undefined;
    } catch (error) {
      return error;
    }
  };
  for (const code of [
    'ERR_USAGE',
    'ERR_OBJECT_UNKNOWN',
    'ERR_OBJECT_DENIED',
    'ERR_OBJECT_CONFLICT',
    'ERR_LEASE_CAPACITY',
    'ERR_UNSUPPORTED',
  ] as const) {
    t.match(refused(code, 'why'), { code, message: 'node "n": why' });
  }
  t.match(refused('ERR_OBJECT_DENIED', '\u001b[2Jä\n!'), { message: 'node "n": ?[2J??!' });
  t.match(refused('ERR_USAGE', 'x'.repeat(999)), { message: /^node "n": x{256}$/ });
  t.match(
    refused('ERR_IDENTITY', 'key at /var/lib'),
    { code: 'ERR_INTERNAL', message: 'node "n": the holder failed' },
    'nothing else of ours leaves',
  );
  t.end();
});

t.test('no reply is longer than its asker grants', (t) => {
  const info: ObjectInfo = {
    ...INFO,
    name: { kind: 'key', key: 'x'.repeat(1024) },
    readers: Array.from({ length: 64 }, () => OWNER),
    meta: Buffer.alloc(256),
  };
  const get = {
    method: 'get',
    name: KEY,
    offset: 0,
    length: 49_152,
    ifVersion: undefined,
  } as const;
  const piece = { info, offset: 0, bytes: Buffer.alloc(49_152) };
  t.ok(encodePiece(piece).length <= replySizeMax(get));
  t.ok(encodeInfo(info).length <= replySizeMax({ method: 'stat', name: KEY }));
  const message = 'x'.repeat(5000);
  t.ok(encodeRefusal({ code: 'ERR_USAGE', message }).length <= replySizeMax({ method: 'flush' }));
  const long = encodeListing({
    objects: Array.from({ length: 512 }, () => info),
    cursor: 'c'.repeat(4096),
  });
  t.notOk(Buffer.isBuffer(long));
  const { fitting } = long as { fitting: number };
  t.ok(fitting > 10 && fitting < 30, `${fitting} of the longest fit`);
  const cut = encodeListing({
    objects: Array.from({ length: fitting }, () => info),
    cursor: 'c'.repeat(4096),
  });
  t.ok(Buffer.isBuffer(cut) && cut.length <= 60_000);
  t.end();
});

t.test('what is no request is refused', (t) => {
  const good = encodeRequest(REQUESTS[0]!);
  const bad: [string, Buffer][] = [
    ['nothing', Buffer.alloc(0)],
    ['method 0', Buffer.of(0)],
    ['method 12', Buffer.of(12)],
    ['a byte too many', Buffer.concat([encodeRequest({ method: 'flush' }), Buffer.of(0)])],
    ['an empty key', Buffer.from('030100', 'hex')],
    ['a key with NUL', Buffer.from('0301010000', 'hex')],
    ['a key that is no UTF-8', Buffer.from('03010100ff', 'hex')],
    [
      'a key of 1025 bytes',
      Buffer.concat([Buffer.from('03010104', 'hex'), Buffer.alloc(1025, 97)]),
    ],
    ['a kind of name', Buffer.from('0303', 'hex')],
    [
      'a length of 2^53',
      Buffer.from('0202000000000000000000000000000000000000000000002000', 'hex'),
    ],
    [
      'a piece too long',
      Buffer.from('02020000000000000000000000000000000001c000000000000000', 'hex'),
    ],
    ['flag 2', Buffer.from('040200000000000000000002', 'hex')],
    ['mode 2', Buffer.from('010202', 'hex')],
    ['65 readers', Buffer.concat([Buffer.from('010200000041', 'hex'), Buffer.alloc(3000)])],
    ['a ttl of 0', Buffer.from('0102000100000000000000000000ff0000', 'hex')],
    [
      'notes of 257 bytes',
      Buffer.concat([Buffer.from('01020000 00ff0101'.replace(' ', ''), 'hex'), Buffer.alloc(257)]),
    ],
    ['17 patterns', Buffer.from('050001000000' + '11' + '0000'.repeat(17), 'hex')],
    ['a page of 0', Buffer.from('05000000000000', 'hex')],
    ['a page of 513', Buffer.from('05000102000000', 'hex')],
    ['kind 3', Buffer.from('05030100000000', 'hex')],
    [
      'a long value',
      Buffer.concat([
        Buffer.from('01020000 00ff0000'.replace(' ', ''), 'hex'),
        Buffer.alloc(49_153),
      ]),
    ],
    ...Array.from({ length: 50 }, (_, at): [string, Buffer] => [`cut ${at}`, good.subarray(0, at)]),
  ];
  for (const [name, body] of bad) {
    t.throws(() => decodeRequest(body), { code: 'ERR_PEER_PROTOCOL' }, name);
  }
  t.end();
});
