/** Direct exports under a clock of the test, with real slabs, real sockets and the real NBD server. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import t, { type Test } from 'tap';
import type { Clock } from '../../common/clock.ts';
import { silentLogger } from '../../common/log.ts';
import type { NbdStream } from '../../common/nbd-stream.ts';
import { DirectExports } from '../../direct/exports.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { RamProvider } from '../../provider/service.ts';
import { connectDirect, connectWithTicket, startDirectDoor } from '../helpers/direct-consumer.ts';
import { HOLDER, startDirectHost } from '../helpers/direct-host.ts';
import { eventually } from '../helpers/nbd-fixture.ts';
import { Recorder } from '../helpers/record-pair.ts';
import { tmpfsBase } from '../helpers/tmpfs.ts';

const MIB = 2 ** 20;
const OTHER = 'cd'.repeat(16);
const NONCE = '5a'.repeat(32);
/** What an NBD client answers the greeting with: fixed newstyle, no zeroes. */
const CLIENT_FLAGS = Buffer.from([0, 0, 0, 3]);

class TestClock implements Clock {
  ms = 1000;
  nowMs(): number {
    return this.ms;
  }
}

interface Rig {
  clock: TestClock;
  provider: RamProvider;
  exports: DirectExports;
}

/** Exports whose streams nobody serves. */
function rigOf(t: Test, options: { offeredBytes?: number; ttlMaxMs?: number } = {}): Rig {
  const clock = new TestClock();
  const provider = RamProvider.open({
    offeredBytes: options.offeredBytes ?? 2 ** 30,
    directory: tmpfsBase(t),
    noswap: 'off',
    reserveBytes: 0,
    clock,
    ...(options.ttlMaxMs !== undefined && { ttlMaxMs: options.ttlMaxMs }),
  });
  const exports = new DirectExports({
    provider,
    clock,
    serve: () => undefined,
    port: () => 7070,
    logger: silentLogger,
  });
  t.teardown(() => {
    exports.close();
    provider.close();
  });
  return { clock, provider, exports };
}

t.test('an export is described as it is, to its holder and to status', async (t) => {
  const { exports, provider } = rigOf(t);
  const access = exports.openDirect(HOLDER);
  const opened = access.open({ sizeBytes: 300 * MIB, ttlMs: 5000 });
  t.match(opened.exportId, /^[0-9a-f]{16}$/);
  t.match(opened, { sizeBytes: 300 * MIB, residentBytes: 0, connected: false, ttlMs: 5000 });
  t.same(access.list(), [opened]);
  t.same(exports.openDirect(HOLDER).list(), [opened], 'later processes of the holder see it');
  t.same(exports.openDirect(OTHER).list(), [], 'others do not');
  t.same(exports.status(), [{ ...opened, holder: HOLDER, requestCount: 0 }]);
  const { leases, usage } = provider.status();
  t.same(
    leases.map(({ pageCount }) => pageCount),
    [65_536, 11_264],
    'slabs of at most 256 MiB',
  );
  t.ok(
    leases.every(({ holder }) => holder !== HOLDER),
    'not among the leases of the pool',
  );
  t.ok(usage.usedBytes > 300 * MIB);
  t.equal(provider.revoke(HOLDER), 0);
  access.close(opened.exportId);
  t.same(access.list(), []);
  t.equal(provider.usage().usedBytes, 0);
});

