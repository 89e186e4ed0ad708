/** What a killed memnode has left goes, and nothing else. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import t from 'tap';
import { silentLogger } from '../../common/log.ts';
import { MountRegister } from '../../common/mount-register.ts';
import type { MountRow } from '../../common/mount-table.ts';
import { processStart } from '../../common/process-start.ts';
import {
  detachIfOurs,
  isServed,
  isStillMounted,
  takeAwayStale,
  type StaleWorld,
} from '../../common/stale-mounts.ts';

const GONE = { pid: 2 ** 22 + 1, started: '1' };

function row(mountPoint: string, device: string, type = 'fuse.memcloud'): MountRow {
  return { mountPoint, device, type, source: 'memcloud' };
}

function world(table: MountRow[], succeeds = true): StaleWorld & { detached: string[] } {
  const detached: string[] = [];
  return {
    detached,
    table: () => table,
    detach: (directory) => {
      detached.push(directory);
      return Promise.resolve(succeeds);
    },
    logger: silentLogger,
  };
}

t.test('a mount is ours by its directory, its device and its type', async (t) => {
  const table = [row('/a', '0:1'), row('/b', '0:2', 'tmpfs'), row('/c', '0:3'), row('/c', '0:4')];
  for (const [directory, device, expected] of [
    ['/a', '0:1', true],
    ['/a', '0:2', false],
    ['/b', '0:2', false],
    ['/c', '0:3', false],
    ['/c', '0:4', true],
    ['/d', '0:1', false],
  ] as const) {
    t.equal(isStillMounted({ directory, device }, table), expected, `${directory} ${device}`);
    const seen = world(table);
    await detachIfOurs({ directory, device }, seen);
    t.strictSame(seen.detached, expected ? [directory] : []);
  }
});

t.test('what cannot be taken away is told, and no reason to stop', async (t) => {
  const stubborn = world([row('/a', '0:1')], false);
  await detachIfOurs({ directory: '/a', device: '0:1' }, stubborn);
  t.strictSame(stubborn.detached, ['/a']);
  const failing = { ...stubborn, detach: () => Promise.reject(new Error('no fusermount3')) };
  await detachIfOurs({ directory: '/a', device: '0:1' }, failing);
});

t.test('the register is emptied, its processes end, a later one of a number lives', async (t) => {
  const file = path.join(t.testdir(), 'mounts.json');
  // It does not listen to SIGTERM, as one that is stopped does not.
  const script = "process.on('SIGTERM', () => 0); console.log('there'); setInterval(() => 0, 1e6)";
  const child = spawn(process.execPath, ['-e', script]);
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  const { pid = 0 } = child;
  const register = new MountRegister(file, 'boot');
  register.add({ directory: '/a', device: '0:1', pid, started: processStart(pid) ?? '' });
  register.add({ directory: '/b', device: '0:2', ...GONE });
  register.add({ directory: '/c', device: '0:3', pid: process.pid, started: '1' });
  t.equal(isServed({ pid, started: processStart(pid) ?? '' }), true);
  t.equal(isServed({ pid, started: '' }), false);
  const seen = world([row('/a', '0:1'), row('/b', '0:9'), row('/c', '0:3')]);
  const next = new MountRegister(file, 'boot');
  await takeAwayStale(next, seen);
  t.strictSame(await ended, [null, 'SIGKILL']);
  t.strictSame(seen.detached, ['/a', '/c'], 'the mount at /b is a later one');
  t.strictSame(next.list(), []);
});
