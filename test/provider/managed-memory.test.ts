/** Managed leases on real memory: what they take, what page calls see, what is left in the files. */
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { ManagedEnding } from '../../common/managed.ts';
import type { SlabRecall } from '../../common/ports.ts';
import { RamProvider, type RamProviderOptions } from '../../provider/service.ts';
import { allocatedBytes, fileBytes, isZero, pageBuffer, tmpfsBase } from '../helpers/tmpfs.ts';
import { openProvider } from '../helpers/provider-rig.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const GIB = 2 ** 30;
const MIB = 2 ** 20;
/** What a lease of 64 and of 4096 pages is charged, restated. */
const CHARGE = 65 * 4096 + 8 + 1024;
const SLAB_CHARGE = 4096 * 4112 + 512 + 1024;
const ONE = '1'.repeat(32);
const TWO = '2'.repeat(32);
const ASK = { pageCount: 64, ttlMs: 60_000 };

function openManaged(t: Test, options: Partial<RamProviderOptions> = {}) {
  const { provider, clock } = openProvider(t, options);
  const managed = provider.openManaged();
  const endings: ManagedEnding[] = [];
  managed.onEnded((ending) => endings.push(ending));
  return { provider, clock, managed, endings };
}

function reservation(leaseId: string, sizeBytes: number, ttlMs = 10_000, client = A) {
  return { leaseId, client, sizeBytes, ttlMs };
}

t.test('bytes are set aside at once, and slabs in them cost nothing more', async (t) => {
  const { provider, managed } = openManaged(t, { allowedBytes: () => 0 });
  t.throws(() => provider.openAccess(A).lease(ASK), { code: 'ERR_LEASE_CAPACITY' }, 'no allowance');
  managed.reserve(reservation(ONE, 2 * CHARGE));
  t.equal(provider.usage().usedBytes, 2 * CHARGE);
  t.equal(provider.reservedBytes, 2 * CHARGE);
  t.equal(provider.usedBy(A), 0, 'no allowance counts it');
  const holders = [A, `${A}/m-1`, `${A}/direct/0123456789abcdef`];
  const [own, lane, direct] = holders.map((holder) => provider.openAccess(holder));
  t.throws(() => lane!.lease({ ...ASK, under: TWO }), { code: 'ERR_LEASE_UNKNOWN' });
  t.throws(() => provider.openAccess(B).lease({ ...ASK, under: ONE }), {
    code: 'ERR_LEASE_UNKNOWN',
  });
  const first = own!.lease({ ...ASK, under: ONE });
  t.equal(first.ttlMs, 60_000);
  lane!.lease({ ...ASK, under: ONE });
  t.throws(() => direct!.lease({ ...ASK, under: ONE }), {
    code: 'ERR_LEASE_CAPACITY',
    message: /free 0 B of the 522 KiB of the managed lease/,
  });
  t.match(managed.list(), [{ leaseId: ONE, usedBytes: 2 * CHARGE, ttlMs: 10_000 }]);
  t.equal(provider.usage().usedBytes, 2 * CHARGE);
  own!.release(first.leaseId);
  t.equal(managed.list()[0]?.usedBytes, CHARGE);
  t.ok(direct!.lease({ ...ASK, under: ONE }), 'what came back is there again');
  t.equal(provider.usage().usedBytes, 2 * CHARGE);
  t.throws(() => own!.lease(ASK), { code: 'ERR_LEASE_CAPACITY' }, 'unmanaged: still no allowance');
});

