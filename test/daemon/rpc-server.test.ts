import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { createLogger } from '../../common/log.ts';
import { encodeRpcMessage } from '../../common/rpc-codec.ts';
import { RpcServer, type RpcHandlers } from '../../daemon/rpc-server.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { eventually, labFolder } from '../helpers/lab-node.ts';

/** Handlers of which few do anything: a list, a refusal, a defect and one that never ends. */
const HANDLERS = {
  'peer.list': () => [],
  'volume.inspect': ({ name }: { name: string }) => {
    throw new MemcloudError('ERR_VOLUME_UNKNOWN', `no volume ${name}`);
  },
  'volume.list': () => {
    throw new TypeError('a defect');
  },
  'trust.list': () =>
    Array.from({ length: 500 }, () => ({
      nodeId: 'x'.repeat(32),
      name: 'y'.repeat(32),
      decision: 'trusted',
      decidedAt: '',
    })),
  status: () => new Promise(() => undefined),
} as unknown as RpcHandlers;

async function serve(t: Test): Promise<{ server: RpcServer; socketPath: string }> {
  const socketPath = path.join(labFolder(t), 'deep/er/rpc.sock');
  const server = new RpcServer(HANDLERS, createLogger('silent'));
  await server.listen(socketPath);
  t.teardown(() => server.close(100));
  return { server, socketPath };
}

/** Sends bytes; resolves to what came back when the server hung up. */
async function talk(socketPath: string, bytes: Buffer): Promise<Buffer> {
  const socket = net.connect(socketPath);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => undefined);
  socket.write(bytes);
  await Promise.race([
    once(socket, 'close'),
    new Promise((_, reject) => setTimeout(reject, 3000, new Error('not hung up')).unref()),
  ]);
  return Buffer.concat(chunks);
}

t.test('answers, refusals and defects each come back under their id', async (t) => {
  const { socketPath } = await serve(t);
  const client = await MemcloudClient.connect(socketPath);
  t.teardown(() => client.close());
  t.same(await client.call('peer.list', {}), []);
  await t.rejects(client.call('volume.inspect', { name: 'v' }), {
    code: 'ERR_VOLUME_UNKNOWN',
    message: 'no volume v',
  });
  await t.rejects(client.call('volume.list', {}), { code: 'ERR_INTERNAL', message: 'a defect' });
  await t.rejects(client.call('nothing' as never, {} as never), {
    code: 'ERR_RPC_UNKNOWN_METHOD',
    message: /expected one of status, peer\.list/,
  });
  await t.rejects(client.call('__proto__' as never, {} as never), {
    code: 'ERR_RPC_UNKNOWN_METHOD',
  });
  await t.rejects(client.call('volume.inspect', { name: '../x' }), {
    code: 'ERR_USAGE',
    message: /volume\.inspect: name: expected 1 to 63 letters/,
  });
  await t.rejects(client.call('peer.list', { more: 1 }), { code: 'ERR_USAGE' });
  await t.rejects(client.call('volume.inspect', 'text' as never), { code: 'ERR_USAGE' });
});

t.test('the socket is its owner’s and a second server is refused', async (t) => {
  const { socketPath } = await serve(t);
  t.equal(fs.statSync(socketPath).mode & 0o777, 0o600);
  const second = new RpcServer(HANDLERS, createLogger('silent'));
  await t.rejects(second.listen(socketPath), {
    code: 'ERR_DAEMON_BUSY',
    message: /another memnode answers/,
  });
});

t.test('a socket file that a killed daemon left is taken over, other files are not', async (t) => {
  const folder = labFolder(t);
  const socketPath = path.join(folder, 'rpc.sock');
  const left = net.createServer().listen(`${socketPath}.moved`);
  await once(left, 'listening');
  fs.renameSync(`${socketPath}.moved`, socketPath);
  left.close();
  await once(left, 'close');
  t.equal(fs.statSync(socketPath).isSocket(), true, 'there is a stale socket');
  const server = new RpcServer(HANDLERS, createLogger('silent'));
  await server.listen(socketPath);
  await server.close(100);

  const file = path.join(folder, 'file');
  fs.writeFileSync(file, 'precious');
  const other = new RpcServer(HANDLERS, createLogger('silent'));
  await t.rejects(other.listen(file), { code: 'ERR_USAGE', message: /exists and is no socket/ });
  t.equal(fs.readFileSync(file, 'utf8'), 'precious');
  await t.rejects(other.listen(path.join(file, 'x')), { code: 'ERR_NATIVE' });
  await t.rejects(other.listen(`/tmp/${'x'.repeat(103)}`), {
    code: 'ERR_USAGE',
    message: /1 to 107 bytes, got 108/,
  });
});

