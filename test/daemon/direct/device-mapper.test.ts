import t from 'tap';
import { cryptTable, mirrorHealth, mirrorTable } from '../../../daemon/direct/device-mapper.ts';

t.test('a dm-crypt table has sectors of 512 bytes, the key, the device and its options', (t) => {
  const table = cryptTable({ device: '/dev/nbd3', sizeBytes: 8 * 2 ** 20 }, 'ab'.repeat(64));
  t.equal(
    table,
    `0 16384 crypt aes-xts-plain64 ${'ab'.repeat(64)} 0 /dev/nbd3 0 2 allow_discards sector_size:4096\n`,
  );
  t.end();
});

t.test('a mirror table names both parts, without metadata devices', (t) => {
  t.equal(
    mirrorTable(['/dev/dm-0', '/dev/dm-1'], 2 ** 20),
    '0 2048 raid raid1 2 0 nosync 2 - /dev/dm-0 - /dev/dm-1\n',
  );
  t.end();
});

t.test('the health of a mirror is read from its status', (t) => {
  const cases: [string, string][] = [
    ['0 2048 raid raid1 2 AA 2048/2048 idle 0 0 -', 'AA'],
    ['0 2048 raid raid1 2 AD 2048/2048 idle 0 0 -\n', 'AD'],
    ['0 2048 crypt', ''],
    ['', ''],
    ['raid', ''],
  ];
  for (const [status, health] of cases) t.equal(mirrorHealth(status), health, status);
  t.end();
});
