/** What a connection does beyond calls and answers: taking back, letting go, limits, counting. */
import net from 'node:net';
import path from 'node:path';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { createLogger } from '../../../common/log.ts';
import { RpcDecoder, encodeRpcMessage } from '../../../common/rpc-codec.ts';
import type { RpcCall, RpcClient } from '../../../daemon/rpc/call.ts';
import { RpcServer, type RpcHandlers } from '../../../daemon/rpc-server.ts';
import { MemcloudClient } from '../../../sdk/client.ts';
import { eventually, labFolder } from '../../helpers/lab-node.ts';

interface Served {
  server: RpcServer;
  socketPath: string;
}

async function serve(t: Test, handlers: Record<string, unknown>): Promise<Served> {
  const socketPath = path.join(labFolder(t), 'rpc.sock');
  const server = new RpcServer(handlers as unknown as RpcHandlers, createLogger('silent'));
  await server.listen(socketPath);
  t.teardown(() => server.close(100));
  return { server, socketPath };
}

async function connect(t: Test, socketPath: string): Promise<MemcloudClient> {
  const client = await MemcloudClient.connect(socketPath);
  t.teardown(() => client.close());
  return client;
}

/** A handler that never answers, and the calls that came to it; their signals are asked for at once. */
function hanging(): { calls: RpcCall[]; signals: AbortSignal[]; handler: unknown } {
  const calls: RpcCall[] = [];
  const signals: AbortSignal[] = [];
  const handler = (_params: unknown, call: RpcCall): Promise<never> => {
    calls.push(call);
    signals.push(call.signal);
    return new Promise((_resolve, reject) => {
      call.signal.addEventListener('abort', () => reject(call.signal.reason as Error));
    });
  };
  return { calls, signals, handler };
}

t.test('a call that is taken back ends on both sides, the others go on', async (t) => {
  const { signals, handler } = hanging();
  const { socketPath } = await serve(t, { status: handler, 'peer.list': () => [] });
  const client = await connect(t, socketPath);
  const controller = new AbortController();
  const taken = client.call('status', {}, { signal: controller.signal });
  const kept = client.call('status', {}).catch(() => 'ended');
  await eventually('both calls came', () => signals.length === 2);
  controller.abort(new Error('no longer wanted'));
  await t.rejects(taken, { code: 'ERR_CANCELLED', cause: { message: 'no longer wanted' } });
  await eventually('the handler was told', () => signals[0]?.aborted === true);
  t.match(signals[0]?.reason, { code: 'ERR_CANCELLED' });
  t.equal(signals[1]?.aborted, false);
  t.same(await client.call('peer.list', {}), []);
  await t.rejects(client.call('status', {}, { signal: AbortSignal.abort() }), {
    code: 'ERR_CANCELLED',
  });
  t.equal(signals.length, 2, 'one that was taken back before was never sent');
  client.close();
  t.equal(await kept, 'ended');
});

t.test('a client that goes takes its calls with it', async (t) => {
  const { calls, signals, handler } = hanging();
  let closed = 0;
  const { server, socketPath } = await serve(t, { status: handler });
  const client = await connect(t, socketPath);
  void client.call('status', {}).catch(() => undefined);
  await eventually('the call came', () => calls.length === 1);
  const { connection } = calls[0]!;
  const takeBack = connection.onClose(() => (closed += 100));
  connection.onClose(() => (closed += 1));
  takeBack();
  client.close();
  await eventually('the signal', () => signals[0]?.aborted === true);
  await eventually('the listener', () => closed === 1);
  await eventually('nobody left', () => server.counters.connectionCount === 0);
  connection.onClose(() => (closed += 10));
  await eventually('who comes too late is told all the same', () => closed === 11);
  t.equal(connection.push({ event: 'x' }), false, 'and nothing is sent to it');
});

t.test('a call that times out at the client is taken back at the daemon', async (t) => {
  const { signals, handler } = hanging();
  const { socketPath } = await serve(t, { status: handler });
  const client = await connect(t, socketPath);
  await t.rejects(client.call('status', {}, { timeoutMs: 50 }), { code: 'ERR_TIMEOUT' });
  await eventually('the handler was told', () => signals[0]?.aborted === true);
});

t.test('calls are counted, those that fail as well', async (t) => {
  const { server, socketPath } = await serve(t, {
    'peer.list': () => [],
    'volume.list': async () => {
      throw new Error('a defect');
    },
  });
  const client = await connect(t, socketPath);
  await client.call('peer.list', {});
  await client.call('volume.list', {}).catch(() => undefined);
  await client.call('nothing' as never, {} as never).catch(() => undefined);
  t.same(server.counters, { connectionCount: 1, callCount: 3, errorCount: 2 });
  t.equal(server.hold(), true, 'none is under way');
  const held = client.call('peer.list', {});
  server.goOn();
  t.same(await held, []);
});

