import t from 'tap';
import { BufferPool, NO_BUFFER } from '../../nbd-server/buffer-pool.ts';
import { InFlight } from '../../nbd-server/in-flight.ts';
import { RequestHeader } from '../../nbd-server/message-codec.ts';
import { NO_SLOT } from '../../nbd-server/request-slots.ts';

const MIB = 2 ** 20;
const header = new RequestHeader();

t.test('256 requests, then none until one is released', async (t) => {
  const pool = new BufferPool({ usedMaxBytes: MIB, idleMaxBytes: 0 });
  const inFlight = new InFlight(pool);
  for (let i = 0; i < 256; i += 1) t.not(inFlight.takeSlot(header), NO_SLOT);
  t.equal(inFlight.takeSlot(header), NO_SLOT);
  t.equal(inFlight.hasRoom, false);
  for (let slot = 0; slot < 128; slot += 1) inFlight.release(slot);
  t.equal(inFlight.hasRoom, true);
  pool.close();
});

t.test('64 MiB of one connection, whatever the pool has', async (t) => {
  const pool = new BufferPool({ usedMaxBytes: 2 ** 30, idleMaxBytes: 0 });
  const inFlight = new InFlight(pool);
  const slots = [1, 2, 3].map(() => inFlight.takeSlot(header));
  const [one = 0, two = 0, three = 0] = slots;
  t.not(inFlight.takeBuffer(one, 32 * MIB), NO_BUFFER);
  t.not(inFlight.takeBuffer(two, 32 * MIB), NO_BUFFER);
  t.equal(inFlight.takeBuffer(three, 1), NO_BUFFER);
  inFlight.release(one);
  t.not(inFlight.takeBuffer(three, 1), NO_BUFFER);
  inFlight.release(two);
  inFlight.release(three);
  t.equal(pool.usedBytes, 0);
  pool.close();
});

t.test(
  'a connection that holds nothing gets a buffer from a pool that others have drained',
  async (t) => {
    const pool = new BufferPool({ usedMaxBytes: MIB, idleMaxBytes: 0 });
    const [greedy, modest] = [new InFlight(pool), new InFlight(pool)];
    t.not(greedy.takeBuffer(greedy.takeSlot(header), MIB), NO_BUFFER);
    t.equal(greedy.takeBuffer(greedy.takeSlot(header), 4096), NO_BUFFER);
    const slot = modest.takeSlot(header);
    t.not(modest.takeBuffer(slot, 32 * MIB), NO_BUFFER);
    t.equal(modest.takeBuffer(modest.takeSlot(header), 4096), NO_BUFFER, 'but not a second one');
    pool.close();
  },
);
