import t from 'tap';
import { Dialer } from '../../peer/dialer.ts';
import { describePeers, findPeer, type PeerRecord } from '../../peer/peer-info.ts';
import { RemoteStore } from '../../peer/remote-store.ts';

function dialer(address: string, nodeId?: string): Dialer {
  const parts = { dial: () => undefined, isUp: () => false, random: () => 0, nowMs: () => 0 };
  const made = new Dialer({ address, ...parts });
  made.nodeId = nodeId;
  return made;
}

t.test('nodes come with their dialler, addresses without a node by themselves', async (t) => {
  const record = (nodeId: string, name: string): PeerRecord => ({
    store: new RemoteStore(nodeId, name),
    session: undefined,
    address: `${name}:1`,
    lastError: undefined,
    reach: undefined,
  });
  const records = new Map([
    ['a', record('a', 'alice')],
    ['b', record('b', 'bob')],
  ]);
  const dialers = [dialer('10.0.0.1:7', 'b'), dialer('10.0.0.2:7'), dialer('10.0.0.3:7', 'c')];
  t.match(describePeers(records, dialers), [
    { nodeId: 'a', name: 'alice', address: 'alice:1', state: 'down', dialled: false },
    { nodeId: 'b', name: 'bob', address: '10.0.0.1:7', state: 'waiting', dialled: true },
    { nodeId: undefined, name: '', address: '10.0.0.2:7', state: 'waiting', dialled: true },
    { nodeId: 'c', name: '', address: '10.0.0.3:7', state: 'waiting', dialled: true },
  ]);
});

t.test(
  'a guest is shown as one, and its name means it only when nobody else is called so',
  async (t) => {
    const record = (nodeId: string, name: string, isGuest: boolean): PeerRecord => ({
      store: new RemoteStore(nodeId, name, undefined, () => isGuest),
      ...{ session: undefined, address: '', lastError: undefined, reach: undefined },
    });
    const records = new Map([
      ['a', record('a', 'Anna', true)],
      ['b', record('b', 'anna', false)],
      ['c', record('c', 'carl', true)],
    ]);
    const shown = describePeers(records, [dialer('10.0.0.1:7')]);
    t.same(
      shown.map(({ isGuest }) => isGuest),
      [true, false, true, false],
    );
    t.equal(findPeer(records, 'ANNA').store.nodeId, 'b');
    t.equal(findPeer(records, 'carl').store.nodeId, 'c');
    t.equal(findPeer(records, 'a').store.nodeId, 'a');
  },
);
