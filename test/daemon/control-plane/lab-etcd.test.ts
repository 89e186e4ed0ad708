/** Three control nodes on a real etcd: one door, whoever leads. */
import t from 'tap';
import { decodeInviteToken } from '../../../common/invite-token.ts';
import { requiresEtcd, startEtcd } from '../../helpers/etcd.ts';
import { CONTROL_NODE, LabControl } from '../../helpers/lab-control.ts';
import { LabNode, eventually, labFolder, memcloud, runProgram } from '../../helpers/lab-node.ts';

async function isUp(node: LabNode, control: LabControl): Promise<boolean> {
  const peers = await node.use((client) => client.call('peer.list', {}));
  return peers.some((peer) => peer.nodeId === control.nodeId && peer.state === 'up');
}

t.test(
  'who joins one is known to all, and trusts all; removed, every door is shut',
  requiresEtcd,
  async (t) => {
    const folder = labFolder(t);
    const { address: store } = await startEtcd(t);
    const nodes = await Promise.all(
      ['one', 'two', 'three'].map((name) => LabControl.start(t, { name, folder, store })),
    );
    const [first] = nodes;
    if (first === undefined) throw new Error('three were started');
    const leaders = await Promise.all(nodes.map((node) => node.waitForLeader()));
    t.equal(new Set(leaders).size, 1, 'all of them see one leader');
    const leader = nodes.find(({ nodeId }) => nodeId === leaders[0]) ?? first;
    const followers = nodes.filter((node) => node !== leader);
    const [follower = first] = followers;
    const refused = await follower.cli('invite', '--role', 'client');
    t.match(refused, { code: 5, stderr: new RegExp(`${leader.name} \\(${leader.nodeId}\\) does`) });

    await eventually('each control node is known', async () => {
      const status = await leader.call('admin.status').catch(() => undefined);
      const { controlNodes = [] } = status ?? {};
      return controlNodes.length === 3 && controlNodes.every(({ address }) => address !== '');
    });
    const words = ['invite', '--role', 'client'];
    const { token } = await leader.cliJson<{ token: string }>(t, ...words);
    const places = decodeInviteToken(token).controlNodes ?? [];
    const named = new Map(places.map(({ nodeId, address }) => [nodeId, address]));
    for (const each of followers) t.equal(named.get(each.nodeId), each.peerAddress);
    const worker = await LabNode.start(t, { name: 'worker', folder, autoTrust: false });
    const joined = await memcloud(worker.socketPath, 'join', token);
    t.equal(joined.code, 0, joined.stderr);
    for (const each of nodes) t.match(joined.stderr, `"${each.nodeId}@${each.peerAddress}"`);
    for (const each of followers) {
      const connected = await memcloud(worker.socketPath, 'peer', 'connect', each.peerAddress);
      t.equal(connected.code, 0, connected.stderr);
      await eventually(`${each.name} lets it in, unasked`, () => isUp(worker, each));
    }

    t.same(await leader.end('SIGTERM'), { code: 0, signal: null });
    const [second = first] = followers;
    let next = leader.nodeId;
    await eventually('another one leads', async () => {
      next = await second.waitForLeader();
      return next !== leader.nodeId;
    });
    const heir = followers.find(({ nodeId }) => nodeId === next) ?? second;
    t.equal(await heir.waitForLeader(), next, 'it has read the store');
    t.equal((await heir.call('admin.status')).members, 1, 'nothing is lost');
    t.equal((await heir.cli('member', 'rm', worker.nodeId)).code, 0);
    for (const each of followers) {
      await eventually(`${each.name} shuts its door`, async () => !(await isUp(worker, each)));
    }
  },
);

t.test('a store that does not answer is told in a sentence, and the process ends', async (t) => {
  const folder = labFolder(t);
  const words = ['--state', folder, '--listen', '127.0.0.1:0', '--store', 'etcd://127.0.0.1:1'];
  // It asks for ten seconds, and lets go in a few more.
  const ended = await runProgram([CONTROL_NODE, ...words], {}, 60_000);
  t.equal(ended.code, 5);
  t.match(
    ended.stderr,
    /memcloud control-plane: the store etcd:.* has not told who the members are/,
  );
});
