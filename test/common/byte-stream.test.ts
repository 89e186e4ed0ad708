/** The socket shell, over real Unix sockets: what is sent arrives once and in order, or the stream ends. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { ByteStream, type ByteStreamHandler } from '../../common/byte-stream.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import { seededRandom } from '../helpers/sim-world.ts';

const OPTIONS = { inputSizeBytes: 4096, outputChunkSizeBytes: 4096 };

/** A handler that keeps what came. */
class Collector implements ByteStreamHandler {
  readonly parts: Buffer[] = [];
  stream: ByteStream | undefined;
  drains = 0;
  closes = 0;
  error: Error | undefined;
  /** What `onBytes` consumes of what it is offered; all of it by default. */
  consume: (offered: Buffer) => number = (offered) => offered.length;
  readonly closed: Promise<void>;
  #onClosed = (): void => undefined;

  constructor() {
    this.closed = new Promise((resolve) => (this.#onClosed = resolve));
  }

  get bytes(): Buffer {
    return Buffer.concat(this.parts);
  }

  onBytes(input: NativeBuffer, start: number, end: number): number {
    if (this.closes > 0) throw new Error('bytes after the end');
    const offered = Buffer.from(input.bytes.subarray(start, end));
    const consumed = this.consume(offered);
    if (consumed > 0) this.parts.push(offered.subarray(0, consumed));
    return start + consumed;
  }

  onDrain(): void {
    if (this.closes > 0) throw new Error('drain after the end');
    this.drains += 1;
  }

  onClosed(error: Error | undefined): void {
    this.closes += 1;
    this.error = error;
    this.#onClosed();
  }
}

interface Listener {
  readonly server: net.Server;
  readonly path: string;
  /** The next accepted socket. */
  accept(): Promise<net.Socket>;
}

async function listen(t: Test): Promise<Listener> {
  // Not t.testdir: its paths are longer than a socket address holds.
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true }));
  const socketPath = path.join(directory, 's');
  const server = net.createServer({ pauseOnConnect: true });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  t.teardown(() => server.close());
  const accept = (): Promise<net.Socket> =>
    new Promise((resolve) => server.once('connection', resolve));
  return { server, path: socketPath, accept };
}

/** A plain socket on one side, a stream on the other. */
async function plainToStream(
  t: Test,
  options = OPTIONS,
): Promise<{ plain: net.Socket; stream: ByteStream; handler: Collector; listener: Listener }> {
  const listener = await listen(t);
  const handler = new Collector();
  const accepted = listener.accept();
  const plain = net.connect(listener.path);
  plain.on('error', () => undefined);
  const stream = ByteStream.adopt(await accepted, options, handler);
  handler.stream = stream;
  t.teardown(() => {
    plain.destroy();
    stream.destroy();
  });
  return { plain, stream, handler, listener };
}

