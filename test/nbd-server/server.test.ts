import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import t from 'tap';
import { ByteStream } from '../../common/byte-stream.ts';
import { silentLogger } from '../../common/log.ts';
import { inspectExport, listExports } from '../../nbd-server/client/connection.ts';
import { NbdServer } from '../../nbd-server/server.ts';
import { MemoryDevice } from '../helpers/memory-device.ts';
import { eventually, startNbdServer } from '../helpers/nbd-fixture.ts';
import { infoData, option, RawClient, u32 } from '../helpers/nbd-raw-client.ts';

const [READ, WRITE, FLUSH] = [0, 1, 3];

t.test('several exports, each its own device', async (t) => {
  const { server, target } = await startNbdServer(t);
  const second = new MemoryDevice(8192, { name: 'second' });
  server.addExport(second, { readOnly: true });
  const one = await RawClient.open(target, 'simple', 'memory');
  const two = await RawClient.open(target, 'simple', 'second');
  await one.ask({ command: WRITE, length: 4, payload: Buffer.from('abcd') });
  t.equal((await one.ask({ command: READ, length: 4 }, 4)).data.toString(), 'abcd');
  t.equal((await two.ask({ command: READ, length: 4 }, 4)).data.toString(), '\0\0\0\0');
  t.equal(server.clientCount('memory'), 1);
  t.equal(server.clientCount('second'), 1);
  t.throws(() => server.addExport(second), { code: 'ERR_VOLUME_EXISTS' });
  for (const name of ['', 'a\0b', 'n'.repeat(4097)]) {
    t.throws(() => server.addExport(new MemoryDevice(4096, { name })), { code: 'ERR_USAGE' });
  }
  one.destroy();
  two.destroy();
});

t.test('a flush on one connection covers what was answered on another', async (t) => {
  const { target, device } = await startNbdServer(t);
  const one = await RawClient.open(target, 'simple');
  const two = await RawClient.open(target, 'simple');
  await one.ask({ command: WRITE, length: 4, payload: Buffer.from('abcd') });
  await two.ask({ command: FLUSH });
  t.equal((await two.ask({ command: READ, length: 4 }, 4)).data.toString(), 'abcd');
  t.equal(device.flushCount, 1);
  one.destroy();
  two.destroy();
});

t.test('removing an export ends its clients and no others', async (t) => {
  const { server, target } = await startNbdServer(t);
  server.addExport(new MemoryDevice(8192, { name: 'second' }));
  const one = await RawClient.open(target, 'simple', 'memory');
  const two = await RawClient.open(target, 'simple', 'second');
  await server.removeExport('second');
  t.equal(await two.closed(), true);
  t.match(await one.ask({ command: FLUSH }), { error: 0 });
  await t.rejects(server.removeExport('second'), { code: 'ERR_NBD_EXPORT_UNKNOWN' });
  one.destroy();
});

t.test('a client over the cap is closed, and its place can be taken later', async (t) => {
  const { target, server } = await startNbdServer(t, { server: { connectionCountMax: 2 } });
  const one = await RawClient.open(target, 'simple');
  const two = await RawClient.open(target, 'simple');
  const three = await RawClient.connect(target);
  t.equal(await three.closed(), true);
  one.destroy();
  await eventually(() => server.stats.connectionCount === 1, 'the first one ended');
  const four = await RawClient.open(target, 'simple');
  t.match(await four.ask({ command: FLUSH }), { error: 0 });
  two.destroy();
  four.destroy();
});

t.test('a handshake that does not end in time is closed', async (t) => {
  const { target } = await startNbdServer(t, { server: { handshakeTimeoutMs: 100 } });
  const silent = await RawClient.connect(target);
  const halfway = await RawClient.connect(target);
  halfway.send(Buffer.concat([u32(3), Buffer.from('IHAVEOPT'), u32(7)]));
  const done = await RawClient.open(target, 'simple');
  await silent.read(18);
  await halfway.read(18);
  t.equal(await silent.closed(), true);
  t.equal(await halfway.closed(), true);
  t.match(await done.ask({ command: FLUSH }), { error: 0 }, 'one that ended in time lives on');
  done.destroy();
});

