/**
 * Zero configuration on a network that has none: machines in network namespaces on a bridge without a
 * default route, a real memnode in each, none told of another. What is measured is printed.
 */
import t, { type Test } from 'tap';
import type { DiscoveredNode } from '../../common/rpc-nodes.ts';
import { LabNode, eventually, labFolder, memcloudJson } from '../helpers/lab-node.ts';
import { Network, skipWithoutNamespaces } from '../helpers/namespaces.ts';

const skip = skipWithoutNamespaces();
const NAMES = ['alpha', 'beta', 'gamma'];
const TARGET_MS = 5_000;
/** Beyond the target, so that a slow machine is told from one that never finds. */
const PATIENCE_MS = 60_000;

function found(node: LabNode): Promise<DiscoveredNode[]> {
  return node.use((client) => client.call('discovery.list', {}));
}

/** Waits until each node lists and is connected to exactly the others; returns the milliseconds. */
async function untilAllPairs(nodes: readonly LabNode[], sinceMs: number): Promise<number> {
  await eventually(
    'all pairs found',
    async () => {
      const lists = await Promise.all(nodes.map(found));
      return lists.every((list, index) => {
        const others = nodes.filter((_, other) => other !== index).map(({ nodeId }) => nodeId);
        const up = list.filter(({ state }) => state === 'up').map(({ nodeId }) => nodeId);
        return up.length === others.length && others.every((nodeId) => up.includes(nodeId));
      });
    },
    PATIENCE_MS,
  );
  return performance.now() - sinceMs;
}

/** Starts three nodes at once and sees that they find each other, and that a killed one is missed. */
async function threeNodes(t: Test, network: Network, ipv4: boolean): Promise<void> {
  const folder = labFolder(t);
  const machines = NAMES.map((_, index) => network.machine(index + 1, { ipv4 }));
  const nodes = await Promise.all(
    NAMES.map((name, index) => {
      const { launcher } = machines[index] ?? { launcher: [] };
      const listen = ipv4 ? '0.0.0.0:7070' : '[::]:7070';
      return LabNode.start(t, { name, folder, offer: '64M', listen, launcher, mdns: true });
    }),
  );
  const foundMs = await untilAllPairs(nodes, performance.now());
  t.comment(`all pairs found and connected ${Math.round(foundMs)} ms after the last was up`);
  t.ok(foundMs < TARGET_MS, `all pairs found in ${Math.round(foundMs)} ms`);
  const [alpha, beta, gamma] = nodes;
  if (alpha === undefined || beta === undefined || gamma === undefined) throw new Error('nodes');
  const [row] = (await found(alpha)).filter(({ nodeId }) => nodeId === beta.nodeId);
  t.match(row, {
    name: 'beta',
    address: ipv4 ? '10.77.0.2:7070' : /^\[fe80::[0-9a-f:]+%eth0\]:7070$/,
    source: 'mdns',
    networkInterface: 'eth0',
    freeBytes: 67108864,
    protocol: 1,
  });
  t.equal((await alpha.use((client) => client.call('peer.list', {}))).length, 2, 'nobody twice');
  t.same(
    (await memcloudJson<DiscoveredNode[]>(t, gamma.socketPath, 'peer', 'discover')).map(
      ({ name }) => name,
    ),
    ['alpha', 'beta'],
  );

  const killedAtMs = performance.now();
  await gamma.end('SIGKILL');
  for (const node of [alpha, beta]) {
    await eventually(
      'the killed node is gone',
      async () => (await found(node)).every(({ nodeId }) => nodeId !== gamma.nodeId),
      PATIENCE_MS,
    );
  }
  const goneMs = performance.now() - killedAtMs;
  t.comment(`a node killed with -9 was gone from both lists after ${Math.round(goneMs)} ms`);
  t.ok(goneMs < TARGET_MS, `gone in ${Math.round(goneMs)} ms`);
  t.equal((await found(alpha)).length, 1, 'the other one is still there');

  const endedAtMs = performance.now();
  await beta.end('SIGTERM');
  await eventually('the goodbye is heard', async () => (await found(alpha)).length === 0);
  t.comment(`one that ended well was gone after ${Math.round(performance.now() - endedAtMs)} ms`);
}

