/** The process of a mount with a real kernel and real donors; the test plays the daemon. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import t, { type Test } from 'tap';
import { CLEAN_ENV, eventually, LabNode, labFolder } from '../../helpers/lab-node.ts';
import {
  cannotMount,
  isMounted,
  MountProcess,
  mountPeer,
  mountPoint,
  mountRequest,
  startMessage,
} from '../../helpers/mount-process.ts';
import type { MountPeer, MountRequest } from '../../../daemon/mounts/protocol.ts';

const MIB = 2 ** 20;
const PARENT = path.join(import.meta.dirname, '../../helpers/mount-parent/main.js');
const skip = cannotMount();

interface Scene {
  folder: string;
  directory: string;
  donors: LabNode[];
  peers: MountPeer[];
}

async function scene(t: Test, donorNames: readonly string[]): Promise<Scene> {
  const folder = labFolder(t);
  const directory = mountPoint(t, folder);
  const donors = await Promise.all(
    donorNames.map((name) => LabNode.start(t, { name, folder, offer: '256M' })),
  );
  return { folder, directory, donors, peers: donors.map((node) => mountPeer(folder, node)) };
}

/** A mount that is there. */
async function mounted(
  t: Test,
  { folder, directory, peers }: Scene,
  change: Partial<MountRequest> = {},
): Promise<MountProcess> {
  const mount = new MountProcess(t);
  mount.send(startMessage(folder, mountRequest(directory, change), peers));
  await mount.hear('mounted');
  return mount;
}

/** Reads and writes of files on the mount go through promises: the test itself never waits in the kernel. */
const write = (file: string, bytes: Buffer): Promise<void> => fs.promises.writeFile(file, bytes);
const read = (file: string): Promise<Buffer> => fs.promises.readFile(file);

/** Makes the kernel forget what it has cached, so that reads reach the pool. */
const dropCaches = (): void => fs.writeFileSync('/proc/sys/vm/drop_caches', '3');

