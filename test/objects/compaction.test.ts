/** RAM stays near what is charged, whatever is deleted between; and what moves keeps its bytes. */
import t from 'tap';
import { Random } from '../helpers/fuzz.ts';
import { key, openStore } from '../helpers/object-rig.ts';

const MIB = 2 ** 20;

t.test('one object left on each page does not hold the page', async (t) => {
  const { anna, bert, memory, store, time } = openStore(t);
  const random = new Random(Number(process.env['SEED'] ?? 3));
  const sizes = [60, 250, 1000, 1900];
  const values = new Map<string, Buffer>();
  for (let index = 0; index < 60_000; index += 1) {
    const value = Buffer.alloc(sizes[index % 4]!, `${index} `);
    const name = `k${index}`;
    anna.put(name, value, { meta: value.subarray(0, random.below(4)) });
    if (index % 20 < 4) values.set(name, value);
  }
  const upload = bert.begin('long', {});
  bert.append(upload, 0, Buffer.alloc(40_000, 'u'));
  const fullBytes = memory.pageCount * 4096;
  for (let index = 0; index < 60_000; index += 1) {
    if (!values.has(`k${index}`)) anna.delete(key(`k${index}`));
  }
  const sparseBytes = memory.pageCount * 4096;
  t.ok(sparseBytes > fullBytes / 2, `${sparseBytes} of ${fullBytes} bytes are held by a fifth`);
  for (let count = 0; count < 60; count += 1) {
    time.nowMs += 250;
    store.tick(time.nowMs);
  }
  const { chargedBytes } = store.usage();
  const heldBytes = memory.pageCount * 4096;
  t.ok(heldBytes <= chargedBytes + 4 * MIB, `${heldBytes} held, ${chargedBytes} charged`);
  for (const [name, value] of values) {
    const bytes = anna.get(key(name), 0, 5000)?.bytes;
    if (bytes === undefined || !value.equals(bytes)) t.fail(`${name} kept its bytes`);
  }
  bert.append(upload, 40_000, Buffer.alloc(40_000, 'v'));
  t.equal(bert.commit(upload).sizeBytes, 80_000);
  t.equal(bert.get(key('long'), 39_999, 2)?.bytes.toString(), 'uv');
  anna.flush();
  bert.flush();
  t.equal(memory.dirtyByteCount(), 0, 'every byte is wiped');
});
