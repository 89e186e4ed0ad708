import { once } from 'node:events';
import { readSync, readdirSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { KernelSocket } from '../../../nbd-server/client/kernel-socket.ts';
import { eventually, startNbdServer } from '../../helpers/nbd-fixture.ts';
import { temporaryFolder } from '../../helpers/nbd-servers.ts';

/** A server that hands each socket to the test. */
async function listening(
  t: Test,
  onSocket: (socket: net.Socket) => void,
  where: 'unix' | 'tcp',
): Promise<{ path: string } | { host: string; port: number }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  const place = path.join(temporaryFolder(t), 's.sock');
  if (where === 'unix') server.listen(place);
  else server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  if (where === 'unix') return { path: place };
  return { host: 'localhost', port: (server.address() as net.AddressInfo).port };
}

/** Greeting, then as the answer to GO: size 65536, ACK, and bytes of the transmission phase. */
const GREETING = Buffer.from('4e42444d4147494349484156454f50540003', 'hex');
const GO_REPLIES = Buffer.from(
  '0003e889045565a9' +
    '00000007' +
    '00000003' +
    '0000000c' +
    '0000' +
    '0000000000010000' +
    '0005' +
    '0003e889045565a9' +
    '00000007' +
    '00000001' +
    '00000000',
  'hex',
);

for (const where of ['unix', 'tcp'] as const) {
  t.test(`over ${where}: not one byte of the transmission phase is read`, async (t) => {
    let sent = Buffer.alloc(0);
    let answered = false;
    const address = await listening(
      t,
      (socket) => {
        socket.write(GREETING);
        socket.on('data', (chunk) => {
          sent = Buffer.concat([sent, chunk]);
          // Client flags (4), GO: header (16), name length, "d", two wanted types: 4 + 1 + 2 + 4.
          if (sent.length < 31 || answered) return;
          answered = true;
          socket.write(Buffer.concat([GO_REPLIES, Buffer.from('transmission')]));
        });
      },
      where,
    );
    const socket = await KernelSocket.connect(address, { exportName: 'd', timeoutMs: 5000 });
    t.match(socket.export, { sizeBytes: 65_536, transmissionFlags: 5, headerStyle: 'simple' });
    const rest = Buffer.alloc(100);
    t.equal(readSync(socket.fd, rest, 0, 100, null), 12);
    t.equal(rest.toString('utf8', 0, 12), 'transmission');
    t.equal(sent.toString('hex', 0, 20), '00000003' + '49484156454f5054' + '00000007' + '0000000b');
    socket.close();
    socket.close();
  });
}

t.test('our own server in this process can answer meanwhile', async (t) => {
  const { target, server } = await startNbdServer(t);
  const socket = await KernelSocket.connect(target, { exportName: 'memory' });
  t.equal(socket.export.sizeBytes, 1_048_576);
  t.equal(server.clientCount('memory'), 1);
  socket.close();
});

t.test('failures', async (t) => {
  const options = { exportName: '', timeoutMs: 200 };
  await t.rejects(KernelSocket.connect({ path: '/nonexistent/socket' }, options), {
    code: 'ERR_NBD_CLOSED',
    message: /ENOENT/,
  });
  await t.rejects(KernelSocket.connect({ host: '127.0.0.1', port: 1 }, options), {
    code: 'ERR_NBD_CLOSED',
    message: /ECONNREFUSED/,
  });
  const mute = await listening(t, () => undefined, 'unix');
  await t.rejects(KernelSocket.connect(mute, options), { code: 'ERR_TIMEOUT' });
  const short = await listening(t, (socket) => socket.end(GREETING), 'tcp');
  await t.rejects(KernelSocket.connect(short, options), {
    code: 'ERR_NBD_CLOSED',
    message: /hung up/,
  });
  const { target } = await startNbdServer(t);
  await t.rejects(KernelSocket.connect(target, { exportName: 'nothing' }), {
    code: 'ERR_NBD_EXPORT_UNKNOWN',
  });
});

t.test(
  'what lies below NBD is prepared on the connected socket, before a byte of it',
  async (t) => {
    const { target } = await startNbdServer(t);
    const fds: number[] = [];
    const prepare = (fd: number): void => {
      fds.push(fd);
    };
    const socket = await KernelSocket.connect(target, { exportName: 'memory', prepare });
    t.same(fds, [socket.fd]);
    socket.close();
    const refuse = (): void => {
      throw new Error('this kernel cannot');
    };
    const before = readdirSync('/proc/self/fd').length;
    const failed = KernelSocket.connect(target, { exportName: 'memory', prepare: refuse });
    await t.rejects(failed, /this kernel cannot/);
    // The server's side of the refused connection goes a moment later.
    await eventually(() => readdirSync('/proc/self/fd').length <= before, 'no descriptor is left');
  },
);
