import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { AttachedDevices } from '../../daemon/attached-devices.ts';

t.test('the next process reads what the last one had, and an empty list leaves no file', (t) => {
  const file = path.join(t.testdir({}), 'attached.json');
  const first = new AttachedDevices(file);
  t.same(first.load(), []);
  first.add({ device: '/dev/nbd0', user: 17 });
  first.add({ device: '/dev/nbd3', user: 18 });
  first.add({ device: '/dev/nbd0', user: 19 });
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  const second = new AttachedDevices(file);
  t.same(second.load(), [
    { device: '/dev/nbd3', user: 18 },
    { device: '/dev/nbd0', user: 19 },
  ]);
  second.remove('/dev/nbd3');
  second.remove('/dev/nbd0');
  t.same(fs.readdirSync(path.dirname(file)), []);
  t.end();
});

t.test('devices of another boot, and damaged lists, are nobody’s', (t) => {
  const file = path.join(t.testdir({}), 'attached.json');
  new AttachedDevices(file, 'one').add({ device: '/dev/nbd0', user: 17 });
  t.same(new AttachedDevices(file, 'other').load(), []);
  t.equal(new AttachedDevices(file, 'one').load().length, 1);
  const good = fs.readFileSync(file, 'utf8');
  for (const text of ['', '{', good.slice(0, -3), good.replace('/dev/nbd0', '/dev/sda'), '[]']) {
    fs.writeFileSync(file, text);
    t.same(new AttachedDevices(file, 'one').load(), [], text);
  }
  t.end();
});
