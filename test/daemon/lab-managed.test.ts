/** A node as a client of a real control plane: leases, volumes and mounts, with real processes. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { ManagedLeaseInfo } from '../../common/rpc-managed.ts';
import type { StatusInfo, VolumeInfo } from '../../common/rpc-schema.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { LabControl } from '../helpers/lab-control.ts';
import { LabNode, eventually, labFolder, memcloud, memcloudJson } from '../helpers/lab-node.ts';
import { cannotMount } from '../helpers/mount-process.ts';

const MIB = 2 ** 20;

interface Lab {
  readonly folder: string;
  readonly control: LabControl;
  readonly providers: readonly LabNode[];
  readonly client: LabNode;
}

/** Nobody trusts anybody but the control node: what works works by its word. */
async function lab(t: Test, names: readonly string[], offer = '256M'): Promise<Lab> {
  const folder = labFolder(t);
  const control = await LabControl.start(t, { name: 'control', folder });
  await control.waitForLeader();
  const start = async (name: string, role: 'client' | 'provider'): Promise<LabNode> => {
    const lends = role === 'provider' ? { offer } : {};
    const flags = control.memberFlags;
    const node = await LabNode.start(t, { name, folder, autoTrust: false, flags, ...lends });
    await control.addMember(node.nodeId, [role]);
    return node;
  };
  const providers = await Promise.all(names.map((name) => start(name, 'provider')));
  const client = await start('client', 'client');
  for (const node of providers) await control.waitForProvider(node);
  await control.waitForMember(client);
  await eventually('the client hears the leader', async () => {
    return (await client.use((rpc) => rpc.call('managed.status', {}))).roles.includes('client');
  });
  return { folder, control, providers, client };
}

const leasesOf = (node: LabNode): Promise<ManagedLeaseInfo[]> =>
  node.use((rpc) => rpc.call('managed.list', {}));

t.test('a node that is no control node is said to be none', async (t) => {
  const folder = labFolder(t);
  const plain = await LabNode.start(t, { name: 'plain', folder });
  const flags = ['--control-plane', plain.peerAddress];
  const client = await LabNode.start(t, { name: 'client', folder, flags });
  await eventually('it says so', async () => {
    const { problem } = await client.use((rpc) => rpc.call('managed.status', {}));
    return problem.includes(`${plain.peerAddress} answers, and is no control node`);
  });
});

t.test('leases are had, listed, renewed and given back from the command line', async (t) => {
  const { control, client } = await lab(t, ['alpha', 'beta']);
  const { socketPath } = client;
  const words = ['lease', 'request', '64M', '--count', '2', '--ttl', '1m'];
  const got = await memcloudJson<ManagedLeaseInfo[]>(t, socketPath, ...words);
  t.same(got.map(({ providerName }) => providerName).sort(), ['alpha', 'beta']);
  t.match(got[0], { state: 'active', purpose: 'reserve', renews: true, sizeBytes: 64 * MIB });
  const shown = await memcloud(socketPath, 'lease', 'ls');
  t.match(shown.stdout, /alpha\s+64 MiB\s+0 B\s+active/);
  const [first] = got;
  const id = first?.leaseId ?? '';
  const [renewed] = await memcloudJson<ManagedLeaseInfo[]>(
    t,
    socketPath,
    ...['lease', 'renew', id.slice(0, 8), '--ttl', '2m'],
  );
  t.ok((renewed?.endsInMs ?? 0) > 100_000, 'it lives two minutes from now');
  const status = await memcloudJson<StatusInfo>(t, socketPath, 'status');
  t.match(status.managed, { connected: true, leader: 'control', leaseCount: 2, roles: ['client'] });
  t.same(status.health, []);
  await memcloudJson(t, socketPath, 'lease', 'release', id);
  t.equal((await leasesOf(client)).length, 1);
  await eventually('the control plane knows it', async () => {
    return (await control.call('lease.list', { all: true })).rows.length === 1;
  });
});

t.test('a managed volume keeps pages with providers that nobody here trusts', async (t) => {
  const { control, client, providers } = await lab(t, ['alpha', 'beta']);
  const { socketPath } = client;
  const words = ['volume', 'create', 'disk', '--size', '64M', '--managed', '--ttl', '1m'];
  const made = await memcloudJson<VolumeInfo>(t, socketPath, ...words);
  t.match(made, { copies: 2, managed: true, health: 'ok' });
  const { uri } = await client.use((rpc) =>
    rpc.call('nbd.serve', { name: 'disk', tcpAddress: '127.0.0.1:0' }),
  );
  const { hostname, port } = new URL(uri);
  const address = { host: hostname, port: Number(port) };
  const nbd = await NbdClient.connect(address, { exportName: 'disk' });
  const data = Buffer.alloc(2 * MIB, 'memcloud');
  for (let at = 0; at < 64 * MIB; at += data.length) await nbd.write(at, data);
  await nbd.flush();
  t.ok((await nbd.read(62 * MIB, data.length)).equals(data), 'the last slab has room, too');
  const leases = await leasesOf(client);
  t.same(
    leases.map(({ purpose }) => purpose),
    ['volume disk', 'volume disk'],
  );
  await eventually('the leases are exactly as large as the volume', async () => {
    const now = await leasesOf(client);
    return now.every(({ usedBytes, sizeBytes }) => usedBytes === sizeBytes);
  });
  const busy = await memcloud(socketPath, 'lease', 'release', leases[0]?.leaseId ?? '');
  t.equal(busy.code, 1);
  t.match(busy.stderr, /under volume disk/);
  await nbd.close();
  const plain = await memcloud(socketPath, 'volume', 'create', 'other', '--size', '16M');
  t.equal(plain.code, 7, 'nothing unmanaged goes there');
  const restart = await memcloud(socketPath, 'restart');
  t.match(restart.stderr, /volume disk is on managed leases/);
  await memcloudJson(t, socketPath, 'volume', 'rm', 'disk', '--force');
  t.same(await leasesOf(client), []);
  await eventually('all is given back', async () => {
    return (await control.call('lease.list', { all: true })).rows.length === 0;
  });
  for (const node of providers) {
    const { provider } = await node.use((rpc) => rpc.call('status', {}));
    t.equal(provider.usage.usedBytes, 0, `${node.name} has its RAM back`);
  }
});