t.test('what is set aside counts against the offer and the host', async (t) => {
  const host = { totalBytes: GIB, availableBytes: GIB };
  const { provider, managed } = openManaged(t, {
    offeredBytes: 4 * SLAB_CHARGE,
    readHostMemory: () => host,
  });
  managed.reserve(reservation(ONE, 3 * SLAB_CHARGE));
  t.throws(() => managed.reserve(reservation(ONE, 1)), { code: 'ERR_LEASE_INVALID' });
  t.throws(() => managed.reserve(reservation(TWO, SLAB_CHARGE + 1)), {
    code: 'ERR_LEASE_CAPACITY',
    message: 'managed lease: asked 16.1 MiB, free 16.1 MiB of 64.3 MiB offered',
  });
  t.ok(provider.openAccess(B).lease({ pageCount: 4096, ttlMs: 5000 }));
  t.throws(() => provider.openAccess(B).lease(ASK), { code: 'ERR_LEASE_CAPACITY' });
  t.equal(managed.end(ONE, 'released'), true);
  t.equal(provider.usage().usedBytes, SLAB_CHARGE);
  host.availableBytes = 2 * SLAB_CHARGE;
  t.throws(() => managed.reserve(reservation(TWO, 2 * SLAB_CHARGE)), {
    code: 'ERR_LEASE_CAPACITY',
  });
  managed.reserve(reservation(TWO, SLAB_CHARGE));
});

t.test('nothing is set aside while the node is drained, short of memory or closed', async (t) => {
  const host = { totalBytes: GIB, availableBytes: GIB };
  const { provider, managed } = openManaged(t, {
    readHostMemory: () => host,
    reserveBytes: 100 * MIB,
  });
  managed.reserve(reservation(ONE, CHARGE));
  provider.setDraining(true);
  const refused = { code: 'ERR_LEASE_CAPACITY' };
  t.throws(() => managed.reserve(reservation(TWO, CHARGE)), refused);
  t.throws(() => provider.openAccess(A).lease({ ...ASK, under: ONE }), refused);
  provider.setDraining(false);
  host.availableBytes = 50 * MIB;
  provider.watchMemory();
  t.throws(() => managed.reserve(reservation(TWO, CHARGE)), refused);
  t.throws(() => provider.openAccess(A).lease({ ...ASK, under: ONE }), refused);
  provider.close();
  t.throws(() => managed.reserve(reservation(TWO, CHARGE)), refused);
});

t.test('at the deadline page calls fail, and the files read zero', async (t) => {
  const { provider, clock, managed, endings } = openManaged(t);
  managed.reserve(reservation(ONE, 4 * CHARGE, 5000));
  const ended: string[] = [];
  const access = provider.openAccess(`${A}/m-1`, {
    onLeasesEnded: (ids) => ended.push(...ids),
    onRecall: () => undefined,
    onAccepting: () => undefined,
  });
  const buffer = pageBuffer(t, 64);
  buffer.bytes.fill(0xd7);
  const mine = access.lease({ ...ASK, under: ONE });
  const other = provider.openAccess(A).lease(ASK);
  access.writePages(mine.slabHandle, 0, 64, buffer, 0);
  provider.openAccess(A).writePages(other.slabHandle, 0, 64, buffer, 0);
  const file = provider.status().files[0]!;
  const isWiped = () => isZero(fileBytes(file, 0, 65 * 4096));
  t.equal(provider.status().leases[0]?.expiresInMs, 5000, 'not the 60 s that were asked');
  clock.ms += 4999;
  t.equal(access.readPages(mine.slabHandle, 0, 1, buffer, 0), 0);
  t.strictSame(access.renew([mine.leaseId], 60_000), [], 'renewed to the managed deadline');
  clock.ms += 1;
  t.equal(access.readPages(mine.slabHandle, 0, 1, buffer, 0), 6, 'before anybody looked');
  t.strictSame(access.renew([mine.leaseId], 60_000), [mine.leaseId]);
  t.throws(() => access.release(mine.leaseId), { code: 'ERR_LEASE_UNKNOWN' });
  t.throws(() => access.lease({ ...ASK, under: ONE }), { code: 'ERR_LEASE_UNKNOWN' });
  t.equal(isWiped(), false);
  clock.ms += 50;
  provider.sweep();
  t.equal(isWiped(), true);
  t.equal(allocatedBytes(file), 65 * 4096, 'only the other lease has blocks');
  t.strictSame(ended, [mine.leaseId]);
  t.strictSame(endings, [
    {
      ...{ leaseId: ONE, client: A, sizeBytes: 4 * CHARGE, reason: 'expired' },
      ...{ wipedBytes: 65 * 4096, wipeMs: 50 },
    },
  ]);
  t.equal(provider.usage().usedBytes, CHARGE);
  t.equal(provider.openAccess(A).readPages(other.slabHandle, 0, 1, buffer, 0), 0);
});

