/** A volume as a block device of bytes: edges of pages, close, extents. */
import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus, type BlockQueue, type IoStatusValue } from '../../common/ports.ts';
import { VolumeBlockDevice } from '../../tier/block-device.ts';
import { seededRandom } from '../helpers/sim-world.ts';
import { VolumeRig, type RigOptions } from '../helpers/volume-rig.ts';

/** One client of a block device: requests as outcomes, each of which may end once. */
class Client {
  readonly queue: BlockQueue;
  readonly name: string;
  readonly open = new Map<number, { status: IoStatusValue | undefined }>();
  #tag = 0;

  constructor(device: VolumeBlockDevice, name = 'client') {
    this.name = name;
    this.queue = device.openQueue({
      onBlockDone: (tag, status) => {
        const outcome = this.open.get(tag);
        if (outcome === undefined) throw new Error(`${name}: request ${tag} ended, unknown here`);
        this.open.delete(tag);
        outcome.status = status;
      },
    });
  }

  start(run: (tag: number) => void): { status: IoStatusValue | undefined } {
    this.#tag += 1;
    const outcome = { status: undefined };
    this.open.set(this.#tag, outcome);
    run(this.#tag);
    return outcome;
  }

  write(offset: number, bytes: Uint8Array, forceUnitAccess = false) {
    const from = new NativeMemory(Math.max(1, bytes.length));
    from.bytes.set(bytes);
    return this.start((tag) => {
      const { queue } = this;
      if (queue.tryWrite(tag, offset, bytes.length, from, 0, forceUnitAccess)) return;
      queue.write(tag, offset, bytes.length, from, 0, forceUnitAccess);
    });
  }

  read(offset: number, length: number) {
    const into = new NativeMemory(Math.max(1, length));
    const outcome = this.start((tag) => this.queue.read(tag, offset, length, into, 0));
    return { outcome, bytes: into.bytes.subarray(0, length) };
  }
}

function deviceRig(options: RigOptions = {}): { rig: VolumeRig; device: VolumeBlockDevice } {
  const rig = new VolumeRig({ pages: 64, ...options });
  return { rig, device: new VolumeBlockDevice(rig.volume) };
}

/** Lets time pass until the outcomes have ended. */
async function ended(rig: VolumeRig, ...outcomes: { status: IoStatusValue | undefined }[]) {
  for (let ms = 0; ms < 30_000; ms += 50) {
    if (outcomes.every(({ status }) => status !== undefined)) return;
    await rig.advance(50);
  }
  throw new Error('a request did not end');
}

t.test('a client that leaves in the middle of a partial write blocks nobody', async (t) => {
  const { rig, device } = deviceRig();
  const first = new Client(device, 'first');
  await ended(rig, first.write(0, Buffer.concat([page32(1), page32(2)])));
  await rig.advance(100);
  // The page is being fetched for its change when the client leaves.
  first.write(100, Buffer.from('left in the middle'));
  await rig.world.settle();
  first.queue.close();
  const second = new Client(device, 'second');
  const third = new Client(device, 'third');
  const write = second.write(1000, Buffer.from('second'));
  const trim = third.start((tag) => third.queue.trim(tag, 4096, 4096));
  await ended(rig, write, trim);
  t.equal(write.status, IoStatus.OK);
  t.equal(trim.status, IoStatus.OK);
  const { outcome, bytes } = second.read(0, 8192);
  await ended(rig, outcome);
  t.equal(bytes.subarray(1000, 1006).toString(), 'second');
  t.same(bytes.subarray(200, 1000), page32(1).subarray(200, 1000));
  t.equal(second.open.size + third.open.size, 0);
  await rig.close();
});

t.test('the end of a partial write goes to its own client after that has left', async (t) => {
  const { rig, device } = deviceRig();
  const first = new Client(device, 'first');
  await ended(rig, first.write(0, Buffer.concat([page32(1), page32(2), page32(3)])));
  await rig.advance(100);
  const partial = first.write(100, Buffer.alloc(9000, 8));
  await rig.world.settle();
  first.queue.close();
  await rig.advance(2);
  // New clients take the numbers that came free; they must not be told of the old one's requests.
  const others = [1, 2, 3].map((index) => new Client(device, `other ${index}`));
  await ended(rig, partial);
  t.equal(partial.status, IoStatus.OK);
  for (const other of others) t.equal(other.open.size, 0);
  await rig.close();
});

t.test('a change of part of a page undoes no whole page written meanwhile', async (t) => {
  const { rig, device } = deviceRig({ pages: 256 });
  const client = new Client(device);
  await ended(rig, client.write(0, Buffer.alloc(4096, 1)));
  await rig.advance(100);
  // The ring is full and its provider away, so that the whole page waits for room.
  rig.source(0).goDown();
  for (let page = 100; page < 164; page += 1) client.write(page * 4096, page32(page));
  const whole = client.write(0, Buffer.alloc(4096, 2));
  t.equal(whole.status, undefined);
  rig.source(0).comeBack(false);
  const part = client.write(10, Buffer.from('part'));
  await ended(rig, whole, part);
  t.equal(whole.status, IoStatus.OK);
  t.equal(part.status, IoStatus.OK);
  const { outcome, bytes } = client.read(0, 4096);
  await ended(rig, outcome);
  t.equal(bytes[0], 2, 'bytes that only the whole page wrote');
  t.equal(bytes[4095], 2);
  t.ok(['part', '\x02\x02\x02\x02'].includes(bytes.toString('latin1', 10, 14)));
  await rig.close();
});

/** A page that no two of are alike and that is not same-filled. */
function page32(seed: number): Buffer {
  const bytes = Buffer.alloc(4096);
  for (let at = 0; at < 4096; at += 4) bytes.writeUInt32LE(seed * 7919 + at, at);
  return bytes;
}

t.test('requests on a closed volume end with SHUTDOWN', async (t) => {
  const { rig, device } = deviceRig();
  const client = new Client(device);
  await rig.close();
  const { outcome: aligned } = client.read(0, 4096);
  const { outcome: partial } = client.read(1, 5);
  const cases = [
    aligned,
    partial,
    client.write(0, Buffer.alloc(4096, 1)),
    client.write(3, Buffer.alloc(10, 1)),
    client.start((tag) => client.queue.flush(tag)),
    client.start((tag) => client.queue.trim(tag, 0, 8192)),
    client.start((tag) => client.queue.writeZeroes(tag, 0, 8192, false)),
    client.start((tag) => client.queue.writeZeroes(tag, 5, 8000, true)),
  ];
  await ended(rig, ...cases);
  for (const [index, { status }] of cases.entries()) t.equal(status, IoStatus.SHUTDOWN, `${index}`);
});

t.test('extents equal what was written, in runs that never lie across the range', async (t) => {
  const { rig, device } = deviceRig({ pages: 40 });
  const client = new Client(device);
  const state = new Array<string>(40).fill('hole');
  const random = seededRandom(21);
  for (let round = 0; round < 60; round += 1) {
    const page = Math.floor(random() * 40);
    const count = Math.min(40 - page, 1 + Math.floor(random() * 8));
    const kind = ['hole', 'zero', 'data', 'filled'][Math.floor(random() * 4)] as string;
    const at = page * 4096;
    const ways: Record<string, () => { status: IoStatusValue | undefined }> = {
      hole: () => client.start((tag) => client.queue.trim(tag, at, count * 4096)),
      zero: () => client.start((tag) => client.queue.writeZeroes(tag, at, count * 4096, false)),
      data: () =>
        client.write(at, Buffer.concat(Array.from({ length: count }, () => page32(page)))),
      filled: () => client.write(at, Buffer.alloc(count * 4096, 0x77)),
    };
    await ended(rig, ways[kind]?.() ?? { status: undefined });
    state.fill(kind, page, page + count);
    const offset = Math.floor(random() * 40 * 4096);
    const length = Math.floor(random() * (40 * 4096 - offset));
    const got = new Array<string>(40).fill('');
    let from = offset;
    device.extents(offset, length, (lengthBytes, flags) => {
      if (lengthBytes <= 0 || from + lengthBytes > offset + length) t.fail(`run of ${lengthBytes}`);
      const name = ['data', undefined, 'zero', 'hole'][flags];
      const last = Math.floor((from + lengthBytes - 1) / 4096);
      got.fill(name ?? '?', Math.floor(from / 4096), last + 1);
      from += lengthBytes;
      return true;
    });
    t.equal(from, offset + length, 'the whole range');
    if (length === 0) continue;
    const first = Math.floor(offset / 4096);
    const last = Math.ceil((offset + length) / 4096);
    t.same(
      got.slice(first, last),
      state.slice(first, last).map((name) => (name === 'filled' ? 'data' : name)),
    );
  }
  let runs = 0;
  device.extents(0, 40 * 4096, () => {
    runs += 1;
    return runs < 3;
  });
  t.ok(runs <= 3, 'it stops when it is told to');
  await rig.close();
});

t.test(
  'requests of no bytes, and trims of no whole page, end at once and change nothing',
  async (t) => {
    const { rig, device } = deviceRig();
    const client = new Client(device);
    await ended(rig, client.write(0, page32(1)));
    const outcomes = [
      client.read(100, 0).outcome,
      client.write(100, Buffer.alloc(0)),
      client.start((tag) => client.queue.trim(tag, 1, 4094)),
      client.start((tag) => client.queue.trim(tag, 1, 4096)),
      client.start((tag) => client.queue.trim(tag, 4095, 0)),
      client.start((tag) => client.queue.writeZeroes(tag, 50, 0, true)),
    ];
    await ended(rig, ...outcomes);
    for (const { status } of outcomes) t.equal(status, IoStatus.OK);
    const { outcome, bytes } = client.read(0, 4096);
    await ended(rig, outcome);
    t.same(bytes, page32(1));
    await rig.close();
  },
);

t.test('an unaligned read that fails leaves the buffer as it was', async (t) => {
  const { rig, device } = deviceRig();
  const client = new Client(device);
  await ended(rig, client.write(0, Buffer.concat([page32(1), page32(2)])));
  await rig.advance(200);
  rig.source(0).slabs.clear();
  const { outcome, bytes } = client.read(100, 5000);
  bytes.fill(0x5a);
  await ended(rig, outcome);
  t.equal(outcome.status, IoStatus.LOST);
  t.ok(bytes.every((byte) => byte === 0x5a));
  // And a change of part of a lost page fails too: the rest of it is not known.
  const part = client.write(10, Buffer.from('part'));
  await ended(rig, part);
  t.equal(part.status, IoStatus.LOST);
  const whole = client.write(0, page32(3));
  await ended(rig, whole);
  t.equal(whole.status, IoStatus.OK);
  await rig.close();
});

t.test('the device says what it is', (t) => {
  const { device } = deviceRig({ pages: 7, copies: 2 });
  t.equal(device.name, 'rig');
  t.equal(device.sizeBytes, 7 * 4096);
  t.match(device.description, /2 sealed copies/);
  t.end();
});
