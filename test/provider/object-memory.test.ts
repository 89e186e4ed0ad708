/** RAM for objects: exact in the ledger and in the file, wiped when it goes back, and first to go. */
import fs from 'node:fs';
import t, { type Test } from 'tap';
import { RamProvider, type RamProviderOptions } from '../../provider/service.ts';
import { allocatedBytes, fileBytes, isZero, smallTmpfs, tmpfsBase } from '../helpers/tmpfs.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const MIB = 2 ** 20;
/** What a lease of one page is charged, restated. */
const PAGE_CHARGE = 2 * 4096 + 4 + 1024;

function setUp(t: Test, options: Partial<RamProviderOptions> = {}) {
  const clock = { ms: 1000, nowMs: () => clock.ms };
  const memory = { availableBytes: 1000 * MIB, stallTotalUs: undefined };
  const provider = RamProvider.open({
    offeredBytes: 64 * MIB,
    directory: tmpfsBase(t),
    noswap: 'off',
    clock,
    reserveBytes: 100 * MIB,
    readHostMemory: () => ({ totalBytes: 2000 * MIB, availableBytes: memory.availableBytes }),
    readPressure: () => memory,
    ...options,
  });
  t.teardown(() => provider.close());
  return { provider, objects: provider.openObjectMemory(), clock, memory };
}

t.test('no byte is left in the file after a release, and its blocks are back', async (t) => {
  const { provider, objects } = setUp(t);
  const arena = objects.takeArena(MIB);
  const file = provider.status().files[0]!;
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  t.equal(allocatedBytes(file), 0, 'an arena costs nothing until it is reserved');
  t.ok(arena.reserve(8192, 4 * 4096));
  t.equal(provider.usage().residentBytes, 4 * 4096);
  arena.bytes.fill(0xd7, 8192, 8192 + 4 * 4096);
  t.ok(fileBytes(file, 8192, 4 * 4096).equals(Buffer.alloc(4 * 4096, 0xd7)));
  t.equal(allocatedBytes(file), 4 * 4096);
  arena.release(3 * 4096, 4096);
  t.ok(isZero(fileBytes(file, 3 * 4096, 4096)));
  t.ok(fileBytes(file, 8192, 4096).equals(Buffer.alloc(4096, 0xd7)), 'its neighbours stay');
  t.equal(allocatedBytes(file), 3 * 4096);
  arena.release(0, MIB);
  t.ok(isZero(fileBytes(file, 0, MIB)));
  t.equal(allocatedBytes(file), 0);
  t.equal(provider.usage().residentBytes, 0);
});

t.test('a range that is reserved twice is counted once and keeps its bytes', async (t) => {
  const { provider, objects } = setUp(t);
  const arena = objects.takeArena(MIB);
  t.ok(arena.reserve(0, 2 * 4096));
  arena.bytes.fill(0x11, 0, 8192);
  t.ok(arena.reserve(4096, 2 * 4096));
  t.ok(arena.reserve(0, 3 * 4096));
  t.equal(provider.usage().residentBytes, 3 * 4096);
  t.equal(allocatedBytes(provider.status().files[0]!), 3 * 4096);
  t.equal(arena.bytes[8191], 0x11);
  t.ok(isZero(arena.bytes.subarray(8192, 3 * 4096)), 'what is new is zero');
});

t.test('an arena that is given back is wiped through every other view of it', async (t) => {
  const { provider, objects } = setUp(t);
  const arena = objects.takeArena(MIB);
  const file = provider.status().files[0]!;
  arena.reserve(0, 4096);
  arena.bytes.fill(0xd7, 0, 4096);
  const fd = fs.openSync(file, 'r');
  t.teardown(() => fs.closeSync(fd));
  objects.giveArenaBack(arena);
  const bytes = Buffer.alloc(4096, 0xff);
  fs.readSync(fd, bytes, 0, 4096, 0);
  t.ok(isZero(bytes));
  t.notOk(fs.existsSync(file));
  t.same(provider.status().files, []);
  const next = objects.takeArena(4096);
  objects.giveArenaBack(arena);
  t.equal(provider.status().files.length, 1, 'giving it back again is nothing');
  objects.giveArenaBack(next);
});