t.test('what cannot be opened is refused, and nothing stays of it', async (t) => {
  const { exports, provider } = rigOf(t, { offeredBytes: 400 * MIB });
  const access = exports.openDirect(HOLDER);
  const cases: [string, number, number, string][] = [
    ['no pages', 0, 5000, 'ERR_LEASE_INVALID'],
    ['a negative size', -4096, 5000, 'ERR_LEASE_INVALID'],
    ['half a page', 2048, 5000, 'ERR_LEASE_INVALID'],
    ['a page and a bit', 4097, 5000, 'ERR_LEASE_INVALID'],
    ['no number', NaN, 5000, 'ERR_LEASE_INVALID'],
    ['beyond 2^53', 2 ** 60, 5000, 'ERR_LEASE_INVALID'],
    ['a time below a second', 4096, 999, 'ERR_LEASE_INVALID'],
    ['a time beyond a day', 4096, 86_400_001, 'ERR_LEASE_INVALID'],
    ['no time', 4096, NaN, 'ERR_LEASE_INVALID'],
    ['more than is offered', 500 * MIB, 5000, 'ERR_LEASE_CAPACITY'],
    ['a petabyte', 2 ** 50, 5000, 'ERR_LEASE_CAPACITY'],
    // Fits as data; with tags and records its second slab does not.
    ['what fits without its tags', 400 * MIB, 5000, 'ERR_LEASE_CAPACITY'],
  ];
  for (const [name, sizeBytes, ttlMs, code] of cases) {
    t.throws(() => access.open({ sizeBytes, ttlMs }), { code }, name);
  }
  t.equal(provider.usage().leaseCount, 0);
  access.open({ sizeBytes: 4096, ttlMs: 1000 });
  access.open({ sizeBytes: 4096, ttlMs: 86_400_000 });
});

t.test('64 exports are open for a holder, whoever else has some', async (t) => {
  const { exports } = rigOf(t);
  const access = exports.openDirect(HOLDER);
  for (let count = 0; count < 64; count += 1) access.open({ sizeBytes: 4096, ttlMs: 5000 });
  t.throws(() => access.open({ sizeBytes: 4096, ttlMs: 5000 }), { code: 'ERR_LEASE_CAPACITY' });
  exports.openDirect(OTHER).open({ sizeBytes: 4096, ttlMs: 5000 });
  access.close(access.list()[0]?.exportId ?? '');
  access.open({ sizeBytes: 4096, ttlMs: 5000 });
});

t.test('another holder can do nothing with an export', async (t) => {
  const { exports } = rigOf(t);
  const { exportId } = exports.openDirect(HOLDER).open({ sizeBytes: 4096, ttlMs: 5000 });
  const other = exports.openDirect(OTHER);
  t.throws(() => other.ticket(exportId, NONCE), { code: 'ERR_LEASE_UNKNOWN' });
  t.throws(() => other.close(exportId), { code: 'ERR_LEASE_UNKNOWN' });
  t.same(other.renew([exportId]), [exportId]);
  exports.revoke(OTHER);
  t.equal(exports.status().length, 1);
});

t.test('without a connection an export ends with its time, and its RAM comes back', async (t) => {
  const { exports, provider, clock } = rigOf(t);
  const access = exports.openDirect(HOLDER);
  const { exportId } = access.open({ sizeBytes: MIB, ttlMs: 5000 });
  clock.ms += 4000;
  exports.tick();
  t.same(access.renew([exportId, 'f'.repeat(16)]), ['f'.repeat(16)]);
  clock.ms += 4999;
  exports.tick();
  t.equal(access.list().length, 1);
  clock.ms += 1;
  t.same(access.renew([exportId]), [exportId], 'too late, even before the tick');
  t.throws(() => access.ticket(exportId, NONCE), { code: 'ERR_LEASE_UNKNOWN' });
  exports.tick();
  t.same(access.list(), []);
  t.equal(provider.usage().usedBytes, 0);
  t.throws(() => access.close(exportId), { code: 'ERR_LEASE_UNKNOWN' });
});

t.test('tickets: 16 open ones for a holder, each 32 and 64 hex digits and the port', async (t) => {
  const { exports, clock } = rigOf(t);
  const access = exports.openDirect(HOLDER);
  const { exportId } = access.open({ sizeBytes: 4096, ttlMs: 60_000 });
  const seen = new Set<string>();
  for (let count = 0; count < 16; count += 1) {
    const ticket = access.ticket(exportId, NONCE);
    t.match(ticket, { ticketId: /^[0-9a-f]{32}$/, secret: /^[0-9a-f]{64}$/, port: 7070 });
    seen.add(ticket.ticketId).add(ticket.secret);
  }
  t.equal(seen.size, 32);
  t.throws(() => access.ticket(exportId, NONCE), { code: 'ERR_LEASE_CAPACITY' });
  clock.ms += 15_000;
  access.ticket(exportId, NONCE);
  for (const nonce of ['', '5a', NONCE.toUpperCase(), `${NONCE}00`, 'zz'.repeat(32)]) {
    t.throws(() => access.ticket(exportId, nonce), { code: 'ERR_LEASE_INVALID' });
  }
});

