import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { RpcDecoder, encodeRpcMessage } from '../../common/rpc-codec.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { labFolder } from '../helpers/lab-node.ts';

type Answer = (socket: net.Socket, id: number) => void;

/** A daemon that answers each call as `answer` does, and a client of it. */
async function hostile(t: Test, answer: Answer): Promise<MemcloudClient> {
  const socketPath = path.join(labFolder(t), 's');
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    const decoder = new RpcDecoder();
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      for (const message of decoder.push(chunk)) answer(socket, Number(message['id']));
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
  const client = await MemcloudClient.connect(socketPath);
  t.teardown(async () => {
    client.close();
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return client;
}

t.test('nobody there, or no path for a socket', async (t) => {
  const folder = labFolder(t);
  const absent = path.join(folder, 'absent');
  await t.rejects(MemcloudClient.connect(absent), {
    code: 'ERR_DAEMON_UNREACHABLE',
    message: `no memnode answers on ${absent} (ENOENT); start it with: memnode --socket ${absent}`,
  });
  await t.rejects(MemcloudClient.connect(folder), { code: 'ERR_DAEMON_UNREACHABLE' });
  await t.rejects(MemcloudClient.connect('x'.repeat(108)), { code: 'ERR_USAGE' });
});

t.test('a hostile or broken daemon costs an error, at once', async (t) => {
  const cases: [string, Answer, string][] = [
    ['garbage', (socket) => socket.write(Buffer.alloc(64, 0xc1)), 'ERR_RPC_PROTOCOL'],
    ['oversize', (socket) => socket.write(Buffer.from('7fffffff', 'hex')), 'ERR_RPC_PROTOCOL'],
    ['no map', (socket) => socket.write(Buffer.from('0000000101', 'hex')), 'ERR_RPC_PROTOCOL'],
    ['hangs up', (socket) => socket.destroy(), 'ERR_DAEMON_UNREACHABLE'],
    [
      'hangs up amid a reply',
      (socket, id) => socket.end(encodeRpcMessage({ id, result: [] }).subarray(0, 6)),
      'ERR_DAEMON_UNREACHABLE',
    ],
    [
      'an unknown code',
      (socket, id) => socket.write(encodeRpcMessage({ id, error: { code: 'X', message: 'm' } })),
      'ERR_INTERNAL',
    ],
    [
      'a known code',
      (socket, id) =>
        socket.write(encodeRpcMessage({ id, error: { code: 'ERR_TIMEOUT', message: 'm' } })),
      'ERR_TIMEOUT',
    ],
    [
      'an error of no shape',
      (socket, id) => socket.write(encodeRpcMessage({ id, error: null })),
      'ERR_RPC_PROTOCOL',
    ],
  ];
  for (const [what, answer, code] of cases) {
    const client = await hostile(t, answer);
    await t.rejects(client.call('peer.list', {}, { timeoutMs: 5000 }), { code }, what);
  }
});

t.test('replies that nobody waits for are dropped', async (t) => {
  const client = await hostile(t, (socket, id) => {
    for (const wrong of [id + 1, -id, 'x', null, { id }]) {
      socket.write(encodeRpcMessage({ id: wrong, result: ['wrong'] }));
    }
    socket.write(encodeRpcMessage({ id, result: [] }));
    socket.write(encodeRpcMessage({ id, result: ['twice'] }));
  });
  t.same(await client.call('peer.list', {}), []);
  t.same(await client.call('peer.list', {}), []);
});

t.test('a slow answer passes its deadline, and the next call is its own', async (t) => {
  let late: (() => void) | undefined;
  const client = await hostile(t, (socket, id) => {
    if (late !== undefined) return void socket.write(encodeRpcMessage({ id, result: ['new'] }));
    late = () => socket.write(encodeRpcMessage({ id, result: ['old'] }));
  });
  await t.rejects(client.call('peer.list', {}, { timeoutMs: 50 }), {
    code: 'ERR_TIMEOUT',
    message: 'peer.list: no answer within 50 ms',
  });
  late?.();
  t.same(await client.call('peer.list', {}), ['new']);
});

t.test('many calls at once are answered in any order', async (t) => {
  const held: [net.Socket, number][] = [];
  const client = await hostile(t, (socket, id) => {
    held.push([socket, id]);
    if (held.length < 500) return;
    for (const [to, which] of held.reverse()) {
      to.write(encodeRpcMessage({ id: which, result: [which] }));
    }
  });
  const replies = await Promise.all(
    Array.from({ length: 500 }, () => client.call('peer.list', {})),
  );
  t.same(
    replies.map(([id]) => id as unknown),
    Array.from({ length: 500 }, (_, index) => index + 1),
  );
});

t.test('when the connection ends every call under way fails, and every later one', async (t) => {
  let count = 0;
  const client = await hostile(t, (socket) => {
    count += 1;
    if (count === 10) socket.destroy();
  });
  const calls = Array.from({ length: 10 }, () => client.call('peer.list', {}));
  for (const outcome of await Promise.allSettled(calls)) {
    t.match(outcome, { status: 'rejected', reason: { code: 'ERR_DAEMON_UNREACHABLE' } });
  }
  await t.rejects(client.call('peer.list', {}), { code: 'ERR_DAEMON_UNREACHABLE' });
});
