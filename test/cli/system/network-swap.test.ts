/** Which swap areas need the network, read from a device tree as sysfs has it. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { machineDevices, networkSwaps } from '../../../cli/system/network-swap.ts';

t.test(
  'nbd alone, under dm-crypt, under md over dm-crypt; not disks, files and loops',
  async (t) => {
    const root = t.testdir({
      'dev-block': {},
      block: {
        ...{ nbd0: {}, nbd1: { slaves: {} }, nbd2: { slaves: {} }, sda: { slaves: {}, sda2: {} } },
        ...{ 'dm-0': { slaves: {} }, 'dm-1': { slaves: {} }, md0: { slaves: {} } },
        ...{ 'dm-9': { slaves: {} }, zram0: {} },
      },
    });
    const block = path.join(root, 'block');
    const link = (from: string, name: string): void =>
      fs.symlinkSync(path.join(block, name), path.join(block, from, 'slaves', path.basename(name)));
    link('dm-0', 'nbd1');
    link('dm-1', 'nbd2');
    link('md0', 'dm-0');
    link('md0', 'dm-1');
    link('dm-9', 'sda/sda2');
    const places = ['nbd0', 'dm-0', 'md0', 'sda/sda2', 'dm-9', 'zram0'];
    places.forEach((name, index) =>
      fs.symlinkSync(path.join(block, name), path.join(root, 'dev-block', `1:${index}`)),
    );
    const names = [
      ...places.map((name) => `/dev/${path.basename(name)}`),
      '/swapfile',
      '/dev/gone',
    ];
    const seen = networkSwaps({
      sysDevBlock: path.join(root, 'dev-block'),
      numberOf: (device) => {
        const index = names.indexOf(device);
        return device === '/swapfile' ? undefined : `1:${index}`;
      },
      swaps: () => names.map((device) => ({ device, sizeBytes: 1, usedBytes: 0, priority: 0 })),
    });
    t.strictSame(
      seen.map(({ device, nbdDevices }) => [device, ...nbdDevices]),
      [
        ['/dev/nbd0', '/dev/nbd0'],
        ['/dev/dm-0', '/dev/nbd1'],
        ['/dev/md0', '/dev/nbd1', '/dev/nbd2'],
      ],
    );
  },
);

t.test('this machine', async (t) => {
  t.equal(machineDevices.numberOf('/dev/null'), undefined, 'no block device');
  t.equal(machineDevices.numberOf('/nothing/here'), undefined);
  t.ok(Array.isArray(networkSwaps()));
});
