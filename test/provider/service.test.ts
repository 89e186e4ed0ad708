/** The provider as a whole: capacity, deadlines, wiping, endings, metadata; by real and fake clocks. */
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';
import t from 'tap';
import { RamProvider, type LeaseEnding } from '../../provider/service.ts';
import { allocatedBytes, fileBytes, isZero, pageBuffer, tmpfsBase } from '../helpers/tmpfs.ts';
import { openProvider } from '../helpers/provider-rig.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const GIB = 2 ** 30;
const MIB = 2 ** 20;
/** What a lease of 4096 pages is charged, restated. */
const SLAB_CHARGE = 4096 * 4112 + 512 + 1024;

t.test('a request out of range is refused and takes nothing', async (t) => {
  const { provider } = openProvider(t);
  const access = provider.openAccess(A);
  for (const request of [
    { pageCount: 0, ttlMs: 5000 },
    { pageCount: 65_537, ttlMs: 5000 },
    { pageCount: 1.5, ttlMs: 5000 },
    { pageCount: NaN, ttlMs: 5000 },
    { pageCount: 1, ttlMs: 999 },
    { pageCount: 1, ttlMs: 86_400_001 },
    { pageCount: 1, ttlMs: NaN },
  ]) {
    t.throws(() => access.lease(request), { code: 'ERR_LEASE_INVALID' }, JSON.stringify(request));
  }
  t.throws(() => access.renew([], 0), { code: 'ERR_LEASE_INVALID' });
  t.strictSame(provider.usage(), {
    offeredBytes: 64 * MIB,
    usedBytes: 0,
    residentBytes: 0,
    leaseCount: 0,
  });
});

t.test(
  'a grant names an unguessable lease and a handle, with at most the asked time',
  async (t) => {
    const { provider } = openProvider(t, { ttlMaxMs: 60_000 });
    const access = provider.openAccess(A);
    const first = access.lease({ pageCount: 1, ttlMs: 86_400_000 });
    const second = access.lease({ pageCount: 1, ttlMs: 1000 });
    t.match(first.leaseId, /^[0-9a-f]{16}$/);
    t.not(first.leaseId, second.leaseId);
    t.equal(second.slabHandle, first.slabHandle + 1);
    t.equal(first.ttlMs, 60_000);
    t.equal(second.ttlMs, 1000);
  },
);

t.test('lends exactly its offer, refuses with numbers, lends again what came back', async (t) => {
  const { provider } = openProvider(t, { offeredBytes: 3 * SLAB_CHARGE });
  const a = provider.openAccess(A);
  const b = provider.openAccess(B);
  const ask = { pageCount: 4096, ttlMs: 10_000 };
  const leases = [a.lease(ask), a.lease(ask), b.lease(ask)];
  t.equal(provider.usage().usedBytes, 3 * SLAB_CHARGE);
  t.throws(() => b.lease({ pageCount: 1, ttlMs: 10_000 }), {
    code: 'ERR_LEASE_CAPACITY',
    message: 'lease: asked 9 KiB, free 0 B of 48.2 MiB offered',
  });
  t.throws(() => b.release(leases[0]!.leaseId), { code: 'ERR_LEASE_UNKNOWN' });
  a.release(leases[0]!.leaseId);
  t.throws(() => a.release(leases[0]!.leaseId), { code: 'ERR_LEASE_UNKNOWN' });
  t.equal(provider.usage().usedBytes, 2 * SLAB_CHARGE);
  t.ok(b.lease(ask));
});

