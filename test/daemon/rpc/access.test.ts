/** Who may use the RPC: the kernel's word on the Unix socket, the token on loopback. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { createLogger } from '../../../common/log.ts';
import { groupId } from '../../../common/libc.ts';
import { RpcDecoder, encodeRpcMessage } from '../../../common/rpc-codec.ts';
import { findRpcGroup, isSameToken, loadRpcToken, mayUse } from '../../../daemon/rpc/access.ts';
import { RpcServer, type RpcHandlers } from '../../../daemon/rpc-server.ts';
import { MemcloudClient } from '../../../sdk/client.ts';
import { labFolder } from '../../helpers/lab-node.ts';

const HANDLERS = { 'peer.list': () => [] } as unknown as RpcHandlers;
const TOKEN = 'ab'.repeat(32);
const NOBODY = 65_534;

t.test('root, the daemon’s user and the members of the group may, others may not', (t) => {
  const cases: [uid: number, gid: number, groups: number[], group: number | undefined, boolean][] =
    [
      [0, 0, [], undefined, true],
      [1000, 1000, [], undefined, true],
      [1001, 1001, [], undefined, false],
      [1001, 1001, [], 500, false],
      [1001, 500, [], 500, true],
      [1001, 1001, [4, 500], 500, true],
      [1001, 1001, [0, 4], 500, false],
      [1001, 0, [0], undefined, false],
    ];
  for (const [uid, gid, groups, group, expected] of cases) {
    const may = mayUse({ pid: 1, uid, gid, groups }, 1000, group);
    t.equal(may, expected, JSON.stringify({ uid, gid, groups, group }));
  }
  t.end();
});

t.test('a group is found by its name', (t) => {
  t.equal(groupId('root'), 0);
  t.equal(groupId('no-such-group-here'), undefined);
  t.same(findRpcGroup('root'), { name: 'root', id: 0 });
  t.same(findRpcGroup(''), { name: '', id: undefined });
  t.end();
});

t.test('the token is made once, for its owner alone', (t) => {
  const folder = labFolder(t);
  const token = loadRpcToken(folder);
  t.match(token, /^[0-9a-f]{64}$/);
  const file = path.join(folder, 'rpc-token');
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  t.equal(loadRpcToken(folder), token, 'the second time it is read');
  fs.chmodSync(file, 0o644);
  const second = loadRpcToken(folder);
  t.not(second, token, 'one that others could read is no secret any more');
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  for (const text of ['', 'short', 'g'.repeat(64)]) {
    fs.writeFileSync(file, text);
    t.match(loadRpcToken(folder), /^[0-9a-f]{64}$/, `instead of "${text.slice(0, 5)}"`);
  }
  t.throws(() => loadRpcToken(path.join(folder, 'missing')), { code: 'ERR_NATIVE' });
  t.end();
});

t.test('only the token is the token', (t) => {
  t.equal(isSameToken(TOKEN, TOKEN), true);
  for (const wrong of [
    '',
    TOKEN.slice(1),
    `${TOKEN}0`,
    TOKEN.toUpperCase(),
    null,
    7,
    {},
    undefined,
  ]) {
    t.equal(isSameToken(wrong, TOKEN), false);
  }
  t.end();
});

async function serveTcp(t: Test): Promise<{ server: RpcServer; port: number }> {
  const server = new RpcServer(HANDLERS, createLogger('silent'), { token: () => TOKEN });
  await server.listen(path.join(labFolder(t), 'rpc.sock'));
  await server.listenTcp('127.0.0.1', 0);
  t.teardown(() => server.close(100));
  return { server, port: server.tcpPort };
}

/** Sends messages on a new connection; resolves to all that came back when the server hung up. */
async function talk(port: number, ...messages: object[]): Promise<Record<string, unknown>[]> {
  const socket = net.connect(port, '127.0.0.1');
  const decoder = new RpcDecoder();
  const got: Record<string, unknown>[] = [];
  socket.on('data', (chunk: Buffer) => got.push(...decoder.push(chunk)));
  socket.on('error', () => undefined);
  for (const message of messages) socket.write(encodeRpcMessage(message));
  await once(socket, 'close');
  return got;
}