t.test('closing finishes what is in flight, refuses what comes, and ends', async (t) => {
  const { target, server, device } = await startNbdServer(t, { device: { delayMs: () => 150 } });
  const busy = await RawClient.open(target, 'simple');
  const idle = await RawClient.open(target, 'simple');
  const greeted = await RawClient.connect(target);
  await greeted.read(18);
  busy.request({ command: WRITE, cookie: 1n, length: 4, payload: Buffer.from('abcd') });
  await eventually(() => server.stats.connectionCount === 3, 'all are connected');
  await eventually(() => device.runningCount === 1, 'the write is in flight');
  const closed = server.close(2000);
  greeted.send(Buffer.concat([u32(3), option(7, infoData('memory'))]));
  t.equal((await greeted.optionReply()).type, 0x80000007, 'an option gets ERR_SHUTDOWN');
  greeted.destroy();
  busy.request({ command: FLUSH, cookie: 2n });
  t.match(await busy.reply(), { cookie: 2n, error: 108 }, 'a new request gets ESHUTDOWN');
  t.match(await busy.reply(), { cookie: 1n, error: 0 }, 'the one in flight ends well');
  t.equal(await busy.closed(), true);
  t.equal(await idle.closed(), true);
  await closed;
  t.equal(device.memory.bytes.toString('latin1', 0, 4), 'abcd');
  t.equal(device.openQueueCount, 0);
  await t.rejects(RawClient.connect(target), 'nobody listens any more');
});

t.test('closing does not wait for ever', async (t) => {
  const { target, server, device } = await startNbdServer(t, { device: { delayMs: () => 700 } });
  const client = await RawClient.open(target, 'simple');
  client.request({ command: READ, length: 4096 });
  await eventually(() => device.runningCount === 1, 'the read is in flight');
  await server.close(50);
  t.equal(await client.closed(), true, 'cut at the deadline');
  t.equal(device.openQueueCount, 0);
});

t.test('a stale socket file is replaced, a live one is not', async (t) => {
  const { target, server } = await startNbdServer(t);
  const rival = new NbdServer({ logger: silentLogger });
  await t.rejects(rival.listen(target), { code: 'ERR_DAEMON_BUSY' });
  await server.close(100);
  const listener = net.createServer();
  await new Promise<void>((resolve) => listener.listen(target.path, resolve));
  // A process that dies leaves the file: closing the handle without unlinking is the same.
  fs.renameSync(target.path, `${target.path}.kept`);
  await new Promise((resolve) => listener.close(resolve));
  fs.renameSync(`${target.path}.kept`, target.path);
  t.equal(fs.statSync(target.path).isSocket(), true);
  await rival.listen(target);
  t.equal(fs.statSync(target.path).mode & 0o777, 0o600);
  const client = await RawClient.connect(target);
  await client.read(18);
  client.destroy();
  await rival.close(100);
});

t.test('a file that is no socket is left alone', async (t) => {
  const { target, server } = await startNbdServer(t);
  const file = `${target.path}.txt`;
  fs.writeFileSync(file, 'precious');
  await t.rejects(server.listen({ path: file }));
  t.equal(fs.readFileSync(file, 'utf8'), 'precious');
});

t.test('TCP: the port that the system chose is told', async (t) => {
  const { server } = await startNbdServer(t);
  const bound = await server.listen({ host: '127.0.0.1', port: 0 });
  t.ok('port' in bound && bound.port > 0);
  const port = 'port' in bound ? bound.port : 0;
  const client = await RawClient.open({ host: '127.0.0.1', port }, 'structured');
  t.match(await client.ask({ command: FLUSH }), { error: 0 });
  client.destroy();
  await t.rejects(server.listen({ host: '127.0.0.1', port }), { code: 'ERR_DAEMON_BUSY' });
});

