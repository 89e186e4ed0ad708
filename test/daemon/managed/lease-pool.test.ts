import t, { type Test } from 'tap';
import { MemcloudError } from '../../../common/errors.ts';
import { silentLogger } from '../../../common/log.ts';
import { ClientLeases } from '../../../control-plane/client-leases.ts';
import { LeasePool, type PoolWish } from '../../../daemon/managed/lease-pool.ts';
import type { PoolLease, PoolUse } from '../../../daemon/managed/pool-lease.ts';
import { LeaseDouble } from '../../helpers/lease-double.ts';

/** A slab is a byte here: what counts is how many there are. */
const WISH: PoolWish = {
  ...{ purpose: 'volume disk', slabCount: 8, slabChargeBytes: 1, copies: 2, ttlMs: 60_000 },
  ...{ zone: undefined, include: undefined },
};

interface Scene {
  readonly double: LeaseDouble;
  readonly leases: ClientLeases;
  readonly clock: { now: number; nowMs(): number };
  readonly open: (wish?: Partial<PoolWish>) => Promise<LeasePool>;
}

function scene(t: Test, rooms: Readonly<Record<string, number>>): Scene {
  const double = new LeaseDouble();
  for (const [name, room] of Object.entries(rooms)) double.provider(name, room);
  const clock = { now: 0, nowMs: () => clock.now };
  const parts = { clock, logger: silentLogger };
  const leases = new ClientLeases({
    ...{ control: double, links: double, door: double, hostId: '', presentDeadlineMs: 1000 },
    ...parts,
  });
  t.teardown(() => leases.abandon());
  const open = (wish: Partial<PoolWish> = {}): Promise<LeasePool> =>
    LeasePool.open({ ...WISH, ...wish }, { leases, ...parts });
  return { double, leases, clock, open };
}

/** All is well, and each lease has so much in use. */
function use(pool: LeasePool, usedBytes: number, change: Partial<PoolUse> = {}): PoolUse {
  const leases = pool.list().map(({ leaseId }) => ({ leaseId, usedBytes }));
  const sound = pool.list().map(({ provider }) => provider.nodeId);
  return { leases, sound, recalled: [], ...change };
}

const shown = (list: readonly PoolLease[]): string[] =>
  list.map(({ provider, column, sizeBytes, leaving }) => {
    return `${column}: ${provider.name} ${sizeBytes}${leaving ? ' leaving' : ''}`;
  });

