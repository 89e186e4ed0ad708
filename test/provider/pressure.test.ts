/** The host keeps its reserve. */
import fs from 'node:fs';
import os from 'node:os';
import t from 'tap';
import { defaultReserveBytes, hostRefusal, parseMeminfo } from '../../provider/pressure.ts';

const GIB = 2 ** 30;

t.test('reads /proc/meminfo as proc_meminfo(5) describes it', async (t) => {
  const text =
    'MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    8192 kB\nSwapTotal: 0 kB\n';
  t.strictSame(parseMeminfo(text), { totalBytes: 16_777_216, availableBytes: 8_388_608 });
  t.equal(parseMeminfo(fs.readFileSync('/proc/meminfo', 'utf8')).totalBytes, os.totalmem());
  for (const bad of ['', 'MemTotal: 5 kB\n', 'MemTotal: x kB\nMemAvailable: 1 kB\n']) {
    t.throws(() => parseMeminfo(bad), { code: 'ERR_UNSUPPORTED' });
  }
});

t.test('the reserve is a tenth, at most 1 GiB', async (t) => {
  t.equal(defaultReserveBytes(1000), 100);
  t.equal(defaultReserveBytes(10 * GIB), GIB);
  t.equal(defaultReserveBytes(100 * GIB), GIB);
});

t.test('what was promised and not yet written is not free', async (t) => {
  const room = {
    promisedBytes: 200,
    availableBytes: 1000,
    reserveBytes: 700,
    tmpfsFreeBytes: Infinity,
  };
  t.equal(hostRefusal(100, room), undefined);
  t.equal(hostRefusal(101, room), 'asked 101 B, free 100 B: the host keeps 700 B for itself');
  t.equal(
    hostRefusal(100, { ...room, availableBytes: 5 }),
    'asked 100 B, free 0 B: the host keeps 700 B for itself',
  );
  t.equal(hostRefusal(100, { ...room, tmpfsFreeBytes: 300 }), undefined);
  t.equal(
    hostRefusal(100, { ...room, tmpfsFreeBytes: 299 }),
    'asked 100 B, free 99 B in the tmpfs of the provider',
  );
});