async function until(done: () => boolean, what: string): Promise<void> {
  for (let waitedMs = 0; !done(); waitedMs += 2) {
    if (waitedMs > 10_000) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Bytes that name their place. */
function numbered(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) bytes[at] = (at * 131 + (at >>> 8) * 7) & 0xff;
  return bytes;
}

t.test(
  'bytes arrive whole and in order, however they are cut and however much is consumed',
  async (t) => {
    const random = seededRandom(7);
    for (const cut of [1, 2, 3, 7, 64, 1000, 4095, 4096, 4097, 9000]) {
      const { plain, handler } = await plainToStream(t);
      const sent = numbered(cut < 8 ? 3_000 : 40_000);
      // Consumes a random part, but never leaves a full buffer untouched.
      handler.consume = (offered) =>
        offered.length > 3000 ? offered.length : Math.floor(random() * (offered.length + 1));
      for (let at = 0; at < sent.length; at += cut) {
        plain.write(sent.subarray(at, at + cut));
        if (cut < 8 && at % 50 === 0) await new Promise(setImmediate);
      }
      plain.write(Buffer.alloc(1));
      handler.consume = (offered) => offered.length;
      await until(() => handler.bytes.length >= sent.length, `cut ${cut}`);
      t.ok(handler.bytes.subarray(0, sent.length).equals(sent), `cut ${cut}`);
      plain.destroy();
      await handler.closed;
    }
  },
);

t.test('messages that lie across the end of the buffer are offered in one piece', async (t) => {
  const { plain, handler } = await plainToStream(t);
  const messages: Buffer[] = [];
  // Length-prefixed messages of every size up to the buffer's.
  for (let length = 1; length <= 4094; length += 93) {
    const message = Buffer.alloc(2 + length, length & 0xff);
    message.writeUInt16BE(length);
    messages.push(message);
  }
  const got: number[] = [];
  handler.consume = (offered) => {
    let at = 0;
    while (offered.length - at >= 2) {
      const length = offered.readUInt16BE(at);
      if (offered.length - at - 2 < length) break;
      const body = offered.subarray(at + 2, at + 2 + length);
      got.push(body.every((byte) => byte === (length & 0xff)) ? length : -1);
      at += 2 + length;
    }
    return at;
  };
  plain.write(Buffer.concat(messages));
  await until(() => got.length === messages.length, 'all messages');
  t.same(
    got,
    messages.map((message) => message.length - 2),
  );
});

t.test('a message longer than the buffer ends the stream, with a reason', async (t) => {
  const { plain, handler } = await plainToStream(t);
  handler.consume = () => 0;
  plain.write(Buffer.alloc(20_000));
  await handler.closed;
  t.match(handler.error, /longer than the input buffer/);
  t.equal(handler.closes, 1);
});

t.test('a paused stream reads no more than its buffer, and offers old bytes first', async (t) => {
  const { plain, stream, handler } = await plainToStream(t);
  const sent = numbered(2_000_000);
  let offers = 0;
  handler.consume = () => {
    offers += 1;
    stream.pause();
    return 0;
  };
  plain.write(sent);
  await until(() => offers === 1, 'the first offer');
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.equal(offers, 1);
  t.ok(plain.writableLength > 0, 'the other side feels it');
  handler.consume = (offered) => offered.length;
  stream.resume();
  await until(() => handler.bytes.length === sent.length, 'the rest');
  t.ok(handler.bytes.equals(sent));
});

t.test('pausing and resuming at every offer loses nothing', async (t) => {
  const { plain, stream, handler } = await plainToStream(t);
  const random = seededRandom(3);
  const sent = numbered(300_000);
  handler.consume = (offered) => {
    stream.pause();
    if (random() < 0.5) setImmediate(() => stream.resume());
    else process.nextTick(() => stream.resume());
    return Math.floor(random() * (offered.length + 1));
  };
  plain.write(sent);
  await until(() => handler.bytes.length === sent.length, 'all bytes');
  t.ok(handler.bytes.equals(sent));
});

t.test('polled at random, beside the loop, the bytes are the same', async (t) => {
  const options = { inputSizeBytes: 256 * 1024, outputChunkSizeBytes: 4096 };
  for (let seed = 1; seed <= 6; seed += 1) {
    const random = seededRandom(seed);
    const { plain, stream, handler } = await plainToStream(t, options);
    const sent = numbered(1_500_000);
    let polls = 0;
    let consumed = 0;
    handler.consume = (offered) => {
      if (random() < 0.05) {
        stream.pause();
        setImmediate(() => stream.resume());
      }
      const some = Math.floor(random() * (offered.length + 1));
      const length = offered.length > 100_000 || random() < 0.5 ? offered.length : some;
      consumed += length;
      return length;
    };
    for (let at = 0; at < sent.length;) {
      const length = 1 + Math.floor(random() ** 4 * 150_000);
      plain.write(sent.subarray(at, at + length));
      at += length;
      for (let turns = Math.floor(random() * 6); turns > 0; turns -= 1) {
        if (random() < 0.8 && stream.poll()) polls += 1;
        await new Promise(setImmediate);
      }
    }
    handler.consume = (offered) => {
      consumed += offered.length;
      return offered.length;
    };
    plain.write(Buffer.alloc(1));
    await until(() => consumed > sent.length, `seed ${seed}`);
    t.ok(handler.bytes.subarray(0, -1).equals(sent), `seed ${seed}`);
    t.ok(polls > 0, `${polls} polls found something`);
    plain.destroy();
    await handler.closed;
    t.equal(stream.poll(), false, 'nothing comes after the end');
  }
});

t.test('polling a paused stream, or one that its handler ends, takes nothing more', async (t) => {
  const options = { inputSizeBytes: 256 * 1024, outputChunkSizeBytes: 4096 };
  const { plain, stream, handler } = await plainToStream(t, options);
  const arm = async (): Promise<void> => {
    stream.poll();
    const before = handler.bytes.length;
    plain.write('a');
    await until(() => handler.bytes.length > before, 'one by the loop');
  };
  await arm();
  stream.pause();
  plain.write('b');
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(stream.poll(), false, 'paused');
  stream.resume();
  await until(() => handler.bytes.toString() === 'ab', 'after the pause');
  await arm();
  handler.consume = (offered) => {
    stream.destroy();
    return offered.length;
  };
  plain.write('c');
  for (let tries = 0; tries < 1000 && !stream.poll(); tries += 1);
  t.equal(stream.poll(), false, 'ended');
  await handler.closed;
  t.equal(handler.closes, 1);
});

t.test('what one turn reserves leaves in order, whatever the sizes', async (t) => {
  const random = seededRandom(11);
  for (let round = 0; round < 20; round += 1) {
    const { plain, stream, handler } = await plainToStream(t);
    const got: Buffer[] = [];
    plain.on('data', (chunk: Buffer) => got.push(chunk));
    const sent: Buffer[] = [];
    for (let index = 0; index < 60; index += 1) {
      const bytes = numbered(1 + Math.floor(random() * 4096)).map((byte) => byte ^ index);
      const kept = Buffer.from(bytes);
      const spare = Math.min(4096 - kept.length, Math.floor(random() * 50));
      const offset = stream.reserve(kept.length + spare);
      stream.output.bytes.set(kept, offset);
      if (spare > 0) stream.unreserve(spare);
      sent.push(kept);
      if (random() < 0.1) stream.flush();
      if (random() < 0.2) await new Promise(setImmediate);
    }
    const all = Buffer.concat(sent);
    await until(() => Buffer.concat(got).length === all.length, `round ${round}`);
    t.ok(Buffer.concat(got).equals(all));
    plain.destroy();
    await handler.closed;
  }
});

t.test('send cuts what is longer than a chunk', async (t) => {
  const { plain, stream } = await plainToStream(t);
  const got: Buffer[] = [];
  plain.on('data', (chunk: Buffer) => got.push(chunk));
  const sent = numbered(100_001);
  stream.send(sent);
  await until(() => Buffer.concat(got).length === sent.length, 'all');
  t.ok(Buffer.concat(got).equals(sent));
});

t.test('the backlog grows while the other side does not read, and its end is told', async (t) => {
  const { plain, stream, handler } = await plainToStream(t);
  plain.pause();
  const sent = numbered(4096);
  let total = 0;
  while (stream.backlogBytes < 500_000) {
    stream.send(sent);
    total += sent.length;
    await new Promise(setImmediate);
  }
  const before = handler.drains;
  let got = 0;
  plain.on('data', (chunk: Buffer) => (got += chunk.length));
  plain.resume();
  await until(() => got === total, 'all bytes');
  await until(() => stream.backlogBytes === 0, 'no backlog');
  t.ok(handler.drains > before);
});

t.test('a handler set while bytes lie unread is offered them, wherever it is set', async (t) => {
  for (const inside of [true, false]) {
    const { plain, stream, handler } = await plainToStream(t);
    const second = new Collector();
    handler.consume = () => {
      if (inside) stream.setHandler(second);
      else setImmediate(() => stream.setHandler(second));
      return 5;
    };
    plain.write('firstsecond');
    await until(() => second.parts.length > 0, `set ${inside ? 'inside' : 'outside'} onBytes`);
    t.equal(handler.bytes.toString(), 'first');
    t.equal(second.bytes.toString(), 'second');
    plain.destroy();
    await second.closed;
    t.equal(handler.closes, 0, 'only the last handler is told of the end');
  }
});

t.test('a handler that ends the stream is offered nothing afterwards', async (t) => {
  const { plain, stream, handler } = await plainToStream(t);
  let offers = 0;
  handler.consume = () => {
    offers += 1;
    stream.pause();
    return 0;
  };
  plain.write('abc');
  await until(() => offers === 1, 'the first offer');
  stream.resume();
  stream.destroy(new Error('enough'));
  await handler.closed;
  t.equal(offers, 1);
  t.match(handler.error, /enough/);
});

t.test('close sends what was reserved, then ends', async (t) => {
  const { plain, stream, handler } = await plainToStream(t);
  let got = '';
  plain.on('data', (chunk: Buffer) => (got += chunk.toString()));
  stream.send(Buffer.from('last words'));
  stream.close();
  await handler.closed;
  await until(() => got === 'last words', 'last words');
  t.equal(handler.error, undefined);
});

t.test('bytes for a stream that has ended go nowhere and harm nothing', async (t) => {
  const { plain, stream, handler } = await plainToStream(t);
  plain.destroy();
  await handler.closed;
  t.equal(stream.closed, true);
  for (let turn = 0; turn < 3; turn += 1) {
    stream.send(Buffer.alloc(10_000, 1));
    for (let index = 0; index < 10; index += 1) {
      const offset = stream.reserve(3000);
      stream.output.bytes.fill(7, offset, offset + 3000);
    }
    stream.flush();
    stream.close();
    stream.pause();
    stream.resume();
    stream.destroy();
    await new Promise(setImmediate);
    await new Promise(setImmediate);
  }
  t.equal(handler.closes, 1);
});

t.test('connect fails with the reason of the system', async (t) => {
  const options = { ...OPTIONS, timeoutMs: 5000 };
  const missing = path.join(os.tmpdir(), `mc-nobody-${process.pid}`);
  const handler = new Collector();
  await t.rejects(ByteStream.connect({ path: missing }, options, handler), { code: 'ENOENT' });
  t.equal(handler.bytes.length, 0);
});

t.test('connect gives up when its time is over', async (t) => {
  // A server that is stopped with a full queue: the kernel lets further connections wait.
  const script = `require('net').createServer().listen(
    { port: 0, host: '127.0.0.1', backlog: 1 },
    function () {
      require('fs').writeSync(1, String(this.address().port));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    },
  )`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const port = await new Promise<number>((resolve) => {
    child.stdout.once('data', (text: Buffer) => resolve(Number(text)));
  });
  const streams: ByteStream[] = [];
  let failure: unknown;
  for (let index = 0; index < 16 && failure === undefined; index += 1) {
    const options = { ...OPTIONS, timeoutMs: 200 };
    try {
      streams.push(await ByteStream.connect({ host: '127.0.0.1', port }, options, new Collector()));
    } catch (error) {
      failure = error;
    }
  }
  t.match(failure, /no connection within 200 ms/);
  for (const stream of streams) stream.destroy();
});

t.test('a connected stream speaks both ways', async (t) => {
  const listener = await listen(t);
  const accepted = listener.accept();
  const near = new Collector();
  const far = new Collector();
  const connecting = ByteStream.connect(
    { path: listener.path },
    { ...OPTIONS, timeoutMs: 5000 },
    near,
  );
  const farStream = ByteStream.adopt(await accepted, OPTIONS, far);
  const nearStream = await connecting;
  const sent = numbered(30_000);
  nearStream.send(sent);
  farStream.send(sent);
  await until(() => near.bytes.length === 30_000 && far.bytes.length === 30_000, 'both');
  t.ok(near.bytes.equals(sent) && far.bytes.equals(sent));
  nearStream.destroy();
  await Promise.all([near.closed, far.closed]);
  t.same([near.closes, far.closes], [1, 1]);
});

t.test('a server whose sockets were taken over can still close', async (t) => {
  const { plain, handler, listener } = await plainToStream(t);
  plain.destroy();
  await handler.closed;
  await new Promise<void>((resolve) => listener.server.close(() => resolve()));
  t.pass('the server has closed');
});

/** Bytes of address space and of resident memory. */
function memoryBytes(): { mapped: number; resident: number } {
  const [mapped, resident] = fs.readFileSync('/proc/self/statm', 'utf8').split(' ').map(Number);
  return { mapped: (mapped ?? 0) * 4096, resident: (resident ?? 0) * 4096 };
}

/** Runs `round` often and says by how many bytes the address space grew, after a warm-up. */
async function growth(rounds: number, round: () => Promise<void>): Promise<number> {
  for (let warm = 0; warm < 20; warm += 1) await round();
  const before = memoryBytes().mapped;
  for (let index = 0; index < rounds; index += 1) await round();
  await new Promise((resolve) => setTimeout(resolve, 50));
  return memoryBytes().mapped - before;
}

t.test('a thousand connections leave no memory behind', async (t) => {
  const listener = await listen(t);
  const options = { inputSizeBytes: 2 ** 18, outputChunkSizeBytes: 2 ** 18, timeoutMs: 5000 };
  const grown = await growth(1000, async () => {
    const near = new Collector();
    const far = new Collector();
    const accepted = listener.accept();
    const connecting = ByteStream.connect({ path: listener.path }, options, near);
    const farStream = ByteStream.adopt(await accepted, options, far);
    (await connecting).send(Buffer.from('hello'));
    await until(() => far.bytes.length === 5, 'hello');
    farStream.destroy();
    await Promise.all([near.closed, far.closed]);
  });
  // A leak of one buffer for each connection would be 250 MiB.
  t.ok(grown < 100 * 2 ** 20, `address space grew by ${grown} bytes`);
});

t.test('connections that end with writes pending leave no memory behind', async (t) => {
  const listener = await listen(t);
  const options = { inputSizeBytes: 4096, outputChunkSizeBytes: 2 ** 20 };
  const grown = await growth(100, async () => {
    const handler = new Collector();
    const accepted = listener.accept();
    const plain = net.connect(listener.path);
    plain.on('error', () => undefined);
    plain.pause();
    const stream = ByteStream.adopt(await accepted, options, handler);
    for (let index = 0; index < 3; index += 1) {
      stream.send(Buffer.alloc(2 ** 20, index));
      stream.flush();
    }
    await new Promise(setImmediate);
    t.ok(stream.backlogBytes > 0 || t.fail('nothing was pending'));
    if (Math.random() < 0.5) stream.destroy();
    else plain.destroy();
    await handler.closed;
    plain.destroy();
  });
  // Three chunks of 1 MiB for each connection would be 300 MiB.
  t.ok(grown < 60 * 2 ** 20, `address space grew by ${grown} bytes`);
});

t.test('the address of the other side is told as an address, an IPv4 one as such', async (t) => {
  for (const [listen, dial, expected] of [
    ['127.0.0.1', '127.0.0.1', '127.0.0.1'],
    ['::', '127.0.0.1', '127.0.0.1'],
    ['::1', '::1', '::1'],
  ] as const) {
    const taken = new Collector();
    const server = net.createServer({ pauseOnConnect: true }, (socket) => {
      taken.stream = ByteStream.adopt(socket, OPTIONS, taken);
      t.equal(taken.stream.remoteHost, expected);
      taken.stream.destroy();
    });
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject).listen(0, listen, resolve);
      });
    } catch {
      t.comment(`no IPv6 here: ${listen} skipped`);
      continue;
    }
    const { port } = server.address() as net.AddressInfo;
    const dialling = new Collector();
    const target = { host: dial, port };
    const stream = await ByteStream.connect(target, { ...OPTIONS, timeoutMs: 5000 }, dialling);
    t.equal(stream.remoteHost, expected);
    await dialling.closed;
    await taken.closed;
    server.close();
  }
});