t.test('close wipes arenas that are still out', async (t) => {
  const { provider, objects } = setUp(t);
  const arena = objects.takeArena(MIB);
  arena.reserve(0, 4096);
  arena.bytes.fill(0xd7, 0, 4096);
  const fd = fs.openSync(provider.status().files[0]!, 'r');
  t.teardown(() => fs.closeSync(fd));
  provider.close();
  const bytes = Buffer.alloc(4096, 0xff);
  fs.readSync(fd, bytes, 0, 4096, 0);
  t.ok(isZero(bytes));
  t.equal(objects.accepting, false);
  t.equal(objects.charge(A, 1), 'the provider is shutting down');
});

t.test('an arena that nobody could mean is refused', async (t) => {
  const { objects } = setUp(t);
  for (const size of [0, 1, 4095, 4097, -4096, 2 ** 30 + 4096, NaN, Infinity]) {
    t.throws(() => objects.takeArena(size), { code: 'ERR_NATIVE' }, String(size));
  }
  const arena = objects.takeArena(8192);
  for (const [offset, length] of [
    [0, 0],
    [0, 100],
    [1, 4096],
    [4096, 8192],
    [-4096, 4096],
  ] as const) {
    t.throws(() => arena.reserve(offset, length), { code: 'ERR_ASSERTION' });
    t.throws(() => arena.release(offset, length), { code: 'ERR_ASSERTION' });
  }
});

t.test('objects and leases share the offer, to the byte', async (t) => {
  const { provider, objects } = setUp(t, { offeredBytes: 100_000 });
  const access = provider.openAccess(A);
  const { leaseId } = access.lease({ pageCount: 1, ttlMs: 60_000 });
  t.equal(objects.charge(B, 100_000 - PAGE_CHARGE), undefined);
  t.equal(provider.usage().usedBytes, 100_000);
  t.equal(provider.usage().leaseCount, 1);
  t.equal(objects.charge(B, 1), 'asked 1 B, free 0 B of 97.7 KiB offered');
  t.throws(() => access.lease({ pageCount: 1, ttlMs: 60_000 }), { code: 'ERR_LEASE_CAPACITY' });
  objects.refund(B, 1);
  t.equal(objects.charge(A, 1), undefined, 'what came back is given again');
  access.release(leaseId);
  t.equal(provider.usage().usedBytes, 100_000 - PAGE_CHARGE);
  t.equal(provider.usedBy(A), 1);
});

t.test('an allowance is one sum of lanes, direct exports and objects', async (t) => {
  const { provider, objects } = setUp(t, {
    allowedBytes: (node) => (node === A ? 2 * PAGE_CHARGE + 500 : Infinity),
  });
  const ask = { pageCount: 1, ttlMs: 60_000 };
  provider.openAccess(`${A}/m-1`).lease(ask);
  t.equal(objects.charge(A, PAGE_CHARGE + 1), undefined);
  t.match(objects.charge(A, 500), /asked 500 B, free 499 B of the .* this node is allowed/);
  t.throws(() => provider.openAccess(`${A}/direct/0123456789abcdef`).lease(ask), {
    code: 'ERR_LEASE_CAPACITY',
  });
  t.equal(objects.charge(B, 10 * MIB), undefined, 'of others nothing is missing');
  objects.refund(A, 1);
  t.equal(objects.charge(A, 500), undefined);
});

t.test('the host keeps its reserve, promises of both kinds counted once', async (t) => {
  const { provider, objects, memory, clock } = setUp(t);
  memory.availableBytes = 110 * MIB;
  t.equal(objects.charge(A, 6 * MIB), undefined);
  t.match(objects.charge(A, 5 * MIB), /asked 5 MiB, free 4 MiB: the host keeps 100 MiB/);
  const arena = objects.takeArena(8 * MIB);
  arena.reserve(0, 6 * MIB);
  memory.availableBytes -= 6 * MIB;
  t.match(objects.charge(A, 5 * MIB), /free 4 MiB/, 'what is resident is no promise any more');
  t.throws(() => provider.openAccess(B).lease({ pageCount: 1100, ttlMs: 60_000 }), {
    message: /free 4 MiB: the host keeps/,
  });
  t.equal(objects.charge(A, 4 * MIB), undefined);
  memory.availableBytes = 0;
  clock.ms += 20;
  t.match(objects.charge(A, 1), /free 0 B: the host keeps/, 'its word is old after 20 ms');
});

