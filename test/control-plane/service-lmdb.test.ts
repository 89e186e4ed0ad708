/** A control node on the embedded store, with the real election: what was granted is there after a restart. */
import path from 'node:path';
import t, { type Test } from 'tap';
import { brokenAuditLine } from '../../common/audit-chain.ts';
import { monotonicClock } from '../../common/clock.ts';
import { silentLogger } from '../../common/log.ts';
import { Leadership } from '../../control-plane/leadership.ts';
import { openMetaStore } from '../../control-plane/open-store.ts';
import { ControlRig } from '../helpers/control-rig.ts';

const MIB = 2 ** 20;

/** A rig on the embedded store of a directory. */
async function openRig(
  directory: string,
  like?: ControlRig,
): Promise<{ rig: ControlRig; close: () => Promise<void> }> {
  const store = await openMetaStore(`embedded:${directory}`);
  const rig = new ControlRig(store, 1, (node) => {
    const logger = silentLogger;
    return new Leadership({ store, nodeId: node.nodeId, name: 'c', clock: monotonicClock, logger });
  });
  for (const { node, name } of like?.connected.values() ?? []) rig.connect(node, name);
  for (const [nodeId, provider] of like?.providers ?? []) {
    provider.rig = rig;
    rig.providers.set(nodeId, provider);
  }
  await rig.until(async () => (await rig.local('control.hello', {})).leads);
  const close = async (): Promise<void> => {
    await rig.close();
    await (rig.control.leadership as Leadership).close();
    await store.close();
  };
  return { rig, close };
}

async function scenario(t: Test): Promise<void> {
  const directory = path.join(t.testdir({}), 'store');
  const first = await openRig(directory);
  const { rig } = first;
  const provider = await rig.provider('p1');
  const client = await rig.client('c', { quotaBytes: 100 * MIB });
  const answers = await Promise.allSettled(Array.from({ length: 200 }, () => rig.request(client)));
  const granted = answers.flatMap((answer) =>
    answer.status === 'fulfilled' ? [answer.value] : [],
  );
  t.equal(granted.length, 100, 'exactly the quota');
  const [grant, pending] = granted.map(({ leases }) => leases[0]!);
  await provider.redeem(grant!.token, client.nodeId);
  const before = await rig.local('admin.status', {});
  t.match(before, { leaseCount: 100, reservedBytes: 100 * MIB, epoch: 1 });
  const cluster = (await rig.local('control.hello', {})).cluster;
  await first.close();

  const second = await openRig(directory, rig);
  t.teardown(second.close);
  const again = second.rig;
  const after = await again.local('admin.status', {});
  t.match(after, { leaseCount: 100, reservedBytes: 100 * MIB, epoch: 2, members: 2 });
  t.equal((await again.local('control.hello', {})).cluster, cluster);
  const { end } = await provider.register();
  t.same(end, []);
  const late = provider.redeem(pending!.token, client.nodeId);
  await t.rejects(late, { code: 'ERR_TOKEN' }, 'of another term');
  const { lease } = await again.ask(client, 'lease.token', { leaseId: pending!.leaseId });
  await provider.redeem(lease.token, client.nodeId);
  const more = again.request(client, { requestId: '7'.repeat(32) });
  await t.rejects(more, { code: 'ERR_CONTROL_QUOTA' });
  const { rows } = await again.local('admin.usage', {});
  t.match(rows, [{ usedLeases: 100, leasesGranted: 100, leasesDenied: 101, peakBytes: 100 * MIB }]);
  const lines = await again.audit();
  t.equal(brokenAuditLine(lines, { sequence: 0, hash: '0'.repeat(64) }), undefined);
  t.ok(lines.length > 200);
}

t.test('grants, a restart, and everything goes on', scenario);
