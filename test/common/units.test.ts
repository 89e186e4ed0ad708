/** Sizes, durations and addresses as people write them. */
import fc from 'fast-check';
import t from 'tap';
import {
  PAGE_SIZE_BYTES,
  SEALED_PAGE_SIZE_BYTES,
  SLAB_PAGE_COUNT,
  formatDuration,
  formatSize,
  parseAddress,
  parseSize,
  formatAddress,
} from '../../common/units.ts';

t.test('page and slab sizes are what the wire says', (t) => {
  t.equal(PAGE_SIZE_BYTES, 4096);
  t.equal(SEALED_PAGE_SIZE_BYTES, 4112);
  t.equal(SLAB_PAGE_COUNT, 4096);
  t.end();
});

t.test('sizes are read', (t) => {
  const cases: [string, number][] = [
    ['0', 0],
    ['1', 1],
    ['4096', 4096],
    ['1k', 1024],
    ['1K', 1024],
    ['1KB', 1024],
    ['1KiB', 1024],
    ['1kib', 1024],
    ['17B', 17],
    ['17 b', 17],
    ['512M', 536870912],
    ['512 MiB', 536870912],
    ['1.5GiB', 1610612736],
    ['1.5g', 1610612736],
    ['2T', 2199023255552],
    ['0.5k', 512],
    ['1.0', 1],
    ['0.0001k', 0],
    ['  64M  ', 67108864],
    ['9007199254740991', 9007199254740991],
    ['8191T', 9006099743113216],
    ['007', 7],
  ];
  for (const [text, bytes] of cases) t.equal(parseSize(text), bytes, text);
  t.end();
});

t.test('what is no size is refused in one sentence', (t) => {
  const cases = [
    '',
    ' ',
    'M',
    'B',
    'iB',
    '-1',
    '+1',
    '1e3',
    '0x10',
    '1,5G',
    '1.G',
    '.5G',
    '1..5',
    '1 2',
    '1GG',
    '1bb',
    '1bib',
    '5iB',
    '5ib',
    '1EiB',
    '1P',
    'NaN',
    'Infinity',
    '9007199254740992',
    '9007199254740993',
    '8192T',
    '99999999999999999999999999',
    '12megabytes',
    '1K\n2K',
    '１',
    '٣',
    '1\u0000',
  ];
  for (const text of cases) {
    t.throws(() => parseSize(text), { code: 'ERR_USAGE_SIZE', message: /^size: expected/ }, text);
  }
  t.end();
});

t.test('any text is a size or is refused with ERR_USAGE_SIZE', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.stringMatching(/^[\d.]{0,20} ?[bkmgtiBKMGT]{0,3}$/)),
      (text) => {
        try {
          const bytes = parseSize(text);
          return Number.isSafeInteger(bytes) && bytes >= 0;
        } catch (error) {
          return (error as { code?: string }).code === 'ERR_USAGE_SIZE';
        }
      },
    ),
  );
  t.pass('every text');
  t.end();
});

t.test('sizes are printed with at most one decimal', (t) => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [17, '17 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [1048575, '1 MiB'],
    [1048576, '1 MiB'],
    [536870912, '512 MiB'],
    [1610612736, '1.5 GiB'],
    [107374182400, '100 GiB'],
    [107911053312, '101 GiB'],
    [1099511627775, '1 TiB'],
    [2 ** 50, '1024 TiB'],
  ];
  for (const [bytes, text] of cases) t.equal(formatSize(bytes), text, `${bytes}`);
  t.end();
});

t.test('a printed size reads back to within one part in twenty', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 52 }), (bytes) => {
      const back = parseSize(formatSize(bytes));
      return Math.abs(back - bytes) <= bytes / 20;
    }),
  );
  t.pass('every size');
  t.end();
});

t.test('durations are printed for people', (t) => {
  const cases: [number, string][] = [
    [0, '0 ms'],
    [850, '850 ms'],
    [999.4, '999 ms'],
    [999.6, '1.0 s'],
    [1000, '1.0 s'],
    [12_345, '12.3 s'],
    [59_949, '59.9 s'],
    [59_951, '1 min 0 s'],
    [60_000, '1 min 0 s'],
    [119_999, '2 min 0 s'],
    [245_000, '4 min 5 s'],
  ];
  for (const [ms, text] of cases) t.equal(formatDuration(ms), text, `${ms}`);
  t.end();
});

t.test('addresses are split', (t) => {
  const cases: [string, string, number][] = [
    ['127.0.0.1:7070', '127.0.0.1', 7070],
    ['host:1', 'host', 1],
    ['host.example.org:65535', 'host.example.org', 65535],
    [':7070', '', 7070],
    ['localhost:0', 'localhost', 0],
    ['[::1]:7070', '::1', 7070],
    ['[fe80::1%eth0]:7070', 'fe80::1%eth0', 7070],
    ['[::ffff:10.0.0.1]:80', '::ffff:10.0.0.1', 80],
    [' 10.0.0.1:5 ', '10.0.0.1', 5],
  ];
  for (const [text, host, port] of cases) t.same(parseAddress(text), { host, port }, text);
  t.end();
});

t.test('what is no address is refused in one sentence', (t) => {
  const cases = [
    '',
    'host',
    'host:',
    '127.0.0.1',
    'host:65536',
    'host:99999',
    'host:100000',
    'host:-1',
    'host:1.5',
    'host:0x50',
    'host: 80',
    '::1:7070',
    '::1',
    '[::1]',
    '[::1]:',
    '[]:80',
    '[::1:80',
    '::1]:80',
    '[::1]x:80',
    'a b:80',
    'tcp://host:80',
    'host:80/path',
  ];
  for (const text of cases) {
    t.throws(
      () => parseAddress(text),
      { code: 'ERR_USAGE_ADDRESS', message: /^address: expected HOST:PORT/ },
      text,
    );
  }
  t.end();
});

t.test('an address is printed as it is read', async (t) => {
  t.equal(formatAddress('192.0.2.1', 7070), '192.0.2.1:7070');
  t.equal(formatAddress('::1', 7070), '[::1]:7070');
  t.same(parseAddress(formatAddress('fe80::1', 0)), { host: 'fe80::1', port: 0 });
});