t.test('the timer alone wipes within a second of the deadline', async (t) => {
  const provider = RamProvider.open({
    offeredBytes: 128 * MIB,
    directory: tmpfsBase(t),
    noswap: 'off',
  });
  t.teardown(() => provider.close());
  const managed = provider.openManaged();
  const ended = new Promise<ManagedEnding>((resolve) => managed.onEnded(resolve));
  managed.reserve(reservation(ONE, 4 * SLAB_CHARGE, 1500));
  const access = provider.openAccess(A);
  const buffer = pageBuffer(t, 64);
  buffer.bytes.fill(0xd7);
  for (let slab = 0; slab < 4; slab += 1) {
    const { slabHandle } = access.lease({ pageCount: 4096, ttlMs: 60_000, under: ONE });
    for (let page = 0; page < 4096; page += 64) access.writePages(slabHandle, page, 64, buffer, 0);
  }
  const file = provider.status().files[0]!;
  t.ok(allocatedBytes(file) >= 4 * 4096 * 4112);
  // The timer of the provider keeps no process alive.
  const [{ wipedBytes, wipeMs }] = await Promise.all([ended, sleep(2500)]);
  t.equal(wipedBytes, 4 * 4096 * 4112);
  t.ok(wipeMs < 1000, `${wipeMs} ms`);
  t.equal(allocatedBytes(file), 0, 'the RAM is the host’s again');
  t.ok(isZero(fileBytes(file, 0, 4 * 4096 * 4112)));
  t.equal(provider.usage().residentBytes, 0);
});

t.test('an extension is enough: slabs in it live on', async (t) => {
  const { provider, clock, managed, endings } = openManaged(t);
  managed.reserve(reservation(ONE, CHARGE, 5000));
  const access = provider.openAccess(A);
  const { slabHandle } = access.lease({ ...ASK, under: ONE });
  const buffer = pageBuffer(t, 1);
  clock.ms += 4000;
  t.equal(managed.extend(ONE, 5000), true);
  clock.ms += 4000;
  provider.sweep();
  t.equal(access.readPages(slabHandle, 0, 1, buffer, 0), 0);
  clock.ms += 1000;
  provider.sweep();
  t.equal(access.readPages(slabHandle, 0, 1, buffer, 0), 6);
  t.equal(managed.extend(ONE, 5000), false);
  t.equal(endings.length, 1);
});

t.test('a slab that ends by itself leaves its bytes in the managed lease', async (t) => {
  const { provider, clock, managed, endings } = openManaged(t);
  managed.reserve(reservation(ONE, CHARGE, 60_000));
  const access = provider.openAccess(A);
  access.lease({ pageCount: 64, ttlMs: 1000, under: ONE });
  clock.ms += 1000;
  t.throws(() => access.lease({ ...ASK, under: ONE }), { code: 'ERR_LEASE_CAPACITY' }, 'not wiped');
  provider.sweep();
  t.ok(access.lease({ ...ASK, under: ONE }));
  t.equal(provider.revoke(A), 1);
  t.ok(access.lease({ ...ASK, under: ONE }), 'also when it was revoked');
  t.equal(provider.usage().usedBytes, CHARGE);
  t.equal(endings.length, 0);
});

t.test('an end is told when the last slice is wiped, and counts until then', async (t) => {
  const { provider, clock, managed, endings } = openManaged(t, { offeredBytes: 8 * SLAB_CHARGE });
  managed.reserve(reservation(ONE, 5 * SLAB_CHARGE));
  const access = provider.openAccess(A);
  const buffer = pageBuffer(t, 64);
  const handles: number[] = [];
  for (let slab = 0; slab < 5; slab += 1) {
    const { slabHandle } = access.lease({ pageCount: 4096, ttlMs: 60_000, under: ONE });
    for (let page = 0; page < 4096; page += 64) access.writePages(slabHandle, page, 64, buffer, 0);
    handles.push(slabHandle);
  }
  t.equal(managed.end(ONE, 'revoked'), true);
  t.equal(managed.end(ONE, 'revoked'), false);
  for (const handle of handles) t.equal(access.readPages(handle, 0, 1, buffer, 0), 6);
  t.equal(endings.length, 0, 'three slabs wait for their slice');
  t.strictSame(managed.list(), []);
  t.equal(provider.usage().usedBytes, 5 * SLAB_CHARGE);
  t.throws(() => managed.reserve(reservation(ONE, 1)), { code: 'ERR_LEASE_INVALID' });
  clock.ms += 40;
  while (endings.length === 0) await new Promise(setImmediate);
  t.match(endings, [{ reason: 'revoked', wipedBytes: 5 * 4096 * 4112, wipeMs: 40 }]);
  t.equal(provider.usage().usedBytes, 0);
  t.equal(provider.usage().residentBytes, 0);
});

