/** The orders of a drain over parts that only note what is done with them; lab-drain.test.ts has real ones. */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import type { DirectDeviceInfo, DirectExportInfo } from '../../common/rpc-schema.ts';
import { Drain } from '../../daemon/drain.ts';
import type { DrainHolding, DrainRoom } from '../../daemon/drain-room.ts';

const SELF = 'a'.repeat(32);
const B = 'b'.repeat(32);
const C = 'c'.repeat(32);
const ROOMY: DrainRoom = { heldBytes: 10, roomBytes: 100, problem: '' };

interface World {
  leases: { holder: string; chargedBytes: number }[];
  rooms: Record<string, DrainRoom | MemcloudError>;
  holdings: DrainHolding[];
  mounts: DrainHolding[];
  objects: { owner: string; objectCount: number; valueBytes: number; pinnedCount: number }[];
  exports: DirectExportInfo[];
  devices: DirectDeviceInfo[];
}

function world(change: Partial<World> = {}) {
  const nothing = { leases: [], rooms: {}, holdings: [], mounts: [], exports: [], devices: [] };
  const state: World = { ...nothing, objects: [], ...change };
  const log: string[] = [];
  let draining = false;
  const peer = (nodeId: string, nodeName: string) => ({
    ...{ nodeId, nodeName, avoided: false },
    setAvoided(avoided: boolean) {
      this.avoided = avoided;
      log.push(`${nodeName} avoided ${avoided}`);
    },
  });
  const peers = [peer(B, 'beta'), peer(C, 'gamma')];
  const drain = new Drain({
    ...{ nodeId: SELF, name: 'Self' },
    provider: {
      setDraining: (now) => log.push(`draining ${(draining = now)}`),
      status: () => ({ leases: state.leases, giveBack: { draining } }),
    },
    peers: {
      list: () => peers,
      store: (wanted) => {
        const found = peers.find(({ nodeId, nodeName }) => [nodeId, nodeName].includes(wanted));
        if (found === undefined) throw new MemcloudError('ERR_PEER_UNKNOWN', wanted);
        return found;
      },
      askRecallRoom: async (holder) => {
        const room = state.rooms[holder];
        if (room === undefined) throw new MemcloudError('ERR_PEER_UNREACHABLE', 'not connected');
        if (room instanceof MemcloudError) throw room;
        return room;
      },
    },
    volumes: {
      holdingsOn: () => state.holdings,
      evacuate: (nodeId) => log.push(`evacuate ${nodeId}`),
    },
    mounts: { holdingsOn: async () => state.mounts },
    objects: {
      list: () => state.objects,
      pinnedCountOf: (owner) =>
        state.objects.find((each) => each.owner === owner)?.pinnedCount ?? 0,
    },
    directExports: () => state.exports,
    directDevices: () => state.devices,
  });
  return { drain, log, state };
}

t.test('a node whose consumers have room is drained, by whatever name', async (t) => {
  const leases = [
    { holder: B, chargedBytes: 7 },
    { holder: B, chargedBytes: 3 },
    { holder: `${C}/direct/0123456789abcdef`, chargedBytes: 99 },
  ];
  for (const name of [undefined, SELF, 'self']) {
    const { drain, log } = world({ leases, rooms: { [B]: ROOMY } });
    t.match(await drain.start(name, false), {
      ...{ nodeId: SELF, name: 'Self', side: 'provider', draining: true, heldBytes: 10 },
      holders: [{ nodeId: B, name: 'beta', heldBytes: 10, roomBytes: 100, problem: '' }],
    });
    t.same(log, ['draining true']);
    t.match(await drain.stop(name), { draining: false });
  }
});

t.test('pinned objects of others refuse a drain; own ones and caches are told', async (t) => {
  const one = { objectCount: 7, valueBytes: 2 ** 20 };
  const objects = [
    { owner: SELF, ...one, pinnedCount: 7 },
    { owner: B, ...one, pinnedCount: 0 },
  ];
  const harmless = world({ objects });
  t.match(await harmless.drain.start(undefined, false), {
    draining: true,
    objects: [
      { nodeId: SELF, name: 'Self', objectCount: 7, valueBytes: 2 ** 20 },
      { nodeId: B, name: 'beta', objectCount: 7, valueBytes: 2 ** 20 },
    ],
  });
  const { drain, log } = world({ objects: [...objects, { owner: C, ...one, pinnedCount: 3 }] });
  await t.rejects(drain.start(undefined, false), {
    code: 'ERR_DRAIN_ROOM',
    message: /lost with it: gamma has 3 pinned of 7 objects there, 1 MiB\. /,
  });
  t.same(log, []);
  t.match(await drain.start(undefined, true), { draining: true });
  t.match(await drain.start('beta', false), { side: 'consumer', objects: [] }, 'not of a peer');
});

