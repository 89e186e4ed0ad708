/** The transmission phase over a real socket, in each of the three framings. */
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { startNbdServer, eventually } from '../helpers/nbd-fixture.ts';
import { RawClient, request, u32, u64, type RawMode } from '../helpers/nbd-raw-client.ts';

const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN] = [1, 2, 4, 8, 16, 32];
const MIB = 2 ** 20;
const MODES: RawMode[] = ['simple', 'structured', 'extended'];
const cookie = 0xfedcba9876543210n;

for (const mode of MODES) {
  t.test(`${mode}: what is written is read back, whole and in part`, async (t) => {
    const { target } = await startNbdServer(t);
    const client = await RawClient.open(target, mode);
    const payload = Buffer.from(Array.from({ length: 10_000 }, (_, i) => i % 251));
    const flags = mode === 'extended' ? PAYLOAD_LEN : 0;
    const written = await client.ask({
      command: WRITE,
      flags,
      cookie,
      offset: 777,
      length: 10_000,
      payload,
    });
    t.match(written, { cookie, error: 0 });
    const read = await client.ask({ command: READ, cookie, offset: 776, length: 10_002 }, 10_002);
    t.match(read, { cookie, error: 0 });
    const data = mode === 'simple' ? read.data : read.data.subarray(8);
    t.same(data, Buffer.concat([Buffer.alloc(1), payload, Buffer.alloc(1)]));
    if (mode !== 'simple') {
      t.match(read, { flags: 1, type: 1 });
      t.equal(read.data.readBigUInt64BE(0), 776n);
    }
    if (mode === 'extended') t.equal(read.offset, 776n);
    client.destroy();
  });

  t.test(`${mode}: each command answers as the specification says`, async (t) => {
    const { target, device } = await startNbdServer(t);
    const client = await RawClient.open(target, mode);
    const size = device.sizeBytes;
    const write = { command: WRITE, flags: mode === 'extended' ? PAYLOAD_LEN : 0 };
    const cases: [string, Parameters<RawClient['ask']>[0], number][] = [
      ['flush', { command: FLUSH }, 0],
      ['FUA flush', { command: FLUSH, flags: FUA }, 0],
      ['flush with a length', { command: FLUSH, length: 1 }, 22],
      ['trim', { command: TRIM, length: size }, 0],
      ['FUA trim', { command: TRIM, flags: FUA, length: 5000 }, 0],
      ['zeroes', { command: ZEROES, flags: FUA | NO_HOLE | FAST_ZERO, length: 5000 }, 0],
      ['cache', { command: CACHE, length: 5000 }, 0],
      ['write past the end', { ...write, offset: size, length: 4, payload: Buffer.alloc(4) }, 28],
      ['zeroes past the end', { command: ZEROES, offset: 1, length: size }, 28],
      ['read past the end', { command: READ, offset: size - 1, length: 2 }, 22],
      ['read at 2^63', { command: READ, offset: 2n ** 63n, length: 2 }, 22],
      ['trim past the end', { command: TRIM, offset: size, length: 1 }, 22],
      ['an unknown command', { command: 77 }, 22],
      ['an unknown flag', { command: READ, flags: 0x4000, length: 1 }, 22],
      ['empty write', { ...write, length: 0 }, 0],
      ['empty read', { command: READ, length: 0 }, 0],
      ['empty trim', { command: TRIM, length: 0 }, 0],
      ['empty zeroes', { command: ZEROES, length: 0 }, 0],
      ['empty block status', { command: STATUS, length: 0 }, 22],
    ];
    for (const [what, parts, error] of cases) {
      const reply = await client.ask({ ...parts, cookie });
      t.match(reply, { cookie, error }, what);
      if (mode !== 'simple' && (parts.command === READ || mode === 'extended')) {
        t.match(reply, { flags: 1, type: error === 0 ? 0 : 0x8001 }, `${what} is one chunk`);
      }
      if (mode === 'extended') t.equal(reply.offset, BigInt(parts.offset ?? 0), `${what} offset`);
    }
    t.equal(device.flushCount, 3, 'two flushes and the one behind the FUA trim');
    client.destroy();
  });

  t.test(`${mode}: a write is followed by the next request, whatever became of it`, async (t) => {
    const { target } = await startNbdServer(t, { sizeBytes: MIB });
    const client = await RawClient.open(target, mode);
    const flags = mode === 'extended' ? PAYLOAD_LEN : 0;
    const lengths = [512, 300_000, 2 * MIB, 33 * MIB];
    for (const length of lengths) {
      const parts = { command: WRITE, flags, offset: MIB - 1, length };
      const reply = await client.ask({ ...parts, cookie, payload: Buffer.alloc(length, 1) });
      t.match(reply, { cookie, error: length > 32 * MIB ? 22 : 28 }, `${length}`);
      const unknown = { command: WRITE, flags: flags | 0x100, length };
      t.match(await client.ask({ ...unknown, payload: Buffer.alloc(length) }), { error: 22 });
    }
    t.match(await client.ask({ command: FLUSH }), { error: 0 });
    client.destroy();
  });

  t.test(`${mode}: errors of the device reach the client, and never with data`, async (t) => {
    let status: 0 | 1 | 2 | 3 | 4 | 5 | 6 = IoStatus.OK;
    const { target } = await startNbdServer(t, { device: { failure: () => status } });
    const client = await RawClient.open(target, mode);
    const expected = [0, 22, 28, 5, 5, 108, 5];
    for (const value of [1, 2, 3, 4, 5, 6] as const) {
      status = value;
      for (const command of [READ, WRITE, FLUSH, TRIM, ZEROES]) {
        const payload = command === WRITE ? Buffer.alloc(4096) : Buffer.alloc(0);
        const length = command === FLUSH ? 0 : 4096;
        const reply = await client.ask({ command, length, payload });
        t.equal(reply.error, expected[value], `status ${value}, command ${command}`);
      }
    }
    status = IoStatus.OK;
    t.match(await client.ask({ command: FLUSH }), { error: 0 });
    client.destroy();
  });
}

