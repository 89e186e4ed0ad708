/**
 * The record stream under bytes that nobody sealed: whatever a stranger does to the wire, the handler
 * sees a prefix of what was sealed, or nothing, and the stream ends or waits; it never throws and
 * never hands on another byte. And the NBD server behind it under authentic records of any bytes.
 */
import t from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import type { ByteStream } from '../../common/byte-stream.ts';
import { MemcloudError } from '../../common/errors.ts';
import { decodeInnerPlaintext, decodeRecordHeader } from '../../direct/record-codec.ts';
import { RecordStream } from '../../direct/record-stream.ts';
import { connectDirect } from '../helpers/direct-consumer.ts';
import { startDirectHost } from '../helpers/direct-host.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';
import { eventually } from '../helpers/nbd-fixture.ts';
import { Recorder, dataRecord, randomKeys, sealRecord } from '../helpers/record-pair.ts';

const INPUT_SIZE = 2 ** 18;

/** Stands below a record stream: takes what it sends, tells when it was destroyed. */
class FakeBelow {
  destroyed: Error | true | undefined;
  backlogBytes = 0;
  remoteAddress = '';
  output = { bytes: Buffer.alloc(2 ** 15), address: 0 };
  pause(): void {}
  resume(): void {}
  flush(): void {}
  close(): void {}
  reserve(): number {
    return 0;
  }
  destroy(error?: Error): void {
    this.destroyed = error ?? true;
  }
}

/** Gives `wire` to a fresh stream in random pieces, as a ByteStream would. */
function feed(
  random: Random,
  wire: Buffer,
  keys = randomKeys(),
): { heard: Buffer; below: FakeBelow } {
  const below = new FakeBelow();
  const stream = new RecordStream({
    below: below as unknown as ByteStream,
    readKeys: keys.consumer,
    writeKeys: keys.provider,
  });
  const recorder = new Recorder();
  stream.setHandler(recorder);
  const input = new NativeMemory(INPUT_SIZE);
  try {
    let start = 0;
    let end = 0;
    for (let at = 0; at < wire.length && below.destroyed === undefined;) {
      const size = Math.min(wire.length - at, 1 + random.below(random.pick([3, 50, 20_000])));
      wire.copy(input.bytes, end, at, at + size);
      at += size;
      end += size;
      const next = stream.onBytes(input, start, end);
      if (next < start || next > end) throw new Error(`consumed ${next} of ${start} to ${end}`);
      start = next;
    }
    return { heard: recorder.bytes, below };
  } finally {
    stream.onClosed(undefined);
    input.free();
  }
}

/** Lets a stream that ended give its memory back. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('mutated records: a prefix of the truth, or the end', async (t) => {
  await fuzz(t, async (random) => {
    await turn();
    const keys = randomKeys();
    const contents = Array.from({ length: 1 + random.below(6) }, () =>
      random.bytes(random.pick([0, 1, 28, 300, 4124])),
    );
    const records = contents.map((content, sequence) =>
      dataRecord(keys.consumer, sequence, content, random.pick([0, 0, 0, 40])),
    );
    const truth = Buffer.concat(contents);
    const whole = feed(random, Buffer.concat(records), keys);
    if (!whole.heard.equals(truth) || whole.below.destroyed !== undefined) {
      throw new Error('an honest wire was not heard');
    }
    if (random.below(2) === 0) {
      const [i, j] = [random.below(records.length), random.below(records.length)];
      [records[i], records[j]] = [records[j]!, records[i]!];
    }
    const wire = random.mutate(Buffer.concat(records));
    const { heard, below } = feed(random, wire, keys);
    if (!heard.equals(truth.subarray(0, heard.length))) throw new Error('other bytes were heard');
    if (below.destroyed instanceof Error && !(below.destroyed instanceof MemcloudError)) {
      throw below.destroyed;
    }
  });
});

t.test('any bytes: nothing is heard', async (t) => {
  await fuzz(t, async (random) => {
    await turn();
    const noise = random.bytes(random.pick([1, 5, 40, 300, 20_000]));
    if (random.below(2) === 0) noise.set([23, 3, 3, random.below(66)].slice(0, noise.length));
    const { heard, below } = feed(random, noise);
    if (heard.length > 0) throw new Error('a byte of noise was heard');
    if (below.destroyed instanceof Error && !(below.destroyed instanceof MemcloudError)) {
      throw below.destroyed;
    }
  });
});

t.test('the codec: a value or its own error', async (t) => {
  await fuzz(
    t,
    (random) => {
      const bytes = random.bytes(random.below(40));
      const at = random.below(bytes.length + 1);
      for (const decode of [
        (): number => decodeRecordHeader(bytes, at, bytes.length),
        (): number => decodeInnerPlaintext(bytes, at, bytes.length - at),
      ]) {
        try {
          decode();
        } catch (error) {
          if (!(error instanceof MemcloudError && error.code === 'ERR_PEER_PROTOCOL')) throw error;
        }
      }
    },
    0.25,
  );
});

t.test(
  'authentic records with any inner type and bytes never bring the provider down',
  async (t) => {
    const host = await startDirectHost(t);
    const { exportId } = host.access.open({ sizeBytes: 2 ** 20, ttlMs: 600_000 });
    const hello = Buffer.from([0, 0, 0, 3, ...Buffer.from('IHAVEOPT'), 0, 0, 0, 1, 0, 0, 0, 0]);
    await fuzz(t, async (random) => {
      const { records, below } = await connectDirect(host, exportId);
      const recorder = new Recorder();
      records.setHandler(recorder);
      if (random.below(2) === 0) records.send(hello);
      records.send(random.mutate(Buffer.concat([hello, random.bytes(random.pick([4, 28, 4000]))])));
      if (random.below(3) === 0) {
        below.send(sealRecord(randomKeys().consumer, 0, random.bytes(1 + random.below(100))));
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
      records.destroy();
      await recorder.ended;
    });
    await eventually(() => host.access.list()[0]?.connected === false, 'all have ended');
    const { records } = await connectDirect(host, exportId);
    const recorder = new Recorder();
    records.setHandler(recorder);
    await eventually(() => recorder.bytes.length === 18, 'the next one is greeted');
    records.destroy();
    await recorder.ended;
    t.equal(host.exports.status().length, 1);
  },
);
