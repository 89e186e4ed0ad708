import fs from 'node:fs';
import t from 'tap';
import { hostIdOf, machineHostId } from '../../daemon/host.ts';

t.test('the name of a machine follows from its boot id and does not tell it', async (t) => {
  const bootId = '0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9';
  // printf 'memcloud/1 host\0%s' BOOT_ID | sha256sum
  t.equal(hostIdOf(`${bootId}\n`), '215fe7d46c1342914b0fd08c04987a73');
  t.equal(hostIdOf(bootId.toUpperCase()), hostIdOf(bootId));
  t.notOk(hostIdOf(bootId).includes('0a1b2c3d'));
  for (const text of ['', 'x', `${bootId}0`, bootId.replaceAll('-', '')])
    t.equal(hostIdOf(text), '');
});

t.test('every process of this machine finds the same', async (t) => {
  t.equal(machineHostId(), hostIdOf(fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')));
});
