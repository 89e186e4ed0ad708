import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { loadJournal, saveJournal, type DeviceRecord } from '../../../daemon/direct/journal.ts';

const DEVICE: DeviceRecord = {
  device: '/dev/md100',
  sizeBytes: 2 ** 30,
  mirrored: true,
  legs: [
    {
      device: '/dev/nbd0',
      providerId: 'ab'.repeat(16),
      providerName: 'attic',
      exportId: '0123456789abcdef',
      cryptName: 'memcloud-01020304-0',
      cryptDevice: '/dev/dm-0',
      connection: 'wireguard',
    },
  ],
};

t.test('what was saved is loaded, by root only, and nothing leaves no file', (t) => {
  const file = path.join(t.testdir({}), 'devices.json');
  t.same(loadJournal(file), []);
  saveJournal(file, [DEVICE]);
  t.same(loadJournal(file), [DEVICE]);
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  saveJournal(file, []);
  t.notOk(fs.existsSync(file));
  t.same(fs.readdirSync(path.dirname(file)), []);
  t.end();
});

t.test('a journal of an earlier version knew kernel TLS only', (t) => {
  const file = path.join(t.testdir({}), 'devices.json');
  const text = JSON.stringify({ version: 1, devices: [DEVICE] });
  fs.writeFileSync(file, text.replace(',"connection":"wireguard"', ''));
  t.equal(loadJournal(file)[0]?.legs[0]?.connection, 'tls');
  t.end();
});

t.test('a damaged journal is refused, not overwritten', (t) => {
  const good = JSON.stringify({ version: 1, devices: [DEVICE] });
  const cases = [
    '',
    '{',
    '[]',
    good.slice(0, -3),
    good.replace('"version":1', '"version":2'),
    good.replace('/dev/nbd0', '/dev/sda'),
    good.replace('wireguard', 'wire'),
    good.replace('/dev/md100', '/dev/sda'),
    good.replace('/dev/dm-0', '/dev/sda'),
    good.replace('memcloud-01020304-0', 'x; rm -rf'),
    good.replace('0123456789abcdef', 'short'),
  ];
  for (const text of cases) {
    const file = path.join(t.testdir({ 'devices.json': text }), 'devices.json');
    t.throws(() => loadJournal(file), { code: 'ERR_USAGE' }, text);
    t.equal(fs.readFileSync(file, 'utf8'), text);
  }
  t.end();
});
