/** A server goes on where another one stopped, with the same sockets: no client can tell. */
import fs from 'node:fs';
import net from 'node:net';
import koffi from 'koffi';
import t, { type Test } from 'tap';
import { silentLogger } from '../../common/log.ts';
import { NbdServer } from '../../nbd-server/server.ts';
import type { MemoryDevice } from '../helpers/memory-device.ts';
import { eventually, startNbdServer } from '../helpers/nbd-fixture.ts';
import { RawClient, extendedRequest, request } from '../helpers/nbd-raw-client.ts';

const dup = koffi.load(null).func('int dup(int fd)');
const [READ, WRITE] = [0, 1];

/** Another server over the same device, with copies of everything that the first, held one has. */
async function takeOver(
  t: Test,
  first: NbdServer,
  device: MemoryDevice,
  path: string,
): Promise<NbdServer> {
  const second = new NbdServer({ logger: silentLogger });
  second.addExport(device);
  const { listeners, connections, waiting } = first.state();
  const copies = connections.map((state) => ({
    ...state,
    fd: dup(state.fd) as number,
    unread: Buffer.from(state.unread),
  }));
  const strangers = waiting.map((fd) => dup(fd) as number);
  const listening = listeners.map((fd) => dup(fd) as number);
  first.abandon();
  for (const state of copies) second.resume(state);
  for (const fd of strangers) second.acceptDescriptor(fd);
  for (const fd of listening) await second.listen({ path }, fd);
  t.teardown(() => second.close(500));
  return second;
}

t.test('held, a server answers what it has begun and begins nothing', async (t) => {
  const { server, device, target } = await startNbdServer(t, { device: { delayMs: () => 100 } });
  const client = await RawClient.open(target, 'simple');
  client.request({ command: READ, cookie: 1n, length: 4 });
  await eventually(() => device.runningCount === 1, 'the read is in flight');
  server.hold();
  t.equal(server.held, false, 'a request is in flight');
  client.request({ command: READ, cookie: 2n, length: 4 });
  t.equal((await client.reply(4)).cookie, 1n);
  await eventually(() => server.held, 'held');
  let answered = false;
  const second = client.reply(4).then((reply) => {
    answered = true;
    return reply;
  });
  await new Promise((resolve) => setTimeout(resolve, 250));
  t.equal(answered, false, 'the next one waits');
  server.goOn();
  t.equal((await second).cookie, 2n);
  client.destroy();
});

for (const mode of ['simple', 'structured', 'extended'] as const) {
  t.test(`a connection goes on in another server, ${mode}`, async (t) => {
    const { server, device, target } = await startNbdServer(t);
    const client = await RawClient.open(target, mode);
    const encode = mode === 'extended' ? extendedRequest : request;
    const data = Buffer.alloc(8192, 'abcd');
    await client.ask({ command: WRITE, length: data.length, payload: data });
    server.hold();
    await eventually(() => server.held, 'held');
    // One request and a half lie in the socket when the other server comes.
    const asked = encode({ command: READ, cookie: 7n, length: 8 });
    const payload = Buffer.alloc(4096, 'wxyz');
    const flags = mode === 'extended' ? 0x20 : 0;
    const written = encode({
      command: WRITE,
      flags,
      cookie: 8n,
      offset: 4096,
      length: 4096,
      payload,
    });
    client.send(Buffer.concat([asked, written.subarray(0, 100)]));
    await takeOver(t, server, device, target.path);
    t.match(await client.reply(8), { cookie: 7n, error: 0 });
    client.send(written.subarray(100));
    t.match(await client.reply(), { cookie: 8n, error: 0 });
    t.equal(device.memory.bytes.toString('latin1', 4096, 4100), 'wxyz');
    client.destroy();
  });
}

t.test('what was read and not begun goes over too', async (t) => {
  const { server, device, target } = await startNbdServer(t);
  const client = await RawClient.open(target, 'simple');
  const payload = Buffer.alloc(4096, 'wxyz');
  const written = request({ command: WRITE, cookie: 8n, length: 4096, payload });
  client.send(written.subarray(0, 2000));
  await new Promise((resolve) => setTimeout(resolve, 200));
  server.hold();
  t.equal(server.held, true, 'a write whose bytes are not all here has not begun');
  t.equal(server.state().connections[0]?.unread.length, 2000);
  await takeOver(t, server, device, target.path);
  client.send(written.subarray(2000));
  t.match(await client.reply(), { cookie: 8n, error: 0 });
  t.equal(device.memory.bytes.toString('latin1', 0, 4), 'wxyz');
  client.destroy();
});

t.test('a write that is being gathered is finished first', async (t) => {
  const { server, target } = await startNbdServer(t, { sizeBytes: 4 * 2 ** 20 });
  const client = await RawClient.open(target, 'simple');
  const length = 2 * 2 ** 20;
  const written = request({ command: WRITE, cookie: 8n, length, payload: Buffer.alloc(length, 1) });
  client.send(written.subarray(0, 1_000_000));
  await new Promise((resolve) => setTimeout(resolve, 50));
  server.hold();
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(server.held, false);
  client.send(written.subarray(1_000_000));
  t.match(await client.reply(), { cookie: 8n, error: 0 });
  await eventually(() => server.held, 'held');
  server.goOn();
  t.equal((await client.ask({ command: READ, length: 4 }, 4)).data.readUInt32BE(), 0x01010101);
  client.destroy();
});

t.test('clients that come meanwhile are served afterwards, by whom there is', async (t) => {
  const { server, device, target } = await startNbdServer(t);
  server.hold();
  const early = RawClient.open(target, 'simple');
  await eventually(() => server.state().waiting.length === 1, 'a client waits');
  server.goOn();
  t.equal((await (await early).ask({ command: READ, length: 4 }, 4)).error, 0);
  server.hold();
  const late = RawClient.open(target, 'simple');
  await eventually(() => server.state().waiting.length === 1, 'a client waits');
  const second = await takeOver(t, server, device, target.path);
  t.equal((await (await late).ask({ command: READ, length: 4 }, 4)).error, 0);
  const fresh = await RawClient.open(target, 'simple');
  t.equal((await fresh.ask({ command: READ, length: 4 }, 4)).error, 0, 'the path leads to it');
  for (const client of [await early, await late, fresh]) client.destroy();
  await second.close(500);
  t.notOk(fs.existsSync(target.path), 'the file goes with the last server');
  const nobody = net.connect(target);
  await t.rejects(new Promise((_, reject) => nobody.once('error', reject)), { code: 'ENOENT' });
});