t.test('a charge within the room is granted, one byte more is not', async (t) => {
  const { objects, memory } = setUp(t, { allowedBytes: (node) => (node === A ? MIB : Infinity) });
  memory.availableBytes = 104 * MIB;
  t.same(objects.room(A), { ownerFreeBytes: MIB, providerFreeBytes: 4 * MIB });
  t.type(objects.charge(A, MIB + 1), 'string');
  t.equal(objects.charge(A, MIB), undefined);
  t.same(objects.room(A), { ownerFreeBytes: 0, providerFreeBytes: 3 * MIB });
  t.same(objects.room(B), { ownerFreeBytes: Infinity, providerFreeBytes: 3 * MIB });
  t.type(objects.charge(B, 3 * MIB + 1), 'string');
  t.equal(objects.charge(B, 3 * MIB), undefined);
  memory.availableBytes = 90 * MIB;
  t.same(
    objects.room(B),
    { ownerFreeBytes: Infinity, providerFreeBytes: -14 * MIB },
    'below 0 says how much would have to go',
  );
});

t.test('a full tmpfs refuses a reservation and changes nothing', async (t) => {
  const base = smallTmpfs(t, 2 * MIB);
  if (base === undefined) {
    t.comment('skipped: no right to mount');
    return;
  }
  const { provider, objects } = setUp(t, { directory: base });
  const arena = objects.takeArena(4 * MIB);
  t.ok(arena.reserve(MIB, MIB));
  arena.bytes.fill(0x22, MIB, 2 * MIB);
  t.notOk(arena.reserve(0, 4 * MIB));
  t.equal(provider.usage().residentBytes, MIB);
  t.equal(allocatedBytes(provider.status().files[0]!), MIB, 'nothing stays allocated unseen');
  t.ok(arena.bytes.subarray(MIB, 2 * MIB).equals(Buffer.alloc(MIB, 0x22)));
  t.match(objects.charge(A, 3 * MIB), /in the tmpfs of the provider/);
});

t.test('a drained node takes no objects', async (t) => {
  const { provider, objects } = setUp(t);
  t.equal(objects.accepting, true);
  provider.setDraining(true);
  t.equal(objects.accepting, false);
  t.equal(objects.charge(A, 1), 'the provider is being drained');
  provider.setDraining(false);
  t.equal(objects.charge(A, 1), undefined);
});

t.test('under pressure cache objects go before a lease is asked back', async (t) => {
  const { provider, objects, memory, clock } = setUp(t);
  const recalls: unknown[] = [];
  const access = provider.openAccess(B, {
    onRecall: (recall) => recalls.push(recall),
    onLeasesEnded: () => undefined,
    onAccepting: () => undefined,
  });
  const { slabHandle, leaseId } = access.lease({ pageCount: 1, ttlMs: 60_000 });
  const page = { bytes: Buffer.alloc(4112, 1), address: 0 };
  const arena = objects.takeArena(4096 * 2);
  arena.reserve(0, 8192);
  access.writePages(slabHandle, 0, 1, { bytes: page.bytes, address: arena.address }, 0);
  const asked: number[] = [];
  let cacheBytes = 100 * MIB;
  objects.onPressure((bytes) => {
    asked.push(bytes);
    const given = Math.min(bytes, cacheBytes);
    cacheBytes -= given;
    return given;
  });
  const look = (): void => {
    clock.ms += 100;
    provider.watchMemory();
  };
  look();
  t.same(asked, [], 'in calm nobody is asked');
  memory.availableBytes = 30 * MIB;
  look();
  t.same(asked, [64 * MIB], 'a slice of the 95 MiB that are missing to 1.25 reserves');
  t.same(recalls, [], 'and no lease while there is more cache');
  t.equal(objects.charge(A, 1), 'the machine of the provider is short of memory');
  look();
  t.same(asked.slice(1), [64 * MIB]);
  t.same(recalls, [{ leaseIds: [leaseId], endsInMs: Infinity }], 'then the rest comes from leases');
  look();
  t.equal(asked.length, 3);
});
