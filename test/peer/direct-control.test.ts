import { Packr } from 'msgpackr';
import t from 'tap';
import {
  decodeControlRequest,
  encodeControlOk,
  encodeControlRequest,
  type ControlRequest,
} from '../../peer/control.ts';
import {
  decodeDirectExports,
  decodeDirectRequest,
  decodeDirectTicket,
  decodeOpenedExport,
  decodeUnknownExports,
  directExportFields,
} from '../../peer/direct-control.ts';
import { unpackMap, type PackedMap } from '../../peer/message-pack.ts';

const pack = (value: unknown): Buffer => new Packr({ useRecords: false }).pack(value);
const refused = { code: 'ERR_PEER_PROTOCOL' };
const ID = '0123456789abcdef';
const NONCE = 'ab'.repeat(32);
const EXPORT = {
  exportId: ID,
  sizeBytes: 2 ** 40,
  residentBytes: 12288,
  connected: true,
  ttlMs: 60_000,
};
const TICKET = {
  ticketId: '0f'.repeat(16),
  secret: 'cd'.repeat(32),
  port: 65535,
  transport: 'tls',
};

t.test('each request comes back as it was', async (t) => {
  const requests: ControlRequest[] = [
    { method: 'direct-open', sizeBytes: 9007199254740991, ttlMs: 4294967295 },
    { method: 'direct-open', sizeBytes: 4096, ttlMs: 1, under: ID.repeat(2) },
    { method: 'direct-ticket', exportId: ID, consumerNonce: NONCE },
    { method: 'direct-ticket', exportId: ID, consumerNonce: NONCE, transport: 'plain' },
    { method: 'direct-renew', exportIds: [] },
    { method: 'direct-renew', exportIds: new Array<string>(64).fill(ID) },
    { method: 'direct-close', exportId: ID },
    { method: 'direct-list' },
  ];
  for (const request of requests) {
    t.same(decodeControlRequest(encodeControlRequest(request)), request);
  }
});

const BAD_REQUESTS: Record<string, object> = {
  'open without a size': { method: 'direct-open', ttlMs: 1 },
  'open of -1 bytes': { method: 'direct-open', sizeBytes: -1, ttlMs: 1 },
  'open of 2^53 bytes': { method: 'direct-open', sizeBytes: 2 ** 53, ttlMs: 1 },
  'open of half a byte': { method: 'direct-open', sizeBytes: 0.5, ttlMs: 1 },
  'open under capitals': {
    ...{ method: 'direct-open', sizeBytes: 4096, ttlMs: 1 },
    under: 'AB'.repeat(16),
  },
  'open for 2^32 ms': { method: 'direct-open', sizeBytes: 4096, ttlMs: 2 ** 32 },
  'a ticket without an export': { method: 'direct-ticket', consumerNonce: NONCE },
  'a ticket without a nonce': { method: 'direct-ticket', exportId: ID },
  'a nonce of 31 bytes': { method: 'direct-ticket', exportId: ID, consumerNonce: 'ab'.repeat(31) },
  'a nonce of 33 bytes': { method: 'direct-ticket', exportId: ID, consumerNonce: 'ab'.repeat(33) },
  'an upper-case nonce': { method: 'direct-ticket', exportId: ID, consumerNonce: 'AB'.repeat(32) },
  'an export id of 17 digits': { method: 'direct-close', exportId: `${ID}0` },
  'an export id that is a number': { method: 'direct-close', exportId: 1 },
  'a transport that is none': {
    method: 'direct-ticket',
    exportId: ID,
    consumerNonce: NONCE,
    transport: 'PLAIN',
  },
  'renewal of 65': { method: 'direct-renew', exportIds: new Array(65).fill(ID) },
  'renewal of nothing': { method: 'direct-renew' },
  'renewal of a text': { method: 'direct-renew', exportIds: ID },
  'a method that is none': { method: 'direct-' },
};
for (const [name, request] of Object.entries(BAD_REQUESTS)) {
  t.test(`${name} is refused`, async (t) => {
    t.throws(() => decodeControlRequest(pack(request)), refused);
  });
}

t.test('methods of others are left to others', async (t) => {
  for (const method of ['lease', 'usage', '', 'toString', 5, null, undefined]) {
    t.equal(decodeDirectRequest({ method }), undefined);
  }
});