t.test('it is refused with the numbers of who cannot go, unless forced', async (t) => {
  const leases = [
    { holder: B, chargedBytes: 2 ** 20 },
    { holder: C, chargedBytes: 2 ** 21 },
  ];
  const rooms = {
    [B]: { ...ROOMY, problem: 'volume v needs another machine' },
    [C]: new MemcloudError('ERR_UNSUPPORTED', 'its memnode is too old'),
  };
  const { drain, log } = world({ leases, rooms });
  await t.rejects(drain.start(undefined, false), {
    code: 'ERR_DRAIN_ROOM',
    message:
      /on Self: beta has 1 MiB there and 100 B free elsewhere \(volume v .*\); gamma has 2 MiB .*too old/,
  });
  t.same(log, []);
  t.match(await drain.start(undefined, true), { draining: true, heldBytes: 3 * 2 ** 20 });
  t.same(log, ['draining true']);
});

t.test('what a node holds itself and on its lanes is asked of each and told as one', async (t) => {
  const leases = [
    { holder: B, chargedBytes: 7 },
    { holder: `${B}/mount-1`, chargedBytes: 3 },
    { holder: `${B}/mount-2`, chargedBytes: 5 },
    { holder: `${B}/direct/0123456789abcdef`, chargedBytes: 99 },
  ];
  const rooms = {
    [B]: ROOMY,
    [`${B}/mount-1`]: { ...ROOMY, roomBytes: 200, problem: 'volume w has no room' },
  };
  const { drain } = world({ leases, rooms });
  const { holders, heldBytes } = await drain.status(undefined);
  t.equal(heldBytes, 15);
  t.match(holders, [{ nodeId: B, name: 'beta', heldBytes: 15, roomBytes: 200 }]);
  t.equal(holders[0]?.problem, 'volume w has no room; not connected');
});

t.test('consumers that would fit one by one but not together are refused', async (t) => {
  const leases = [
    { holder: B, chargedBytes: 60 },
    { holder: C, chargedBytes: 60 },
  ];
  const { drain } = world({ leases, rooms: { [B]: ROOMY, [C]: ROOMY } });
  await t.rejects(drain.start(undefined, false), { message: /together 120 B .* 100 B free/ });
});

t.test('a holder that is not there cannot move, and says so', async (t) => {
  const { drain } = world({ leases: [{ holder: B, chargedBytes: 1 }] });
  t.match(await drain.status(undefined), { holders: [{ problem: 'not connected' }] });
});

t.test('what this node has on itself is asked of its own volumes', async (t) => {
  const { drain } = world({ leases: [{ holder: SELF, chargedBytes: 10 }] });
  t.match((await drain.status(undefined)).holders, [{ name: 'Self', heldBytes: 10 }]);
});

t.test('direct exports are listed with who can move them, and refuse nothing', async (t) => {
  const place = { exportId: 'e'.repeat(16), holder: C, sizeBytes: 5 };
  const { drain } = world({ exports: [{ ...place, residentBytes: 1, connected: true }] });
  t.match(await drain.start(undefined, false), {
    direct: [{ what: `direct export ${'e'.repeat(16)}`, sizeBytes: 5, mover: 'gamma' }],
  });
});

t.test('a peer is left by the volumes of this node, and by them alone', async (t) => {
  const candidates = [{ nodeId: C, hostId: '', freeBytes: 50 }];
  const holdings = [{ name: 'v', copies: 1, heldBytes: 20, candidates }];
  const connection = 'tls' as const;
  const legs = [{ device: '/dev/nbd0', nodeId: B, name: 'beta', state: 'live', connection }];
  const device = {
    device: '/dev/dm-0',
    sizeBytes: 9,
    copies: 1,
    health: 'ok',
    managed: false,
    legs,
  };
  const { drain, log, state } = world({ holdings, devices: [device] });
  t.match(await drain.start('beta', false), {
    ...{ nodeId: B, name: 'beta', side: 'consumer', draining: true, heldBytes: 20 },
    holders: [{ nodeId: SELF, heldBytes: 20, roomBytes: 50, problem: '' }],
    direct: [{ what: 'direct device /dev/dm-0', sizeBytes: 9, mover: 'Self' }],
  });
  t.same(log, ['beta avoided true', `evacuate ${B}`]);
  t.match(await drain.status('beta'), { draining: true });
  state.holdings = [];
  t.match(await drain.stop(B), { draining: false, heldBytes: 0, holders: [] });
  state.holdings = [{ ...holdings[0]!, heldBytes: 60 }];
  await t.rejects(drain.start('beta', false), { code: 'ERR_DRAIN_ROOM' });
  await t.rejects(drain.start('nobody', true), { code: 'ERR_PEER_UNKNOWN' });
  state.holdings = [];
  state.mounts = [{ ...holdings[0]!, name: 'files', heldBytes: 30 }];
  t.match(await drain.status('beta'), { heldBytes: 30, holders: [{ heldBytes: 30 }] }, 'a mount');
});
