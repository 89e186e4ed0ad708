import fs from 'node:fs';
import t from 'tap';
import { MemoryFile } from '../../common/memory-file.ts';

/** A second descriptor of an open file, as another process would get one. */
function another(fd: number): number {
  return fs.openSync(`/proc/self/fd/${fd}`, 'r+');
}

t.test('two that map it see the same bytes, also when one wipes them', (t) => {
  const made = MemoryFile.create('test', 5000);
  t.equal(made.bytes.length, 5000);
  t.ok(made.bytes.equals(Buffer.alloc(5000)), 'zeroed');
  made.bytes.write('here', 4990);
  const adopted = MemoryFile.adopt(another(made.fd));
  t.equal(adopted.bytes.toString('utf8', 4990, 4994), 'here');
  t.not(adopted.address, made.address);
  adopted.wipe();
  t.ok(made.bytes.equals(Buffer.alloc(5000)));
  adopted.close();
  adopted.close();
  t.equal(made.bytes[0], 0, 'the other mapping stays');
  made.close();
  t.end();
});

t.test('nobody can cut it short or stretch it, and no disk has it', (t) => {
  const file = MemoryFile.create('test', 4096);
  for (const size of [0, 4095, 4097]) {
    t.throws(() => fs.ftruncateSync(file.fd, size), { code: 'EPERM' }, `to ${size}`);
  }
  t.match(fs.readlinkSync(`/proc/self/fd/${file.fd}`), /^\/memfd:test /);
  file.close();
  t.end();
});

t.test('what is no memory of a sealed size is refused, and closed', (t) => {
  const ordinary = fs.openSync(import.meta.filename, 'r');
  t.throws(() => MemoryFile.adopt(ordinary), { code: 'ERR_HANDOVER' });
  t.throws(() => fs.fstatSync(ordinary), { code: 'EBADF' });
  for (const size of [0, -1, NaN, 2 ** 32]) {
    t.throws(() => MemoryFile.create('test', size), { code: 'ERR_HANDOVER' });
  }
  t.end();
});
