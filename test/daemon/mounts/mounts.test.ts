/** The registry of mounts over real processes and a kernel that is a folder (test/helpers/mount-child). */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { isErrorCode } from '../../../common/errors.ts';
import { silentLogger } from '../../../common/log.ts';
import { MountRegister } from '../../../common/mount-register.ts';
import { parseMountTable } from '../../../common/mount-table.ts';
import { processStart } from '../../../common/process-start.ts';
import { Mounts } from '../../../daemon/mounts/mounts.ts';
import type { MountPeer, MountRequest } from '../../../daemon/mounts/protocol.ts';
import { eventually } from '../../helpers/lab-node.ts';

const CHILD = path.join(import.meta.dirname, '../../helpers/mount-child/main.js');
const MIB = 2 ** 20;
/** Long where it should not matter: the machine may be busy. */
const PATIENCE = {
  ...{ beginMs: 30_000, statusMs: 10_000, unmountMs: 2500 },
  ...{ lazyMs: 1000, killMs: 10_000 },
};

function request(directory: string, volumeName: string, keep = false): MountRequest {
  return {
    ...{ directory, volumeName, sizeBytes: 64 * MIB, copies: 1, ringSizeBytes: MIB, keep },
    ...{ providers: undefined, overcommit: false, allowOther: true, profile: 'default' },
    ...{ transport: 'kernel', uid: 0, gid: 0, mode: 0o1777 },
  };
}

interface World {
  mounts: Mounts;
  folder: string;
  detached: string[];
  /** How often the memory of dead processes was given back. */
  wipes: { count: number };
  quarantined: string[];
  peers: MountPeer[];
  tableFolder: string;
  registerFile: string;
  rows: () => string[];
}

/** A folder that outlives the registry of its test. */
function freshFolder(t: Test): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-mounts-'));
  for (const name of ['a', 'b', 'c', 'd']) fs.mkdirSync(path.join(folder, name));
  fs.mkdirSync(path.join(folder, 'table'));
  t.teardown(() => fs.rmSync(folder, { recursive: true }));
  return folder;
}

function world(t: Test, folder = freshFolder(t), patience = PATIENCE): World {
  const tableFolder = path.join(folder, 'table');
  process.env['FAKE_MOUNT_TABLE'] = tableFolder;
  const detached: string[] = [];
  const wipes = { count: 0 };
  const quarantined: string[] = [];
  const peers: MountPeer[] = [];
  const registerFile = path.join(folder, 'register');
  const lineOf = (name: string): string => {
    try {
      return fs.readFileSync(path.join(tableFolder, name), 'utf8');
    } catch {
      return '';
    }
  };
  const table = (): ReturnType<typeof parseMountTable> =>
    parseMountTable(fs.readdirSync(tableFolder).sort().map(lineOf).join(''));
  const mounts = new Mounts(
    {
      logger: silentLogger,
      program: { file: CHILD },
      setting: {
        ...{ stateDirectory: folder, name: 'n', hostId: '', zone: '', leaseTtlMs: 5000 },
        ...{ peerDeadMs: 500, memoryDirectory: undefined, logLevel: 'error' },
      },
      peers: () => [...peers],
      quarantine: (nodeId, reason) => quarantined.push(`${nodeId} ${reason}`),
      isVolume: (name) => name === 'disk',
      world: {
        table,
        lstat: (place) => fs.promises.lstat(place),
        readlink: (place) => fs.promises.readlink(place),
        makeDirectory: (place) => fs.mkdirSync(place),
        precious: [path.join(folder, 'b/state')],
      },
      removeDirectory: (place) => fs.rmdirSync(place),
      detach: async (directory) => {
        detached.push(path.basename(directory));
        const names = fs.readdirSync(tableFolder);
        const name = names.find((each) => lineOf(each).split(' ')[4] === directory) ?? '';
        fs.rmSync(path.join(tableFolder, name));
        return true;
      },
      register: new MountRegister(registerFile),
      onKilled: () => (wipes.count += 1),
    },
    patience,
  );
  t.teardown(() => mounts.close());
  const rows = (): string[] => table().map(({ mountPoint }) => path.basename(mountPoint));
  return { mounts, folder, detached, wipes, quarantined, peers, tableFolder, registerFile, rows };
}