t.test('a read-only export refuses to be changed', async (t) => {
  const { target, device } = await startNbdServer(t, { readOnly: true });
  const client = await RawClient.open(target, 'structured');
  for (const command of [WRITE, TRIM, ZEROES]) {
    const payload = command === WRITE ? Buffer.alloc(512, 1) : Buffer.alloc(0);
    t.match(await client.ask({ command, length: 512, payload }), { error: 1 });
  }
  t.match(await client.ask({ command: READ, length: 512 }), { error: 0 });
  t.equal(device.present[0], 0);
  client.destroy();
});

t.test('FUA reaches the device with the write that carries it', async (t) => {
  const { target, device } = await startNbdServer(t);
  const client = await RawClient.open(target, 'simple');
  await client.ask({ command: WRITE, length: 512, payload: Buffer.alloc(512) });
  t.equal(device.fuaCount, 0);
  await client.ask({ command: WRITE, flags: FUA, length: 512, payload: Buffer.alloc(512) });
  t.equal(device.fuaCount, 1);
  const payload = Buffer.alloc(400_000, 7);
  await client.ask({ command: WRITE, flags: FUA, length: 400_000, payload });
  t.equal(device.fuaCount, 2, 'also when the write was gathered');
  await client.ask({ command: ZEROES, flags: FUA, length: 512 });
  t.equal(device.fuaCount, 3);
  client.destroy();
});

t.test('block status tells data from holes, in 32 bits', async (t) => {
  const { target } = await startNbdServer(t);
  const client = await RawClient.open(target, 'structured');
  await client.ask({ command: WRITE, offset: 8192, length: 1, payload: Buffer.alloc(1, 1) });
  const reply = await client.ask({ command: STATUS, length: 65536 });
  t.match(reply, { type: 5, flags: 1 });
  t.equal(
    reply.data.toString('hex'),
    '00000001' + '0000200000000003' + '0000100000000000' + '0000d00000000003',
  );
  const one = await client.ask({ command: STATUS, flags: REQ_ONE, length: 65536 });
  t.equal(one.data.toString('hex'), '00000001' + '0000200000000003');
  client.destroy();
});

t.test('block status in 64 bits, and with a payload', async (t) => {
  const { target } = await startNbdServer(t);
  const client = await RawClient.open(target, 'extended');
  const wide = '00000001' + '00000001' + '0000000000100000' + '0000000000000003';
  const reply = await client.ask({ command: STATUS, length: MIB });
  t.match(reply, { type: 6, flags: 1 });
  t.equal(reply.data.toString('hex'), wide);
  const payload = Buffer.concat([u64(MIB), u32(1)]);
  const chosen = { command: STATUS, flags: PAYLOAD_LEN, length: 12 };
  t.equal((await client.ask({ ...chosen, payload })).data.toString('hex'), wide);
  const bad: [string, Buffer][] = [
    ['an id that was not given', Buffer.concat([u64(MIB), u32(2)])],
    ['an effect past the end', Buffer.concat([u64(MIB + 1), u32(1)])],
    ['an effect of 2^63', Buffer.concat([u64(2n ** 63n), u32(1)])],
    ['an effect of nothing', Buffer.concat([u64(0), u32(1)])],
    ['no id', u64(MIB)],
    ['two ids', Buffer.concat([u64(MIB), u32(1), u32(1)])],
    ['half an id', Buffer.concat([u64(MIB), Buffer.alloc(2)])],
    ['nothing', Buffer.alloc(0)],
    ['a great payload', Buffer.alloc(MIB)],
  ];
  for (const [what, bytes] of bad) {
    const parts = { command: STATUS, flags: PAYLOAD_LEN, length: bytes.length, payload: bytes };
    t.match(await client.ask(parts), { type: 0x8001, error: 22 }, what);
  }
  t.match(await client.ask({ command: FLUSH }), { error: 0 });
  client.destroy();
});

