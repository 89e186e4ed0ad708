/**
 * Parts of a managed network that go away, one at a time: the control node is killed and comes back, a
 * provider is killed, and the cable between the two is cut. docs/control-plane.md, "What is promised".
 */
import t from 'tap';
import { patternBytes } from '../helpers/judges.ts';
import { eventually, labFolder, memcloud } from '../helpers/lab-node.ts';
import { CHUNK, readBack, write } from '../helpers/lab.ts';
import { managedDisk } from '../helpers/managed-disk.ts';
import { LentMemory, MIB, ManagedLab, ask, leasesOf, providerRow } from '../helpers/managed-lab.ts';
import { Network, skipWithoutNamespaces } from '../helpers/namespaces.ts';

/** As docs/errors.md has it: try again later. */
const EXIT_RETRY = 5;

t.test(
  'the control plane is down, and comes back with nothing lost',
  { timeout: 150_000 },
  async (t) => {
    const lab = await ManagedLab.start(t);
    const client = lab.node('client');
    const nbd = await managedDisk(t, lab, { copies: 2, ttlMs: 60_000 });
    const bytes = patternBytes(32 * CHUNK, 1);
    await write(nbd, bytes);
    const before = await leasesOf(lab.control);
    t.ok(before.length >= 2);
    await lab.control.end('SIGKILL');

    const refused = await memcloud(client.socketPath, 'lease', 'request', '16M');
    t.equal(refused.code, EXIT_RETRY, refused.stderr);
    t.equal(refused.stderr.trim().split('\n').length, 1, `one plain sentence: ${refused.stderr}`);
    const more = patternBytes(32 * CHUNK, 2);
    await write(nbd, more);
    t.same(await readBack(nbd, more), { right: 32, wrong: 0, errors: [] }, 'the volume goes on');
    await eventually('status says so', async () => {
      const { code, stdout } = await memcloud(client.socketPath, 'status');
      return code === 0 && /control plane/i.test(stdout);
    });

    await (await lab.addControl(t, { name: 'control' })).waitForLeader();
    await Promise.all(['alpha', 'beta'].map((name) => lab.waitForProvider(name, 'up', 35_000)));
    await lab.waitForClient(client);
    const after = await leasesOf(lab.control);
    t.same(
      after.map(({ leaseId, state, sizeBytes }) => [leaseId, state, sizeBytes]).sort(),
      before.map(({ leaseId, state, sizeBytes }) => [leaseId, state, sizeBytes]).sort(),
      'every lease is there again',
    );
    t.match(
      await memcloud(client.socketPath, 'lease', 'request', '16M'),
      { code: 0 },
      'grants again',
    );
    t.same(await readBack(nbd, more), { right: 32, wrong: 0, errors: [] });
    // Renewals go on: the leases live longer than they could have without.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    t.match(await memcloud(lab.control.socketPath, 'control-plane', 'audit', '--verify'), {
      code: 0,
    });
  },
);

t.test(
  'a provider is killed: down within 5 s, nothing is placed there',
  { timeout: 120_000 },
  async (t) => {
    const lab = await ManagedLab.start(t);
    const client = lab.node('client');
    const nbd = await managedDisk(t, lab, { copies: 2, ttlMs: 60_000 });
    const bytes = patternBytes(32 * CHUNK, 1);
    await write(nbd, bytes);
    await lab.node('alpha').end('SIGKILL');
    const tookMs = await lab.waitForProvider('alpha', 'down', 5000);
    t.comment(`down after ${Math.round(tookMs)} ms`);
    await eventually('its client says so', async () => {
      const { stdout } = await memcloud(client.socketPath, 'lease', 'ls');
      return /: its provider does not answer/.test(stdout);
    });
    t.same(
      await readBack(nbd, bytes),
      { right: 32, wrong: 0, errors: [] },
      'the other copy answers',
    );
    for (let round = 0; round < 6; round += 1) {
      const [lease] = await client.use((rpc) =>
        rpc.call('managed.request', { sizeBytes: 8 * MIB }),
      );
      t.equal(lease?.providerName, 'beta', 'placed on the one that lives');
    }
    const { code } = await memcloud(client.socketPath, 'lease', 'request', '8M', '--count', '2');
    t.not(code, 0, 'and never twice on one machine');
    // A new life of the same provider has none of the leases of the one before.
    await lab.addProvider(t, 'alpha');
    await eventually('its leases are over', async () => {
      const rows = await leasesOf(lab.control);
      return (
        rows.every(({ providerName }) => providerName !== 'alpha') ||
        (await providerRow(lab.control, 'alpha'))?.state === 'up'
      );
    });
  },
);

