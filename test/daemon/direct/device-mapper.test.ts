import t from 'tap';
import { cryptTable } from '../../../daemon/direct/device-mapper.ts';

t.test('a dm-crypt table has sectors of 512 bytes, the key, the device and its options', (t) => {
  const table = cryptTable({ device: '/dev/nbd3', sizeBytes: 8 * 2 ** 20 }, 'ab'.repeat(64));
  t.equal(
    table,
    `0 16384 crypt aes-xts-plain64 ${'ab'.repeat(64)} 0 /dev/nbd3 0 5 allow_discards sector_size:4096 iv_large_sectors no_read_workqueue no_write_workqueue\n`,
  );
  t.end();
});
