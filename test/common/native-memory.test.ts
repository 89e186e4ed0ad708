/** Memory outside the heap: zeroed, whole pages, locked on demand, given back. */
import fs from 'node:fs';
import t from 'tap';
import { viewMemory } from '../../common/libc.ts';
import { NativeMemory } from '../../common/native-memory.ts';

/** The lines of /proc/self/smaps about the mapping that holds an address; undefined if none does. */
function mappingOf(address: number): string[] | undefined {
  let found: string[] | undefined;
  for (const line of fs.readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) {
      if (found !== undefined) return found;
      const start = parseInt(range[1] ?? '', 16);
      const end = parseInt(range[2] ?? '', 16);
      if (address >= start && address < end) found = [];
    }
    found?.push(line);
  }
  return found;
}

t.test('sizes are rounded up to whole pages, zeroed, at a page boundary', (t) => {
  const cases: [number, number][] = [
    [1, 4096],
    [4095, 4096],
    [4096, 4096],
    [4097, 8192],
    [1_000_000, 1_003_520],
  ];
  for (const [asked, got] of cases) {
    const memory = new NativeMemory(asked);
    t.equal(memory.bytes.length, got, `${asked}`);
    t.equal(memory.address % 4096, 0);
    t.ok(memory.bytes.every((byte) => byte === 0));
    memory.free();
  }
  t.end();
});

t.test('the view and the address are the same memory', (t) => {
  const memory = new NativeMemory(8192);
  memory.bytes.write('through the view', 5000);
  t.equal(viewMemory(memory.address + 5000, 16).toString(), 'through the view');
  viewMemory(memory.address, 4).write('back');
  t.equal(memory.bytes.toString('latin1', 0, 4), 'back');
  memory.free();
  t.end();
});

t.test('locked memory is locked, secret memory stays out of core dumps', (t) => {
  const memory = new NativeMemory(4096, { lock: true, secret: true });
  memory.bytes.fill(1);
  const flags = mappingOf(memory.address)?.find((line) => line.startsWith('VmFlags:')) ?? '';
  t.match(flags, / dd( |$)/, 'MADV_DONTDUMP');
  t.equal(/ lo( |$)/.test(flags), memory.locked, 'the property tells the truth');
  memory.free();
  const plain = new NativeMemory(4096);
  t.equal(plain.locked, false);
  plain.free();
  t.end();
});

t.test('free unmaps', (t) => {
  const memory = new NativeMemory(2 ** 24);
  const { address } = memory;
  t.not(mappingOf(address + 2 ** 23), undefined);
  memory.free();
  t.equal(mappingOf(address + 2 ** 23), undefined);
  t.end();
});

t.test('what cannot be mapped is an error of the table', (t) => {
  t.throws(() => new NativeMemory(2 ** 48), {
    code: 'ERR_NATIVE',
    message: /^mmap failed: ENOMEM/,
  });
  t.end();
});

t.test('populated memory is resident, and keeps what it held', (t) => {
  const residentKb = (address: number): number =>
    Number(/^Rss:\s+(\d+)/m.exec(mappingOf(address)?.join('\n') ?? '')?.[1] ?? 0);
  const memory = new NativeMemory(4 * 2 ** 20, { lock: true });
  memory.bytes.write('kept', 8192);
  t.ok(residentKb(memory.address) < 4096, 'memory is taken when it is touched');
  memory.populate();
  t.equal(residentKb(memory.address), 4096);
  t.equal(memory.bytes.toString('latin1', 8192, 8196), 'kept');
  memory.free();
  t.end();
});
