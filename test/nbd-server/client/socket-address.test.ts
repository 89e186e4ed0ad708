import t from 'tap';
import { encodeSocketAddress } from '../../../nbd-server/client/socket-address.ts';

t.test('addresses byte by byte', async (t) => {
  const cases: [Parameters<typeof encodeSocketAddress>[0], number, string][] = [
    [{ path: '/a' }, 1, '0100' + '2f6100'],
    [{ host: '10.0.2.2', port: 10809 }, 2, '0200' + '2a39' + '0a000202' + '00'.repeat(8)],
    [
      { host: '::1', port: 1 },
      10,
      '0a00' + '0001' + '00000000' + '00'.repeat(15) + '01' + '00'.repeat(4),
    ],
    [
      { host: 'fe80::1:2%eth0', port: 256 },
      10,
      '0a00' + '0100' + '00000000' + 'fe80' + '00'.repeat(10) + '00010002' + '00000000',
    ],
    [
      { host: '::ffff:192.0.2.33', port: 0 },
      10,
      '0a00' + '0000' + '00000000' + '00'.repeat(10) + 'ffff' + 'c0000221' + '00000000',
    ],
    [
      { host: '1:2:3:4:5:6:7:8', port: 0 },
      10,
      '0a00' + '0000' + '00000000' + '00010002000300040005000600070008' + '00000000',
    ],
  ];
  for (const [address, family, hex] of cases) {
    const encoded = encodeSocketAddress(address);
    t.equal(encoded.family, family);
    t.equal(encoded.bytes.toString('hex'), hex, JSON.stringify(address));
  }
});

t.test('a path of 107 bytes fits, of 108 does not, nor does a host name', async (t) => {
  t.equal(encodeSocketAddress({ path: 'p'.repeat(107) }).bytes.length, 110);
  for (const address of [
    { path: 'p'.repeat(108) },
    { path: '' },
    { path: 'a\0b' },
    { host: 'localhost', port: 1 },
  ]) {
    t.throws(() => encodeSocketAddress(address), { code: 'ERR_USAGE_ADDRESS' });
  }
});
