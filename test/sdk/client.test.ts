/** The client against servers that break every rule: each call ends, once, with an error of the table. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { RpcDecoder, encodeRpcMessage } from '../../common/rpc-codec.ts';
import { MemcloudClient } from '../../sdk/client.ts';

type Request = Record<string, unknown>;

/** A server that gives each request to `answer`, and a client that is connected to it. */
async function connected(
  t: Test,
  answer: (request: Request, socket: net.Socket) => void,
): Promise<{ client: MemcloudClient; sockets: net.Socket[] }> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-'));
  const socketPath = path.join(directory, 's');
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    const decoder = new RpcDecoder();
    socket.on('data', (chunk: Buffer) => {
      for (const request of decoder.push(chunk)) answer(request, socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const client = await MemcloudClient.connect(socketPath);
  t.teardown(() => {
    client.close();
    for (const socket of sockets) socket.destroy();
    server.close();
    fs.rmSync(directory, { recursive: true });
  });
  return { client, sockets };
}

/** How a call ended, or `hangs` if it did not within a second. */
async function outcome(call: Promise<unknown>): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const hangs = new Promise((resolve) => (timer = setTimeout(() => resolve('hangs'), 1000)));
  const ended = call.then(
    (result) => ({ result }),
    (error: unknown) =>
      error instanceof MemcloudError ? error.code : `not ours: ${String(error)}`,
  );
  const first = await Promise.race([ended, hangs]);
  clearTimeout(timer);
  return first;
}

t.test('replies in any order reach the calls that they answer', async (t) => {
  const waiting: { id: unknown; socket: net.Socket }[] = [];
  const { client } = await connected(t, ({ id }, socket) => {
    waiting.push({ id, socket });
    if (waiting.length < 10) return;
    for (const { id, socket } of waiting.reverse()) {
      socket.write(encodeRpcMessage({ id, result: [{ address: `${String(id)}` }] }));
    }
  });
  const calls = Array.from({ length: 10 }, () => client.call('peer.list', {}));
  const results = await Promise.all(calls);
  t.same(
    results.map(([peer]) => peer?.address),
    ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10'],
  );
});

t.test(
  'every reply that breaks the protocol ends the call with an error of the table',
  async (t) => {
    const cases: { name: string; reply: (id: unknown) => unknown; code: string }[] = [
      {
        name: 'an error of the table',
        reply: (id) => ({ id, error: { code: 'ERR_VOLUME_EXISTS', message: 'x' } }),
        code: 'ERR_VOLUME_EXISTS',
      },
      {
        name: 'an unknown code',
        reply: (id) => ({ id, error: { code: 'ERR_NEWER', message: 'x' } }),
        code: 'ERR_INTERNAL',
      },
      {
        name: 'an inherited code',
        reply: (id) => ({ id, error: { code: 'toString', message: 'x' } }),
        code: 'ERR_INTERNAL',
      },
      {
        name: 'an error that is nil',
        reply: (id) => ({ id, error: null }),
        code: 'ERR_RPC_PROTOCOL',
      },
      {
        name: 'an error that is text',
        reply: (id) => ({ id, error: 'no' }),
        code: 'ERR_RPC_PROTOCOL',
      },
      {
        name: 'an error that is a number',
        reply: (id) => ({ id, error: 0 }),
        code: 'ERR_RPC_PROTOCOL',
      },
      {
        name: 'an error without a message',
        reply: (id) => ({ id, error: { code: 'ERR_TIMEOUT' } }),
        code: 'ERR_TIMEOUT',
      },
      {
        name: 'a message that cannot be text',
        reply: (id) => ({
          id,
          error: { code: 'ERR_TIMEOUT', message: { toString: 1, valueOf: 1 } },
        }),
        code: 'ERR_TIMEOUT',
      },
      { name: 'neither result nor error', reply: (id) => ({ id }), code: 'ERR_RPC_PROTOCOL' },
      { name: 'an array', reply: () => [1, 2, 3], code: 'ERR_RPC_PROTOCOL' },
      { name: 'a number', reply: () => 7, code: 'ERR_RPC_PROTOCOL' },
    ];
    for (const { name, reply, code } of cases) {
      const { client } = await connected(t, ({ id }, socket) =>
        socket.write(encodeRpcMessage(reply(id))),
      );
      t.equal(await outcome(client.call('peer.list', {})), code, name);
      client.close();
    }
  },
);

t.test('bytes that are no messages end the calls and the connection', async (t) => {
  const cases: [string, Buffer][] = [
    ['rubbish', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['a length over the bound', Buffer.from('ffffffff', 'hex')],
    ['a reserved byte', Buffer.from('00000001c1', 'hex')],
    ['an empty message', Buffer.from('00000000', 'hex')],
  ];
  for (const [name, bytes] of cases) {
    const { client } = await connected(t, (_request, socket) => socket.write(bytes));
    const first = outcome(client.call('peer.list', {}));
    const second = outcome(client.call('status', {}));
    t.equal(await first, 'ERR_RPC_PROTOCOL', name);
    t.equal(await second, 'ERR_RPC_PROTOCOL', name);
    t.equal(await outcome(client.call('status', {})), 'ERR_RPC_PROTOCOL', 'and stays so');
  }
});

t.test('replies to nobody are ignored', async (t) => {
  const { client } = await connected(t, ({ id }, socket) => {
    for (const wrong of [0, -1, 99, 1.5, '1', null, [1], { id: 1 }, 2 ** 60]) {
      socket.write(encodeRpcMessage({ id: wrong, result: 'wrong' }));
    }
    socket.write(encodeRpcMessage({ result: 'nameless' }));
    socket.write(encodeRpcMessage({ id, result: [] }));
    // Answered twice: the second has no call any more.
    socket.write(encodeRpcMessage({ id, error: { code: 'ERR_TIMEOUT', message: 'again' } }));
  });
  t.same(await outcome(client.call('peer.list', {})), { result: [] });
  t.same(await outcome(client.call('peer.list', {})), { result: [] });
});

t.test('a connection that ends fails the calls under way and those after', async (t) => {
  const half = encodeRpcMessage({ id: 1, result: 'x'.repeat(1000) });
  const cases: [string, (socket: net.Socket) => void][] = [
    ['at once', (socket) => socket.destroy()],
    ['politely', (socket) => socket.end()],
    ['in the middle of a reply', (socket) => socket.end(half.subarray(0, 500))],
    ['in the middle of a length', (socket) => socket.end(half.subarray(0, 2))],
  ];
  for (const [name, end] of cases) {
    const { client } = await connected(t, (_request, socket) => end(socket));
    t.equal(await outcome(client.call('status', {})), 'ERR_DAEMON_UNREACHABLE', name);
    t.equal(await outcome(client.call('status', {})), 'ERR_DAEMON_UNREACHABLE', `${name}, after`);
  }
});

t.test('after the end of a daemon the next call goes to the one that replaced it', async (t) => {
  let lives = 0;
  const { client } = await connected(t, ({ id }, socket) => {
    lives += 1;
    if (lives === 1) socket.destroy();
    else socket.write(encodeRpcMessage({ id, result: [lives] }));
  });
  t.equal(await outcome(client.call('peer.list', {})), 'ERR_DAEMON_UNREACHABLE');
  const both = [client.call('peer.list', {}), client.call('peer.list', {})].map(outcome);
  t.same(await Promise.all(both), [{ result: [2] }, { result: [3] }], 'over one new connection');
  client.close();
  t.equal(
    await outcome(client.call('peer.list', {})),
    'ERR_DAEMON_UNREACHABLE',
    'closed is closed',
  );
});

t.test('a call ends at its deadline; its late reply harms no other', async (t) => {
  let late: (() => void) | undefined;
  const { client } = await connected(t, ({ id, method }, socket) => {
    if (method === 'status') late = () => socket.write(encodeRpcMessage({ id, result: 'late' }));
    else socket.write(encodeRpcMessage({ id, result: [] }));
  });
  const error = await client.call('status', {}, { timeoutMs: 30 }).catch((error: unknown) => error);
  t.match(error, { code: 'ERR_TIMEOUT', message: 'status: no answer within 30 ms' });
  late?.();
  t.same(await outcome(client.call('peer.list', {})), { result: [] });
});

t.test('close fails the calls under way', async (t) => {
  const { client } = await connected(t, () => undefined);
  const call = outcome(client.call('status', {}));
  client.close();
  t.equal(await call, 'ERR_DAEMON_UNREACHABLE');
  t.equal(await outcome(client.call('status', {})), 'ERR_DAEMON_UNREACHABLE');
});

t.test('without a daemon, the error says how to start one', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true }));
  fs.writeFileSync(path.join(directory, 'file'), '');
  for (const name of ['missing', 'file', '.']) {
    const socketPath = path.join(directory, name);
    await t.rejects(
      MemcloudClient.connect(socketPath),
      {
        code: 'ERR_DAEMON_UNREACHABLE',
        message: /no memnode answers on .*start it with: memcloud --socket \S+ node start$/,
      },
      name,
    );
  }
});
