import t from 'tap';
import {
  DiscoveryMachine,
  type DiscoveryAction,
  type Sighting,
} from '../../../peer/discovery/discovery-machine.ts';
import type { Standing } from '../../../peer/found-dial.ts';
import { Random } from '../../helpers/fuzz.ts';

const SELF = '5'.repeat(32);
/** Greater than ours: we dial. */
const GREATER = 'a'.repeat(32);
/** Smaller than ours: it dials, and we only when it does not. */
const SMALLER = '1'.repeat(32);

interface Rig {
  machine: DiscoveryMachine;
  standing: Map<string, Standing>;
  trusted: Set<string>;
  /** Ticks at a time; returns the addresses that are dialled. */
  dials: (nowMs: number) => string[];
}

function rig(): Rig {
  const standing = new Map<string, Standing>();
  const trusted = new Set<string>();
  const world = {
    selfId: SELF,
    standing: (nodeId: string): Standing => standing.get(nodeId) ?? 'down',
    trusted: () => trusted,
    random: () => 0.5,
  };
  const machine = new DiscoveryMachine(world, 0);
  const dials = (nowMs: number): string[] => addressesOf(machine.tick(nowMs));
  return { machine, standing, trusted, dials };
}

function addressesOf(actions: readonly DiscoveryAction[]): string[] {
  return actions.filter(({ type }) => type === 'dial').map(({ address }) => address);
}

function sighting(fields: Partial<Sighting> = {}): Sighting {
  return {
    nodeId: GREATER,
    name: 'alpha',
    address: '10.0.0.2:7070',
    origin: '10.0.0.2',
    source: 'mdns',
    networkInterface: 'eth0',
    freeBytes: 1024,
    protocol: 1,
    lifeMs: 3500,
    ...fields,
  };
}

const id = (index: number): string => (2 ** 40 + index).toString(16).padStart(32, 'f');

t.test('a node that is said to be there is dialled, and listed as what it was said to be', (t) => {
  const { machine, standing, dials } = rig();
  machine.onSighting(sighting(), 0);
  t.match(machine.list(10), [
    {
      nodeId: GREATER,
      name: 'alpha',
      source: 'mdns',
      freeBytes: 1024,
      seenMsAgo: 10,
      state: 'new',
    },
  ]);
  const actions = machine.tick(0);
  t.match(actions, [
    { type: 'found', nodeId: GREATER },
    { type: 'dial', nodeId: GREATER, address: '10.0.0.2:7070' },
  ]);
  t.equal(machine.list(0)[0]?.state, 'connecting');
  t.same(dials(250), [], 'once');
  standing.set(GREATER, 'up');
  machine.onDialEnded(`${GREATER} 10.0.0.2:7070`, 'up', GREATER, 300);
  t.same(dials(500), []);
  t.equal(machine.list(500)[0]?.state, 'up');
  t.end();
});

t.test('a node is gone 3.5 s after it was heard last, and not a moment sooner', (t) => {
  const { machine } = rig();
  machine.onSighting(sighting(), 0);
  machine.onSighting(sighting(), 1000);
  machine.tick(4499);
  t.equal(machine.list(4499).length, 1);
  t.match(machine.tick(4500), [{ type: 'gone', nodeId: GREATER }]);
  t.same(machine.list(4500), []);
  t.end();
});

t.test('time in which we stood still is not held against a node', (t) => {
  const { machine } = rig();
  machine.onSighting(sighting(), 0);
  machine.onStandstill(2000);
  machine.tick(5499);
  t.equal(machine.size, 1);
  machine.tick(5500);
  t.equal(machine.size, 0);
  t.end();
});

t.test('what is gone is dialled no more', (t) => {
  const { machine, dials } = rig();
  machine.onSighting(sighting(), 0);
  t.equal(dials(0).length, 1);
  machine.onDialEnded(`${GREATER} 10.0.0.2:7070`, 'unreachable', undefined, 100);
  t.same(dials(1000), [], 'a second is waited');
  t.equal(dials(1100).length, 1, 'then it is tried again');
  machine.onDialEnded(`${GREATER} 10.0.0.2:7070`, 'unreachable', undefined, 1200);
  t.same(dials(3199), [], 'and then two');
  t.equal(dials(3200).length, 1);
  t.same(dials(3500), []);
  machine.onDialEnded(`${GREATER} 10.0.0.2:7070`, 'unreachable', undefined, 3600);
  for (let nowMs = 3600; nowMs < 200_000; nowMs += 250) t.same(dials(nowMs), []);
  t.end();
});