const EAGER = { lazy: false, startingOnly: false };
const LAZY = { lazy: true, startingOnly: false };

t.test('mounted, listed, unmounted, and again; nothing is left', async (t) => {
  const { mounts, folder, rows, detached, registerFile } = world(t);
  const directory = path.join(folder, 'a');
  for (let round = 0; round < 2; round += 1) {
    const made = await mounts.create(request(directory, 'v'), false);
    t.match(made, { directory, volume: 'v', state: 'mounted', usedBytes: 4096, inodeCount: 2 });
    t.strictSame([rows(), mounts.inUse(), mounts.has('v')], [['a'], [directory], true]);
    t.ok(fs.existsSync(registerFile), 'in writing, for the next daemon');
    await t.rejects(mounts.create(request(directory, 'w'), false), { code: 'ERR_MOUNT_POINT' });
    await mounts.remove(directory, EAGER);
    t.strictSame([rows(), mounts.inUse(), await mounts.list()], [[], [], []]);
    t.equal(fs.existsSync(registerFile), false);
    t.throws(() => process.kill(made.pid, 0), { code: 'ESRCH' });
  }
  t.strictSame(detached, [], 'the processes unmounted by themselves');
  await t.rejects(mounts.remove(directory, EAGER), { code: 'ERR_MOUNT_UNKNOWN' });
});

t.test('a mount that cannot be made leaves nothing', async (t) => {
  const { mounts, folder, rows } = world(t);
  for (const [name, code, message] of [
    ['failing', 'ERR_UNSUPPORTED', 'no /dev/fuse here'],
    ['speechless', 'ERR_MOUNT_FAILED', /with code 3/],
    ['disk', 'ERR_VOLUME_EXISTS', /choose another name/],
  ] as const) {
    t.ok(isErrorCode(code));
    const directory = path.join(folder, 'made');
    await t.rejects(mounts.create(request(directory, name), true), { code, message });
    t.strictSame([rows(), mounts.inUse()], [[], []]);
    if (name !== 'disk') t.equal(fs.existsSync(directory), false, 'nor the directory made for it');
  }
  const state = path.join(folder, 'b');
  await t.rejects(mounts.create(request(state, 'v'), false), { message: /memnode needs .*state/ });
});

t.test('a mount that is being made can be taken back', async (t) => {
  const { mounts, folder, rows } = world(t);
  const directory = path.join(folder, 'a');
  const making = t.rejects(mounts.create(request(directory, 'slow'), false), {
    code: 'ERR_CANCELLED',
  });
  await eventually('it is begun', () => mounts.inUse().length === 1);
  await t.rejects(mounts.create(request(directory, 'other'), false), { code: 'ERR_MOUNT_POINT' });
  t.match(await mounts.list(), [{ state: 'starting' }]);
  await mounts.remove(directory, { lazy: true, startingOnly: true });
  await making;
  t.strictSame([rows(), mounts.inUse()], [[], []]);
  await mounts.create(request(directory, 'v'), false);
  const how = { lazy: true, startingOnly: true };
  await t.rejects(mounts.remove(directory, how), { code: 'ERR_MOUNT_UNKNOWN' }, 'it is there now');
  t.strictSame(rows(), ['a']);
});

t.test('a busy mount stays, and goes lazily', async (t) => {
  const { mounts, folder, rows } = world(t);
  const directory = path.join(folder, 'a');
  await mounts.create(request(directory, 'busy'), false);
  await t.rejects(mounts.remove(directory, EAGER), { code: 'ERR_MOUNT_BUSY' });
  t.match(await mounts.list(), [{ state: 'mounted' }]);
  await mounts.remove(directory, LAZY);
  t.strictSame([rows(), mounts.inUse()], [[], []]);
});

