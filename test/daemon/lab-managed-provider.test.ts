/**
 * A provider by the word of a control plane, with real processes: a control node, a memnode that lends and
 * one that borrows and has never seen it. What is set aside, what guests get without a lease, what happens to the
 * RAM at each kind of end.
 */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { ManagedLeaseInfo, ManagedStatus } from '../../common/rpc-managed.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { LabControl } from '../helpers/lab-control.ts';
import { LabNode, eventually, labFolder } from '../helpers/lab-node.ts';
import { allocatedBytes } from '../helpers/tmpfs.ts';

const MIB = 2 ** 20;

function statusOf(node: LabNode): Promise<StatusInfo> {
  return node.use((client) => client.call('status', {}));
}

function managedStatusOf(node: LabNode): Promise<ManagedStatus> {
  return node.use((client) => client.call('managed.status', {}));
}

/** Bytes of RAM in the files that a node lends from. */
async function lentBytesOf(node: LabNode): Promise<number> {
  const directory = await node.use(async (client) => {
    return (await client.call('status', {})).provider.directory;
  });
  return fs
    .readdirSync(directory)
    .reduce((sum, file) => sum + allocatedBytes(path.join(directory, file)), 0);
}

async function lab(t: Test, flags: readonly string[] = []) {
  const folder = labFolder(t);
  const control = await LabControl.start(t, { name: 'control', folder });
  await control.waitForLeader();
  const common = { folder, autoTrust: false };
  const lender = await LabNode.start(t, {
    ...{ name: 'lender', offer: '256M', ...common },
    flags: [...control.memberFlags, ...flags],
  });
  const borrower = await LabNode.start(t, {
    name: 'borrower',
    ...common,
    flags: control.memberFlags,
  });
  await control.addMember(lender.nodeId, ['provider']);
  await control.addMember(borrower.nodeId, ['client']);
  await control.waitForProvider(lender);
  await control.waitForMember(borrower);
  await eventually('the borrower has a leader', async () => {
    return (await managedStatusOf(borrower)).connected;
  });
  return { folder, control, lender, borrower };
}

function request(node: LabNode, sizeBytes: number, ttlMs: number): Promise<ManagedLeaseInfo[]> {
  return node.use((client) => client.call('managed.request', { sizeBytes, ttlMs }));
}

t.test('a lease is set aside, shown at both ends, and gone when it is given back', async (t) => {
  const { control, lender, borrower } = await lab(t);
  t.match(await managedStatusOf(lender), {
    ...{ connected: true, leader: 'control', roles: ['provider'], problem: '' },
    provider: { registered: true, leaseCount: 0, reservedBytes: 0 },
  });
  t.equal((await managedStatusOf(borrower)).provider, null, 'one that offers nothing');
  const [lease] = await request(borrower, 64 * MIB, 60_000);
  t.match(lease, { provider: lender.nodeId, sizeBytes: 64 * MIB, state: 'active' });
  const { provider } = await statusOf(lender);
  t.match(provider.managed, [
    { leaseId: lease?.leaseId, client: borrower.nodeId, sizeBytes: 64 * MIB, usedBytes: 0 },
  ]);
  t.equal(provider.usage.usedBytes, 64 * MIB);
  t.match(await managedStatusOf(lender), {
    provider: { registered: true, leaseCount: 1, reservedBytes: 64 * MIB },
  });
  const { peers } = await statusOf(borrower);
  t.match(
    peers.find(({ nodeId }) => nodeId === lender.nodeId),
    {
      guest: true,
      usage: { offeredBytes: 0 },
    },
  );
  await borrower.use((client) =>
    client.call('managed.release', { leaseIds: [lease?.leaseId ?? ''] }),
  );
  await eventually('it is free again', async () => {
    const { usage, managed } = (await statusOf(lender)).provider;
    return usage.usedBytes === 0 && managed.length === 0;
  });
  await eventually('the control plane knows', async () => {
    return (await control.call('admin.status')).leaseCount === 0;
  });
});

t.test('pages under a lease are wiped at its end, and reads fail', async (t) => {
  const { control, lender, borrower } = await lab(t);
  await borrower.use(async (client) => {
    await client.call('volume.create', {
      ...{ name: 'disk', sizeBytes: 32 * MIB, copies: 1, managed: { ttlMs: 60_000 } },
    });
    await client.call('nbd.serve', { name: 'disk', unixPath: `${borrower.socketPath}.nbd` });
  });

  const disk = await NbdClient.connect(
    { path: `${borrower.socketPath}.nbd` },
    { exportName: 'disk' },
  );
  const block = Buffer.alloc(MIB);
  for (let at = 0; at < 32; at += 1) {
    for (let word = 0; word < MIB; word += 4) block.writeUInt32LE(at * 7919 + word * 31, word);
    await disk.write(at * MIB, block);
  }
  await disk.flush();
  await eventually('the pages are there', async () => (await lentBytesOf(lender)) >= 32 * MIB);
  const { managed } = (await statusOf(lender)).provider;
  t.ok(managed.length > 0);
  const leaseIds = managed.map(({ leaseId }) => leaseId);
  await control.call('admin.revoke', { leaseIds });
  // Stored, and on its way.
  const startMs = performance.now();
  await eventually('they are wiped', async () => (await lentBytesOf(lender)) === 0);
  t.ok(performance.now() - startMs < 1000, `${Math.round(performance.now() - startMs)} ms`);
  await disk.close();
  await eventually('the audit log has the receipt', async () => {
    const { rows } = await control.call('admin.audit', { countMax: 500 });
    return rows.some(({ event }) => event === 'lease.wiped');
  });
});

t.test('with managed-only a trusted peer gets nothing without a lease', async (t) => {
  const { lender, folder } = await lab(t, ['--managed-only', '--auto-trust']);
  const peer = await LabNode.start(t, { name: 'peer', folder, connect: [lender.peerAddress] });
  await peer.waitForPeers(1);
  const answer = await peer
    .use((client) => client.call('volume.create', { name: 'x', sizeBytes: 4 * MIB, copies: 1 }))
    .catch((error: unknown) => error);
  t.match(answer, { code: 'ERR_VOLUME_CAPACITY' });
});

t.test('a lender that ends tells the control plane, and leases go with it', async (t) => {
  const { control, lender, borrower } = await lab(t);
  await request(borrower, 16 * MIB, 60_000);
  t.equal((await control.call('admin.status')).leaseCount, 1);
  const ended = await lender.end('SIGTERM');
  t.equal(ended.code, 0);
  await control.waitForProvider(lender, 'down');
  t.equal((await control.call('admin.status')).leaseCount, 0, 'it said goodbye');
});

t.test(
  'without a control plane nothing is lent, what is lent goes on, and it is found again',
  async (t) => {
    const { control, lender, borrower } = await lab(t);
    await request(borrower, 16 * MIB, 60_000);
    await control.end('SIGKILL');
    await eventually(
      'the lender sees it go',
      async () => !(await managedStatusOf(lender)).connected,
    );
    const refused = await request(borrower, 16 * MIB, 60_000).catch((error: unknown) => error);
    t.match(refused, { code: 'ERR_CONTROL_UNREACHABLE' });
    t.equal((await statusOf(lender)).provider.managed.length, 1);
    const again = await control.again(t);
    await again.waitForLeader();
    await again.waitForProvider(lender);
    t.equal((await again.call('admin.status')).leaseCount, 1);
    t.equal((await statusOf(lender)).provider.managed.length, 1);
  },
);