t.test('an offer is changed live: more at once, less as leases end', async (t) => {
  const { provider } = openProvider(t, { offeredBytes: SLAB_CHARGE });
  const access = provider.openAccess(A);
  const ask = { pageCount: 4096, ttlMs: 10_000 };
  const first = access.lease(ask);
  const page = pageBuffer(t, 1);
  t.throws(() => access.lease(ask), { code: 'ERR_LEASE_CAPACITY' });
  provider.setOffer(3 * SLAB_CHARGE);
  t.equal(provider.usage().offeredBytes, 3 * SLAB_CHARGE);
  const second = access.lease(ask);
  provider.setOffer(0);
  t.match(provider.usage(), { offeredBytes: 2 * SLAB_CHARGE, usedBytes: 2 * SLAB_CHARGE });
  t.throws(() => access.lease({ pageCount: 1, ttlMs: 10_000 }), {
    code: 'ERR_LEASE_CAPACITY',
    message: 'lease: asked 9 KiB, free 0 B of 32.1 MiB offered',
  });
  t.equal(access.writePages(second.slabHandle, 0, 1, page, 0), 0, 'what is lent stays lent');
  t.same(access.renew([first.leaseId, second.leaseId], 10_000), []);
  access.release(first.leaseId);
  t.equal(provider.usage().offeredBytes, SLAB_CHARGE);
  t.throws(() => access.lease(ask), { code: 'ERR_LEASE_CAPACITY' });
  access.release(second.leaseId);
  t.equal(provider.usage().offeredBytes, 0);
});

t.test('a node has its allowance over all its sessions', async (t) => {
  const { provider } = openProvider(t, {
    allowedBytes: (node) => (node === A ? SLAB_CHARGE : Infinity),
  });
  const ask = { pageCount: 4096, ttlMs: 10_000 };
  const { leaseId } = provider.openAccess(A).lease(ask);
  t.throws(() => provider.openAccess(A).lease(ask), {
    code: 'ERR_LEASE_CAPACITY',
    message: /free 0 B of the 16\.1 MiB that this node is allowed/,
  });
  t.ok(provider.openAccess(B).lease(ask));
  provider.openAccess(A).release(leaseId);
  t.ok(provider.openAccess(A).lease(ask));
});

t.test('lanes and direct exports count with their node', async (t) => {
  const { provider } = openProvider(t, {
    allowedBytes: (node) => (node === A ? 2 * SLAB_CHARGE : Infinity),
  });
  const ask = { pageCount: 4096, ttlMs: 10_000 };
  const refusal = { code: 'ERR_LEASE_CAPACITY', message: /asked 16\.1 MiB, free 0 B of the/ };
  const lane = provider.openAccess(`${A}/m-1`);
  const { leaseId } = lane.lease(ask);
  provider.openAccess(`${A}/direct/0123456789abcdef`).lease(ask);
  t.throws(() => provider.openAccess(A).lease(ask), refusal, 'the node itself');
  t.throws(() => provider.openAccess(`${A}/m-2`).lease(ask), refusal, 'one more lane');
  t.equal(provider.usedBy(A), 2 * SLAB_CHARGE);
  lane.release(leaseId);
  t.equal(provider.usedBy(A), SLAB_CHARGE);
  t.ok(provider.openAccess(A).lease(ask));
});

t.test('a smaller allowance ends nothing and grants nothing', async (t) => {
  let allowedBytes = Infinity;
  const { provider } = openProvider(t, { allowedBytes: () => allowedBytes });
  const access = provider.openAccess(A);
  const ask = { pageCount: 1, ttlMs: 10_000 };
  const leases = [access.lease(ask), access.lease(ask)];
  allowedBytes = 0;
  t.equal(provider.usage().leaseCount, 2);
  t.same(
    access.renew(
      leases.map(({ leaseId }) => leaseId),
      10_000,
    ),
    [],
  );
  t.throws(() => access.lease(ask), {
    code: 'ERR_LEASE_CAPACITY',
    message: 'lease: asked 9 KiB, free 0 B of the 0 B that this node is allowed',
  });
  for (const { leaseId } of leases) access.release(leaseId);
  t.throws(() => access.lease(ask), { code: 'ERR_LEASE_CAPACITY' });
  allowedBytes = 9220;
  t.ok(access.lease(ask), 'the charge of one page, to the byte: 2 file pages, 4 B of bits, 1 KiB');
});

