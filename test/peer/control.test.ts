import { Packr } from 'msgpackr';
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
  encodeControlError,
  encodeControlOk,
  encodeControlRequest,
  encodeHello,
  encodeNotice,
  recallRoomFields,
  type ControlRequest,
  type Hello,
} from '../../peer/control.ts';

const pack = (value: unknown): Buffer => new Packr({ useRecords: false }).pack(value);
const refused = { code: 'ERR_PEER_PROTOCOL' };
const USAGE = { offeredBytes: 2 ** 40, usedBytes: 5, residentBytes: 4, leaseCount: 1 };
const PLACE = { hostId: '', zone: '', accepting: true, lane: '', port: 0 };
const LIMITS = { requestCountMax: 1024, pageBytesMax: 16842752 };

t.test('each HELLO comes back as it was', async (t) => {
  const hellos: Hello[] = [
    { verdict: 'pending', lane: '' },
    { verdict: 'pending', lane: 'a-0' },
    { verdict: 'refused' },
    { verdict: 'accepted', limits: LIMITS, usage: USAGE, features: [], ...PLACE },
    { verdict: 'accepted', limits: LIMITS, usage: USAGE, features: ['direct', 'later'], ...PLACE },
    {
      ...{ verdict: 'accepted', limits: LIMITS, usage: USAGE, features: [] },
      ...{
        hostId: 'rack-1.host_2',
        zone: 'Z',
        accepting: false,
        lane: '0'.repeat(32),
        port: 65535,
      },
    },
  ];
  for (const hello of hellos) t.same(decodeHello(encodeHello(hello)), hello);
});

const GOOD_HELLO = { verdict: 'accepted', ...LIMITS, usage: USAGE };
const BAD_HELLOS: Record<string, object> = {
  'no verdict': {},
  'another verdict': { ...GOOD_HELLO, verdict: 'maybe' },
  'no limits': { verdict: 'accepted', usage: USAGE },
  'no request credit': { ...GOOD_HELLO, requestCountMax: 0 },
  'too much request credit': { ...GOOD_HELLO, requestCountMax: 65537 },
  'a fraction': { ...GOOD_HELLO, requestCountMax: 1.5 },
  NaN: { ...GOOD_HELLO, requestCountMax: NaN },
  'credit below one call': { ...GOOD_HELLO, pageBytesMax: 263167 },
  'a string for a number': { ...GOOD_HELLO, pageBytesMax: '16842752' },
  'no usage': { verdict: 'accepted', ...LIMITS },
  'usage nil': { ...GOOD_HELLO, usage: null },
  'a negative usage': { ...GOOD_HELLO, usage: { ...USAGE, usedBytes: -1 } },
  'a negative part of the usage': { ...GOOD_HELLO, usage: { ...USAGE, heldBytes: -1 } },
  'a part of the usage that is no number': { ...GOOD_HELLO, usage: { ...USAGE, heldBytes: '1' } },
  'usage with a hole': { ...GOOD_HELLO, usage: { offeredBytes: 1 } },
  '17 features': { ...GOOD_HELLO, features: new Array(17).fill('a') },
  'a feature of 33 characters': { ...GOOD_HELLO, features: ['a'.repeat(33)] },
  'a feature that is a number': { ...GOOD_HELLO, features: [1] },
  'features that are a string': { ...GOOD_HELLO, features: 'direct' },
  'features nil': { ...GOOD_HELLO, features: null },
  'a host of 65 characters': { ...GOOD_HELLO, host: 'a'.repeat(65) },
  'a host with a space': { ...GOOD_HELLO, host: 'a b' },
  'a host that is a number': { ...GOOD_HELLO, host: 1 },
  'a zone that ends the line': { ...GOOD_HELLO, zone: 'a\n' },
  'a zone nil': { ...GOOD_HELLO, zone: null },
  'a word for accepting': { ...GOOD_HELLO, accepting: 'yes' },
  'an empty lane': { ...GOOD_HELLO, lane: '' },
  'a lane of 33 characters': { ...GOOD_HELLO, lane: 'a'.repeat(33) },
  'a lane with a slash': { ...GOOD_HELLO, lane: 'direct/0123456789abcdef' },
  'a lane in capitals': { ...GOOD_HELLO, lane: 'A' },
  'a lane that ends the line': { ...GOOD_HELLO, lane: 'a\n' },
  'a lane that is a number': { ...GOOD_HELLO, lane: 1 },
  'a lane nil': { ...GOOD_HELLO, lane: null },
  'a bad lane while it waits': { verdict: 'pending', lane: '../..' },
  'port 0': { ...GOOD_HELLO, port: 0 },
  'port 65536': { ...GOOD_HELLO, port: 65536 },
  'a port nil': { ...GOOD_HELLO, port: null },
};
for (const [name, hello] of Object.entries(BAD_HELLOS)) {
  t.test(`a HELLO with ${name} is refused`, async (t) => {
    t.throws(() => decodeHello(pack(hello)), refused);
  });
}

