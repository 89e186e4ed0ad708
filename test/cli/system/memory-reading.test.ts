/** What counts as free, from texts of the kernel; and numbers without an object. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import {
  MemoryReading,
  NumberFile,
  highWatermarkBytes,
  writeDecimal,
} from '../../../cli/system/memory-reading.ts';

function folder(t: Test): string {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'reading-'));
  t.teardown(() => fs.rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Fields of /proc/meminfo in the kernel's order and form; kB. */
function meminfo(fields: Record<string, number>): string {
  const all = {
    MemTotal: 500_000,
    MemFree: 0,
    MemAvailable: 0,
    'Active(file)': 77_777,
    'Inactive(file)': 0,
    SwapFree: 123_456,
    Dirty: 0,
    Writeback: 0,
    WritebackTmp: 99_999,
    ...fields,
  };
  return Object.entries(all)
    .map(([name, value]) => `${`${name}:`.padEnd(16)}${String(value).padStart(8)} kB\n`)
    .join('');
}

t.test('free is what is free, and half of the clean cache out of use', (t) => {
  const file = path.join(folder(t), 'meminfo');
  const cases: [string, Record<string, number>, number, number][] = [
    ['no cache', { MemFree: 1000, MemAvailable: 5000 }, 1000, 1000],
    ['cache', { MemFree: 1000, MemAvailable: 5000, 'Inactive(file)': 600 }, 1300, 1000],
    ['dirty', { MemFree: 1000, MemAvailable: 5000, 'Inactive(file)': 600, Dirty: 400 }, 1100, 1000],
    [
      'all of it being written',
      { MemFree: 1000, MemAvailable: 5000, 'Inactive(file)': 600, Dirty: 400, Writeback: 300 },
      1000,
      1000,
    ],
    ['never more than available', { MemFree: 1000, MemAvailable: 800 }, 800, 1000],
    [
      'ten digits, which a great machine has',
      { MemFree: 1_234_567_890, MemAvailable: 2_000_000_000 },
      1_234_567_890,
      1_234_567_890,
    ],
  ];
  for (const [what, fields, freeKb, memFreeKb] of cases) {
    fs.writeFileSync(file, meminfo(fields));
    const reading = new MemoryReading(file);
    reading.read();
    t.equal(reading.freeBytes, freeKb * 1024, what);
    t.equal(reading.memFreeBytes, memFreeKb * 1024, what);
    reading.close();
  }
  t.end();
});

t.test('one open file gives each new state', (t) => {
  const file = path.join(folder(t), 'meminfo');
  fs.writeFileSync(file, meminfo({ MemFree: 100_000, MemAvailable: 100_000 }));
  const reading = new MemoryReading(file);
  for (const kilobytes of [100_000, 5, 42_000]) {
    fs.writeFileSync(file, meminfo({ MemFree: kilobytes, MemAvailable: 100_000 }));
    reading.read();
    t.equal(reading.memFreeBytes, kilobytes * 1024);
  }
  reading.close();
  t.end();
});

t.test('this machine has memory, and some of it is free', (t) => {
  const reading = new MemoryReading();
  reading.read();
  t.ok(reading.memFreeBytes > 0 && reading.memFreeBytes < os.totalmem());
  t.ok(reading.freeBytes > 0 && reading.freeBytes < os.totalmem());
  reading.close();
  t.ok(highWatermarkBytes() > 0 && highWatermarkBytes() < os.totalmem() / 2);
  t.end();
});

t.test('the high watermarks of all zones are added, and nothing else that is high', (t) => {
  const file = path.join(folder(t), 'zoneinfo');
  const zone = (high: number): string =>
    `Node 0, zone      DMA\n  pages free     3840\n        boost    0\n        min      28\n` +
    `        low      35\n        high     ${high}\n    cpu: 0\n              high:  14\n` +
    `              high_min: 7\n`;
  fs.writeFileSync(file, zone(42) + zone(58));
  t.equal(highWatermarkBytes(file), 100 * 4096);
  t.equal(highWatermarkBytes(`${file}-absent`), 0);
  t.end();
});

t.test('whole numbers to digits and back', (t) => {
  const file = path.join(folder(t), 'number');
  const bytes = Buffer.alloc(32);
  for (const value of [0, 7, 10, 4096, 104_857_600, 99_999_999_999, 2 ** 53 - 1]) {
    const length = writeDecimal(bytes, value);
    t.equal(bytes.toString('latin1', 0, length), String(value));
    fs.writeFileSync(file, `${value}\n`);
    const number = new NumberFile(file);
    t.equal(number.read(), value);
    t.equal(number.read(), value, 'again');
    number.close();
  }
  t.throws(() => new NumberFile(`${file}-absent`), /ENOENT/);
  t.end();
});