t.test('slabs are renewed long before they end, as long as the export lives', async (t) => {
  const { exports, provider, clock } = rigOf(t, { ttlMaxMs: 30_000 });
  const access = exports.openDirect(HOLDER);
  const { exportId } = access.open({ sizeBytes: MIB, ttlMs: 86_400_000 });
  for (let second = 0; second < 120; second += 1) {
    clock.ms += 1000;
    exports.tick();
    provider.sweep();
    const [lease] = provider.status().leases;
    t.ok((lease?.expiresInMs ?? 0) >= 19_000, `second ${second}`);
  }
  t.equal(access.list()[0]?.exportId, exportId);
});

t.test('an export whose slabs were taken away ends', async (t) => {
  const { exports, provider, clock } = rigOf(t, { ttlMaxMs: 30_000 });
  const access = exports.openDirect(HOLDER);
  access.open({ sizeBytes: MIB, ttlMs: 60_000 });
  for (const { holder } of provider.status().leases) provider.revoke(holder);
  clock.ms += 10_000;
  exports.tick();
  t.same(access.list(), []);
});

/** Sends a preface; what came back until the connection was closed. */
async function knock(port: number, preface: Buffer): Promise<Buffer> {
  const socket = net.connect(port, '127.0.0.1');
  const parts: Buffer[] = [];
  socket.on('data', (part) => parts.push(part));
  socket.on('error', () => undefined);
  socket.write(preface);
  await once(socket, 'close');
  return Buffer.concat(parts);
}

t.test(
  'a ticket opens one connection, once, in time; anything else is closed without a word',
  async (t) => {
    const clock = new TestClock();
    const host = await startDirectHost(t, { clock });
    const { exportId } = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
    const preface = (ticketId: string): Buffer =>
      Buffer.concat([Buffer.from('MCDIRECT'), Buffer.from(ticketId, 'hex')]);
    t.equal((await knock(host.port, preface('00'.repeat(16)))).length, 0, 'unknown');
    const late = host.access.ticket(exportId, NONCE);
    clock.ms += 15_000;
    t.equal((await knock(host.port, preface(late.ticketId))).length, 0, 'too old');
    const orphan = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
    const unneeded = host.access.ticket(orphan.exportId, NONCE);
    host.access.close(orphan.exportId);
    t.equal((await knock(host.port, preface(unneeded.ticketId))).length, 0, 'its export is gone');
    t.equal(host.refusedCount(), 3);
    const ticket = host.access.ticket(exportId, NONCE);
    const { records } = await connectWithTicket(ticket, NONCE);
    const recorder = new Recorder();
    records.setHandler(recorder);
    await eventually(() => recorder.bytes.length > 0, 'the server greets');
    t.match(recorder.bytes.toString('latin1'), /^NBDMAGICIHAVEOPT/);
    t.equal(host.access.list()[0]?.connected, false, 'a ticket alone proves nothing');
    records.send(CLIENT_FLAGS);
    await eventually(() => host.access.list()[0]?.connected === true, 'its first record does');
    t.equal((await knock(host.port, preface(ticket.ticketId))).length, 0, 'used');
    t.equal(host.access.list()[0]?.connected, true, 'and the first connection lives on');
    records.destroy();
    await recorder.ended;
  },
);

t.test('whoever has the ticket but not the secret gets nothing', async (t) => {
  const host = await startDirectHost(t);
  const { exportId } = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
  const ticket = host.access.ticket(exportId, NONCE);
  const { records } = await connectWithTicket({ ...ticket, secret: '00'.repeat(32) }, NONCE);
  const recorder = new Recorder();
  records.setHandler(recorder);
  records.send(Buffer.from([0, 0, 0, 3]));
  await recorder.ended;
  t.equal(recorder.bytes.length, 0, 'not even the greeting opens');
  await eventually(() => host.access.list()[0]?.connected === false, 'the provider hung up too');
});