t.test('a goodbye counts from where the node was announced, and from nowhere else', (t) => {
  const { machine } = rig();
  machine.onSighting(sighting(), 0);
  machine.onGoodbye(GREATER, '10.0.0.66');
  t.equal(machine.size, 1);
  machine.onGoodbye(GREATER, '10.0.0.2');
  t.equal(machine.size, 0);
  t.end();
});

t.test('of two nodes the one with the smaller id dials; the other waits 1.5 s for it', (t) => {
  const { machine, standing, dials } = rig();
  machine.onSighting(sighting({ nodeId: SMALLER }), 0);
  t.same(dials(1499), []);
  t.equal(dials(1500).length, 1, 'it may be that only we see it');
  const other = rig();
  other.machine.onSighting(sighting({ nodeId: SMALLER }), 0);
  other.standing.set(SMALLER, 'pending');
  t.same(other.dials(1500), [], 'it came and a human is asked');
  t.equal(other.machine.list(1500)[0]?.state, 'pending');
  standing.clear();
  t.end();
});

t.test('our own adverts are nobody', (t) => {
  const { machine } = rig();
  machine.onSighting(sighting({ nodeId: SELF }), 0);
  t.equal(machine.size, 0);
  t.end();
});

t.test('a node of another protocol version is listed and not dialled', (t) => {
  const { machine, dials } = rig();
  machine.onSighting(sighting({ protocol: 2 }), 0);
  t.same(dials(0), []);
  t.match(machine.list(0), [{ protocol: 2, state: 'new' }]);
  t.end();
});

t.test('one that was denied or disconnected here is not dialled', (t) => {
  const { machine, standing, dials } = rig();
  machine.onSighting(sighting(), 0);
  standing.set(GREATER, 'barred');
  t.same(dials(0), []);
  t.equal(machine.list(0)[0]?.state, 'refused');
  t.end();
});

t.test('a false claim about a node stands beside the true one and does not hide it', (t) => {
  const { machine, standing, dials } = rig();
  const rogue = { address: '10.0.0.66:7070', origin: '10.0.0.66' };
  machine.onSighting(sighting(rogue), 0);
  machine.onSighting(sighting(), 0);
  t.same(dials(0), ['10.0.0.66:7070'], 'one at a time for one node');
  machine.onDialEnded(`${GREATER} 10.0.0.66:7070`, 'impostor', 'b'.repeat(32), 10);
  t.same(dials(250), ['10.0.0.2:7070'], 'then the next claim');
  standing.set(GREATER, 'up');
  machine.onDialEnded(`${GREATER} 10.0.0.2:7070`, 'up', GREATER, 260);
  t.match(
    machine
      .list(300)
      .map(({ address, state }) => ({ address, state }))
      .sort((a, b) => a.address.localeCompare(b.address)),
    [
      { address: '10.0.0.2:7070', state: 'up' },
      { address: '10.0.0.66:7070', state: 'impostor' },
    ],
  );
  standing.delete(GREATER);
  for (let nowMs = 500; nowMs < 60_000; nowMs += 250) {
    machine.onSighting(sighting(rogue), nowMs);
    t.notOk(dials(nowMs).includes('10.0.0.66:7070'), 'the false one is left alone');
  }
  t.end();
});

t.test('three more false claims leave room for the true one', (t) => {
  const { machine } = rig();
  for (let index = 0; index < 4; index += 1) {
    const host = `10.0.0.${60 + index}`;
    machine.onSighting(sighting({ address: `${host}:7070`, origin: host }), 0);
  }
  machine.onSighting(sighting(), 0);
  t.equal(machine.size, 4, 'four addresses of one node');
  machine.onDialEnded(`${GREATER} 10.0.0.60:7070`, 'impostor', undefined, 10);
  machine.onSighting(sighting(), 20);
  t.equal(machine.size, 4);
  machine.tick(20);
  machine.onDialEnded(`${GREATER} 10.0.0.2:7070`, 'up', GREATER, 30);
  t.equal(machine.list(30).find(({ nodeId }) => nodeId === GREATER)?.address, '10.0.0.2:7070');
  t.end();
});