t.test(
  'a process that is stopped is shown, waited for by nobody, and ended by force',
  async (t) => {
    const patience = { ...PATIENCE, statusMs: 1500 };
    const { mounts, folder, rows, detached, wipes, peers } = world(t, freshFolder(t), patience);
    const directory = path.join(folder, 'a');
    const { pid } = await mounts.create(request(directory, 'v'), false);
    process.kill(pid, 'SIGSTOP');
    const startMs = performance.now();
    for (let round = 0; round < 2; round += 1) {
      const [row] = await mounts.list();
      t.match(row, { state: 'silent', reason: /does not answer/, usedBytes: 4096 });
    }
    t.ok(performance.now() - startMs < 10_000);
    peers.push({ nodeId: 'x', name: 'newcomer', address: 'h:1', publicKey: '' });
    await t.rejects(mounts.remove(directory, EAGER), { code: 'ERR_TIMEOUT', message: /--lazy/ });
    process.kill(pid, 'SIGCONT');
    // What it was told meanwhile it does now: it unmounts and ends.
    await eventually('it has ended', async () => (await mounts.list()).length === 0);
    t.strictSame(rows(), []);

    const again = await mounts.create(request(directory, 'v'), false);
    process.kill(again.pid, 'SIGSTOP');
    await mounts.remove(directory, LAZY);
    t.strictSame([rows(), detached, mounts.inUse()], [[], ['a'], []]);
    t.equal(wipes.count, 1, 'only what was killed leaves memory');
    t.throws(() => process.kill(again.pid, 0), { code: 'ESRCH' });
  },
);

t.test('a process that dies: its mount is taken away and what happened is told', async (t) => {
  const { mounts, folder, rows, detached, wipes } = world(t);
  const directory = path.join(folder, 'a');
  const { pid } = await mounts.create(request(directory, 'v'), false);
  process.kill(pid, 'SIGKILL');
  await eventually('its mount is gone', () => rows().length === 0);
  t.strictSame(detached, ['a']);
  t.equal(wipes.count, 1, 'its memory is given back');
  t.match(await mounts.list(), [{ state: 'dead', reason: /by SIGKILL; its files are gone/ }]);
  t.strictSame([mounts.inUse(), mounts.has('v')], [[], false], 'nothing is in its way');
  await mounts.create(request(directory, 'v'), false);
  t.match(await mounts.list(), [{ state: 'mounted' }], 'a new mount takes its place');
  await mounts.remove(directory, EAGER);
});

t.test('what is dead is forgotten by umount', async (t) => {
  const { mounts, folder } = world(t);
  const directory = path.join(folder, 'a');
  const { pid } = await mounts.create(request(directory, 'v'), false);
  process.kill(pid, 'SIGKILL');
  await eventually('it is seen', async () => (await mounts.list())[0]?.state === 'dead');
  await mounts.remove(directory, EAGER);
  t.strictSame(await mounts.list(), []);
});

t.test('unmounted by somebody else', async (t) => {
  const { mounts, folder, detached } = world(t);
  const { pid } = await mounts.create(request(path.join(folder, 'a'), 'v'), false);
  process.kill(pid, 'SIGUSR2');
  await eventually('it is noticed', async () => (await mounts.list()).length === 0);
  const kept = await mounts.create(request(path.join(folder, 'a'), 'w', true), false);
  process.kill(kept.pid, 'SIGUSR2');
  await eventually('the files are kept', () => mounts.isKept('w'));
  t.strictSame(detached, []);
});

