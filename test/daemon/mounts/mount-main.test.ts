/** The process of a mount with a real kernel and real donors: where the bytes go. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { mountAt, readMountTable } from '../../../common/mount-table.ts';
import { eventually } from '../../helpers/lab-node.ts';
import {
  cannotMount,
  dropCaches,
  isMounted,
  mounted,
  mountScene,
  read,
  sync,
  write,
} from '../../helpers/mount-process.ts';

const MIB = 2 ** 20;
const skip = cannotMount();

t.test('files go to donors and come back; unmounted, all is gone', { skip }, async (t) => {
  const at = await mountScene(t, ['alpha']);
  const mount = await mounted(t, at);
  const file = path.join(at.directory, 'sub', 'file');
  const bytes = randomBytes(9 * MIB + 123);
  await fs.promises.mkdir(path.dirname(file));
  await write(file, bytes);
  await sync(file);
  dropCaches();
  t.ok((await read(file)).equals(bytes));
  const status = await mount.status();
  t.match(status, {
    ...{ directory: at.directory, volumeName: 'files', sizeBytes: 64 * MIB, copies: 1 },
    ...{ transport: 'kernel', pid: mount.child.pid, degradedSlabs: 0, inodeCount: 3 },
    providers: [{ name: 'alpha', up: true }],
    damagedFiles: [],
    damagedFileCount: 0,
  });
  t.ok(status.usedBytes >= 9 * MIB && status.usedBytes < 10 * MIB, `${status.usedBytes}`);
  t.ok(status.requestCount > 10);
  t.equal(status.providers[0]?.leasedBytes, status.leasedBytes);
  t.ok((await at.donors[0]!.usedBytes()) >= status.leasedBytes);
  const [peer] = await at.donors[0]!.use((client) => client.call('peer.list', {}));
  t.equal(peer, undefined, 'a lane is no peer');
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
  t.notOk(isMounted(at.directory));
  await eventually('the leases are back', async () => (await at.donors[0]!.usedBytes()) === 0);
  t.same(await fs.promises.readdir(at.directory), []);
});

t.test('a donor that dies costs nothing with two copies', { skip }, async (t) => {
  const at = await mountScene(t, ['alpha', 'beta', 'gamma']);
  const mount = await mounted(t, at, { copies: 2 });
  const files = Array.from({ length: 20 }, (_, index) => ({
    file: path.join(at.directory, `f${index}`),
    bytes: randomBytes(MIB + index),
  }));
  const half = files.slice(0, 10);
  for (const { file, bytes } of half) await write(file, bytes);
  await at.donors[1]!.end('SIGKILL');
  for (const { file, bytes } of files.slice(10)) await write(file, bytes);
  dropCaches();
  for (const { file, bytes } of files) t.ok((await read(file)).equals(bytes), file);
  t.match(await mount.status(), { damagedFileCount: 0 });
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test('statfs tells of no more room than the pool has', { skip }, async (t) => {
  const at = await mountScene(t, ['alpha']);
  const mount = await mounted(t, at, { sizeBytes: 1024 * MIB, overcommit: true });
  const { blocks, bavail, bsize } = await fs.promises.statfs(at.directory);
  t.equal(blocks * bsize, 1024 * MIB);
  t.ok(bavail * bsize > 200 * MIB && bavail * bsize <= 256 * MIB, `${bavail} blocks`);
  await write(path.join(at.directory, 'file'), randomBytes(20 * MIB));
  await sync(path.join(at.directory, 'file'));
  await eventually('the room shrinks', async () => {
    const now = await fs.promises.statfs(at.directory);
    return now.bavail === bavail - (20 * MIB) / bsize;
  });
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test('a provider that is drained from here is left, and comes back', { skip }, async (t) => {
  const at = await mountScene(t, ['alpha', 'beta']);
  const mount = await mounted(t, at, { providers: ['alpha', 'beta'], sizeBytes: 32 * MIB });
  const file = path.join(at.directory, 'file');
  const bytes = randomBytes(20 * MIB);
  await write(file, bytes);
  await sync(file);
  const full = (await at.donors[0]!.usedBytes()) > 0 ? 0 : 1;
  const named = at.peers.map((peer, index) => ({ ...peer, avoided: index === full }));
  mount.send({ type: 'peers', peers: named });
  await eventually('it is empty', async () => (await at.donors[full]!.usedBytes()) === 0);
  dropCaches();
  t.ok((await read(file)).equals(bytes));
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test('RAM of this machine alone, asked for by name', { skip }, async (t) => {
  const at = await mountScene(t, []);
  const mount = await mounted(t, at, { providers: ['local'] });
  const bytes = randomBytes(5 * MIB);
  await write(path.join(at.directory, 'file'), bytes);
  dropCaches();
  t.ok((await read(path.join(at.directory, 'file'))).equals(bytes));
  t.match((await mount.status()).providers, [{ name: 'daemon', up: true }]);
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test('the kernel reads ahead as far as one request goes', { skip }, async (t) => {
  const at = await mountScene(t, []);
  await mounted(t, at, { providers: ['local'] });
  const file = `/sys/class/bdi/${mountAt(readMountTable(), at.directory)?.device}/read_ahead_kb`;
  const said = fs.readFileSync(file, 'utf8').trim();
  try {
    fs.writeFileSync(file, said);
  } catch {
    return t.comment('SKIP: /sys cannot be written here');
  }
  t.equal(said, '1024');
});

t.test('a provider that is taken off the list is used no more', { skip }, async (t) => {
  const at = await mountScene(t, ['alpha', 'beta']);
  const mount = await mounted(t, at, { copies: 1, sizeBytes: 128 * MIB });
  const [alpha, beta] = at.peers;
  mount.send({ type: 'peers', peers: [beta!] });
  await write(path.join(at.directory, 'file'), randomBytes(20 * MIB));
  await sync(path.join(at.directory, 'file'));
  t.match((await mount.status()).providers, [{ name: 'beta', up: true }]);
  t.equal(await at.donors[0]!.usedBytes(), 0, 'nothing lies on alpha');
  mount.send({ type: 'peers', peers: [alpha!, beta!] });
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test('a donor that is drained is left by the mounts there', { skip }, async (t) => {
  const at = await mountScene(t, ['alpha', 'beta']);
  const mount = await mounted(t, at, { providers: ['alpha', 'beta'], sizeBytes: 32 * MIB });
  const bytes = randomBytes(20 * MIB);
  await write(path.join(at.directory, 'file'), bytes);
  await sync(path.join(at.directory, 'file'));
  const holdsMore = (await at.donors[0]!.usedBytes()) > (await at.donors[1]!.usedBytes()) ? 0 : 1;
  const donor = at.donors[holdsMore]!;
  const before = await donor.use((client) => client.call('drain.start', {}));
  t.match(before.holders, [{ problem: '' }]);
  t.ok(before.heldBytes > 0);
  await eventually('it is empty', async () => (await donor.usedBytes()) === 0);
  dropCaches();
  t.ok((await read(path.join(at.directory, 'file'))).equals(bytes));
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});
