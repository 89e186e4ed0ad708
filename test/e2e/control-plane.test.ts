/**
 * A managed lease from its request to its wiping, on one control node with the embedded store and real
 * memnodes: granted, presented, used, renewed, released, expired, revoked. What lies in a provider's memory
 * files is looked at, not asked for.
 */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { ManagedLeaseInfo } from '../../common/rpc-managed.ts';
import { verifyReceipt } from '../../common/receipts.ts';
import { fuseMissing } from '../helpers/fuse-mount/start.ts';
import { patternBytes } from '../helpers/judges.ts';
import { eventually, memcloud, memcloudJson } from '../helpers/lab-node.ts';
import { CHUNK, readBack, write } from '../helpers/lab.ts';
import { managedDisk } from '../helpers/managed-disk.ts';
import {
  LentMemory,
  MIB,
  ManagedLab,
  auditOf,
  deadlineOf,
  leasesOf,
  providerRow,
} from '../helpers/managed-lab.ts';

/** How soon memory is gone after its end, by docs/control-plane.md. */
const WIPED_WITHIN_MS = 1000;
/** Times are told in whole milliseconds, by clocks of two processes. */
const ROUNDING_MS = 10;

t.test('a lease, step by step', { timeout: 120_000 }, async (t) => {
  const lab = await ManagedLab.start(t);
  const { control } = lab;
  const client = lab.node('client');
  const lease = (...words: string[]): Promise<ManagedLeaseInfo[]> =>
    memcloudJson<ManagedLeaseInfo[]>(t, client.socketPath, 'lease', ...words);

  const [granted] = await lease('request', '64M', '--ttl', '60s', '--no-renew');
  t.match(granted, { sizeBytes: 64 * MIB, state: 'active', renews: false });
  t.ok((granted?.endsInMs ?? 0) > 50_000 && (granted?.endsInMs ?? 0) <= 60_000, 'within its time');
  const name = granted?.providerName ?? '';
  const provider = lab.node(name);

  t.match(
    await leasesOf(control),
    [
      {
        leaseId: granted?.leaseId,
        client: client.nodeId,
        provider: provider.nodeId,
        state: 'active',
      },
    ],
    'the control plane knows it',
  );
  t.ok(((await providerRow(control, name))?.reservedBytes ?? 0) >= 64 * MIB);
  const { managed } = (await provider.use((rpc) => rpc.call('status', {}))).provider;
  t.match(managed, [{ leaseId: granted?.leaseId, client: client.nodeId, usedBytes: 0 }]);

  const [renewed] = await lease('renew', granted!.leaseId, '--ttl', '10m');
  t.ok((renewed?.endsInMs ?? 0) > 590_000, 'renewed to ten minutes');
  const [listed] = await lease('ls');
  t.match(listed, { leaseId: granted?.leaseId, state: 'active' });

  t.match(await memcloud(client.socketPath, 'lease', 'release', granted!.leaseId), { code: 0 });
  t.same(await lease('ls'), []);
  await eventually('the control plane heard of the end', async () => {
    return (await leasesOf(control)).length === 0;
  });
  t.equal((await providerRow(control, name))?.reservedBytes, 0);

  const audit = await auditOf(control);
  t.same(
    audit.map(({ sequence }) => sequence),
    audit.map((_, index) => index + 1),
    'audit lines have no gap',
  );
  const events = audit.map(({ event }) => event);
  for (const event of ['lease.granted', 'lease.wiped']) t.ok(events.includes(event), event);
  const { code, stderr } = await memcloud(control.socketPath, 'control-plane', 'audit', '--verify');
  t.equal(code, 0, `the chain of the audit log holds ${stderr}`);
  const wiped = audit.find(({ event }) => event === 'lease.wiped');
  const receipt = await verifyReceipt(
    lab.identityOf(name).publicKey,
    String(wiped?.detail['receipt']),
  );
  t.match(
    receipt,
    { provider: provider.nodeId, ending: { leaseId: granted?.leaseId, reason: 'released' } },
    'its line has a receipt that the provider signed',
  );
});

t.test('a volume on managed leases', { timeout: 120_000 }, async (t) => {
  const lab = await ManagedLab.start(t);
  const bytes = patternBytes(64 * CHUNK, 7);
  const nbd = await managedDisk(t, lab, { copies: 2, ttlMs: 20_000 });
  await write(nbd, bytes);
  t.same(await readBack(nbd, bytes), { right: 64, wrong: 0, errors: [] }, 'what was written');
  const memories = await Promise.all(
    ['alpha', 'beta'].map(async (name) => ({ name, memory: await LentMemory.of(lab.node(name)) })),
  );
  for (const { name, memory } of memories) {
    t.ok(memory.residentBytes >= bytes.length, `${name} holds a copy`);
    t.ok(memory.nonZeroBytes > bytes.length / 2, `sealed`);
  }

  await t.test('goes on past the time to live of its leases', async (t) => {
    const before = await leasesOf(lab.control);
    await new Promise((resolve) => setTimeout(resolve, 22_000));
    t.same(await readBack(nbd, bytes), { right: 64, wrong: 0, errors: [] });
    const after = await leasesOf(lab.control);
    t.same(after.map(({ leaseId }) => leaseId).sort(), before.map(({ leaseId }) => leaseId).sort());
  });

  await t.test('leaves nothing behind', async (t) => {
    await nbd.close();
    await lab.node('client').use(async (rpc) => {
      await rpc.call('nbd.stop', { name: 'disk' }).catch(() => undefined);
      await rpc.call('volume.remove', { name: 'disk' });
    });
    await eventually(
      'leases are given back',
      async () => (await leasesOf(lab.control)).length === 0,
    );
    for (const { name, memory } of memories) {
      await eventually(`${name} gave the RAM back`, () => memory.residentBytes === 0, 3000);
      t.equal(memory.nonZeroBytes, 0, `${name} reads zero`);
    }
  });
});