t.test(
  'three machines on a bridge without a default route find each other, and miss one that is killed',
  { skip, timeout: 240_000 },
  (t) => threeNodes(t, new Network(t), true),
);

t.test('and so with nothing but link-local IPv6', { skip, timeout: 240_000 }, (t) =>
  threeNodes(t, new Network(t), false),
);

t.test(
  'a network card that comes later is followed, and one that comes again',
  { skip, timeout: 240_000 },
  async (t) => {
    const network = new Network(t);
    const folder = labFolder(t);
    const nodes: LabNode[] = [];
    for (const [index, name] of ['alpha', 'beta'].entries()) {
      const { launcher } = network.machine(index + 1, { plugged: index === 0 });
      const listen = '0.0.0.0:7070';
      nodes.push(await LabNode.start(t, { name, folder, listen, launcher, mdns: true }));
    }
    const [alpha, beta] = nodes;
    if (alpha === undefined || beta === undefined) throw new Error('nodes');
    t.same(await found(beta), [], 'no card, nobody');
    for (const what of ['later', 'again']) {
      const sinceMs = performance.now();
      network.plug(2);
      const foundMs = await untilAllPairs(nodes, sinceMs);
      t.comment(`found ${Math.round(foundMs)} ms after a card came ${what}`);
      network.unplug(2);
      await eventually('gone', async () => (await found(alpha)).length === 0, PATIENCE_MS);
    }
  },
);

t.test(
  'two nodes on one machine find each other and a third elsewhere',
  { skip, timeout: 240_000 },
  async (t) => {
    const network = new Network(t);
    const folder = labFolder(t);
    const one = network.machine(1);
    const other = network.machine(2);
    const places = [one, one, other];
    const nodes = await Promise.all(
      NAMES.map((name, index) => {
        const { launcher } = places[index] ?? one;
        const listen = `0.0.0.0:${index === 1 ? 7071 : 7070}`;
        return LabNode.start(t, { name, folder, listen, launcher, mdns: true });
      }),
    );
    const foundMs = await untilAllPairs(nodes, performance.now());
    t.comment(`all pairs found and connected after ${Math.round(foundMs)} ms`);
  },
);

t.test(
  'strangers end in questions on both sides, and in nothing else',
  { skip, timeout: 240_000 },
  async (t) => {
    const network = new Network(t);
    const folder = labFolder(t);
    const nodes = await Promise.all(
      ['alpha', 'beta'].map((name, index) => {
        const { launcher } = network.machine(index + 1);
        const listen = '0.0.0.0:7070';
        const how = { listen, launcher, mdns: true, autoTrust: false };
        return LabNode.start(t, { name, folder, offer: '64M', ...how });
      }),
    );
    const [alpha, beta] = nodes;
    if (alpha === undefined || beta === undefined) throw new Error('nodes');
    const requests = (node: LabNode) => node.use((client) => client.call('consent.list', {}));
    await eventually('both are asked', async () => {
      const lists = await Promise.all(nodes.map(requests));
      return lists.every((list) => list.length === 1);
    });
    for (const [node, other] of [
      [alpha, beta],
      [beta, alpha],
    ] as const) {
      t.match(await requests(node), [{ name: other.name, nodeId: other.nodeId }]);
      await eventually('the list says so', async () => {
        const [row] = await found(node);
        return row?.nodeId === other.nodeId && row.state === 'pending';
      });
    }
    for (const node of nodes) {
      const [request] = await requests(node);
      await node.use((client) =>
        client.call('consent.answer', { request: request?.request ?? '', answer: 'trust' }),
      );
    }
    await untilAllPairs(nodes, performance.now());
  },
);