/** What follows from a tick is done when the event loop has turned a few times. */
async function settle(): Promise<void> {
  for (let count = 0; count < 20; count += 1) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

t.test('one request where each copy fits in one place', async (t) => {
  const { double, open } = scene(t, { alpha: 8, beta: 8 });
  const pool = await open();
  t.same(shown(pool.list()), ['0: alpha 8', '1: beta 8']);
  t.equal(double.calls.filter(({ call }) => call === 'lease.request').length, 1);
});

t.test('in parts where it does not, no machine in two columns', async (t) => {
  const { open } = scene(t, { alpha: 4, beta: 4, gamma: 8 });
  const pool = await open();
  t.same(shown(pool.list()), ['0: gamma 8', '1: alpha 4', '1: beta 4']);
});

t.test('parts get smaller as they have to', async (t) => {
  const { open } = scene(t, { alpha: 3, beta: 3, gamma: 2 });
  const pool = await open({ copies: 1 });
  t.equal(
    pool.list().reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    8,
  );
  t.ok(pool.list().every(({ column }) => column === 0));
});

t.test('a second provider on a machine of another column is passed by', async (t) => {
  const { double, open } = scene(t, {});
  double.provider('alpha', 8, 'one');
  double.provider('alpha2', 4, 'one');
  double.provider('beta', 4, 'two');
  double.provider('gamma', 4, 'three');
  const pool = await open();
  t.same(shown(pool.list()), ['0: alpha 8', '1: beta 4', '1: gamma 4']);
  t.equal(double.leases.size, 3, 'what was passed by is given back');
});

t.test('what is not to be had leaves nothing, and says how much it was', async (t) => {
  const { double, open } = scene(t, { alpha: 8, beta: 5 });
  await t.rejects(open(), { code: 'ERR_LEASE_CAPACITY', message: /2 copies on as many machines/ });
  t.equal(double.leases.size, 0);
});

t.test('copies that nobody asked for are two where there is room, else one', async (t) => {
  const two = scene(t, { alpha: 8, beta: 8 });
  t.equal((await two.open({ copies: undefined })).copies, 2);
  const one = scene(t, { alpha: 8 });
  t.equal((await one.open({ copies: undefined })).copies, 1);
});

t.test('a quota that is used up is no reason to ask for less', async (t) => {
  const { double, open } = scene(t, { alpha: 8 });
  const calls: string[] = [];
  double.call = (call) => {
    calls.push(call);
    if (call === 'lease.list') return Promise.resolve({ rows: [], cursor: null } as never);
    return Promise.reject(new MemcloudError('ERR_CONTROL_QUOTA', 'used up'));
  };
  await t.rejects(open({ copies: undefined }), { code: 'ERR_CONTROL_QUOTA' });
  t.same(calls, ['lease.list', 'lease.request']);
});

t.test('a provider that is away for long is replaced in its column, elsewhere', async (t) => {
  const { clock, open } = scene(t, { alpha: 8, beta: 8, gamma: 8 });
  const pool = await open();
  const [alpha, beta] = pool.list();
  const away = { sound: [beta?.provider.nodeId ?? ''] };
  pool.tick(use(pool, 4, away));
  clock.now += 4_999;
  pool.tick(use(pool, 4, away));
  await settle();
  t.same(shown(pool.list()), ['0: alpha 8', '1: beta 8'], 'not yet');
  clock.now += 1;
  pool.tick(use(pool, 4, away));
  await settle();
  t.same(shown(pool.list()), ['0: alpha 8 leaving', '1: beta 8', '0: gamma 8']);
  const empty = use(pool, 4);
  const leases = empty.leases.map((each) =>
    each.leaseId === alpha?.leaseId ? { ...each, usedBytes: 0 } : each,
  );
  pool.tick({ ...empty, leases });
  await settle();
  pool.tick(use(pool, 4));
  t.same(shown(pool.list()), ['1: beta 8', '0: gamma 8'], 'empty, it is given back');
});

t.test('a lease that will not be renewed leaves at once', async (t) => {
  const { leases, open } = scene(t, { alpha: 8, beta: 8, gamma: 8 });
  const pool = await open();
  const leaseIds = [pool.list()[0]?.leaseId ?? ''];
  leases.onEnding({ epoch: 1, leaseIds, reason: 'provider', endsInMs: 30_000 });
  t.match(pool.list()[0], { leaving: true, endsInMs: 30_000 });
  pool.tick(use(pool, 4));
  await settle();
  t.same(shown(pool.list()), ['0: alpha 8 leaving', '1: beta 8', '0: gamma 8']);
});

t.test('one that has ended is filled in for', async (t) => {
  const { leases, open, clock } = scene(t, { alpha: 8, beta: 8, gamma: 8 });
  const pool = await open();
  const leaseIds = [pool.list()[0]?.leaseId ?? ''];
  leases.onEnding({ epoch: 1, leaseIds, reason: 'revoked', endsInMs: 0 });
  clock.now += 1;
  leases.tick();
  pool.tick(use(pool, 4));
  await settle();
  t.same(shown(pool.list()), ['1: beta 8', '0: gamma 8']);
});

t.test(
  'what a provider asks back is leased elsewhere, but not for a renewal that is late',
  async (t) => {
    const { clock, open } = scene(t, { alpha: 8, beta: 8, gamma: 8 });
    const pool = await open();
    const recalled = [pool.list()[0]?.leaseId ?? ''];
    clock.now += 31_000;
    pool.tick(use(pool, 4, { recalled }));
    await settle();
    t.equal(pool.list().length, 2, 'less than half is left: it is asked back because it ends');
    clock.now -= 31_000;
    pool.tick(use(pool, 4, { recalled }));
    await settle();
    t.same(shown(pool.list()), ['0: alpha 8 leaving', '1: beta 8', '0: gamma 8']);
  },
);

t.test(
  'while there is no room it goes on as it is, and asks again more and more rarely',
  async (t) => {
    const { double, clock, open } = scene(t, { alpha: 8, beta: 8 });
    const pool = await open({ ttlMs: 3_600_000 });
    const away = { sound: [pool.list()[1]?.provider.nodeId ?? ''] };
    const requests = (): number =>
      double.calls.filter(({ call }) => call === 'lease.request').length;
    pool.tick(use(pool, 4, away));
    const counts: number[] = [];
    for (let second = 0; second < 120; second += 1) {
      clock.now += 1_000;
      pool.tick(use(pool, 4, away));
      await settle();
      if (requests() !== counts.at(-1)) counts.push(requests());
    }
    t.ok(counts.length < 12, `${counts.length} rounds in two minutes`);
    t.same(shown(pool.list()), ['0: alpha 8', '1: beta 8']);
    double.provider('gamma', 8);
    clock.now += 30_000;
    pool.tick(use(pool, 4, away));
    await settle();
    t.equal(shown(pool.list()).at(-1), '0: gamma 8');
  },
);

t.test('the end gives everything back', async (t) => {
  const { double, open } = scene(t, { alpha: 8, beta: 8 });
  const pool = await open();
  await pool.close();
  t.equal(double.leases.size, 0);
  t.same(pool.list(), []);
});