const reply = (fields: object): PackedMap => unpackMap(encodeControlOk(fields));

t.test('replies come back as they were', async (t) => {
  t.same(decodeOpenedExport(reply({ export: EXPORT }), 2 ** 40), EXPORT);
  const exports = new Array(64).fill(EXPORT);
  t.same(decodeDirectExports(reply({ exports })), exports);
  t.same(decodeDirectExports(reply({ exports: [] })), []);
  t.same(decodeDirectTicket(reply(TICKET)), TICKET);
  t.same(decodeUnknownExports(reply({ unknown: [ID] }), [ID, 'f'.repeat(16)]), [ID]);
});

const BAD_EXPORTS: Record<string, object> = {
  'no id': { exportId: undefined },
  'no size': { sizeBytes: undefined },
  'a size of 0': { sizeBytes: 0 },
  'a size that is no whole number of pages': { sizeBytes: 2 ** 40 + 512 },
  'a negative residence': { residentBytes: -4096 },
  'a residence that is no number': { residentBytes: '0' },
  'connected that is 1': { connected: 1 },
  'no time to live': { ttlMs: undefined },
};
for (const [name, change] of Object.entries(BAD_EXPORTS)) {
  t.test(`an export with ${name} is refused`, async (t) => {
    const bad = { ...EXPORT, ...change };
    t.throws(() => decodeDirectExports(reply({ exports: [EXPORT, bad] })), refused);
    t.throws(() => decodeOpenedExport(reply({ export: bad }), bad.sizeBytes), refused);
  });
}

t.test('an export of another size than was asked for is refused', async (t) => {
  for (const sizeBytes of [2 ** 40 - 4096, 2 ** 40 + 4096]) {
    t.throws(() => decodeOpenedExport(reply({ export: EXPORT }), sizeBytes), refused);
  }
});

const BAD_REPLIES: Record<string, [object, (fields: PackedMap) => unknown]> = {
  'no export': [{}, (fields) => decodeOpenedExport(fields, 4096)],
  'no exports': [{}, decodeDirectExports],
  '65 exports': [{ exports: new Array(65).fill(EXPORT) }, decodeDirectExports],
  'a ticket id of 15 bytes': [{ ...TICKET, ticketId: '0f'.repeat(15) }, decodeDirectTicket],
  'a secret of 31 bytes': [{ ...TICKET, secret: 'cd'.repeat(31) }, decodeDirectTicket],
  'no secret': [{ ...TICKET, secret: null }, decodeDirectTicket],
  'port 0': [{ ...TICKET, port: 0 }, decodeDirectTicket],
  'port 65536': [{ ...TICKET, port: 65536 }, decodeDirectTicket],
  'an unknown id that nobody asked about': [
    { unknown: [ID] },
    (fields) => decodeUnknownExports(fields, ['f'.repeat(16)]),
  ],
  'no list of unknown ids': [{}, (fields) => decodeUnknownExports(fields, [ID])],
};
for (const [name, [fields, decode]] of Object.entries(BAD_REPLIES)) {
  t.test(`a reply with ${name} is refused`, async (t) => {
    t.throws(() => decode(reply(fields)), refused);
  });
}

t.test('a ticket is for TLS unless plain was asked for, whatever the provider says', async (t) => {
  const plain = reply({ ...TICKET, transport: 'plain' });
  const { ticketId, secret, port } = TICKET;
  const older = reply({ ticketId, secret, port });
  t.throws(() => decodeDirectTicket(plain), refused);
  t.throws(() => decodeDirectTicket(plain, 'tls'), refused);
  t.throws(() => decodeDirectTicket(reply({ ...TICKET, transport: 'none' }), 'plain'), refused);
  t.equal(decodeDirectTicket(plain, 'plain').transport, 'plain');
  t.equal(decodeDirectTicket(older, 'plain').transport, 'tls');
  t.equal(decodeDirectTicket(older).transport, 'tls', 'who knows no other says nothing');
  const spoken = unpackMap(
    encodeControlRequest({ method: 'direct-ticket', exportId: ID, consumerNonce: NONCE }),
  );
  t.notOk('transport' in spoken, 'nor is an older one told');
});

t.test('no more of an export travels than its five fields', async (t) => {
  const held = { ...EXPORT, holder: 'somebody', secret: 'x' };
  t.same(directExportFields(held), EXPORT);
});