t.test('requests are counted by command', async (t) => {
  const { server, target } = await startNbdServer(t);
  const client = await RawClient.open(target, 'simple');
  await client.ask({ command: READ, length: 1 }, 1);
  await client.ask({ command: READ, offset: 2 ** 40, length: 1 });
  await client.ask({ command: FLUSH });
  t.match(server.stats, { connectionCount: 1, errors: 1 });
  t.equal(server.stats.requests['NBD_CMD_READ'], 2);
  t.equal(server.stats.requests['NBD_CMD_FLUSH'], 1);
  client.destroy();
});

t.test('page traffic is told to whoever keeps the event loop awake', async (t) => {
  let activities = 0;
  let forgotten = 0;
  const spin = { onActivity: () => (activities += 1), forget: () => (forgotten += 1) };
  const { target, server } = await startNbdServer(t, { server: { spin } });
  const client = await RawClient.open(target, 'simple');
  t.equal(activities, 0, 'a handshake is no traffic');
  await client.ask({ command: FLUSH });
  t.ok(activities >= 1);
  client.destroy();
  await server.close();
  t.equal(forgotten, 1, 'and its end');
});

t.test('closing ends a handshake that says nothing', async (t) => {
  const { target, server } = await startNbdServer(t);
  const silent = await RawClient.connect(target);
  await silent.read(18);
  await server.close(5000);
  t.equal(await silent.closed(), true);
});

t.test('the device is opened by GO and not before', async (t) => {
  const { target, device } = await startNbdServer(t);
  const client = await RawClient.connect(target);
  await client.read(18);
  client.send(Buffer.concat([u32(3), option(3), option(6, infoData('memory'))]));
  await client.optionReplies();
  await client.optionReplies();
  t.equal(device.openQueueCount, 0);
  client.send(option(7, infoData('memory')));
  await client.optionReplies();
  t.equal(device.openQueueCount, 1);
  client.destroy();
});

t.test('a stream that somebody else made sees one device and not the exports', async (t) => {
  const { server, device } = await startNbdServer(t);
  const other = new MemoryDevice(8192, { name: 'direct' });
  const listener = net.createServer({ pauseOnConnect: true }, (socket) => {
    const handler = { onBytes: () => 0, onDrain: () => undefined, onClosed: () => undefined };
    const sizes = { inputSizeBytes: 2 ** 20, outputChunkSizeBytes: 2 ** 20 };
    server.acceptStream(ByteStream.adopt(socket, sizes, handler), other);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.teardown(() => listener.close());
  const target = { host: '127.0.0.1', port: (listener.address() as net.AddressInfo).port };
  for (const name of ['', 'direct']) {
    const client = await RawClient.open(target, 'simple', name);
    await client.ask({ command: WRITE, length: 4, payload: Buffer.from('abcd') });
    t.equal((await client.ask({ command: READ, length: 4 }, 4)).data.toString(), 'abcd');
    t.equal(server.clientCount('direct'), 1);
    client.destroy();
    await eventually(() => server.stats.connectionCount === 0, 'it ended');
  }
  t.equal(other.memory.bytes.toString('latin1', 0, 4), 'abcd');
  t.equal(device.memory.bytes[0], 0, 'the export of the server is untouched');
  await t.rejects(inspectExport(target, { exportName: 'memory' }), {
    code: 'ERR_NBD_EXPORT_UNKNOWN',
  });
  const { transmissionFlags } = await inspectExport(target, { exportName: '' });
  t.equal(transmissionFlags & 0x0100, 0, 'no CAN_MULTI_CONN');
  const listed = await listExports(target);
  t.same(
    listed.map(({ name }) => name),
    ['direct'],
  );
  const last = await RawClient.open(target, 'simple', 'direct');
  await server.close(5000);
  t.equal(await last.closed(), true, 'it is drained with the server');
  const late = await RawClient.connect(target);
  t.equal(await late.closed(), true, 'a closed server refuses streams');
});
