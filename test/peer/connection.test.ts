/** Data connections at the door: what is handed over, when, and what is left of it here. */
import net from 'node:net';
import t, { type Test } from 'tap';
import { HANDSHAKE_BURST_MAX } from '../../peer/constants.ts';
import { MemoryDirect } from '../helpers/memory-direct.ts';
import { portOf, testNode, until } from '../helpers/peer-node.ts';
import { RawPeer } from '../helpers/raw-peer.ts';

const HOLDER = 'ab'.repeat(16);

/** A provider with one export of a holder. */
async function provider(t: Test, options: Parameters<typeof testNode>[2] = {}) {
  const direct = new MemoryDirect();
  t.teardown(() => direct.close());
  const node = testNode(t, 'provider', { direct, ...options });
  const port = portOf(await node.listen());
  const access = direct.openDirect(HOLDER);
  const { exportId } = access.open({ sizeBytes: 8192, ttlMs: 1000 });
  /** A preface with a fresh ticket. */
  const preface = (): Buffer =>
    Buffer.from(`4d43444952454354${access.ticket(exportId, '00'.repeat(32)).ticketId}`, 'hex');
  return { direct, node, port, preface };
}

/** A plain socket and all that came over it. */
async function plain(t: Test, port: number) {
  const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
  t.teardown(() => socket.destroy());
  const state = { socket, received: '', closed: false };
  socket.on('data', (bytes) => (state.received += bytes.toString('latin1')));
  socket.on('error', () => undefined);
  socket.on('close', () => (state.closed = true));
  await new Promise((resolve) => socket.once('connect', resolve));
  return state;
}

t.test('a data connection is handed over and forgotten here', async (t) => {
  const { direct, node, port, preface } = await provider(t);
  const client = await plain(t, port);
  await until(() => node.peers.connectionCount === 1);
  client.socket.write(preface());
  await until(() => direct.connections.length === 1);
  t.equal(node.peers.connectionCount, 0);
  t.same(direct.connections[0]?.received, Buffer.alloc(0), 'the preface is not its business');
  client.socket.write('hello');
  await until(() => client.received === 'hello');
  client.socket.destroy();
  await until(() => direct.connections[0]?.endCount === 1, 'its end is told');
});

t.test('bytes behind the preface in the same segment reach the new handler, once', async (t) => {
  const { direct, port, preface } = await provider(t);
  const client = await plain(t, port);
  client.socket.write(Buffer.concat([preface(), Buffer.from('first')]));
  client.socket.write('second');
  await until(() => client.received === 'firstsecond');
  t.equal(direct.connections[0]?.received.toString(), 'firstsecond');
});

t.test('a preface in any two pieces is one', async (t) => {
  const { direct, port, preface } = await provider(t);
  for (let at = 1; at < 24; at += 1) {
    const client = await plain(t, port);
    const bytes = Buffer.concat([preface(), Buffer.from('x')]);
    client.socket.write(bytes.subarray(0, at));
    await new Promise((resolve) => setTimeout(resolve, 3));
    t.equal(direct.connections.length, at - 1, 'half a preface opens nothing');
    client.socket.write(bytes.subarray(at));
    await until(() => client.received === 'x', `pieces of ${at} and ${24 - at}`);
    client.socket.destroy();
  }
});

t.test('it lives on without a deadline', async (t) => {
  const { port, preface } = await provider(t, { handshakeStepTimeoutMs: 60 });
  const client = await plain(t, port);
  client.socket.write(preface());
  await new Promise((resolve) => setTimeout(resolve, 250));
  client.socket.write('still here');
  await until(() => client.received === 'still here');
});

t.test('the end of the peers is not its end', async (t) => {
  const { direct, node, port, preface } = await provider(t);
  const client = await plain(t, port);
  client.socket.write(preface());
  await until(() => direct.connections.length === 1);
  await node.peers.close();
  client.socket.write('hello');
  await until(() => client.received === 'hello');
});

t.test('an unknown ticket is closed without a word', async (t) => {
  const { direct, node, port } = await provider(t);
  const client = await plain(t, port);
  client.socket.write(Buffer.from(`4d43444952454354${'00'.repeat(16)}`, 'hex'));
  await until(() => client.closed);
  t.equal(client.received, '');
  t.same(direct.named, ['00'.repeat(16)]);
  t.equal(node.peers.connectionCount, 0);
});

t.test('a provider that fails ends that connection and nothing else', async (t) => {
  const { direct, node, port, preface } = await provider(t);
  const bytes = preface();
  direct.takeConnection = () => {
    throw new TypeError('a defect');
  };
  const client = await plain(t, port);
  client.socket.write(bytes);
  await until(() => client.closed);
  t.equal(node.peers.connectionCount, 0);
  const raw = await RawPeer.open(port);
  await raw.destroy();
});

t.test('a node without direct exports closes at the second byte', async (t) => {
  const node = testNode(t, 'node');
  const client = await plain(t, portOf(await node.listen()));
  client.socket.write('MC');
  await until(() => client.closed);
  t.equal(client.received, '');
  t.equal(node.peers.connectionCount, 0);
});

t.test('one that dials never takes a preface', async (t) => {
  const direct = new MemoryDirect();
  const server = net.createServer((socket) => {
    t.teardown(() => socket.destroy());
    socket.on('error', () => undefined);
    socket.write(Buffer.from(`4d43444952454354${'00'.repeat(16)}`, 'hex'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const node = testNode(t, 'dialler', { direct });
  const { port } = server.address() as net.AddressInfo;
  const dialer = node.peers.connect(`127.0.0.1:${port}`);
  await until(() => dialer.lastError !== undefined);
  t.equal(dialer.lastError?.code, 'ERR_PEER_HANDSHAKE');
  t.same(direct.named, []);
  dialer.stop();
  server.close();
});

t.test(
  'dialling more at once than may shake hands: the others wait for their next turn',
  async (t) => {
    const server = net.createServer((socket) => {
      t.teardown(() => socket.destroy());
      socket.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    const { port } = server.address() as net.AddressInfo;
    const node = testNode(t, 'dialler');
    const dialers = Array.from({ length: HANDSHAKE_BURST_MAX + 30 }, (_, index) =>
      node.peers.connect(`127.0.0.${index + 1}:${port}`),
    );
    t.teardown(() => {
      for (const dialer of dialers) dialer.stop();
      server.close();
    });
    const refused = (): typeof dialers =>
      dialers.filter(({ lastError }) => /too many handshakes/.test(lastError?.message ?? ''));
    await until(() => refused().length > 0);
    t.equal(refused()[0]?.lastError?.code, 'ERR_PEER_HANDSHAKE');
    t.equal(refused()[0]?.state, 'waiting');
    for (const dialer of dialers) dialer.stop();
    server.close();
  },
);
