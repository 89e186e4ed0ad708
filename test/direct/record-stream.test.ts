/** Record streams over real sockets, against node:crypto as the other side and against each other. */
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { expandLabel } from '../../direct/keys.ts';
import { eventually } from '../helpers/nbd-fixture.ts';
import {
  Recorder,
  dataRecord,
  openRecords,
  randomKeys,
  sealRecord,
  startRecordPair,
  startRecords,
} from '../helpers/record-pair.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Everything that a plain socket receives from now on. */
function collect(socket: net.Socket): { bytes: () => Buffer } {
  const parts: Buffer[] = [];
  socket.on('data', (part) => parts.push(part));
  return { bytes: () => Buffer.concat(parts) };
}

t.test('records of another implementation are opened, however they are cut up', async (t) => {
  const { recorder, socket, keys } = await startRecords(t);
  const contents = [1, 0, 5, 16_384, 3000, 16_384, 0, 17].map((size) => randomBytes(size));
  const wire = Buffer.concat(contents.map((content, i) => dataRecord(keys.consumer, i, content)));
  socket.setNoDelay(true);
  let at = 0;
  for (const size of [1, 4, 1, 17, 5, 1, 16_000, 500, 4, 1]) {
    socket.write(wire.subarray(at, at + size));
    at += size;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  socket.write(wire.subarray(at));
  const expected = Buffer.concat(contents);
  await eventually(() => recorder.bytes.length >= expected.length, 'all was opened');
  t.ok(recorder.bytes.equals(expected));
});

t.test('padding is dropped', async (t) => {
  const { recorder, socket, keys } = await startRecords(t);
  socket.write(dataRecord(keys.consumer, 0, Buffer.from('padded'), 200));
  socket.write(dataRecord(keys.consumer, 1, Buffer.alloc(0), 10_000));
  socket.write(dataRecord(keys.consumer, 2, Buffer.from([0, 0, 0]), 3));
  await eventually(() => recorder.bytes.length >= 9, 'nine bytes came');
  t.same(recorder.bytes, Buffer.from('padded\0\0\0'));
});

t.test(
  'what is sent are records of at most 16 KiB that another implementation opens',
  async (t) => {
    const { stream, socket, keys } = await startRecords(t);
    const seen = collect(socket);
    const content = randomBytes(50_000);
    stream.send(content.subarray(0, 10));
    stream.send(content.subarray(10, 40_000));
    t.equal(stream.backlogBytes, 40_000);
    await turn();
    const offset = stream.reserve(10_000);
    stream.output.bytes.set(content.subarray(40_000), offset);
    await eventually(() => seen.bytes().length >= 50_000 + 4 * 22, 'all came');
    const inners = openRecords(keys.provider, seen.bytes());
    t.same(
      inners.map((inner) => inner.length),
      [16_385, 16_385, 40_000 - 32_768 + 1, 10_001],
      'one run of records for each turn',
    );
    t.ok(inners.every((inner) => inner.at(-1) === 23));
    t.ok(Buffer.concat(inners.map((inner) => inner.subarray(0, -1))).equals(content));
    t.equal(stream.backlogBytes, 0);
  },
);

t.test('what was reserved is not disturbed by the type byte behind each record', async (t) => {
  const { stream, socket, keys } = await startRecords(t);
  const seen = collect(socket);
  const content = randomBytes(3 * 2 ** 20);
  // Reservations that fill chunks to the last byte, and ones that do not fit any more.
  for (const [at, end] of [
    [0, 2 ** 20],
    [2 ** 20, 2 ** 20 + 1],
    [2 ** 20 + 1, 2 ** 21],
    [2 ** 21, 3 * 2 ** 20 - 5],
    [3 * 2 ** 20 - 5, 3 * 2 ** 20],
  ] as const) {
    const offset = stream.reserve(end - at);
    stream.output.bytes.set(content.subarray(at, end), offset);
  }
  const isWhole = (): boolean => {
    const records = content.length / 16_384;
    return seen.bytes().length >= content.length + records * 22;
  };
  await eventually(isWhole, 'all came');
  await turn();
  const inners = openRecords(keys.provider, seen.bytes());
  t.ok(Buffer.concat(inners.map((inner) => inner.subarray(0, -1))).equals(content));
});

t.test('two of them carry any bytes in any pieces, both ways', { timeout: 60_000 }, async (t) => {
  const { provider, consumer, recorder } = await startRecordPair(t);
  const pieces = fc.array(fc.oneof(fc.nat(50), fc.nat(40_000)), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(pieces, pieces, async (outSizes, backSizes) => {
      const [out, back] = [outSizes, backSizes].map((sizes) => sizes.map((n) => randomBytes(n)));
      const from = provider.recorder.parts.length;
      const backFrom = recorder.parts.length;
      for (const piece of out ?? []) {
        consumer.send(piece);
        if (piece.length % 3 === 0) await turn();
      }
      for (const piece of back ?? []) provider.stream.send(piece);
      const sent = Buffer.concat(out ?? []);
      const sentBack = Buffer.concat(back ?? []);
      const got = (): Buffer => Buffer.concat(provider.recorder.parts.slice(from));
      const gotBack = (): Buffer => Buffer.concat(recorder.parts.slice(backFrom));
      await eventually(
        () => got().length >= sent.length && gotBack().length >= sentBack.length,
        'both arrived',
      );
      return got().equals(sent) && gotBack().equals(sentBack);
    }),
    { numRuns: 40 },
  );
});

/** Sends a good record, then `bad`; expects the stream to end with nothing but the first delivered. */
async function endsAfter(
  t: Test,
  bad: (keys: ReturnType<typeof randomKeys>) => Buffer,
): Promise<string> {
  const { recorder, socket, keys } = await startRecords(t);
  socket.write(dataRecord(keys.consumer, 0, Buffer.from('good')));
  await eventually(() => recorder.bytes.length === 4, 'the first record was opened');
  socket.write(Buffer.concat([bad(keys), dataRecord(keys.consumer, 2, Buffer.from('good'))]));
  await recorder.ended;
  t.equal(recorder.bytes.toString(), 'good');
  t.equal(recorder.closedCount, 1);
  const error = recorder.error as (Error & { code?: string }) | undefined;
  return `${error?.code}: ${error?.message}`;
}

t.test('a record that is not the next one of the other side ends the stream', async (t) => {
  const good = Buffer.from('good');
  const flip = (record: Buffer, at: number): Buffer => {
    record[at < 0 ? record.length + at : at]! ^= 1;
    return record;
  };
  const cases: [string, (keys: ReturnType<typeof randomKeys>) => Buffer][] = [
    ['a bit of the ciphertext flipped', (k) => flip(dataRecord(k.consumer, 1, good), 7)],
    ['a bit of the tag flipped', (k) => flip(dataRecord(k.consumer, 1, good), -1)],
    ['a replay', (k) => dataRecord(k.consumer, 0, good)],
    ['one left out', (k) => dataRecord(k.consumer, 2, good)],
    ['reflected', (k) => dataRecord(k.provider, 1, good)],
    ['another key', () => dataRecord(randomKeys().consumer, 1, good)],
    ['another iv', (k) => dataRecord({ ...k.consumer, iv: randomBytes(12) }, 1, good)],
    [
      'a length moved',
      (k) => {
        const record = dataRecord(k.consumer, 1, Buffer.alloc(100));
        record[4]! -= 1;
        return record;
      },
    ],
  ];
  for (const [name, bad] of cases) {
    const ended = await endsAfter(t, bad);
    t.match(ended, /^ERR_PEER_AUTHENTICATION: a TLS record did not verify/, name);
  }
});

t.test('a record of another kind ends the stream, also an authentic one', async (t) => {
  const cases: [string, (keys: ReturnType<typeof randomKeys>) => Buffer][] = [
    ['alert', ({ consumer }) => sealRecord(consumer, 1, Buffer.from([1, 0, 21]))],
    ['key update', ({ consumer }) => sealRecord(consumer, 1, Buffer.from([24, 0, 0, 1, 1, 22]))],
    ['no type', ({ consumer }) => sealRecord(consumer, 1, Buffer.alloc(40))],
    ['too long inside', ({ consumer }) => dataRecord(consumer, 1, Buffer.alloc(16_385, 1))],
    ['too long with padding', ({ consumer }) => dataRecord(consumer, 1, Buffer.alloc(1), 16_384)],
    ['clear alert', () => Buffer.from([21, 3, 3, 0, 2, 1, 0])],
    ['change_cipher_spec', () => Buffer.from([20, 3, 3, 0, 1, 1])],
    ['plain text', () => Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['an endless record', () => Buffer.from([23, 3, 3, 0xff, 0xff, 0])],
  ];
  for (const [name, wire] of cases) {
    t.match(await endsAfter(t, wire), /^ERR_PEER_PROTOCOL: TLS record: expected/, name);
  }
});

t.test('the end of the other side ends the stream, in the midst of a record too', async (t) => {
  const { recorder, socket, keys } = await startRecords(t);
  const second = dataRecord(keys.consumer, 1, Buffer.from('never'));
  socket.end(
    Buffer.concat([dataRecord(keys.consumer, 0, Buffer.from('whole')), second.subarray(0, 20)]),
  );
  await recorder.ended;
  t.equal(recorder.bytes.toString(), 'whole');
  t.equal(recorder.error, undefined);
});

t.test('bytes that are left are offered again with what follows', async (t) => {
  const { recorder, socket, keys } = await startRecords(t);
  const offers: number[] = [];
  recorder.take = (available) => {
    offers.push(available);
    return available - (available % 10);
  };
  const content = randomBytes(700_000);
  let sequence = 0;
  for (let at = 0; at < content.length; at += 7777) {
    const record = dataRecord(keys.consumer, sequence, content.subarray(at, at + 7777));
    sequence += 1;
    if (!socket.write(record)) await once(socket, 'drain');
  }
  await eventually(() => recorder.bytes.length === content.length, 'all came');
  t.ok(recorder.bytes.equals(content));
  t.ok(
    offers.some((available) => available % 10 !== 0),
    'some were left',
  );
});

t.test(
  'a message longer than the input buffer ends the stream, one as long does not',
  async (t) => {
    const { recorder, socket, keys } = await startRecords(t);
    let wanted = 1_000_000;
    recorder.take = (available) => (available < wanted ? 0 : wanted);
    const send = (sequence: number): boolean =>
      socket.write(dataRecord(keys.consumer, sequence, Buffer.alloc(16_000, sequence)));
    let sequence = 0;
    for (; sequence < 63; sequence += 1) send(sequence);
    await eventually(() => recorder.bytes.length === 1_000_000, 'a million bytes in one piece');
    wanted = 2_000_000;
    for (; sequence < 200; sequence += 1) send(sequence);
    await recorder.ended;
    t.match(recorder.error?.message, /a message is longer than the input buffer/);
  },
);

t.test('a paused stream takes nothing, and goes on where it was', async (t) => {
  const { stream, below, recorder, socket, keys } = await startRecords(t);
  const content = randomBytes(3_000_000);
  recorder.take = (available) => {
    // In the midst of what lies there: the rest waits opened.
    stream.pause();
    setTimeout(() => stream.resume(), 1);
    return Math.min(available, 100_000);
  };
  let sequence = 0;
  for (let at = 0; at < content.length; at += 16_384) {
    const part = content.subarray(at, at + 16_384);
    socket.write(dataRecord(keys.consumer, sequence, part));
    sequence += 1;
  }
  await eventually(() => recorder.bytes.length === content.length, 'all came');
  t.ok(recorder.bytes.equals(content));
  recorder.take = (available) => available;
  // The timer of the last pause must not end the one that is looked at.
  await new Promise((resolve) => setTimeout(resolve, 50));
  stream.pause();
  socket.write(dataRecord(keys.consumer, sequence, Buffer.from('later')));
  await new Promise((resolve) => setTimeout(resolve, 50));
  const before = recorder.bytes.length;
  t.equal(before, content.length, 'nothing while it is paused');
  stream.resume();
  await eventually(() => recorder.bytes.length > before, 'it comes after');
  t.equal(below.closed, false);
});

t.test('output that is not read counts as backlog until it drains', async (t) => {
  const { stream, recorder, socket } = await startRecords(t);
  socket.pause();
  const chunk = Buffer.alloc(2 ** 20, 1);
  for (let count = 0; count < 16; count += 1) {
    stream.send(chunk);
    await turn();
  }
  t.ok(stream.backlogBytes > 2 ** 20);
  const drained = recorder.drainCount;
  socket.resume();
  await eventually(() => stream.backlogBytes === 0, 'all was read');
  t.ok(recorder.drainCount > drained);
});

t.test('a new handler gets what the old one left', async (t) => {
  const { stream, recorder, socket, keys } = await startRecords(t);
  const second = new Recorder();
  recorder.take = (available) => {
    stream.setHandler(second);
    return Math.min(4, available);
  };
  socket.write(
    Buffer.concat([
      dataRecord(keys.consumer, 0, Buffer.from('headbody')),
      dataRecord(keys.consumer, 1, Buffer.from('tail')),
    ]),
  );
  await eventually(() => second.bytes.length === 8, 'the rest came');
  t.equal(recorder.bytes.toString(), 'head');
  t.equal(second.bytes.toString(), 'bodytail');
  stream.setHandler(recorder);
});

t.test(
  'a handler that comes late gets what waited for it, more than the input holds',
  async (t) => {
    const { stream, recorder, socket, keys } = await startRecords(t);
    const second = new Recorder();
    recorder.take = () => 0;
    stream.pause();
    const content = randomBytes(2_500_000);
    for (let at = 0, sequence = 0; at < content.length; at += 16_384, sequence += 1) {
      socket.write(dataRecord(keys.consumer, sequence, content.subarray(at, at + 16_384)));
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
    stream.setHandler(second);
    stream.resume();
    await eventually(() => second.bytes.length === content.length, 'all came');
    t.ok(second.bytes.equals(content));
    t.equal(recorder.bytes.length, 0);
    stream.setHandler(recorder);
  },
);

t.test('a destroyed stream hands on nothing of what it holds, even if it is resumed', async (t) => {
  const { stream, recorder, socket, keys } = await startRecords(t);
  recorder.take = (available) => {
    stream.destroy(new Error('enough'));
    stream.resume();
    return Math.min(4, available);
  };
  socket.write(
    Buffer.concat([0, 1, 2].map((i) => dataRecord(keys.consumer, i, Buffer.from('abcdefgh')))),
  );
  await recorder.ended;
  await turn();
  t.equal(recorder.bytes.toString(), 'abcd');
  t.equal(recorder.closedCount, 1);
  t.equal(recorder.error?.message, 'enough');
});

t.test('after the end reservations lead nowhere', async (t) => {
  const { stream, recorder, socket } = await startRecords(t);
  socket.destroy();
  await recorder.ended;
  for (const length of [10, 2 ** 20, 100]) {
    const offset = stream.reserve(length);
    stream.output.bytes.fill(1, offset, offset + length);
    await turn();
    await turn();
  }
  stream.send(Buffer.alloc(5000));
  stream.pause();
  stream.resume();
  stream.close();
  t.equal(recorder.closedCount, 1);
});

t.test('close sends what was reserved, then our end', async (t) => {
  const { stream, recorder, socket, keys } = await startRecords(t);
  const seen = collect(socket);
  stream.send(Buffer.from('last words'));
  stream.close();
  await once(socket, 'end');
  t.same(openRecords(keys.provider, seen.bytes()), [Buffer.from('last words\x17')]);
  socket.end();
  await recorder.ended;
  t.equal(recorder.error, undefined);
});

t.test('the address of the other side passes through', async (t) => {
  const { stream, socket } = await startRecords(t);
  t.equal(stream.remoteAddress, `127.0.0.1:${socket.localPort}`);
});

t.test(
  'OpenSSL: what its TLS 1.3 writes under a traffic secret is read, its tickets are refused',
  async (t) => {
    const secrets = new Map<string, Buffer>();
    const [key, cert] = await Promise.all(
      ['server-key.pem', 'server-cert.pem'].map(async (name) => {
        const { readFile } = await import('node:fs/promises');
        return readFile(`${import.meta.dirname}/../../../test/vectors/nbd-tls/${name}`);
      }),
    );
    const server = tls.createServer({
      ...(key !== undefined && { key }),
      ...(cert !== undefined && { cert }),
      minVersion: 'TLSv1.3',
      ciphers: 'TLS_CHACHA20_POLY1305_SHA256',
    });
    server.on('keylog', (line: Buffer) => {
      const [label = '', , secret = ''] = line.toString().trim().split(' ');
      secrets.set(label, Buffer.from(secret, 'hex'));
    });
    server.on('secureConnection', (socket) => socket.on('error', () => undefined));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    // A tap in the middle keeps what each side wrote.
    const wires: [Buffer[], Buffer[]] = [[], []];
    const middle = net.createServer((inner) => {
      const outer = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
      for (const [from, to, wire] of [
        [inner, outer, wires[0]],
        [outer, inner, wires[1]],
      ] as const) {
        from.on('data', (part: Buffer) => {
          wire.push(part);
          to.write(part);
        });
        from.on('close', () => to.destroy());
        from.on('error', () => to.destroy());
      }
    });
    middle.listen(0, '127.0.0.1');
    await once(middle, 'listening');
    const client = tls.connect({
      port: (middle.address() as net.AddressInfo).port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
    });
    await once(client, 'secureConnect');
    const content = randomBytes(40_000);
    client.write(content.subarray(0, 20_000));
    client.write(content.subarray(20_000));
    await eventually(() => Buffer.concat(wires[0]).length > 40_300, 'the tap saw the data');
    client.destroy();
    middle.close();
    server.close();
    const keysOf = (label: string): { key: Uint8Array; iv: Uint8Array } => {
      const secret = secrets.get(label) ?? Buffer.alloc(0);
      t.equal(secret.length, 32, `${label} is known`);
      return { key: expandLabel(secret, 'key', 32), iv: expandLabel(secret, 'iv', 12) };
    };
    const keys = {
      consumer: keysOf('CLIENT_TRAFFIC_SECRET_0'),
      provider: keysOf('SERVER_TRAFFIC_SECRET_0'),
    };
    /** The sealed records of a side without those of its handshake: ClientHello, CCS, Finished. */
    const afterHandshake = (wire: Buffer, sealedToSkip: number): Buffer => {
      let at = 0;
      for (let sealed = 0; sealed < sealedToSkip;) {
        if (wire[at] === 23) sealed += 1;
        at += 5 + wire.readUInt16BE(at + 3);
      }
      return wire.subarray(at);
    };
    const { recorder, socket } = await startRecords(t, keys);
    socket.write(afterHandshake(Buffer.concat(wires[0]), 1));
    await eventually(() => recorder.bytes.length >= content.length, 'the data was opened');
    t.ok(recorder.bytes.subarray(0, content.length).equals(content));
    // The server's side begins with NewSessionTicket, which is handshake inside.
    const swapped = { consumer: keys.provider, provider: keys.consumer };
    const other = await startRecords(t, swapped);
    other.socket.write(afterHandshake(Buffer.concat(wires[1]), 4));
    await other.recorder.ended;
    t.match(other.recorder.error?.message, /inner type 23, got 22/);
  },
);
