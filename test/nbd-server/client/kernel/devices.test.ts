import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import {
  deviceIndex,
  devicePath,
  deviceSizeBytes,
  deviceUser,
  freeDevices,
  waitForDevice,
  waitUntilFree,
  type DeviceTree,
} from '../../../../nbd-server/client/kernel/devices.ts';

/** A /sys/block and a /dev like a kernel's: nbd0 in use, nbd2 and nbd10 free, and strangers. */
function tree(t: Test): DeviceTree {
  const root = t.testdir({
    sys: {
      nbd0: { pid: '77\n', size: '2048\n' },
      nbd2: { size: '0\n' },
      nbd10: { size: '131072\n' },
      sda: { size: '1\n' },
      nbdx: {},
    },
    dev: { nbd0: '' },
  });
  return { sysBlock: path.join(root, 'sys'), dev: path.join(root, 'dev') };
}

t.test('a device is in use while it has a pid; sizes are in sectors of 512', async (t) => {
  const there = tree(t);
  t.equal(deviceUser(0, there), 77);
  t.equal(deviceUser(10, there), undefined);
  t.equal(deviceSizeBytes(0, there), 1_048_576);
  t.equal(deviceSizeBytes(3, there), 0);
  t.same(freeDevices(there), [2, 10], 'free ones in the order of their numbers');
  t.same(freeDevices({ sysBlock: '/nonexistent', dev: '/dev' }), []);
});

t.test('names', async (t) => {
  t.equal(deviceIndex('/dev/nbd12'), 12);
  t.equal(deviceIndex('nbd0'), 0);
  t.equal(devicePath(3), '/dev/nbd3');
  for (const name of ['/dev/sda', '/dev/nbd', '/dev/nbd0p1', '/dev/nbd-1', '', '/tmp/nbd0']) {
    t.throws(() => deviceIndex(name), { code: 'ERR_USAGE' }, name);
  }
});

t.test('waiting ends when the size and the node are there', async (t) => {
  const there = tree(t);
  await waitForDevice(0, 1_048_576 + 100, { timeoutMs: 1000, tree: there });
  await t.rejects(waitForDevice(0, 4096, { timeoutMs: 30, tree: there }), { code: 'ERR_TIMEOUT' });
  const late = waitForDevice(2, 4096, { timeoutMs: 5000, tree: there });
  writeFileSync(path.join(there.sysBlock, 'nbd2/size'), '8\n');
  mkdirSync(path.join(there.dev, 'nbd2'));
  await late;
});

t.test('waiting ends when the user is gone', async (t) => {
  const there = tree(t);
  await t.rejects(waitUntilFree(0, { timeoutMs: 30, tree: there }), { code: 'ERR_TIMEOUT' });
  const late = waitUntilFree(0, { timeoutMs: 5000, tree: there });
  rmSync(path.join(there.sysBlock, 'nbd0/pid'));
  await late;
});