t.test('leaves the host its reserve, promises counted', async (t) => {
  const host = { totalBytes: 10 * GIB, availableBytes: GIB + 2 * SLAB_CHARGE };
  const { provider } = openProvider(t, {
    offeredBytes: GIB,
    reserveBytes: GIB,
    readHostMemory: () => host,
  });
  const access = provider.openAccess(A);
  const ask = { pageCount: 4096, ttlMs: 10_000 };
  const { slabHandle } = access.lease(ask);
  access.lease(ask);
  const refusal = { code: 'ERR_LEASE_CAPACITY', message: /the host keeps 1 GiB for itself/ };
  t.throws(() => access.lease(ask), refusal);
  const buffer = pageBuffer(t, 64);
  for (let page = 0; page < 4096; page += 64) access.writePages(slabHandle, page, 64, buffer, 0);
  host.availableBytes -= provider.usage().residentBytes;
  t.throws(() => access.lease(ask), refusal, 'a page written is counted once');
  host.availableBytes += SLAB_CHARGE;
  t.ok(access.lease(ask));
});

t.test('leases outlive a session and are there for the same holder', async (t) => {
  const { provider } = openProvider(t);
  const buffer = pageBuffer(t, 1);
  buffer.bytes.fill(0x31);
  const { slabHandle } = provider.openAccess(A).lease({ pageCount: 8, ttlMs: 5000 });
  t.equal(provider.openAccess(A).writePages(slabHandle, 3, 1, buffer, 0), 0);
  buffer.bytes.fill(0);
  t.equal(provider.openAccess(A).readPages(slabHandle, 3, 1, buffer, 0), 0);
  t.equal(buffer.bytes[4111], 0x31);
  t.equal(provider.openAccess(B).readPages(slabHandle, 3, 1, buffer, 0), 6);
});

t.test('release wipes the backing file and gives the blocks back', async (t) => {
  const { provider } = openProvider(t);
  const access = provider.openAccess(A);
  const buffer = pageBuffer(t, 64);
  buffer.bytes.fill(0xd7);
  const { leaseId, slabHandle } = access.lease({ pageCount: 64, ttlMs: 5000 });
  access.writePages(slabHandle, 0, 64, buffer, 0);
  const file = provider.status().files[0]!;
  t.ok(fileBytes(file, 0, 64 * 4112).equals(Buffer.alloc(64 * 4112, 0xd7)));
  t.equal(allocatedBytes(file), 65 * 4096);
  t.equal(provider.usage().residentBytes, 65 * 4096);
  access.release(leaseId);
  t.ok(isZero(fileBytes(file, 0, 65 * 4096)));
  t.equal(allocatedBytes(file), 0);
  t.equal(provider.usage().residentBytes, 0);
});

t.test('the deadline wipes within a second by the timer alone', async (t) => {
  const endings: LeaseEnding[] = [];
  const provider = RamProvider.open({
    offeredBytes: 64 * MIB,
    directory: tmpfsBase(t),
    noswap: 'off',
  });
  t.teardown(() => provider.close());
  provider.onLeaseEnded((ending) => endings.push(ending));
  const access = provider.openAccess(A);
  const buffer = pageBuffer(t, 64);
  buffer.bytes.fill(0xd7);
  const dying = access.lease({ pageCount: 64, ttlMs: 1000 });
  const renewed = access.lease({ pageCount: 64, ttlMs: 1000 });
  access.writePages(dying.slabHandle, 0, 64, buffer, 0);
  access.writePages(renewed.slabHandle, 0, 64, buffer, 0);
  const file = provider.status().files[0]!;
  await sleep(100);
  t.strictSame(access.renew([renewed.leaseId, 'f'.repeat(16)], 60_000), ['f'.repeat(16)]);
  await sleep(1900);
  t.equal(access.readPages(dying.slabHandle, 0, 1, buffer, 0), 6);
  t.equal(access.readPages(renewed.slabHandle, 0, 1, buffer, 0), 0);
  t.ok(isZero(fileBytes(file, 0, 65 * 4096)), 'the dead lease is zero in the file');
  t.equal(allocatedBytes(file), 65 * 4096, 'and only the living one has blocks');
  t.strictSame(endings, [
    {
      ...{ leaseId: dying.leaseId, slabHandle: dying.slabHandle, holder: A, reason: 'expired' },
      residentBytes: 65 * 4096,
    },
  ]);
  t.strictSame(access.renew([dying.leaseId], 5000), [dying.leaseId]);
});