t.test('kept files are mounted again, elsewhere, and dropped', async (t) => {
  const { mounts, folder, rows } = world(t);
  const first = path.join(folder, 'a');
  const second = path.join(folder, 'new');
  const { pid } = await mounts.create(request(first, 'v', true), false);
  await t.rejects(mounts.drop('v'), { code: 'ERR_VOLUME_BUSY' });
  await mounts.remove(first, EAGER);
  t.match(await mounts.list(), [{ directory: '', volume: 'v', state: 'kept', pid }]);
  t.strictSame([rows(), mounts.inUse(), mounts.has('v')], [[], ['v'], true]);
  await t.rejects(mounts.create(request(first, 'v'), false), { code: 'ERR_VOLUME_EXISTS' });
  await t.rejects(mounts.remount('w', first, false), { code: 'ERR_VOLUME_UNKNOWN' });
  const again = await mounts.remount('v', second, true);
  t.match(again, { directory: second, state: 'mounted', pid });
  t.strictSame(rows(), ['new']);
  await mounts.remove(second, EAGER);
  await mounts.drop('v');
  t.strictSame([await mounts.list(), rows()], [[], []]);
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  await t.rejects(mounts.drop('v'), { code: 'ERR_VOLUME_UNKNOWN' });
});

t.test('providers that come later, and one that broke the rules', async (t) => {
  const { mounts, folder, peers, quarantined } = world(t);
  await mounts.create(request(path.join(folder, 'a'), 'forging'), false);
  t.strictSame(quarantined, [`${'ab'.repeat(16)} wrong bytes`]);
  peers.push({ nodeId: 'x', name: 'newcomer', address: 'h:1', publicKey: '' });
  await eventually('the process knows it', async () => {
    return (await mounts.list())[0]?.providers[0]?.name === 'newcomer';
  });
});

t.test('the end of the daemon: clean, lazy, by force; no process and no mount stay', async (t) => {
  const { mounts, folder, rows, detached } = world(t);
  const pids = [];
  for (const name of ['v', 'busy', 'deaf']) {
    const { pid } = await mounts.create(request(path.join(folder, name), name), true);
    pids.push(pid);
  }
  await mounts.close();
  for (const pid of pids) t.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  t.strictSame([rows(), detached], [[], ['deaf']]);
  await t.rejects(mounts.create(request(path.join(folder, 'a'), 'v'), false), {
    code: 'ERR_CANCELLED',
  });
});

t.test('after a kill: the mounts of the last daemon go, and nobody else’s', async (t) => {
  const folder = freshFolder(t);
  const left = world(t, folder);
  const place = (name: string): string => path.join(folder, name);
  const live = await left.mounts.create(request(place('a'), 'v'), false);
  // As a daemon that is killed leaves it: its child stopped, so that it cannot even unmount.
  process.kill(live.pid, 'SIGSTOP');
  const register = new MountRegister(left.registerFile);
  register.load();
  register.add({ directory: place('b'), device: '0:77', pid: 2 ** 22 + 1, started: '1' });
  register.add({ directory: place('c'), device: '0:78', pid: 2 ** 22 + 1, started: '1' });
  const own = processStart(process.pid) ?? '';
  register.add({ directory: place('d'), device: '0:79', pid: process.pid, started: `${own}0` });
  for (const [name, device, type] of [
    ['b', '0:77', 'fuse.memcloud'],
    ['c', '0:99', 'fuse.memcloud'],
    ['d', '0:79', 'tmpfs'],
  ] as const) {
    const line = `1 1 ${device} / ${place(name)} rw - ${type} memcloud rw\n`;
    fs.writeFileSync(path.join(left.tableFolder, name), line);
  }
  const next = world(t, folder);
  await next.mounts.cleanUp();
  // Here the former daemon still runs, and may be the first to see that its child ended.
  const detached = new Set([...left.detached, ...next.detached]);
  t.strictSame([...detached].sort(), ['a', 'b'], 'not the later mount at c, nor the tmpfs at d');
  t.strictSame(next.rows(), ['c', 'd']);
  t.throws(() => process.kill(live.pid, 0), { code: 'ESRCH' });
  t.equal(
    fs.existsSync(next.registerFile),
    false,
    'and this process, which only has the number, lives',
  );
});