t.test(
  'an answer that is longer than a message may be is an error, not a broken connection',
  async (t) => {
    const { socketPath } = await serve(t, {
      'trust.list': () => ['x'.repeat(1024 * 1024)],
      'peer.list': () => [],
    });
    const client = await connect(t, socketPath);
    await t.rejects(client.call('trust.list', {}), {
      code: 'ERR_RPC_PROTOCOL',
      message: /trust\.list: the answer is longer/,
    });
    t.same(await client.call('peer.list', {}), []);
  },
);

t.test('answers of one chunk of calls leave together, in order', async (t) => {
  const { socketPath } = await serve(t, { 'peer.list': () => [] });
  const socket = net.connect(socketPath);
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  const calls = Array.from({ length: 50 }, (_, id) =>
    encodeRpcMessage({ id, method: 'peer.list', params: {} }),
  );
  socket.write(Buffer.concat(calls));
  const decoder = new RpcDecoder();
  const ids: unknown[] = [];
  while (ids.length < 50) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    ids.push(...decoder.push(chunk).map(({ id }) => id));
  }
  t.same(
    ids,
    Array.from({ length: 50 }, (_, id) => id),
  );
});

t.test('more than 64 calls under way wait, and 65 connections are one too many', async (t) => {
  const waiting: (() => void)[] = [];
  const { socketPath } = await serve(t, {
    'peer.list': () => new Promise((resolve) => waiting.push(() => resolve([]))),
  });
  const client = await connect(t, socketPath);
  const calls = Array.from({ length: 100 }, () => client.call('peer.list', {}));
  await eventually('64 began', () => waiting.length === 64);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(waiting.length, 64, 'and no more');
  for (let answered = 0; answered < 100; answered += 1) {
    await eventually('one more', () => waiting.length > answered);
    waiting[answered]?.();
  }
  t.equal((await Promise.all(calls)).length, 100);

  const others = await Promise.all(Array.from({ length: 63 }, () => connect(t, socketPath)));
  const one = await connect(t, socketPath);
  await t.rejects(one.call('peer.list', {}), { code: 'ERR_DAEMON_UNREACHABLE' });
  t.equal(others.length, 63);
});

t.test('pushes stop at a client that does not read, and it hears when there is room', async (t) => {
  let client: RpcClient | undefined;
  const { socketPath } = await serve(t, {
    'peer.list': (_params: unknown, call: RpcCall) => {
      client = call.connection;
      return [];
    },
  });
  const socket = net.connect(socketPath);
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  socket.write(encodeRpcMessage({ id: 1, method: 'peer.list', params: {} }));
  socket.pause();
  await eventually('the call came', () => client !== undefined);
  let room = 0;
  client?.onRoom(() => (room += 1));
  const text = 'x'.repeat(10_000);
  let sent = 0;
  while (sent < 10_000 && client?.push({ event: 'e', data: { text } }) === true) {
    sent += 1;
    if (sent % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  t.ok(sent < 10_000, `${sent} events until it was full`);
  socket.resume();
  socket.on('data', () => undefined);
  await eventually('there is room', () => room > 0);
  t.equal(client?.push({ event: 'e', data: {} }), true);
});

t.test('a call with a field of another name is refused and not done', async (t) => {
  let count = 0;
  const { socketPath } = await serve(t, { shutdown: () => (count += 1) });
  const socket = net.connect(socketPath);
  t.teardown(() => socket.destroy());
  const decoder = new RpcDecoder();
  const replies: Record<string, unknown>[] = [];
  socket.on('data', (chunk: Buffer) => replies.push(...decoder.push(chunk)));
  // Parameters that nobody would find: without them the call is a good one.
  socket.write(encodeRpcMessage({ id: 1, method: 'shutdown', parms: { force: true } }));
  socket.write(encodeRpcMessage({ id: 2, method: 'shutdown' }));
  await eventually('both were answered', () => replies.length === 2);
  t.match(replies[0], { id: 1, error: { code: 'ERR_USAGE', message: /got "parms"/ } });
  t.match(replies[1], { id: 2, result: 1 });
  t.equal(count, 1);
});

t.test('binary is a handler’s own, but for those that take it before they return', async (t) => {
  const kept: Uint8Array[] = [];
  const seen: string[] = [];
  const { socketPath } = await serve(t, {
    'object.begin': ({ meta }: { meta: Uint8Array }) => {
      kept.push(meta);
      return null;
    },
    'object.put': ({ data }: { data: Uint8Array }) => {
      seen.push(Buffer.from(data).toString());
      return null;
    },
  });
  const client = await connect(t, socketPath);
  for (const letter of ['a', 'b', 'c']) {
    await client.call('object.begin', { key: 'k', meta: Buffer.alloc(200, letter) });
    await client.call('object.put', { key: 'k', data: Buffer.alloc(300, letter) });
  }
  t.same(
    kept.map((meta) => Buffer.from(meta).toString()),
    ['a', 'b', 'c'].map((letter) => letter.repeat(200)),
    'what was kept is not overwritten by what came later',
  );
  t.same(
    seen,
    ['a', 'b', 'c'].map((letter) => letter.repeat(300)),
  );
});
