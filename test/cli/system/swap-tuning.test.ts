import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { BlockQueue } from '../../../cli/system/block-queue.ts';
import {
  pageClusterAdvice,
  queueSettings,
  tuneSwapDevice,
} from '../../../cli/system/swap-tuning.ts';
import { SystemFiles } from '../../../cli/system/system-files.ts';

function queue(name: string, maxSectorsKb: number, maxHwSectorsKb = 32_767): BlockQueue {
  return { name, maxSectorsKb, maxHwSectorsKb, discardMaxBytes: 4096 };
}

t.test('requests of 128 KiB at network block devices, and nothing else is touched', async (t) => {
  const cases: [string, BlockQueue[], [string, number, number][]][] = [
    ['as it should be', [queue('nbd0', 128)], []],
    ['larger', [queue('nbd0', 512)], [['nbd0', 512, 128]]],
    ['smaller', [queue('nbd0', 4)], [['nbd0', 4, 128]]],
    ['a device that takes no more', [queue('nbd0', 64, 64)], []],
    ['what stands on it', [queue('nbd0', 128), queue('dm-0', 1280)], []],
    [
      'both legs',
      [queue('nbd1', 256), queue('nbd12', 256), queue('md0', 256)],
      [
        ['nbd1', 256, 128],
        ['nbd12', 256, 128],
      ],
    ],
    ['a disk', [queue('sda', 1280)], []],
  ];
  for (const [fact, queues, expected] of cases) {
    const settings = queueSettings(queues);
    t.strictSame(
      settings,
      expected.map(([name, before, wanted]) => ({
        file: `/sys/class/block/${name}/queue/max_sectors_kb`,
        before,
        wanted,
      })),
      fact,
    );
  }
});

t.test('page-cluster: silence at 3, else a sentence with the command', async (t) => {
  t.equal(pageClusterAdvice(3), '');
  t.equal(pageClusterAdvice(undefined), '', 'a kernel that does not say');
  t.match(pageClusterAdvice(0), /reads one page; 8 share .* sysctl vm\.page-cluster=3$/);
  t.match(pageClusterAdvice(5), /reads 32 pages; 8 share/);
});

t.test('a device: what is set is written, and told', async (t) => {
  const block = (kb: string, slaves = {}): Exclude<Parameters<typeof t.testdir>[0], undefined> => ({
    queue: {
      max_sectors_kb: kb,
      max_hw_sectors_kb: '32767\n',
      discard_max_bytes: '1\n',
      wbt_lat_usec: '2000\n',
    },
    slaves,
  });
  const root = t.testdir({
    proc: { sys: { vm: { 'page-cluster': '0\n' } } },
    sys: { class: { block: { 'dm-0': block('1280\n', { nbd7: {} }), nbd7: block('512\n') } } },
  });
  const files = new SystemFiles(root);
  const { set, advice } = tuneSwapDevice('/dev/dm-0', files);
  t.match(set, [{ before: 512, wanted: 128 }]);
  t.match(advice, /^vm\.page-cluster is 0/);
  const read = (name: string, file: string): string =>
    fs.readFileSync(path.join(root, `sys/class/block/${name}/queue/${file}`), 'utf8');
  const both = (file: string): string[] => [read('nbd7', file), read('dm-0', file)];
  t.strictSame(both('max_sectors_kb'), ['128', '1280\n']);
  t.strictSame(both('wbt_lat_usec'), ['0', '2000\n'], 'page-outs are not throttled');
  t.strictSame(tuneSwapDevice('/dev/dm-0', files).set, [], 'a second time there is nothing to set');
  t.strictSame(tuneSwapDevice('/dev/nowhere', files).set, []);
});

t.test('a value that the kernel refuses is an error with the file', async (t) => {
  const root = t.testdir({
    sys: {
      class: {
        block: { nbd0: { queue: { max_hw_sectors_kb: '32767\n', discard_max_bytes: '1\n' } } },
      },
    },
  });
  fs.symlinkSync(
    '/proc/sys/kernel/ngroups_max',
    path.join(root, 'sys/class/block/nbd0/queue/max_sectors_kb'),
  );
  t.throws(() => tuneSwapDevice('/dev/nbd0', new SystemFiles(root)), {
    code: 'ERR_NATIVE',
    message: /cannot write 128 to \/sys\/class\/block\/nbd0\/queue\/max_sectors_kb: E[A-Z]+$/,
  });
});