t.test('trusted nodes are dialled first, and at once when they become it', (t) => {
  const { machine, trusted, dials } = rig();
  machine.onSighting(sighting({ nodeId: id(1), address: '10.0.0.3:1', origin: '10.0.0.3' }), 0);
  machine.onSighting(sighting({ nodeId: id(2), address: '10.0.0.4:1', origin: '10.0.0.4' }), 0);
  trusted.add(id(2));
  t.same(dials(0), ['10.0.0.4:1', '10.0.0.3:1']);
  machine.onDialEnded(`${id(1)} 10.0.0.3:1`, 'refused', id(1), 100);
  for (let nowMs = 1000; nowMs < 50_000; nowMs += 1000) {
    machine.onSighting(
      sighting({ nodeId: id(1), address: '10.0.0.3:1', origin: '10.0.0.3' }),
      nowMs,
    );
    t.same(dials(nowMs), [], 'nobody is asked again for a minute');
  }
  trusted.add(id(1));
  t.same(dials(50_000), ['10.0.0.3:1']);
  t.end();
});

t.test('a session that ends soon is a failure, one that lasted is taken up at once', (t) => {
  const { machine, standing, dials } = rig();
  const key = `${GREATER} 10.0.0.2:7070`;
  const hear = (nowMs: number): void => machine.onSighting(sighting(), nowMs);
  hear(0);
  dials(0);
  standing.set(GREATER, 'up');
  machine.onDialEnded(key, 'up', GREATER, 0);
  hear(1000);
  standing.delete(GREATER);
  t.same(dials(1000), []);
  hear(2000);
  t.equal(dials(2000).length, 1, 'after a second');
  standing.set(GREATER, 'up');
  machine.onDialEnded(key, 'up', GREATER, 2000);
  for (let nowMs = 3000; nowMs <= 9000; nowMs += 1000) {
    hear(nowMs);
    t.same(dials(nowMs), []);
  }
  standing.delete(GREATER);
  t.equal(dials(9250).length, 1, 'at once');
  t.end();
});

t.test('a flood of adverts from one address fills its own share', (t) => {
  const { machine, dials } = rig();
  for (let index = 0; index < 10_000; index += 1) {
    const address = `10.0.0.66:${1 + (index % 60_000)}`;
    machine.onSighting(sighting({ nodeId: id(index), address, origin: '10.0.0.66' }), 0);
  }
  t.equal(machine.size, 8);
  machine.onSighting(sighting(), 0);
  t.equal(machine.size, 9, 'another address has its own');
  t.equal(dials(0).length, 3, 'two dials at the one host, one at the other');
  let dialled = 0;
  for (let nowMs = 250; nowMs <= 60_000; nowMs += 250) {
    for (let index = 0; index < 100; index += 1) {
      const address = `10.0.0.66:${1 + index}`;
      machine.onSighting(
        sighting({ nodeId: id(nowMs + index), address, origin: '10.0.0.66' }),
        nowMs,
      );
    }
    for (const address of dials(nowMs)) {
      dialled += 1;
      const row = machine.list(nowMs).find((each) => each.address === address);
      machine.onDialEnded(`${row?.nodeId} ${address}`, 'unreachable', undefined, nowMs);
    }
  }
  t.ok(dialled <= 8 + 12, `${dialled} dials in a minute of it`);
  t.ok(machine.size <= 9);
  t.end();
});