t.test('many endings are wiped in slices, and count until they are', async (t) => {
  const { provider, clock } = openProvider(t, { offeredBytes: 8 * SLAB_CHARGE });
  const access = provider.openAccess(A);
  const buffer = pageBuffer(t, 64);
  const ask = { pageCount: 4096, ttlMs: 1000 };
  for (let lease = 0; lease < 8; lease += 1) {
    const { slabHandle } = access.lease(ask);
    for (let page = 0; page < 4096; page += 64) access.writePages(slabHandle, page, 64, buffer, 0);
  }
  clock.ms += 1000;
  provider.sweep();
  t.equal(provider.usage().usedBytes, 6 * SLAB_CHARGE, 'one slice: 32 MiB');
  t.equal(provider.usage().leaseCount, 6);
  t.throws(
    () => {
      for (;;) access.lease(ask);
    },
    { code: 'ERR_LEASE_CAPACITY' },
  );
  while (provider.usage().leaseCount > 2) await new Promise(setImmediate);
  t.equal(provider.usage().usedBytes, 2 * SLAB_CHARGE, 'the two new ones stay');
  t.equal(provider.usage().residentBytes, 0);
});

t.test('revoke ends one holder only, and says so', async (t) => {
  const { provider } = openProvider(t);
  const endings: string[] = [];
  const stop = provider.onLeaseEnded(({ holder, reason }) =>
    endings.push(`${holder[0]} ${reason}`),
  );
  const kept = provider.openAccess(B).lease({ pageCount: 8, ttlMs: 5000 });
  provider.openAccess(A).lease({ pageCount: 8, ttlMs: 5000 });
  provider.openAccess(A).lease({ pageCount: 8, ttlMs: 5000 });
  t.equal(provider.revoke(A), 2);
  t.strictSame(endings, ['a revoked', 'a revoked']);
  t.equal(provider.status().leases.length, 1);
  stop();
  provider.openAccess(B).release(kept.leaseId);
  t.equal(endings.length, 2, 'a stopped listener hears nothing');
});

t.test('status lists leases with holder, bytes and time left', async (t) => {
  const { provider, clock } = openProvider(t);
  const grant = provider.openAccess(A).lease({ pageCount: 4096, ttlMs: 5000 });
  provider.openAccess(A).writePages(grant.slabHandle, 0, 1, pageBuffer(t, 1), 0);
  clock.ms += 1200;
  const { leases, ...rest } = provider.status();
  t.match(leases, [
    {
      leaseId: grant.leaseId,
      slabHandle: grant.slabHandle,
      holder: A,
      pageCount: 4096,
      chargedBytes: SLAB_CHARGE,
      residentBytes: 8192,
      expiresInMs: 3800,
    },
  ]);
  t.match(rest, { noMountReason: 'switched off', reserveBytes: 0, usage: { leaseCount: 1 } });
  t.strictSame(rest.files, [`${rest.directory}/arena-0`]);
  clock.ms += 9000;
  t.equal(provider.status().leases[0]?.expiresInMs, 0);
});

t.test('close wipes, removes the files and answers NO_LEASE from then on', async (t) => {
  const { provider } = openProvider(t);
  const endings: string[] = [];
  provider.onLeaseEnded((ending) => endings.push(ending.reason));
  const access = provider.openAccess(A);
  const buffer = pageBuffer(t, 1);
  buffer.bytes.fill(0xd7);
  const { leaseId, slabHandle } = access.lease({ pageCount: 8, ttlMs: 5000 });
  access.writePages(slabHandle, 0, 1, buffer, 0);
  const { directory, files } = provider.status();
  const fd = fs.openSync(files[0]!, 'r');
  t.teardown(() => fs.closeSync(fd));
  provider.close();
  provider.close();
  t.equal(provider.closed, true);
  t.equal(fs.existsSync(directory), false);
  t.equal(fs.fstatSync(fd).blocks, 0, 'an open reader keeps nothing but a hole');
  t.strictSame(endings, ['closed']);
  t.equal(access.readPages(slabHandle, 0, 1, buffer, 0), 6);
  t.equal(access.writePages(slabHandle, 0, 1, buffer, 0), 6);
  t.equal(access.trimPages(slabHandle, 0, 1), 6);
  t.throws(() => access.release(leaseId), { code: 'ERR_LEASE_UNKNOWN' });
  t.throws(() => access.lease({ pageCount: 8, ttlMs: 5000 }), {
    code: 'ERR_LEASE_CAPACITY',
    message: 'lease: the provider is shutting down',
  });
});