t.test('a HELLO without features, as the first version sent it, has none', async (t) => {
  t.match(decodeHello(pack(GOOD_HELLO)), { verdict: 'accepted', features: [], lane: '', port: 0 });
});

t.test('16 features of 32 characters fit the cap of a HELLO record', async (t) => {
  const features = Array.from({ length: 16 }, (_, index) => `${index}`.padStart(32, 'x'));
  const longest = { hostId: 'h'.repeat(64), zone: 'z'.repeat(64), accepting: true };
  const lane = { lane: 'l'.repeat(32), port: 65535 };
  const hello: Hello = {
    verdict: 'accepted',
    limits: LIMITS,
    usage: USAGE,
    features,
    ...longest,
    ...lane,
  };
  const bytes = encodeHello(hello);
  t.same(decodeHello(bytes), hello);
  t.ok(bytes.length <= 1024 - 40);
});

t.test('keys of later versions are ignored', async (t) => {
  t.match(decodeHello(pack({ ...GOOD_HELLO, later: 1 })), { verdict: 'accepted' });
});

t.test('each request comes back as it was', async (t) => {
  const requests: ControlRequest[] = [
    { method: 'lease', pageCount: 4096, ttlMs: 60000 },
    { method: 'lease', pageCount: 4096, ttlMs: 60000, under: ID.repeat(2) },
    { method: 'renew', leaseIds: ['0123456789abcdef'], ttlMs: 1 },
    { method: 'release', leaseId: 'ffffffffffffffff' },
    { method: 'usage' },
    { method: 'recall-room' },
  ];
  for (const request of requests)
    t.same(decodeControlRequest(encodeControlRequest(request)), request);
});

const ID = '0123456789abcdef';
const BAD_REQUESTS: Record<string, object> = {
  'no method': {},
  'another method': { method: 'flush' },
  'a method of every object': { method: 'toString' },
  'a lease without pages': { method: 'lease', ttlMs: 1 },
  'a lease of -1 pages': { method: 'lease', pageCount: -1, ttlMs: 1 },
  'a lease of 2^32 pages': { method: 'lease', pageCount: 2 ** 32, ttlMs: 1 },
  'a lease under 31 digits': { method: 'lease', pageCount: 1, ttlMs: 1, under: 'a'.repeat(31) },
  'a lease under nil': { method: 'lease', pageCount: 1, ttlMs: 1, under: null },
  'a lease of infinite time': { method: 'lease', pageCount: 1, ttlMs: Infinity },
  'a short lease id': { method: 'release', leaseId: 'ff' },
  'an upper-case lease id': { method: 'release', leaseId: ID.toUpperCase() },
  'a lease id that is a number': { method: 'release', leaseId: 1 },
  'ids that are a string': { method: 'renew', leaseIds: ID, ttlMs: 1 },
  'an id among them that is none': { method: 'renew', leaseIds: [ID, null], ttlMs: 1 },
  '1025 ids': { method: 'renew', leaseIds: new Array(1025).fill(ID), ttlMs: 1 },
};
for (const [name, request] of Object.entries(BAD_REQUESTS)) {
  t.test(`a request with ${name} is refused`, async (t) => {
    t.throws(() => decodeControlRequest(pack(request)), refused);
  });
}

t.test('1024 ids pass', async (t) => {
  const request = { method: 'renew', leaseIds: new Array(1024).fill(ID), ttlMs: 1 };
  t.match(decodeControlRequest(pack(request)), { method: 'renew' });
});