t.test('a flood from many addresses fills the table, and a trusted node still enters', (t) => {
  const { machine, trusted, dials } = rig();
  for (let index = 0; index < 100_000; index += 1) {
    const host = `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
    const nowMs = index / 100;
    machine.onSighting(
      sighting({ nodeId: id(index), address: `${host}:1`, origin: host, lifeMs: 1e9 }),
      nowMs,
    );
  }
  t.ok(machine.size <= 256, `${machine.size} entries`);
  const fill = 100_000 / 100;
  for (let nowMs = fill; machine.size < 256; nowMs += 250) {
    const host = `192.168.${machine.size}.1`;
    machine.onSighting(
      sighting({
        nodeId: id(200_000 + machine.size),
        address: `${host}:1`,
        origin: host,
        lifeMs: 1e9,
      }),
      nowMs,
    );
  }
  machine.onSighting(sighting({ lifeMs: 1e9 }), 1e6);
  t.equal(machine.size, 256, 'a stranger does not');
  t.notOk(machine.list(1e6).some(({ nodeId }) => nodeId === GREATER));
  trusted.add(GREATER);
  machine.onSighting(sighting({ lifeMs: 1e9 }), 1.1e6);
  t.ok(machine.list(1.1e6).some(({ nodeId }) => nodeId === GREATER));
  t.equal(machine.size, 256);
  t.equal(dials(1.1e6)[0], '10.0.0.2:7070', 'and is dialled first');
  t.end();
});

t.test(
  'strangers get at most eight dials at once, humans included, and no more than two a host',
  (t) => {
    const { machine, dials } = rig();
    for (let index = 0; index < 40; index += 1) {
      const host = `10.0.1.${Math.floor(index / 4)}`;
      machine.onSighting(
        sighting({ nodeId: id(index), address: `${host}:${index + 1}`, origin: host, lifeMs: 1e9 }),
        0,
      );
    }
    const first = dials(0);
    t.equal(first.length, 8);
    const perHost = new Map<string, number>();
    for (const address of first) {
      const [host = ''] = address.split(':');
      perHost.set(host, (perHost.get(host) ?? 0) + 1);
    }
    t.same(new Set(perHost.values()), new Set([2]));
    t.same(dials(100_000), [], 'as long as they are not decided');
    t.end();
  },
);

t.test('a name leads to several addresses, which are tried one after the other', (t) => {
  const { machine, standing, dials } = rig();
  const dns = { nodeId: undefined, origin: 'pool.example', source: 'dns' as const, lifeMs: 90_000 };
  machine.onSighting(sighting({ ...dns, address: '10.0.0.2:7070' }), 0);
  machine.onSighting(sighting({ ...dns, address: '[fd00::2]:7070' }), 0);
  t.same(dials(1499), [], 'after a random wait, here of 1.5 s');
  t.same(dials(1500), ['10.0.0.2:7070']);
  t.same(dials(1750), []);
  standing.set(GREATER, 'up');
  machine.onDialEnded(' 10.0.0.2:7070', 'up', GREATER, 1800);
  t.same(dials(2000), ['[fd00::2]:7070']);
  machine.onDialEnded(' [fd00::2]:7070', 'up', GREATER, 2100);
  t.match(machine.list(2200), [{ nodeId: GREATER, state: 'up', source: 'dns' }], 'one node');
  t.equal(machine.list(2200).length, 1);
  t.same(dials(60_000), []);
  t.end();
});

t.test('a hint of a peer that leads nowhere is forgotten, and an advert outranks it', (t) => {
  const { machine, dials } = rig();
  const hint = { source: 'exchange' as const, origin: id(9), name: '', lifeMs: 100_000 };
  machine.onSighting(sighting(hint), 0);
  t.equal(dials(0).length, 1);
  machine.onDialEnded(`${GREATER} 10.0.0.2:7070`, 'unreachable', undefined, 100);
  t.equal(machine.size, 0);
  machine.onSighting(sighting(hint), 200);
  machine.onSighting(sighting(), 200);
  machine.onSighting(sighting(hint), 300);
  t.match(machine.list(300), [{ source: 'mdns', name: 'alpha' }]);
  machine.tick(3700);
  t.equal(machine.size, 0, 'it lives as long as it announces itself');
  t.end();
});

t.test('whatever comes, the table is bounded and every dial has one entry', (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.comment(`SEED=${seed}`);
  const random = new Random(seed);
  const pick = (count: number): number => random.below(count);
  const { machine, standing, trusted } = rig();
  const open: { key: string; nodeId: string | undefined }[] = [];
  let nowMs = 0;
  for (let step = 0; step < 20_000; step += 1) {
    nowMs += pick(200);
    const nodeId = pick(10) === 0 ? undefined : id(pick(400));
    const host = `10.0.${pick(4)}.${pick(256)}`;
    const choice = pick(10);
    if (choice < 5) {
      const source = (['mdns', 'dns', 'exchange'] as const)[pick(3)] ?? 'mdns';
      const fields = { nodeId, source, address: `${host}:${1 + pick(3)}`, origin: host };
      machine.onSighting(sighting({ ...fields, lifeMs: 1 + pick(60_000) }), nowMs);
    } else if (choice === 5) machine.onGoodbye(id(pick(400)), host);
    else if (choice === 6) {
      const states: Standing[] = ['up', 'down', 'pending', 'connecting', 'barred'];
      standing.set(id(pick(400)), states[pick(5)] ?? 'down');
    } else if (choice === 7) trusted.add(id(pick(50)));
    else if (choice === 8 && open.length > 0) {
      const [dial] = open.splice(pick(open.length), 1);
      const ends = ['up', 'impostor', 'refused', 'unreachable'] as const;
      machine.onDialEnded(dial?.key ?? '', ends[pick(4)] ?? 'up', dial?.nodeId, nowMs);
    } else {
      for (const action of machine.tick(nowMs)) {
        if (action.type === 'dial') open.push({ key: action.key, nodeId: action.nodeId });
      }
    }
    if (machine.size > 256) t.fail(`${machine.size} entries`);
  }
  const rows = machine.list(nowMs);
  t.ok(rows.length <= 256);
  t.end();
});
