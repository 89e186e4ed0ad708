/** RPC framing: whole messages come out however the bytes are cut, and rubbish is an error. */
import { Packr } from 'msgpackr';
import fc from 'fast-check';
import t from 'tap';
import { RpcDecoder, encodeRpcMessage } from '../../common/rpc-codec.ts';

const ERROR = { code: 'ERR_RPC_PROTOCOL' };

/** A frame around any body. */
function frame(body: Uint8Array, length = body.length): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(length);
  return Buffer.concat([header, body]);
}

t.test('a message is a big-endian length and a MessagePack map', (t) => {
  // {id: 1, method: "status", params: {}} by the MessagePack specification: fixmap and map 16.
  const short = '83a2696401a66d6574686f64a6737461747573a6706172616d7380';
  const long = 'de0003a2696401a66d6574686f64a6737461747573a6706172616d73de0000';
  const message = { id: 1, method: 'status', params: {} };
  t.equal(encodeRpcMessage(message).toString('hex'), `0000001f${long}`);
  t.same(new RpcDecoder().push(Buffer.from(`0000001b${short}0000001f${long}`, 'hex')), [
    message,
    message,
  ]);
  t.end();
});

t.test('messages come out whole, whichever bytes came together', (t) => {
  const messages = [
    { id: 1, method: 'status', params: {} },
    {},
    { id: 2 ** 53 - 1, result: ['ä', null, true, 1.5, { deep: [[[]]] }] },
    { id: 3, error: { code: 'ERR_TIMEOUT', message: 'x'.repeat(300) } },
  ];
  const bytes = Buffer.concat(messages.map(encodeRpcMessage));
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const decoder = new RpcDecoder();
    const got = [...decoder.push(bytes.subarray(0, cut)), ...decoder.push(bytes.subarray(cut))];
    if (!t.same(got, messages, `cut at ${cut}`)) break;
  }
  const decoder = new RpcDecoder();
  const got = [...bytes].flatMap((byte) => decoder.push(Buffer.from([byte])));
  t.same(got, messages, 'byte by byte');
  t.end();
});

t.test('any JSON value in a map comes back, in any chunks', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 })), { maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 }),
      (messages, sizes) => {
        const plain = JSON.parse(JSON.stringify(messages)) as Record<string, unknown>[];
        fc.pre(!JSON.stringify(plain).includes('__proto__'));
        const bytes = Buffer.concat(plain.map(encodeRpcMessage));
        const decoder = new RpcDecoder();
        const got: unknown[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
          const size = sizes[turn % sizes.length] ?? 1;
          got.push(...decoder.push(bytes.subarray(at, at + size)));
          at += size;
        }
        return JSON.stringify(got) === JSON.stringify(plain);
      },
    ),
  );
  t.pass('every value');
  t.end();
});

t.test('what is no message is refused', (t) => {
  const pack = (value: unknown): Buffer => frame(new Packr({ useRecords: false }).pack(value));
  const cases: { name: string; bytes: Buffer }[] = [
    { name: 'a length over 1 MiB', bytes: Buffer.from('00100001', 'hex') },
    { name: 'the greatest length', bytes: Buffer.from('ffffffff', 'hex') },
    { name: 'no body', bytes: frame(Buffer.alloc(0)) },
    { name: 'an integer', bytes: pack(5) },
    { name: 'nil', bytes: pack(null) },
    { name: 'a string', bytes: pack('status') },
    { name: 'an array', bytes: pack([{ id: 1 }]) },
    { name: 'a date', bytes: frame(Buffer.from('d6ff00000000', 'hex')) },
    { name: 'an unknown extension', bytes: frame(Buffer.from('d46300', 'hex')) },
    { name: 'a reserved byte', bytes: frame(Buffer.from('c1', 'hex')) },
    { name: 'a map that is cut short', bytes: frame(Buffer.from('82a161', 'hex')) },
    { name: 'bytes behind the map', bytes: frame(Buffer.from('8000', 'hex')) },
    { name: 'two maps', bytes: frame(Buffer.from('8080', 'hex')) },
    { name: 'HTTP', bytes: Buffer.from('GET / HTTP/1.1\r\n\r\n') },
  ];
  for (const { name, bytes } of cases) t.throws(() => new RpcDecoder().push(bytes), ERROR, name);
  t.end();
});

t.test('a message of exactly 1 MiB is taken', (t) => {
  const message = { a: 'x'.repeat(1024 * 1024 - 10) };
  const bytes = encodeRpcMessage(message);
  t.equal(bytes.readUInt32BE(), 1024 * 1024);
  t.same(new RpcDecoder().push(bytes), [message]);
  t.end();
});

t.test('lengths inside a message make nothing of their size', (t) => {
  const bodies = [
    // Arrays and maps that say 2^32 - 1 or 32 Mi entries, nested; strings and binaries as long.
    'ddffffffff'.repeat(1000),
    'dd02000000'.repeat(1000),
    'dd01ffffff'.repeat(100),
    `81a161${'dd01ffffff'.repeat(100)}`,
    'dfffffffff',
    '81a161dfffffffff',
    '81a161dbffffffff',
    '81a161c6ffffffff',
    '81a161c9ffffffff63',
  ];
  for (const body of bodies) {
    const before = process.memoryUsage().rss;
    t.throws(
      () => new RpcDecoder().push(frame(Buffer.from(body, 'hex'))),
      ERROR,
      body.slice(0, 30),
    );
    const grown = process.memoryUsage().rss - before;
    t.ok(grown < 100 * 2 ** 20, `${body.slice(0, 30)}: ${grown} bytes`);
  }
  t.end();
});

t.test('depth is an error, not a crash', (t) => {
  for (const open of ['91', '81a161']) {
    const body = Buffer.from(open.repeat(300_000), 'hex');
    t.throws(() => new RpcDecoder().push(frame(body)), ERROR);
  }
  t.end();
});

t.test('what one message defines means nothing in the next, of any connection', (t) => {
  // msgpackr's record extension: defines that byte 0x40 stands for a map with the key "x".
  const definition = frame(Buffer.from('d4724091a178c3', 'hex'));
  try {
    new RpcDecoder().push(definition);
  } catch {
    // Refused or taken: either will do.
  }
  const decoder = new RpcDecoder();
  t.same(decoder.push(encodeRpcMessage({ id: 0x40, next: 0x41 })), [{ id: 64, next: 65 }]);
  t.end();
});

t.test('a map key cannot reach the prototype', (t) => {
  const body = Buffer.from('81a95f5f70726f746f5f5f81a161c3', 'hex');
  let decoded: Record<string, unknown>[] = [];
  try {
    decoded = new RpcDecoder().push(frame(body));
  } catch {
    decoded = [];
  }
  t.equal(({} as Record<string, unknown>)['a'], undefined);
  for (const message of decoded) t.equal(message['a'], undefined);
  t.end();
});

t.test('a message that comes one byte at a time costs no more than itself', (t) => {
  const bytes = encodeRpcMessage({ a: 'x'.repeat(900_000) });
  const decoder = new RpcDecoder();
  const before = process.memoryUsage();
  const held = (): number => {
    const now = process.memoryUsage();
    return now.heapUsed - before.heapUsed + now.arrayBuffers - before.arrayBuffers;
  };
  let most = 0;
  let got: unknown[] = [];
  for (let at = 0; at < bytes.length; at += 1) {
    got = decoder.push(Buffer.from(bytes.subarray(at, at + 1)));
    if (at % 100_000 === 99_999) most = Math.max(most, held());
  }
  t.equal(got.length, 1);
  t.ok(most < 40 * 2 ** 20, `${most} bytes held`);
  t.end();
});
