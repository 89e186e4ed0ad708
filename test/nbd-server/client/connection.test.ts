import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { IoStatus } from '../../../common/ports.ts';
import { NbdClient, inspectExport, listExports } from '../../../nbd-server/client/connection.ts';
import { startNbdServer, type NbdFixtureOptions } from '../../helpers/nbd-fixture.ts';
import { temporaryFolder } from '../../helpers/nbd-servers.ts';

const STYLES = ['simple', 'structured', 'extended'] as const;

/** A server and a client of it, closed with the test. */
async function connected(
  t: Test,
  headerStyle: (typeof STYLES)[number],
  options: NbdFixtureOptions & { requestTimeoutMs?: number } = {},
): Promise<NbdClient> {
  const { target } = await startNbdServer(t, options);
  const client = await NbdClient.connect(target, {
    exportName: 'memory',
    headerStyle,
    requestTimeoutMs: options.requestTimeoutMs ?? 10_000,
  });
  t.teardown(() => client.close());
  return client;
}

/** A server that sends what it is told to and keeps the connection open. */
async function scripted(t: Test, ...greeting: Buffer[]): Promise<{ path: string }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).resume();
    for (const bytes of greeting) socket.write(bytes);
  });
  const place = path.join(temporaryFolder(t), 's.sock');
  server.listen(place);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { path: place };
}

for (const style of STYLES) {
  t.test(`${style} headers: every command does what it says`, async (t) => {
    const client = await connected(t, style);
    t.equal(client.export.headerStyle, style);
    t.equal(client.export.sizeBytes, 1_048_576);
    const bytes = randomBytes(50_000);
    await client.write(1234, bytes, { forceUnitAccess: true });
    t.ok((await client.read(1234, 50_000)).equals(bytes));
    const around = await client.read(1000, 300);
    t.ok(around.subarray(0, 234).equals(Buffer.alloc(234)));
    t.ok(around.subarray(234).equals(bytes.subarray(0, 66)));
    await client.flush();
    await client.writeZeroes(4096, 4096, { noHole: true });
    t.ok((await client.read(4096, 4096)).equals(Buffer.alloc(4096)));
    await client.trim(8192, 4096);
    if (style === 'simple') {
      await t.rejects(client.blockStatus(0, 4096), { code: 'ERR_UNSUPPORTED' });
    } else {
      const extents = await client.blockStatus(0, 1_048_576);
      const total = extents.reduce((sum, extent) => sum + extent.lengthBytes, 0);
      t.ok(total > 0 && total <= 1_048_576);
      t.equal(extents[0]?.flags, 0, 'the written start is allocated');
    }
  });
}

t.test('many in flight, answered out of order, each gets its own bytes', async (t) => {
  let turn = 0;
  const client = await connected(t, 'structured', {
    sizeBytes: 4 * 2 ** 20,
    device: { delayMs: () => (turn++ * 7) % 5 },
  });
  const pages = Array.from({ length: 1024 }, (_, page) => Buffer.alloc(4096, `${page},`));
  await Promise.all(pages.map((bytes, page) => client.write(page * 4096, bytes)));
  const back = await Promise.all(pages.map((_, page) => client.read(page * 4096, 4096)));
  t.ok(back.every((bytes, page) => bytes.equals(pages[page]!)));
});

t.test('a read as large as the protocol allows', async (t) => {
  const client = await connected(t, 'structured', { sizeBytes: 33 * 2 ** 20 });
  const bytes = randomBytes(2 ** 25);
  await client.write(2 ** 20, bytes);
  t.ok((await client.read(2 ** 20, 2 ** 25)).equals(bytes));
  await t.rejects(client.read(0, 2 ** 25 + 1), { code: 'ERR_USAGE' });
});

t.test('a server’s errors are typed and end only their request', async (t) => {
  const client = await connected(t, 'structured', {
    device: {
      failure: (operation, offset) =>
        operation === 'read' && offset === 8192 ? IoStatus.LOST : IoStatus.OK,
    },
  });
  await t.rejects(client.read(8192, 512), { code: 'ERR_NBD_IO', nbdError: 5 });
  t.equal((await client.read(0, 512)).length, 512);
  const readOnly = await connected(t, 'structured', { readOnly: true });
  await t.rejects(readOnly.write(0, Buffer.alloc(8)), { code: 'ERR_NBD_IO', nbdError: 1 });
});

t.test('a range outside the export is refused before it is sent', async (t) => {
  const client = await connected(t, 'structured');
  const wrong: [number, number][] = [
    [0, 0],
    [-1, 4],
    [1_048_576, 1],
    [1_048_575, 2],
    [0.5, 1],
    [0, NaN],
    [2 ** 53, 1],
  ];
  for (const [offset, length] of wrong) {
    await t.rejects(client.trim(offset, length), { code: 'ERR_USAGE' }, `${offset} ${length}`);
  }
});

t.test('a request beyond its deadline ends the connection and everything in flight', async (t) => {
  const client = await connected(t, 'structured', {
    requestTimeoutMs: 100,
    device: { delayMs: (operation) => (operation === 'flush' ? 3000 : 0) },
  });
  const flush = client.flush();
  await t.rejects(flush, { code: 'ERR_TIMEOUT' });
  await t.rejects(client.read(0, 512), { code: 'ERR_TIMEOUT' });
});

t.test('closing waits for what is in flight and then refuses more', async (t) => {
  const client = await connected(t, 'structured', { device: { delayMs: () => 50 } });
  const read = client.read(0, 512);
  await client.close();
  t.equal((await read).length, 512);
  await t.rejects(client.read(0, 512), { code: 'ERR_NBD_CLOSED' });
  await client.close();
});

t.test('a server that goes away ends what is in flight', async (t) => {
  const { target, server } = await startNbdServer(t, { device: { delayMs: () => 5000 } });
  const client = await NbdClient.connect(target, { exportName: 'memory' });
  const read = client.read(0, 512);
  const end = t.rejects(read, { name: /MemcloudError|NbdIoError/ });
  await server.close(10);
  await end;
  await client.close();
});

t.test('LIST and INFO', async (t) => {
  const { target } = await startNbdServer(t, { device: { description: 'a disk' } });
  t.same(await listExports(target), [{ name: 'memory', description: 'a disk' }]);
  t.match(await inspectExport(target, { exportName: 'memory', headerStyle: 'extended' }), {
    sizeBytes: 1_048_576,
    description: 'a disk',
    headerStyle: 'extended',
  });
  await t.rejects(inspectExport(target, { exportName: 'nothing' }), {
    code: 'ERR_NBD_EXPORT_UNKNOWN',
  });
});

t.test('servers that are none', async (t) => {
  const options = { handshakeTimeoutMs: 200 };
  await t.rejects(NbdClient.connect({ path: '/nonexistent/socket' }, options), {
    code: 'ERR_NBD_CLOSED',
    message: /ENOENT/,
  });
  await t.rejects(NbdClient.connect(await scripted(t), options), { code: 'ERR_TIMEOUT' });
  const http = await scripted(t, Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'));
  await t.rejects(NbdClient.connect(http, options), { code: 'ERR_NBD_PROTOCOL' });
  const greeting = Buffer.from('4e42444d4147494349484156454f50540003', 'hex');
  const mute = await scripted(t, greeting);
  await t.rejects(NbdClient.connect(mute, options), { code: 'ERR_TIMEOUT' });
});