t.test('a full tmpfs is NO_SPACE for new pages and nothing else', async (t) => {
  const { provider } = openProvider(t, { noswap: 'auto', offeredBytes: SLAB_CHARGE });
  const { directory, noMountReason } = provider.status();
  if (noMountReason !== '') return t.comment(`SKIP: ${noMountReason}`);
  const access = provider.openAccess(A);
  const buffer = pageBuffer(t, 64);
  buffer.bytes.fill(0x66);
  const { slabHandle } = access.lease({ pageCount: 4096, ttlMs: 5000 });
  t.equal(access.writePages(slabHandle, 0, 64, buffer, 0), 0);
  const { bavail, bsize } = fs.statfsSync(directory);
  fs.writeFileSync(`${directory}/filler`, Buffer.alloc((bavail - 3) * bsize));
  t.equal(access.writePages(slabHandle, 100, 64, buffer, 0), 2);
  t.equal(provider.usage().residentBytes, 65 * 4096);
  t.equal(access.writePages(slabHandle, 0, 64, buffer, 0), 0, 'old pages can be written again');
  fs.rmSync(`${directory}/filler`);
  t.equal(access.writePages(slabHandle, 100, 64, buffer, 0), 0);
});

t.test('a lease is refused when the tmpfs has no room for it', async (t) => {
  const { provider } = openProvider(t, { noswap: 'auto', offeredBytes: 2 * SLAB_CHARGE });
  const { directory, noMountReason } = provider.status();
  if (noMountReason !== '') return t.comment(`SKIP: ${noMountReason}`);
  fs.writeFileSync(`${directory}/filler`, Buffer.alloc(2 * MIB));
  const access = provider.openAccess(A);
  access.lease({ pageCount: 4096, ttlMs: 5000 });
  t.throws(() => access.lease({ pageCount: 4096, ttlMs: 5000 }), {
    code: 'ERR_LEASE_CAPACITY',
    message: /in the tmpfs of the provider/,
  });
});

/** Bytes of heap and array buffers in use after collection; two turns let finalizers run. */
async function settledBytes(): Promise<number> {
  v8.setFlagsFromString('--expose-gc');
  const collect = vm.runInNewContext('gc') as () => void;
  for (let round = 0; round < 3; round += 1) {
    collect();
    await sleep(1);
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

t.test('1 GiB of pages costs less than 32 bytes of metadata a page, all charged', async (t) => {
  const pageCount = GIB / 4096;
  const { provider } = openProvider(t, { offeredBytes: 2 * GIB });
  const access = provider.openAccess(A);
  access.release(access.lease({ pageCount: 4096, ttlMs: 60_000 }).leaseId);
  const before = await settledBytes();
  for (let slab = 0; slab < 64; slab += 1) access.lease({ pageCount: 4096, ttlMs: 60_000 });
  // What older tests of this process left may be collected meanwhile: less heap than before is none.
  const heapBytes = Math.max(0, (await settledBytes()) - before);
  const perPage = (64 * 16_842_752 - GIB + heapBytes) / pageCount;
  t.comment(`${perPage.toFixed(2)} bytes a page, ${heapBytes} bytes of heap for 64 leases`);
  t.ok(perPage <= 32, 'tags, bit maps and records as they are in memory');
  const charged = (provider.usage().usedBytes - GIB) / pageCount;
  t.equal(charged, 16 + 0.125 + 0.25, 'as the ledger charges them');
});

t.test('the record of a lease costs less than its charge of 1024 bytes', async (t) => {
  const { provider } = openProvider(t, { offeredBytes: GIB });
  const access = provider.openAccess(A);
  access.lease({ pageCount: 1, ttlMs: 60_000 });
  const before = await settledBytes();
  for (let lease = 0; lease < 4096; lease += 1) access.lease({ pageCount: 1, ttlMs: 60_000 });
  const perLease = ((await settledBytes()) - before) / 4096;
  t.comment(`${perLease.toFixed(0)} bytes of heap a lease`);
  t.ok(perLease < 1024);
});