t.test('a client that set no context gets no block status', async (t) => {
  const { target } = await startNbdServer(t);
  const client = await RawClient.open(target, 'structured', 'memory', false);
  t.match(await client.ask({ command: STATUS, length: 512 }), { error: 22 });
  client.destroy();
});

t.test('a read with DF is one chunk, to the greatest payload', async (t) => {
  const { target } = await startNbdServer(t, { sizeBytes: 40 * MIB });
  const client = await RawClient.open(target, 'structured');
  for (const length of [65536, MIB, 32 * MIB]) {
    const reply = await client.ask({ command: READ, flags: DF, offset: 5, length });
    t.match(reply, { type: 1, flags: 1, error: 0 });
    t.equal(reply.data.length, length + 8);
  }
  t.match(await client.ask({ command: READ, flags: DF, length: 33 * MIB }), { error: 75 });
  client.destroy();
});

for (const refuseTryWrite of [false, true]) {
  const how = refuseTryWrite ? 'through pooled buffers' : 'straight from the input';
  t.test(`requests cut at every byte are the same requests, ${how}`, async (t) => {
    const { target } = await startNbdServer(t, { device: { refuseTryWrite } });
    const client = await RawClient.open(target, 'simple');
    const payload = Buffer.from('0123456789');
    const bytes = Buffer.concat([
      request({ command: WRITE, cookie: 1n, offset: 100, length: 10, payload }),
      request({ command: READ, cookie: 2n, offset: 99, length: 12 }),
    ]);
    for (let cut = 1; cut < bytes.length; cut += 1) {
      client.send(bytes.subarray(0, cut));
      await new Promise((resolve) => setImmediate(resolve));
      client.send(bytes.subarray(cut));
      t.match(await client.reply(), { cookie: 1n, error: 0 });
      const { data } = await client.reply(12);
      if (data.toString('latin1') !== '\x000123456789\x00') t.fail(`cut at ${cut}`);
      await client.ask({ command: ZEROES, length: 4096 });
    }
    client.destroy();
  });
}

t.test('a first request that came with GO is served', async (t) => {
  const { target } = await startNbdServer(t);
  const client = await RawClient.connect(target);
  const name = Buffer.from('memory');
  const early = request({ command: READ, cookie: 9n, length: 16 });
  client.send(
    Buffer.concat([u32(3), Buffer.from('IHAVEOPT'), u32(1), u32(name.length), name, early]),
  );
  await client.read(28);
  t.match(await client.reply(16), { cookie: 9n, error: 0 });
  client.destroy();
});

t.test('what is out of step or absurd closes the connection, and only that one', async (t) => {
  const { target } = await startNbdServer(t);
  const witness = await RawClient.open(target, 'simple');
  const cases: [string, RawMode, Buffer][] = [
    ['a wrong magic', 'simple', Buffer.alloc(28, 'x')],
    ['a write of 2^32 - 1', 'simple', request({ command: WRITE, length: 0xffffffff })],
    ['a write over 64 MiB', 'simple', request({ command: WRITE, length: 64 * MIB + 1 })],
    ['a compact request after extended headers', 'extended', request({ command: READ })],
  ];
  for (const [what, mode, bytes] of cases) {
    const client = await RawClient.open(target, mode);
    client.send(Buffer.concat([bytes, Buffer.alloc(4)]));
    t.equal(await client.closed(), true, what);
  }
  const client = await RawClient.open(target, 'extended');
  client.request({ command: WRITE, flags: PAYLOAD_LEN, length: 2n ** 63n });
  t.equal(await client.closed(), true, 'an extended write of 2^63');
  t.match(await witness.ask({ command: FLUSH }), { error: 0 });
  witness.destroy();
});