t.test('replies come back as they were', async (t) => {
  const grant = { leaseId: ID, slabHandle: 4294967295, ttlMs: 60000 };
  const reply = decodeControlReply(encodeControlOk(grant));
  t.ok(reply.ok);
  if (reply.ok) t.same(decodeGrant(reply.fields), grant);
  const renewed = decodeControlReply(encodeControlOk({ unknown: [ID] }));
  if (renewed.ok) t.same(decodeUnknownLeases(renewed.fields), [ID]);
  t.throws(() => decodeGrant({ ...grant, leaseId: 'x' }), refused);
  t.throws(() => decodeGrant({ ...grant, slabHandle: -1 }), refused);
  t.throws(() => decodeUnknownLeases({}), refused);
});

t.test('an error of a lease travels, a defect does not tell about itself', async (t) => {
  const error = (code: 'ERR_LEASE_CAPACITY' | 'ERR_NATIVE'): object =>
    decodeControlReply(encodeControlError(new MemcloudError(code, 'full: /home/x')));
  t.same(error('ERR_LEASE_CAPACITY'), {
    ok: false,
    code: 'ERR_LEASE_CAPACITY',
    message: 'full: /home/x',
  });
  const unsupported = decodeControlReply(
    encodeControlError(new MemcloudError('ERR_UNSUPPORTED', 'no direct exports')),
  );
  t.match(unsupported, { ok: false, code: 'ERR_UNSUPPORTED', message: 'no direct exports' });
  t.same(error('ERR_NATIVE'), { ok: false, code: 'ERR_INTERNAL', message: 'the provider failed' });
});

t.test('a message from a peer cannot move a cursor and is cut', async (t) => {
  const reply = decodeControlReply(
    pack({
      ok: false,
      code: 'ERR_LEASE_CAPACITY',
      message: `\u001b[2J\u202eevil\n${'x'.repeat(999)}`,
    }),
  );
  t.ok(!reply.ok && /^\?\[2J\?evil\?x+$/.test(reply.message) && reply.message.length === 256);
});

for (const [name, reply] of Object.entries({
  'no ok': { code: 'ERR_LEASE_CAPACITY' },
  'a code of ours that may not travel': { ok: false, code: 'ERR_IDENTITY', message: '' },
  'a code that is none': { ok: false, code: 'toString', message: '' },
  'ok that is 1': { ok: 1 },
})) {
  t.test(`a reply with ${name} is refused`, async (t) => {
    t.throws(() => decodeControlReply(pack(reply)), refused);
  });
}

t.test('notices come back as they were', async (t) => {
  for (const notice of [
    {},
    { usage: USAGE },
    { usage: { ...USAGE, heldBytes: 7 } },
    { leasesEnded: [ID] },
    { usage: USAGE, leasesEnded: [] },
    { recall: { leaseIds: [ID, ID], endsInMs: 5000 } },
    { recall: { leaseIds: [ID], endsInMs: Infinity } },
    { accepting: false },
    { usage: USAGE, accepting: true },
  ]) {
    t.same(decodeNotice(encodeNotice(notice)), notice);
  }
  t.throws(() => decodeNotice(pack({ usage: 1 })), refused);
  t.throws(() => decodeNotice(pack({ leasesEnded: [1] })), refused);
  t.same(decodeNotice(pack({ later: 1 })), {}, 'what later versions tell is ignored');
  for (const recall of [
    ...[null, [], {}, { leaseIds: [1] }, { leaseIds: new Array(1025).fill(ID) }],
    ...[-1, 1.5, NaN, 2 ** 32, null, 'soon'].map((endsInMs) => ({ leaseIds: [ID], endsInMs })),
  ]) {
    t.throws(() => decodeNotice(pack({ recall })), refused, JSON.stringify(recall).slice(0, 60));
  }
  t.throws(() => decodeNotice(pack({ accepting: 1 })), refused);
});

t.test('the room for a recall comes back as it was, its words made safe', async (t) => {
  const room = { heldBytes: 2 ** 40, roomBytes: 0, problem: 'volume v has no place' };
  t.same(decodeRecallRoom({ ...recallRoomFields(room) }), room);
  t.same(decodeRecallRoom({ heldBytes: 0, roomBytes: 0 }).problem, '');
  const evil = decodeRecallRoom({ ...room, problem: `\u001b[2J${'x'.repeat(999)}` });
  t.ok(/^\?\[2Jx+$/.test(evil.problem) && evil.problem.length === 256);
  for (const bad of [{ heldBytes: -1 }, { heldBytes: 1.5 }, { roomBytes: undefined }]) {
    t.throws(() => decodeRecallRoom({ ...room, ...bad }), refused);
  }
});