t.test('our NBD client uses an export through records', async (t) => {
  const host = await startDirectHost(t);
  const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
  const door = await startDirectDoor(t, host, exportId);
  for (const name of ['', exportId]) {
    const client = await NbdClient.connect(door, { exportName: name });
    t.equal(client.export.sizeBytes, 8 * MIB);
    const content = randomBytes(3 * MIB);
    await Promise.all([
      client.write(777, content.subarray(0, MIB)),
      client.write(777 + MIB, content.subarray(MIB), { forceUnitAccess: true }),
    ]);
    await client.flush();
    t.ok((await client.read(777, content.length)).equals(content));
    await client.trim(0, 8 * MIB);
    t.ok((await client.read(0, 4 * MIB)).equals(Buffer.alloc(4 * MIB)));
    t.equal(host.access.list()[0]?.residentBytes, 0);
    await client.close();
    await eventually(() => host.access.list()[0]?.connected === false, 'the connection ended');
  }
  await t.rejects(NbdClient.connect(door, { exportName: 'other' }), {
    code: 'ERR_NBD_EXPORT_UNKNOWN',
  });
  t.ok((host.exports.status()[0]?.requestCount ?? 0) >= 10);
});

t.test('a newer connection destroys the older one, and keeps what that one wrote', async (t) => {
  const host = await startDirectHost(t);
  const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
  const door = await startDirectDoor(t, host, exportId);
  const first = await NbdClient.connect(door);
  await first.write(0, Buffer.alloc(MIB, 1));
  const second = await NbdClient.connect(door);
  await t.rejects(first.read(0, 10), { code: 'ERR_NBD_CLOSED' });
  t.ok((await second.read(0, MIB)).equals(Buffer.alloc(MIB, 1)));
  t.match(
    host.access.list(),
    [{ connected: true }],
    'the end of the old one is not that of the new',
  );
  await second.close();
  await first.close();
});

for (const [name, fenced] of [
  ['requests of the older connection that lie unread are never executed', true],
  ['and without a newer one they are', false],
] as const)
  t.test(name, async (t) => {
    const host = await startDirectHost(t);
    const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
    const older = await connectDirect(host, exportId);
    const recorder = new Recorder();
    older.records.setHandler(recorder);
    await eventually(() => recorder.bytes.length > 0, 'it is served');
    // Fixed newstyle, EXPORT_NAME, then a write of one page that is 9 everywhere.
    const write = Buffer.alloc(28 + 4096, 9);
    write.writeUInt32BE(0x25609513, 0);
    write.writeUInt16BE(0, 4);
    write.writeUInt16BE(1, 6);
    write.writeBigUInt64BE(0n, 8);
    write.writeBigUInt64BE(4096n, 16);
    write.writeUInt32BE(4096, 24);
    const hello = Buffer.alloc(20);
    hello.writeUInt32BE(3, 0);
    hello.write('IHAVEOPT', 4, 'latin1');
    hello.writeUInt32BE(1, 12);
    const stream = host.streams.at(-1) as NbdStream;
    stream.pause();
    older.records.send(Buffer.concat([hello, write]));
    await new Promise((resolve) => setTimeout(resolve, 50));
    const newer = fenced ? await connectDirect(host, exportId) : undefined;
    newer?.records.setHandler(new Recorder());
    newer?.records.send(CLIENT_FLAGS);
    if (fenced) await recorder.ended;
    stream.resume();
    if (fenced) await new Promise((resolve) => setTimeout(resolve, 50));
    const keptBytes = fenced ? 0 : 4096;
    await eventually(() => host.access.list()[0]?.residentBytes === keptBytes, 'what is kept');
    newer?.records.destroy();
    older.records.destroy();
  });

t.test(
  'an export lives as long as its connection, and its time begins when that ends',
  async (t) => {
    const clock = new TestClock();
    const host = await startDirectHost(t, { clock });
    const { exportId } = host.access.open({ sizeBytes: MIB, ttlMs: 5000 });
    const { records } = await connectDirect(host, exportId);
    const recorder = new Recorder();
    records.setHandler(recorder);
    records.send(CLIENT_FLAGS);
    await eventually(() => host.access.list()[0]?.connected === true, 'it is connected');
    clock.ms += 1_000_000;
    host.exports.tick();
    t.match(host.access.list(), [{ connected: true }]);
    records.destroy();
    await eventually(() => host.access.list()[0]?.connected === false, 'it ended');
    clock.ms += 4999;
    host.exports.tick();
    t.equal(host.access.list().length, 1);
    clock.ms += 1;
    host.exports.tick();
    t.equal(host.access.list().length, 0);
  },
);