t.test('DISC is not answered, but what is in flight is', async (t) => {
  const { target, device } = await startNbdServer(t, { device: { delayMs: () => 50 } });
  const client = await RawClient.open(target, 'simple');
  client.request({ command: WRITE, cookie: 5n, length: 4096, payload: Buffer.alloc(4096, 9) });
  client.request({ command: DISC, cookie: 6n });
  client.request({ command: READ, cookie: 7n, length: 4096 });
  t.match(await client.reply(), { cookie: 5n, error: 0 });
  t.equal(await client.closed(), true);
  t.equal(device.memory.bytes[4095], 9);
});

t.test('replies come as the device ends, each with its own cookie and data', async (t) => {
  let turn = 0;
  const { target } = await startNbdServer(t, { device: { delayMs: () => (turn++ % 7) * 4 } });
  const client = await RawClient.open(target, 'simple');
  for (let page = 0; page < 100; page += 1) {
    const payload = Buffer.alloc(4096, page + 1);
    client.request({
      command: WRITE,
      cookie: BigInt(page),
      offset: page * 4096,
      length: 4096,
      payload,
    });
  }
  for (let page = 0; page < 100; page += 1) t.match(await client.reply(), { error: 0 });
  const order: bigint[] = [];
  for (let page = 0; page < 100; page += 1) {
    client.request({ command: READ, cookie: BigInt(page), offset: page * 4096, length: 4096 });
  }
  for (let page = 0; page < 100; page += 1) {
    const reply = await client.reply(4096);
    order.push(reply.cookie);
    const expected = Number(reply.cookie) + 1;
    if (!reply.data.every((byte) => byte === expected)) t.fail(`page ${reply.cookie}`);
  }
  t.equal(new Set(order).size, 100);
  t.notSame(
    order,
    [...order].sort((a, b) => Number(a - b)),
    'they were reordered',
  );
  client.destroy();
});

t.test('a client that does not read is not read from, and loses nothing', async (t) => {
  const { target, server } = await startNbdServer(t, { sizeBytes: 8 * MIB });
  const client = await RawClient.open(target, 'simple');
  const pattern = Buffer.from(Array.from({ length: 8 * MIB }, (_, i) => (i >> 8) % 253));
  await client.ask({ command: WRITE, length: 8 * MIB, payload: pattern });
  client.socket.pause();
  const count = 600;
  for (let index = 0; index < count; index += 1) {
    const offset = (index % 31) * 262_144;
    client.request({ command: READ, cookie: BigInt(index), offset, length: 262_144 });
    if (index % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  const answered = server.stats.requests['NBD_CMD_READ'] ?? 0;
  t.ok(answered < 300, `the server stopped at ${answered} of ${count} reads`);
  client.socket.resume();
  const seen = new Set<bigint>();
  for (let index = 0; index < count; index += 1) {
    const reply = await client.reply(262_144);
    seen.add(reply.cookie);
    const offset = (Number(reply.cookie) % 31) * 262_144;
    const expected = pattern.subarray(offset, offset + 262_144);
    if (!reply.data.equals(expected)) t.fail(`reply ${reply.cookie}`);
  }
  t.equal(seen.size, count, 'each was answered once');
  client.destroy();
});

t.test('more requests than slots all end', async (t) => {
  const { target } = await startNbdServer(t, { device: { delayMs: () => Math.random() * 3 } });
  const client = await RawClient.open(target, 'simple');
  const count = 2000;
  const requests = Array.from({ length: count }, (_, index) =>
    request({ command: READ, cookie: BigInt(index), offset: (index % 256) * 4096, length: 4096 }),
  );
  client.send(Buffer.concat(requests));
  const seen = new Set<bigint>();
  for (let index = 0; index < count; index += 1) seen.add((await client.reply(4096)).cookie);
  t.equal(seen.size, count);
  client.destroy();
});

t.test('a client may die with requests in flight and half a write sent', async (t) => {
  const { target, device, server } = await startNbdServer(t, {
    device: { delayMs: () => 20 },
    sizeBytes: 8 * MIB,
  });
  for (let round = 0; round < 10; round += 1) {
    const client = await RawClient.open(target, 'simple');
    for (let index = 0; index < 100; index += 1) {
      client.request({ command: READ, length: 65536 });
    }
    client.send(request({ command: WRITE, length: 4 * MIB }));
    client.send(Buffer.alloc(MIB));
    await new Promise((resolve) => setTimeout(resolve, round));
    client.destroy();
  }
  await eventually(() => server.stats.connectionCount === 0, 'all connections ended');
  t.equal(device.openQueueCount, 0, 'every queue was closed');
});
