/** Record streams over the loopback, and records made by node:crypto, the naive twin of their cipher. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import type { Test } from 'tap';
import { ByteStream, type ByteStreamHandler } from '../../common/byte-stream.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import type { DirectionKeys, DirectKeys } from '../../direct/keys.ts';
import { RecordStream } from '../../direct/record-stream.ts';

const STREAM_OPTIONS = { inputSizeBytes: 2 ** 20, outputChunkSizeBytes: 2 ** 20 };

/** Random keys for both directions. */
export function randomKeys(): DirectKeys {
  const keys = (): DirectionKeys => ({ key: randomBytes(32), iv: randomBytes(12) });
  return { consumer: keys(), provider: keys() };
}

function nonceOf({ iv }: DirectionKeys, sequence: number): Buffer {
  const nonce = Buffer.from(iv);
  const tail = nonce.readBigUInt64BE(4) ^ BigInt(sequence);
  nonce.writeBigUInt64BE(tail, 4);
  return nonce;
}

/** One record around an inner plaintext, RFC 8446 5.2. */
export function sealRecord(keys: DirectionKeys, sequence: number, inner: Uint8Array): Buffer {
  const header = Buffer.from([23, 3, 3, 0, 0]);
  header.writeUInt16BE(inner.length + 16, 3);
  const cipher = createCipheriv('chacha20-poly1305', keys.key, nonceOf(keys, sequence), {
    authTagLength: 16,
  });
  cipher.setAAD(header, { plaintextLength: inner.length });
  return Buffer.concat([header, cipher.update(inner), cipher.final(), cipher.getAuthTag()]);
}

/** A record of application data with `padding` zeroes. */
export function dataRecord(
  keys: DirectionKeys,
  sequence: number,
  content: Uint8Array,
  padding = 0,
): Buffer {
  const inner = Buffer.concat([content, Buffer.from([23]), Buffer.alloc(padding)]);
  return sealRecord(keys, sequence, inner);
}

/** Takes records apart again; throws unless all is whole and verifies. */
export function openRecords(keys: DirectionKeys, bytes: Buffer): Buffer[] {
  const inners: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt16BE(at + 3);
    const end = at + 5 + length;
    const decipher = createDecipheriv('chacha20-poly1305', keys.key, nonceOf(keys, inners.length), {
      authTagLength: 16,
    });
    decipher.setAAD(bytes.subarray(at, at + 5), { plaintextLength: length - 16 });
    decipher.setAuthTag(bytes.subarray(end - 16, end));
    inners.push(
      Buffer.concat([decipher.update(bytes.subarray(at + 5, end - 16)), decipher.final()]),
    );
    at = end;
  }
  return inners;
}

/** Notes what a stream tells; consumes as much as `take` says. */
export class Recorder implements ByteStreamHandler {
  readonly parts: Buffer[] = [];
  closedCount = 0;
  drainCount = 0;
  error: Error | undefined;
  /** How much of what is offered is consumed; default all. */
  take: (available: number) => number = (available) => available;
  readonly ended: Promise<void>;
  #end: () => void = () => undefined;

  constructor() {
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  get bytes(): Buffer {
    return Buffer.concat(this.parts);
  }

  onBytes(input: NativeBuffer, start: number, end: number): number {
    const count = this.take(end - start);
    this.parts.push(Buffer.from(input.bytes.subarray(start, start + count)));
    return start + count;
  }

  onDrain(): void {
    this.drainCount += 1;
  }

  onClosed(error: Error | undefined): void {
    this.closedCount += 1;
    this.error = error;
    this.#end();
  }
}

/** A record stream in the provider's role, and the plain socket at its other end. */
export interface RecordFixture {
  stream: RecordStream;
  below: ByteStream;
  recorder: Recorder;
  socket: net.Socket;
  keys: DirectKeys;
}

/** Accepts one connection as a provider would. */
export async function startRecords(t: Test, keys = randomKeys()): Promise<RecordFixture> {
  const listener = net.createServer({ pauseOnConnect: true });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const socket = net.connect((listener.address() as net.AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined);
  const [accepted] = (await once(listener, 'connection')) as [net.Socket];
  const recorder = new Recorder();
  const below = ByteStream.adopt(accepted, STREAM_OPTIONS, new Recorder());
  const stream = new RecordStream({ below, writeKeys: keys.provider, readKeys: keys.consumer });
  below.setHandler(stream);
  stream.setHandler(recorder);
  t.teardown(async () => {
    stream.destroy();
    socket.destroy();
    listener.close();
    await recorder.ended;
  });
  return { stream, below, recorder, socket, keys };
}

/** Two record streams, consumer and provider, connected. */
export async function startRecordPair(
  t: Test,
): Promise<{ provider: RecordFixture; consumer: RecordStream; recorder: Recorder }> {
  const keys = randomKeys();
  const listener = net.createServer({ pauseOnConnect: true });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as net.AddressInfo;
  const accepting = once(listener, 'connection') as Promise<[net.Socket]>;
  const connected = await ByteStream.connect(
    { host: '127.0.0.1', port },
    { ...STREAM_OPTIONS, timeoutMs: 5000 },
    new Recorder(),
  );
  const [accepted] = await accepting;
  const below = ByteStream.adopt(accepted, STREAM_OPTIONS, new Recorder());
  const make = (
    from: ByteStream,
    writeKeys: DirectionKeys,
    readKeys: DirectionKeys,
  ): { stream: RecordStream; recorder: Recorder } => {
    const recorder = new Recorder();
    const stream = new RecordStream({ below: from, writeKeys, readKeys });
    from.setHandler(stream);
    stream.setHandler(recorder);
    return { stream, recorder };
  };
  const provider = make(below, keys.provider, keys.consumer);
  const consumer = make(connected, keys.consumer, keys.provider);
  t.teardown(async () => {
    consumer.stream.destroy();
    provider.stream.destroy();
    listener.close();
    await Promise.all([provider.recorder.ended, consumer.recorder.ended]);
  });
  return {
    provider: { ...provider, below, socket: accepted, keys },
    consumer: consumer.stream,
    recorder: consumer.recorder,
  };
}