t.test(
  'over TCP the token comes first, and what comes instead of it ends the connection',
  async (t) => {
    const { port } = await serveTcp(t);
    const client = await MemcloudClient.connect({ host: '127.0.0.1', port, token: TOKEN });
    t.teardown(() => client.close());
    t.same(await client.call('peer.list', {}), []);
    await t.rejects(MemcloudClient.connect({ host: '127.0.0.1', port, token: 'wrong' }), {
      code: 'ERR_RPC_DENIED',
    });
    const list = { id: 2, method: 'peer.list', params: {} };
    const strangers: object[] = [
      list,
      { id: 1, method: 'auth' },
      { id: 1, method: 'auth', params: null },
      { id: 1, method: 'auth', params: { token: [TOKEN] } },
      { id: 1, method: 'auth', params: { token: TOKEN.slice(1) } },
      { cancel: 1 },
      {},
    ];
    for (const stranger of strangers) {
      const got = await talk(port, stranger, list, list);
      t.match(got, [{ error: { code: 'ERR_RPC_DENIED' } }], JSON.stringify(stranger));
      t.equal(got.length, 1, 'what came behind it was not heard');
    }
    t.notMatch(JSON.stringify(await talk(port, { id: 1, method: 'auth', params: {} })), TOKEN);
  },
);

t.test('who shows no token is hung up on, and cannot keep others out', async (t) => {
  const { port } = await serveTcp(t);
  const silent = Array.from({ length: 12 }, () => net.connect(port, '127.0.0.1'));
  const closed = silent.map((socket) => {
    socket.on('error', () => undefined);
    socket.resume();
    return once(socket, 'close');
  });
  await Promise.all(silent.map((socket) => once(socket, 'connect')));
  const client = await MemcloudClient.connect({ host: '127.0.0.1', port, token: TOKEN });
  t.same(await client.call('peer.list', {}), []);
  client.close();
  await Promise.all(closed);
  t.pass('all of them');
});

t.test('without a token nobody comes in over TCP, and a taken port is said', async (t) => {
  const server = new RpcServer(HANDLERS, createLogger('silent'));
  await server.listen(path.join(labFolder(t), 'rpc.sock'));
  t.teardown(() => server.close(100));
  await server.listenTcp('127.0.0.1', 0);
  const got = await talk(server.tcpPort, { id: 1, method: 'auth', params: { token: '' } });
  t.match(got, [{ error: { code: 'ERR_RPC_DENIED' } }]);
  const other = new RpcServer(HANDLERS, createLogger('silent'));
  await t.rejects(other.listenTcp('127.0.0.1', server.tcpPort), { code: 'ERR_DAEMON_BUSY' });
});

/** Asks for the peers as another user; prints what came. */
const STRANGER_CODE = `
  const { MemcloudClient } = await import(process.argv[1]);
  const client = await MemcloudClient.connect(process.argv[2]).catch((error) => error);
  const said = client.call === undefined ? client : await client.call('peer.list', {}).catch((error) => error);
  process.stdout.write(said.code ?? 'in');
  process.exit();
`;

t.test(
  'the kernel names a stranger, who is told and let go, whatever the mode of the socket',
  { skip: process.geteuid?.() === 0 ? false : 'must be root, to be another user' },
  async (t) => {
    const folder = labFolder(t);
    fs.chmodSync(folder, 0o755);
    const socketPath = path.join(folder, 'rpc.sock');
    const server = new RpcServer(HANDLERS, createLogger('silent'), {
      group: { name: 'daemon', id: 1 },
    });
    await server.listen(socketPath);
    t.teardown(() => server.close(100));
    const { mode, gid } = fs.statSync(socketPath);
    t.same([mode & 0o777, gid], [0o660, 1], 'the group may open it');
    fs.chmodSync(socketPath, 0o666);
    const clientFile = path.join(import.meta.dirname, '../../../sdk/client.js');
    const ask = async (ids: { uid: number; gid: number }): Promise<string> => {
      const child = spawn(
        process.execPath,
        ['--input-type=module', '-e', STRANGER_CODE, clientFile, socketPath],
        { ...ids, stdio: ['ignore', 'pipe', 'ignore'], cwd: '/', env: {} },
      );
      let said = '';
      child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
      await once(child, 'close');
      return said;
    };
    t.equal(await ask({ uid: NOBODY, gid: NOBODY }), 'ERR_RPC_DENIED');
    t.equal(await ask({ uid: NOBODY, gid: 1 }), 'in', 'a member of the group');
    t.equal(await ask({ uid: 0, gid: 0 }), 'in');
  },
);

t.test('a group that is not there leaves the socket to its owner', async (t) => {
  const socketPath = path.join(labFolder(t), 'rpc.sock');
  const server = new RpcServer(HANDLERS, createLogger('silent'), {
    group: findRpcGroup('no-such-group-here'),
  });
  await server.listen(socketPath);
  t.teardown(() => server.close(100));
  t.equal(fs.statSync(socketPath).mode & 0o777, 0o600);
});