t.test('a provider that dies is replaced, and its pages are made whole elsewhere', async (t) => {
  const { client, providers } = await lab(t, ['alpha', 'beta', 'gamma']);
  await client.use((rpc) =>
    rpc.call('volume.create', { name: 'disk', sizeBytes: 32 * MIB, copies: 2, managed: {} }),
  );
  const { uri } = await client.use((rpc) =>
    rpc.call('nbd.serve', { name: 'disk', tcpAddress: '127.0.0.1:0' }),
  );
  const { hostname, port } = new URL(uri);
  const address = { host: hostname, port: Number(port) };
  const nbd = await NbdClient.connect(address, { exportName: 'disk' });
  await nbd.write(0, Buffer.alloc(2 * MIB, 'first'));
  await nbd.write(16 * MIB, Buffer.alloc(2 * MIB, 'second'));
  await nbd.flush();
  const [victim] = await leasesOf(client);
  const dead = providers.find(({ nodeId }) => nodeId === victim?.provider);
  dead?.child.kill('SIGKILL');
  await eventually(
    'both slabs have two copies again',
    async () => {
      const { slabs, providers: held } = await client.use((rpc) =>
        rpc.call('volume.inspect', { name: 'disk' }),
      );
      const whole = slabs.leased === 2 && slabs.degraded === 0;
      return whole && held.every(({ nodeId }) => nodeId !== dead?.nodeId || false);
    },
    60_000,
  );
  t.ok((await nbd.read(16 * MIB, 2 * MIB)).equals(Buffer.alloc(2 * MIB, 'second')));
  const now = await leasesOf(client);
  const names = now.filter(({ state }) => state === 'active').map((lease) => lease.providerName);
  t.equal(new Set(names).size >= 2, true);
  await nbd.close();
});

t.test(
  'without a control plane nothing is leased, what runs counts down, and comes back',
  async (t) => {
    const { control, client } = await lab(t, ['alpha']);
    const { socketPath } = client;
    await memcloudJson(t, socketPath, 'lease', 'request', '16M', '--ttl', '1m');
    await control.end('SIGKILL');
    const refused = await memcloud(socketPath, 'lease', 'request', '16M');
    t.equal(refused.code, 5);
    t.match(refused.stderr, /no control node answers/);
    t.equal(refused.stderr.trim().split('\n').length, 1, 'one plain sentence');
    await eventually(
      'status counts down',
      async () => {
        const { health } = await client.use((rpc) => rpc.call('status', {}));
        const text = health.join('\n');
        return /managed lease \w{8} of reserve on alpha ends in/.test(text);
      },
      40_000,
    );
    const doctor = await memcloud(socketPath, 'doctor');
    t.match(doctor.stdout, /control plane/);
    const again = await control.again(t);
    await again.waitForLeader();
    await eventually(
      'it is renewed again',
      async () => {
        const [lease] = await leasesOf(client);
        return lease?.state === 'active' && lease.problem === '';
      },
      20_000,
    );
  },
);

t.test('a node that has no control plane says so', async (t) => {
  const folder = labFolder(t);
  const { socketPath } = await LabNode.start(t, { name: 'alone', folder });
  const refused = await memcloud(socketPath, 'lease', 'request', '16M');
  t.equal(refused.code, 5);
  t.match(refused.stderr, /set control-plane in its configuration/);
  t.same(await memcloudJson(t, socketPath, 'lease', 'ls'), []);
});

t.test('a managed mount holds files', { skip: cannotMount() }, async (t) => {
  const { folder, client, control } = await lab(t, ['alpha', 'beta']);
  const { socketPath } = client;
  const place = path.join(folder, 'files');
  fs.mkdirSync(place);
  const made = await memcloud(socketPath, 'mount', place, '--size', '32M', '--managed');
  t.equal(made.code, 0, made.stderr);
  const file = path.join(place, 'file');
  fs.writeFileSync(file, Buffer.alloc(8 * MIB, 'memcloud'), { flush: true });
  t.ok(fs.readFileSync(file).equals(Buffer.alloc(8 * MIB, 'memcloud')));
  await eventually('the leases know what is used', async () => {
    const leases = await leasesOf(client);
    return leases.length === 2 && leases.every(({ usedBytes }) => usedBytes > 0);
  });
  t.equal((await memcloud(socketPath, 'umount', place)).code, 0);
  await eventually('all is given back', async () => {
    return (await control.call('lease.list', { all: true })).rows.length === 0;
  });
});
