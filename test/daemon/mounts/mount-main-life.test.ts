/** The process of a mount with a real kernel and real donors: how it begins and how it ends. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import t from 'tap';
import { tryUnmount } from '../../../common/libc.ts';
import { CLEAN_ENV, eventually, LabNode } from '../../helpers/lab-node.ts';
import {
  cannotMount,
  isMounted,
  mounted,
  MountProcess,
  mountPoint,
  mountRequest,
  mountScene,
  read,
  startMessage,
  write,
} from '../../helpers/mount-process.ts';

const MIB = 2 ** 20;
const PARENT = path.join(import.meta.dirname, '../../helpers/mount-parent/main.js');
const skip = cannotMount();

t.test('a mount in use stays, and goes lazily', { skip }, async (t) => {
  const at = await mountScene(t, ['alpha']);
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
  const at = await mountScene(t, ['alpha']);
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
    const at = await mountScene(t, ['alpha']);
    const mount = await mounted(t, at, { keep });
    await write(path.join(at.directory, 'file'), Buffer.from('text'));
    t.ok(tryUnmount(at.directory, 0));
    t.match(await mount.hear('unmounted'), { id: 0, busy: false });
    if (keep) {
      t.match(await mount.status(), { directory: '', inodeCount: 2 });
      t.equal(await mount.unmount({ lazy: false }), 'done');
    }
    t.equal(await mount.ended(), 0);
  }
});

t.test(
  'kill -9 of its daemon leaves neither process nor mount, nor leases',
  { skip },
  async (t) => {
    for (const inUse of [false, true]) {
      const at = await mountScene(t, ['alpha']);
      const order = startMessage(at.folder, mountRequest(at.directory), at.peers);
      const parent = spawn(process.execPath, [PARENT, JSON.stringify(order)], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: CLEAN_ENV,
      });
      t.teardown(() => parent.kill('SIGKILL'));
      const lines: string[] = [];
      readline.createInterface({ input: parent.stdout }).on('line', (line) => lines.push(line));
      await eventually('it runs', () => lines.length >= 1);
      const { pid } = JSON.parse(lines[0] ?? '') as { pid: number };
      t.teardown(() => {
        if (fs.existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
      });
      await eventually('it is mounted', () => lines.length >= 2);
      t.equal(lines[1], '{"type":"mounted"}');
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
  const at = await mountScene(t, ['alpha']);
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
  const at = await mountScene(t, ['alpha']);
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