t.test('holders are asked for their slabs ahead of the end', async (t) => {
  const { provider, clock, managed } = openManaged(t);
  managed.reserve(reservation(ONE, 4 * CHARGE, 60_000));
  const recalls: [string, SlabRecall][] = [];
  const events = (who: string) => ({
    onLeasesEnded: () => undefined,
    onRecall: (recall: SlabRecall) => recalls.push([who, recall]),
    onAccepting: () => undefined,
  });
  const own = provider.openAccess(A, events('own')).lease({ ...ASK, under: ONE });
  const lane = provider.openAccess(`${A}/m-1`, events('lane')).lease({ ...ASK, under: ONE });
  provider.openAccess(`${A}/direct/0123456789abcdef`).lease({ ...ASK, under: ONE });
  provider.openAccess(A).lease(ASK);
  clock.ms += 29_999;
  provider.sweep();
  t.strictSame(recalls, []);
  clock.ms += 1;
  provider.sweep();
  t.strictSame(recalls.splice(0), [
    ['own', { leaseIds: [own.leaseId], endsInMs: 30_000 }],
    ['lane', { leaseIds: [lane.leaseId], endsInMs: 30_000 }],
  ]);
  provider.openAccess(A, events('anew'));
  clock.ms += 200;
  provider.sweep();
  t.strictSame(recalls[0], ['anew', { leaseIds: [own.leaseId], endsInMs: 29_800 }]);
  recalls.length = 0;
  managed.extend(ONE, 60_000);
  clock.ms += 15_000;
  provider.sweep();
  t.strictSame(recalls, []);
});

t.test('the end of the provider is an end of every managed lease', async (t) => {
  const { provider, managed, endings } = openManaged(t);
  managed.reserve(reservation(ONE, 2 * CHARGE));
  managed.reserve(reservation(TWO, CHARGE, 10_000, B));
  const access = provider.openAccess(A);
  const { slabHandle } = access.lease({ ...ASK, under: ONE });
  const buffer = pageBuffer(t, 1);
  access.writePages(slabHandle, 0, 1, buffer, 0);
  const { directory } = provider.status();
  provider.close();
  t.match(endings, [
    { leaseId: TWO, reason: 'provider', wipedBytes: 0 },
    { leaseId: ONE, reason: 'provider', wipedBytes: 8192 },
  ]);
  t.equal(provider.usage().usedBytes, 0);
  t.equal(provider.reservedBytes, 0);
  t.equal(access.readPages(slabHandle, 0, 1, buffer, 0), 6);
  t.equal(fs.existsSync(directory), false);
  t.throws(() => access.lease({ ...ASK, under: ONE }), { code: 'ERR_LEASE_UNKNOWN' });
});

t.test('a jump of the wall clock is nothing to it', async (t) => {
  const provider = RamProvider.open({ offeredBytes: MIB, directory: tmpfsBase(t), noswap: 'off' });
  t.teardown(() => provider.close());
  const managed = provider.openManaged();
  managed.reserve(reservation(ONE, CHARGE, 2000));
  const { now } = Date;
  t.teardown(() => (Date.now = now));
  for (const jumpMs of [3_600_000, -3_600_000]) {
    Date.now = () => now() + jumpMs;
    provider.sweep();
    t.equal(managed.list().length, 1, `${jumpMs} ms`);
  }
  await sleep(2500);
  t.strictSame(managed.list(), []);
});