t.test('what the kernel cannot send yet is limited, and counts as backlog', async (t) => {
  const SIZE = 16 * 2 ** 20;
  const LIMIT = 64 * 1024;
  const server = net.createServer({ pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as net.AddressInfo;
  /** How many bytes the kernel takes of a stream whose other side does not read. */
  const taken = async (limit: number | undefined): Promise<number> => {
    const accepted = new Promise<net.Socket>((resolve) => server.once('connection', resolve));
    const handler = new Collector();
    const options = { inputSizeBytes: 4096, outputChunkSizeBytes: 4096, timeoutMs: 5000 };
    const stream = await ByteStream.connect({ host: '127.0.0.1', port }, options, handler);
    const other = await accepted;
    t.teardown(() => other.destroy());
    t.teardown(() => stream.destroy());
    if (limit !== undefined) stream.limitUnsent(limit);
    const piece = Buffer.alloc(4096);
    let before = -1;
    // In turns, until the kernel takes no more.
    for (let sent = 0, calm = 0; sent < SIZE && calm < 20; sent += piece.length) {
      stream.send(piece);
      stream.flush();
      await new Promise((resolve) => setImmediate(resolve));
      const gone = sent + piece.length - stream.backlogBytes;
      calm = gone === before ? calm + 1 : 0;
      before = gone;
    }
    return before;
  };
  const free = await taken(undefined);
  const limited = await taken(LIMIT);
  // What the other side has taken is the same for both.
  t.ok(
    limited + 8 * LIMIT < free,
    `the kernel took ${limited} bytes with the limit, ${free} without`,
  );
  t.ok(limited > 0, 'bytes leave all the same');
});