t.test('files go to donors and come back; unmounted, all is gone', { skip }, async (t) => {
  const at = await scene(t, ['alpha']);
  const mount = await mounted(t, at);
  const file = path.join(at.directory, 'sub', 'file');
  const bytes = randomBytes(9 * MIB + 123);
  await fs.promises.mkdir(path.dirname(file));
  await write(file, bytes);
  const handle = await fs.promises.open(file, 'r+');
  await handle.sync();
  await handle.close();
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

t.test('a mount in use stays, and goes lazily', { skip }, async (t) => {
  const at = await scene(t, ['alpha']);
  const mount = await mounted(t, at);
  const handle = await fs.promises.open(path.join(at.directory, 'open'), 'w+');
  await handle.write('here');
  t.equal(await mount.unmount({ lazy: false }), 'busy');
  t.ok(isMounted(at.directory));
  t.equal((await handle.read(Buffer.alloc(4), 0, 4, 0)).bytesRead, 4, 'it works on');
  t.equal(await mount.unmount({ lazy: true }), 'done');
  t.equal(await mount.ended(), 0);
  t.notOk(isMounted(at.directory));
  await t.rejects(handle.stat(), 'its user gets an error, and does not hang');
  await handle.close().catch(() => undefined);
});

t.test('kept files are there at the next mount, without what had no name', { skip }, async (t) => {
  const at = await scene(t, ['alpha']);
  const mount = await mounted(t, at, { keep: true });
  const bytes = randomBytes(MIB);
  await write(path.join(at.directory, 'kept'), bytes);
  const { inodeCount } = await mount.status();
  t.equal(await mount.unmount({ lazy: false, keep: true }), 'done');
  t.notOk(isMounted(at.directory));
  t.match(await mount.status(), { directory: '', inodeCount });
  const other = mountPoint(t, at.folder, 'other');
  t.equal(await mount.remount(other), null);
  t.match(await mount.remount(other), { code: 'ERR_MOUNT_BUSY' });
  t.ok((await read(path.join(other, 'kept'))).equals(bytes));
  await fs.promises.rm(path.join(other, 'kept'));
  t.match(await mount.status(), { directory: other, inodeCount: 1 });
  t.equal(await mount.unmount({ lazy: false, keep: true }), 'done');
  t.match(await mount.remount('/nowhere'), { code: 'ERR_MOUNT_POINT' });
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test('whoever unmounts it, it ends, or keeps the files', { skip }, async (t) => {
  for (const keep of [false, true]) {
    const at = await scene(t, ['alpha']);
    const mount = await mounted(t, at, { keep });
    await write(path.join(at.directory, 'file'), Buffer.from('text'));
    await once(spawn('umount', ['-i', at.directory], { cwd: '/' }), 'exit');
    t.match(await mount.hear('unmounted'), { id: 0, busy: false });
    if (keep) {
      t.match(await mount.status(), { directory: '', inodeCount: 2 });
      t.equal(await mount.unmount({ lazy: false }), 'done');
    }
    t.equal(await mount.ended(), 0);
  }
});

t.test('a donor that dies costs nothing with two copies', { skip }, async (t) => {
  const at = await scene(t, ['alpha', 'beta', 'gamma']);
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

t.test('a donor that dies with the only copy is told of by EIO and status', { skip }, async (t) => {
  const at = await scene(t, ['alpha', 'beta']);
  const mount = await mounted(t, at, { providers: ['alpha'], sizeBytes: 32 * MIB });
  const file = path.join(at.directory, 'lost');
  await write(file, randomBytes(2 * MIB));
  const handle = await fs.promises.open(file, 'r+');
  await handle.sync();
  await handle.close();
  dropCaches();
  await at.donors[0]!.end('SIGKILL');
  await t.rejects(read(file), { code: 'EIO' });
  t.equal(await mount.unmount({ lazy: true }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test('RAM of this machine alone, asked for by name', { skip }, async (t) => {
  const at = await scene(t, []);
  const mount = await mounted(t, at, { providers: ['local'] });
  const bytes = randomBytes(5 * MIB);
  await write(path.join(at.directory, 'file'), bytes);
  dropCaches();
  t.ok((await read(path.join(at.directory, 'file'))).equals(bytes));
  t.match((await mount.status()).providers, [{ name: 'daemon', up: true }]);
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test(
  'kill -9 of its daemon leaves neither process nor mount, nor leases',
  { skip },
  async (t) => {
    for (const inUse of [false, true]) {
      const at = await scene(t, ['alpha']);
      const order = startMessage(at.folder, mountRequest(at.directory), at.peers);
      const parent = spawn(process.execPath, [PARENT, JSON.stringify(order)], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: CLEAN_ENV,
      });
      t.teardown(() => parent.kill('SIGKILL'));
      const lines = readline.createInterface({ input: parent.stdout });
      const [first] = (await once(lines, 'line')) as [string];
      const { pid } = JSON.parse(first) as { pid: number };
      t.teardown(() => {
        if (fs.existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
      });
      t.same(await once(lines, 'line'), ['{"type":"mounted"}']);
      const handle = await fs.promises.open(path.join(at.directory, 'file'), 'w');
      await handle.write(randomBytes(MIB));
      if (!inUse) await handle.close();
      t.ok((await at.donors[0]!.usedBytes()) >= 0);
      parent.kill('SIGKILL');
      await eventually('the process is gone', () => !fs.existsSync(`/proc/${pid}`));
      t.notOk(isMounted(at.directory), inUse ? 'in use' : 'idle');
      if (inUse) await handle.close().catch(() => undefined);
      await eventually('leases are back', async () => (await at.donors[0]!.usedBytes()) === 0);
    }
  },
);

t.test('SIGTERM ends it, Ctrl-C of the terminal does not', { skip }, async (t) => {
  const at = await scene(t, ['alpha']);
  const mount = await mounted(t, at);
  mount.child.kill('SIGINT');
  mount.child.kill('SIGHUP');
  await write(path.join(at.directory, 'file'), randomBytes(MIB));
  t.notOk(mount.exited);
  mount.child.kill('SIGTERM');
  t.equal(await mount.ended(), 0);
  t.notOk(isMounted(at.directory));
});

t.test('it begins before its donors are there, and says what is missing', { skip }, async (t) => {
  const at = await scene(t, ['alpha']);
  const { nodeId, peerAddress } = at.donors[0]!;
  await at.donors[0]!.end('SIGTERM');
  const mount = new MountProcess(t);
  mount.send(startMessage(at.folder, mountRequest(at.directory), at.peers));
  const donor = await LabNode.start(t, {
    ...{ name: 'alpha', folder: at.folder, offer: '256M', listen: peerAddress },
  });
  t.equal(donor.nodeId, nodeId);
  await mount.hear('mounted');
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
  for (const [change, message] of [
    [
      { sizeBytes: 1024 * MIB },
      /^volume files: 1 copy of 1 GiB need 1 GiB, the providers that are up have/,
    ],
    [
      { copies: 2 },
      /^volume files: 2 copies need providers on 2 machines that are up; up now: alpha/,
    ],
  ] as const) {
    const small = new MountProcess(t);
    small.send(startMessage(at.folder, mountRequest(at.directory, change), at.peers));
    t.match(await small.hear('failed'), { code: 'ERR_VOLUME_CAPACITY', message });
    t.equal(await small.ended(), 1);
    t.notOk(isMounted(at.directory));
  }
  const unknown = new MountProcess(t);
  const request = mountRequest(at.directory, { providers: ['nobody'] });
  unknown.send(startMessage(at.folder, request, at.peers));
  t.match(await unknown.hear('failed'), { code: 'ERR_PEER_UNKNOWN' });
  t.equal(await unknown.ended(), 1);
});

t.test('a provider that is taken off the list is used no more', { skip }, async (t) => {
  const at = await scene(t, ['alpha', 'beta']);
  const mount = await mounted(t, at, { copies: 1, sizeBytes: 128 * MIB });
  const [alpha, beta] = at.peers;
  mount.send({ type: 'peers', peers: [beta!] });
  await write(path.join(at.directory, 'file'), randomBytes(20 * MIB));
  const handle = await fs.promises.open(path.join(at.directory, 'file'), 'r+');
  await handle.sync();
  await handle.close();
  t.match((await mount.status()).providers, [{ name: 'beta', up: true }]);
  t.equal(await at.donors[0]!.usedBytes(), 0, 'nothing lies on alpha');
  mount.send({ type: 'peers', peers: [alpha!, beta!] });
  t.equal(await mount.unmount({ lazy: false }), 'done');
  t.equal(await mount.ended(), 0);
});

t.test('a donor that is drained is left by the mounts there', { skip }, async (t) => {
  const at = await scene(t, ['alpha', 'beta']);
  const mount = await mounted(t, at, { providers: ['alpha', 'beta'], sizeBytes: 32 * MIB });
  const bytes = randomBytes(20 * MIB);
  await write(path.join(at.directory, 'file'), bytes);
  const handle = await fs.promises.open(path.join(at.directory, 'file'), 'r+');
  await handle.sync();
  await handle.close();
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
