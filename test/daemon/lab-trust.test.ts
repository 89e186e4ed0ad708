/** Strangers, friends and changed keys, with real processes on the loopback. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { ConsentInfo, PeerInfo, TrustInfo } from '../../common/rpc-schema.ts';
import { LabNode, eventually, labFolder, memcloud, memcloudJson } from '../helpers/lab-node.ts';

async function oneRequest(t: Test, node: LabNode): Promise<ConsentInfo> {
  let requests: ConsentInfo[] = [];
  await eventually(`${node.name} is asked`, async () => {
    requests = await memcloudJson<ConsentInfo[]>(t, node.socketPath, 'consent', 'ls');
    return requests.length === 1;
  });
  const [request] = requests;
  if (request === undefined) throw new Error('nobody waits');
  return request;
}

t.test('machines meet by consent of both and know each other by key', async (t) => {
  const folder = labFolder(t);
  const common = { folder, autoTrust: false };
  const lender = await LabNode.start(t, { ...common, name: 'lender', offer: '64M' });
  const borrower = await LabNode.start(t, { ...common, name: 'borrower' });
  const at = borrower.socketPath;

  const connect = await memcloud(at, 'peer', 'connect', lender.peerAddress);
  t.match(connect, { code: 0, stderr: /Consent is needed/ });
  const create = await memcloud(at, 'volume', 'create', 'v', '--size', '1M');
  t.equal(create.code, 7, 'a stranger lends nothing');

  const here = await oneRequest(t, borrower);
  t.match(here, { name: 'lender', nodeId: lender.nodeId, direction: 'outbound' });
  t.equal((await memcloud(at, 'consent', 'trust', here.request)).code, 0);
  const there = await oneRequest(t, lender);
  t.match(there, { name: 'borrower', nodeId: borrower.nodeId, direction: 'inbound' });
  t.equal((await memcloud(lender.socketPath, 'consent', 'trust', there.request)).code, 0);
  await borrower.waitForPeers(1);
  t.equal((await memcloud(at, 'volume', 'create', 'v', '--size', '1M')).code, 0, 'now it lends');

  const trusted = await memcloudJson<TrustInfo[]>(t, at, 'trust', 'ls');
  t.match(trusted, [{ name: 'lender', nodeId: lender.nodeId, decision: 'trusted' }]);
  t.equal(new Date(trusted[0]?.decidedAt ?? '').getFullYear() >= 2024, true, 'a date');

  // The lender comes back with another key: a thief of its name, or a new disk.
  await lender.end('SIGTERM');
  fs.rmSync(path.join(folder, 'lender'), { recursive: true });
  const listen = lender.peerAddress;
  const thief = await LabNode.start(t, { folder, name: 'lender', offer: '64M', listen });
  t.not(thief.nodeId, lender.nodeId);
  const changed = await memcloud(at, 'peer', 'connect', listen);
  t.match(changed, { code: 4, stdout: '' });
  t.match(changed.stderr, /key/i);
  const peers = await memcloudJson<PeerInfo[]>(t, at, 'peer', 'ls');
  t.equal(
    peers.some(({ state }) => state === 'up'),
    false,
  );
  t.equal((await memcloud(at, 'trust', 'rm', 'lender')).code, 0, 'a human forgets the old key');
  t.equal((await memcloud(at, 'trust', 'rm', 'lender')).code, 6);
  t.same(await memcloudJson(t, at, 'trust', 'ls'), []);
  await memcloud(at, 'peer', 'connect', listen);
  const again = await oneRequest(t, borrower);
  t.equal(again.nodeId, thief.nodeId, 'and is asked about the new one');
  t.equal((await memcloud(at, 'consent', 'deny', again.request)).code, 0);
  t.match(await memcloudJson(t, at, 'trust', 'ls'), [{ decision: 'denied' }]);
  t.equal((await memcloud(at, 'peer', 'connect', listen)).code, 4, 'denied stays denied');
});