t.test('what is no RPC ends its own connection only', async (t) => {
  const { socketPath } = await serve(t);
  const good = await MemcloudClient.connect(socketPath);
  t.teardown(() => good.close());
  const framed = (body: Buffer): Buffer => {
    const header = Buffer.alloc(4);
    header.writeUInt32BE(body.length);
    return Buffer.concat([header, body]);
  };
  const cases: [string, Buffer][] = [
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['an oversize length', Buffer.from('00100001', 'hex')],
    ['the greatest length', Buffer.from('ffffffff', 'hex')],
    ['no MessagePack', framed(Buffer.from('c1', 'hex'))],
    ['an array', framed(Buffer.from('9101', 'hex'))],
    ['a number', framed(Buffer.from('07', 'hex'))],
    ['nothing', framed(Buffer.alloc(0))],
  ];
  for (const [what, bytes] of cases) {
    const reply = await talk(socketPath, Buffer.concat([bytes, Buffer.alloc(100_000, 0xff)]));
    t.match(reply.toString('latin1'), /ERR_RPC_PROTOCOL/, what);
    t.same(await good.call('peer.list', {}), [], 'others are served');
  }
});

t.test('a message may come byte by byte, and the rest of one never', async (t) => {
  const { socketPath } = await serve(t);
  const socket = net.connect(socketPath);
  t.teardown(() => socket.destroy());
  for (const byte of encodeRpcMessage({ id: 7, method: 'peer.list', params: {} })) {
    socket.write(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const [reply] = (await once(socket, 'data')) as [Buffer];
  t.equal(reply.readUInt32BE(0), reply.length - 4);
  socket.end(encodeRpcMessage({ id: 8, method: 'peer.list', params: {} }).subarray(0, 5));
  await once(socket, 'close');
});

t.test('a thousand pipelined calls are each answered once', async (t) => {
  const { socketPath } = await serve(t);
  const client = await MemcloudClient.connect(socketPath);
  t.teardown(() => client.close());
  const calls = Array.from({ length: 1000 }, () => client.call('peer.list', {}));
  t.same(
    await Promise.all(calls),
    Array.from({ length: 1000 }, () => []),
  );
});

t.test('a client that asks and never reads is left waiting, in bounded memory', async (t) => {
  const { socketPath } = await serve(t);
  const before = process.memoryUsage().rss;
  const socket = net.connect(socketPath);
  socket.pause();
  t.teardown(() => socket.destroy());
  socket.on('error', () => undefined);
  const calls = Buffer.concat(
    Array.from({ length: 8000 }, (_, id) =>
      encodeRpcMessage({ id, method: 'trust.list', params: {} }),
    ),
  );
  socket.write(calls);
  await new Promise((resolve) => setTimeout(resolve, 500));
  t.ok(process.memoryUsage().rss - before < 200 * 2 ** 20, 'not 400 MiB of replies');
  const other = await MemcloudClient.connect(socketPath);
  t.same(await other.call('peer.list', {}), [], 'others are served');
  other.close();
});

t.test('half-open and idle connections do not hold up the end', async (t) => {
  const { server, socketPath } = await serve(t);
  const idle = net.connect({ path: socketPath, allowHalfOpen: true });
  idle.on('error', () => undefined);
  await once(idle, 'connect');
  idle.end();
  const silent = net.connect({ path: socketPath, allowHalfOpen: true });
  silent.on('error', () => undefined);
  await once(silent, 'connect');
  const pending = await MemcloudClient.connect(socketPath);
  const call = pending.call('status', {});
  const refused = t.rejects(call, { code: 'ERR_DAEMON_UNREACHABLE' });
  await server.close(50);
  await refused;
  await eventually('the socket file is gone', () => !fs.existsSync(socketPath));
  idle.destroy();
  silent.destroy();
});