t.test('an export under a managed lease takes from that, and from nothing else', async (t) => {
  const { exports, provider, clock } = rigOf(t, { offeredBytes: 700 * MIB });
  const managed = provider.openManaged();
  const under = '1'.repeat(32);
  managed.reserve({ leaseId: under, client: HOLDER, sizeBytes: 600 * MIB, ttlMs: 60_000 });
  const access = exports.openDirect(HOLDER);
  const ask = { sizeBytes: 300 * MIB, ttlMs: 86_400_000 };
  t.throws(() => access.open(ask), { code: 'ERR_LEASE_CAPACITY' }, 'the rest of the offer');
  t.throws(() => exports.openDirect(OTHER).open({ ...ask, under }), { code: 'ERR_LEASE_UNKNOWN' });
  t.throws(() => access.open({ ...ask, sizeBytes: 600 * MIB, under }), {
    code: 'ERR_LEASE_CAPACITY',
    message: /of the 600 MiB of the managed lease/,
  });
  t.equal(managed.list()[0]?.usedBytes, 0, 'nothing stays of it');
  const { exportId } = access.open({ ...ask, under });
  t.equal(provider.usage().usedBytes, 600 * MIB);
  access.close(exportId);
  t.equal(managed.list()[0]?.usedBytes, 0);
  access.open({ ...ask, under });
  managed.extend(under, 86_400_000);
  clock.ms += 86_399_999;
  provider.sweep();
  exports.tick();
  t.equal(access.list().length, 1, 'it lives on with what it lies under');
});

t.test('the end of a managed lease cuts its export and wipes', async (t) => {
  const host = await startDirectHost(t);
  host.provider.onLeaseEnded(({ holder }) => host.exports.onSlabEnded(holder));
  const managed = host.provider.openManaged();
  const under = '1'.repeat(32);
  managed.reserve({ leaseId: under, client: HOLDER, sizeBytes: 200 * MIB, ttlMs: 60_000 });
  const other = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
  const { exportId } = host.access.open({ sizeBytes: 128 * MIB, ttlMs: 60_000, under });
  const client = await NbdClient.connect(await startDirectDoor(t, host, exportId));
  for (let at = 0; at < 64 * MIB; at += MIB) await client.write(at, Buffer.alloc(MIB, 7));
  managed.end(under, 'revoked');
  await t.rejects(client.read(0, 4096), { code: 'ERR_NBD_CLOSED' });
  t.strictSame(
    host.access.list().map((each) => each.exportId),
    [other.exportId],
  );
  t.throws(() => host.access.ticket(exportId, NONCE), { code: 'ERR_LEASE_UNKNOWN' });
  await eventually(() => host.provider.reservedBytes === 0, 'the bytes are given back');
  t.equal(host.provider.usage().residentBytes, 0);
  t.equal(host.provider.usage().leaseCount, 1);
  await client.close();
});

for (const how of ['close', 'revoke', 'shut down'] as const) {
  t.test(`the end of an export cuts its connection and wipes (${how})`, async (t) => {
    const host = await startDirectHost(t);
    const { exportId } = host.access.open({ sizeBytes: 128 * MIB, ttlMs: 60_000 });
    host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
    const door = await startDirectDoor(t, host, exportId);
    const client = await NbdClient.connect(door);
    for (let at = 0; at < 64 * MIB; at += MIB) await client.write(at, Buffer.alloc(MIB, 7));
    if (how === 'close') host.access.close(exportId);
    else if (how === 'revoke') host.exports.revoke(HOLDER);
    else host.exports.close();
    await t.rejects(client.read(0, 4096), { code: 'ERR_NBD_CLOSED' });
    const left = how === 'close' ? 1 : 0;
    t.equal(host.access.list().length, left);
    await eventually(() => host.provider.usage().leaseCount === left, 'the slabs are given back');
    t.equal(host.provider.usage().residentBytes, 0);
    if (how === 'shut down') {
      t.throws(() => host.access.open({ sizeBytes: 4096, ttlMs: 5000 }), {
        code: 'ERR_LEASE_CAPACITY',
        message: /shutting down/,
      });
    }
    await client.close();
  });
}