t.test(
  'a mount on managed leases',
  { skip: fuseMissing() ?? false, timeout: 120_000 },
  async (t) => {
    const lab = await ManagedLab.start(t);
    const client = lab.node('client');
    const place = path.join(lab.folder, 'files');
    fs.mkdirSync(place);
    const words = ['--size', '32M', '--copies', '2', '--managed'];
    t.match(await memcloud(client.socketPath, 'mount', place, ...words), { code: 0 });
    const bytes = patternBytes(32 * CHUNK, 11);
    const file = path.join(place, 'file');
    // Asynchronously: the daemon that serves the file is not this process, but its memory is looked at here.
    await fs.promises.writeFile(file, bytes, { flush: true });
    t.ok(bytes.equals(await fs.promises.readFile(file)), 'reads what was written');
    const purposes = (await leasesOf(lab.control)).map(({ purpose }) => purpose);
    t.ok(
      purposes.length >= 2 && purposes.every((purpose) => purpose.includes('mount')),
      purposes.join(', '),
    );
    t.match(await memcloud(client.socketPath, 'umount', place), { code: 0 });
    await eventually(
      'leases are given back',
      async () => (await leasesOf(lab.control)).length === 0,
    );
  },
);

/** Waits for RAM to be given back. @returns when it was, milliseconds of performance.now() */
async function whenEmpty(memory: LentMemory, timeoutMs: number): Promise<number> {
  const endMs = performance.now() + timeoutMs;
  while (memory.residentBytes > 0) {
    if (performance.now() > endMs) throw new Error(`not empty within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return performance.now();
}

t.test('the deadline: wiped within a second of it', { timeout: 120_000 }, async (t) => {
  const lab = await ManagedLab.start(t, { providers: ['alpha'] });
  const [client, alpha] = [lab.node('client'), lab.node('alpha')];
  const bytes = patternBytes(64 * CHUNK, 3);
  const nbd = await managedDisk(t, lab, { copies: 1, ttlMs: 8000 });
  await write(nbd, bytes);
  const memory = await LentMemory.of(alpha);
  t.ok(memory.residentBytes >= bytes.length, 'the provider holds the pages');
  // Nobody is left to renew.
  await client.end('SIGKILL');
  const { earliestMs, latestMs } = await deadlineOf(alpha);
  t.ok(earliestMs - performance.now() > 2000, 'there is time left');
  const emptyMs = await whenEmpty(memory, 20_000);
  t.comment(`empty ${Math.round(emptyMs - latestMs)} ms after the deadline`);
  t.ok(emptyMs >= earliestMs - ROUNDING_MS, 'not before the deadline');
  t.ok(emptyMs <= latestMs + WIPED_WITHIN_MS, 'and within a second of it');
  t.equal(memory.nonZeroBytes, 0, 'the backing file reads zero');
  await eventually('it is in the audit log', async () => {
    return (await auditOf(lab.control)).some(({ event, detail }) => {
      return event === 'lease.wiped' && detail['reason'] === 'expired';
    });
  });
  t.same(await leasesOf(lab.control), []);
});

t.test('revoked: reads and writes fail within a second', { timeout: 120_000 }, async (t) => {
  const lab = await ManagedLab.start(t, { providers: ['alpha'] });
  const [client, alpha] = [lab.node('client'), lab.node('alpha')];
  const bytes = patternBytes(64 * CHUNK, 5);
  const nbd = await managedDisk(t, lab, { copies: 1, ttlMs: 600_000 });
  await write(nbd, bytes);
  const memory = await LentMemory.of(alpha);
  t.ok(memory.residentBytes >= bytes.length, 'the provider holds the pages');
  const startMs = performance.now();
  const words = ['control-plane', 'revoke', '--client', client.nodeId];
  const { code, stderr } = await memcloud(lab.control.socketPath, ...words);
  t.equal(code, 0, stderr);
  const revokedMs = performance.now();
  const emptyMs = await whenEmpty(memory, 10_000);
  t.comment(
    `revoke took ${Math.round(revokedMs - startMs)} ms, empty at ${Math.round(emptyMs - startMs)}`,
  );
  t.ok(emptyMs - revokedMs <= WIPED_WITHIN_MS, 'wiped within a second');
  t.equal(memory.nonZeroBytes, 0, 'the backing file reads zero');
  const readMs = performance.now();
  const seen = await readBack(nbd, bytes);
  t.comment(`64 reads failed within ${Math.round(performance.now() - readMs)} ms`);
  t.match(seen, { right: 0, wrong: 0 }, 'no read gives old bytes, or others');
  t.equal(seen.errors.length, 64, 'each fails');
  t.ok(performance.now() - readMs < 1000, 'and none waits');
  t.match(
    await memcloud(client.socketPath, 'lease', 'ls'),
    { code: 0 },
    'and the client can say so',
  );
  const events = (await auditOf(lab.control)).map(({ event }) => event);
  t.ok(
    events.some((event) => event.includes('revoke')),
    'it is in the audit log',
  );
});
