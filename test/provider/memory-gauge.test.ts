import fs from 'node:fs';
import t from 'tap';
import { MemoryGauge, parseStallTotal } from '../../provider/memory-gauge.ts';

t.test('the total of some is read, whatever stands beside it', async (t) => {
  const some = 'some avg10=0.12 avg60=0.00 avg300=1.00 total=18446744\n';
  t.equal(parseStallTotal(`${some}full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n`), 18446744);
  t.equal(parseStallTotal('full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n'), undefined);
  t.equal(parseStallTotal(''), undefined);
});

t.test('readings are those of the kernel, again and again', async (t) => {
  const gauge = new MemoryGauge();
  t.teardown(() => gauge.close());
  for (let round = 0; round < 3; round += 1) {
    const { availableBytes, stallTotalUs } = gauge.read();
    const text = fs.readFileSync('/proc/meminfo', 'utf8');
    const kib = Number(/MemAvailable:\s+(\d+)/.exec(text)?.[1]);
    t.ok(Math.abs(availableBytes - kib * 1024) < 2 ** 30, 'a moment later it is about the same');
    const hasPsi = fs.existsSync('/proc/pressure/memory');
    t.equal(typeof stallTotalUs, hasPsi ? 'number' : 'undefined');
  }
});
