/** The report of openssl speed is read by its machine-readable lines only. */
import t from 'tap';
import { messageUs, parseOpensslSpeed } from '../../../bench/limits/openssl-speed.ts';

t.test('sizes and rates belong together by position', async (t) => {
  const text = [
    '+DT:ChaCha20-Poly1305:1:4096',
    '+R:480000:ChaCha20-Poly1305:1.000000',
    'version: 3.0.19',
    '+H:1024:4096',
    '+F:22:ChaCha20-Poly1305:1500000000.00:2048000000.50',
    '+F:30:AES-256-GCM:3000000000.00:4096000000.00',
    '',
  ].join('\n');
  const speeds = parseOpensslSpeed(text);
  t.same(
    speeds.map((speed) => [speed.cipher, speed.messageBytes, speed.bytesPerSecond]),
    [
      ['ChaCha20-Poly1305', 1024, 1500000000],
      ['ChaCha20-Poly1305', 4096, 2048000000.5],
      ['AES-256-GCM', 1024, 3000000000],
      ['AES-256-GCM', 4096, 4096000000],
    ],
  );
  t.equal(messageUs(speeds[3]!), 1, '4096 bytes at 4.096 GB/s take a microsecond');
});

t.test('a report without rates, or with another number of them, is refused', async (t) => {
  t.throws(() => parseOpensslSpeed('+H:4096\n'), /expected a line "\+F:"/);
  t.throws(() => parseOpensslSpeed('+H:16:4096\n+F:1:AES:5.00\n'), /2 sizes, but 1 rates/);
  t.throws(() => parseOpensslSpeed(''), RangeError);
});