const skip = skipWithoutNamespaces();

t.test(
  'the network between provider and control plane is cut',
  { skip, timeout: 150_000 },
  async (t) => {
    const folder = labFolder(t);
    const network = new Network(t);
    const machine = (number: number): { listen: string; launcher: string[] } => {
      const { address, launcher } = network.machine(number);
      return { listen: `${address}:7070`, launcher };
    };
    const lab = ManagedLab.of(folder, []);
    await (await lab.addControl(t, { name: 'control', ...machine(1) })).waitForLeader();
    const alpha = await lab.addProvider(t, 'alpha', machine(2));
    const client = await lab.addClient(t, 'client', machine(3));
    const nbd = await managedDisk(t, lab, { copies: 1, ttlMs: 20_000 });
    const bytes = patternBytes(16 * CHUNK, 1);
    await write(nbd, bytes);
    const memory = await LentMemory.of(alpha);
    t.ok(memory.residentBytes >= bytes.length);

    const cutMs = performance.now();
    network.blackhole(2, 1);
    t.same(await readBack(nbd, bytes), { right: 16, wrong: 0, errors: [] }, 'the lease is served');
    await lab.waitForProvider('alpha', 'down', 5000);
    const refused = await memcloud(client.socketPath, 'lease', 'request', '8M');
    t.not(refused.code, 0, 'nothing is granted there');
    // Revoked while it cannot hear of it.
    await eventually('its lease runs out', () => memory.residentBytes === 0, 30_000);
    const tookMs = performance.now() - cutMs;
    t.ok(tookMs <= 21_500, `wiped by its own clock, after ${Math.round(tookMs)} ms`);
    t.equal(memory.nonZeroBytes, 0);
    network.heal(2, 1);
    await lab.waitForProvider('alpha', 'up', 20_000);
    await eventually('both agree that nothing is leased', async () => {
      const rows = await leasesOf(lab.control);
      const { managed } = (await alpha.use((rpc) => rpc.call('status', {}))).provider;
      return rows.length === managed.length;
    });
  },
);

t.test(
  'revoked during a cut: ended when the provider is back',
  { skip, timeout: 120_000 },
  async (t) => {
    const network = new Network(t);
    const machine = (number: number): { listen: string; launcher: string[] } => {
      const { address, launcher } = network.machine(number);
      return { listen: `${address}:7070`, launcher };
    };
    const lab = ManagedLab.of(labFolder(t), []);
    await (await lab.addControl(t, { name: 'control', ...machine(1) })).waitForLeader();
    const alpha = await lab.addProvider(t, 'alpha', machine(2));
    await lab.addClient(t, 'client', machine(3));
    const nbd = await managedDisk(t, lab, { copies: 1, ttlMs: 600_000 });
    await write(nbd, patternBytes(16 * CHUNK, 1));
    const memory = await LentMemory.of(alpha);
    network.blackhole(2, 1);
    await lab.waitForProvider('alpha', 'down', 5000);
    const { revoked } = await ask(lab.control, 'admin.revoke', {
      client: lab.node('client').nodeId,
    });
    t.ok(revoked >= 1);
    t.ok(memory.residentBytes > 0, 'it has not heard of it');
    network.heal(2, 1);
    await lab.waitForProvider('alpha', 'up', 20_000);
    t.teardown(() => t.passing() || t.comment(`${lab.control.log}\n${alpha.log}`));
    await eventually('it was told', () => memory.residentBytes === 0, 3000);
    t.equal(memory.nonZeroBytes, 0);
    await eventually('and said so', async () => (await leasesOf(lab.control)).length === 0);
  },
);
