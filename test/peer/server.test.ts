import net from 'node:net';
import t from 'tap';
import { silentLogger } from '../../common/log.ts';
import { HandshakeRate, Listener } from '../../peer/server.ts';
import { until } from '../helpers/peer-node.ts';

t.test('64 handshakes may begin at once, then 20 a second', async (t) => {
  const clock = { time: 0, nowMs: () => clock.time };
  const rate = new HandshakeRate(clock);
  const takeAll = (): number => {
    let taken = 0;
    while (rate.take()) taken += 1;
    return taken;
  };
  t.equal(takeAll(), 64);
  clock.time = 49;
  t.equal(takeAll(), 0);
  clock.time = 50;
  t.equal(takeAll(), 1);
  clock.time = 1050;
  t.equal(takeAll(), 20);
  clock.time = 1e9;
  t.equal(takeAll(), 64, 'no more is saved up');
});

const FULL = {
  'in all': { total: 256, handshakes: 0, byAddress: new Map<string, number>() },
  'in the handshake': { total: 64, handshakes: 64, byAddress: new Map<string, number>() },
  'from one address': { total: 16, handshakes: 16, byAddress: new Map([['127.0.0.1', 16]]) },
};
for (const [what, counts] of Object.entries(FULL)) {
  t.test(`one connection too many ${what} is closed unread, the last is not`, async (t) => {
    const sockets: net.Socket[] = [];
    let now = counts;
    const listener = await Listener.open(
      { host: '127.0.0.1', port: 0 },
      { onSocket: (socket) => sockets.push(socket), counts: () => now, logger: silentLogger },
    );
    const { port } = listener.address;
    const refused = net.connect({ port, host: '127.0.0.1' });
    await new Promise((resolve) => refused.on('error', () => undefined).on('close', resolve));
    t.equal(sockets.length, 0);
    t.equal(listener.refusedCount, 1);
    const { total, handshakes, byAddress } = counts;
    now = {
      total: total - 1,
      handshakes: handshakes - 1,
      byAddress: new Map([...byAddress].map(([host, count]) => [host, count - 1])),
    };
    const taken = net.connect({ port, host: '127.0.0.1' });
    await until(() => sockets.length === 1);
    taken.destroy();
    for (const socket of sockets) socket.destroy();
    await listener.close();
  });
}

/** A listener without anybody behind it. */
function listenAt(port: number, lastPort?: number, host = '127.0.0.1'): Promise<Listener> {
  return Listener.open(
    { host, port, lastPort },
    {
      onSocket: (socket) => void socket.destroy(),
      counts: () => ({ total: 0, handshakes: 0, byAddress: new Map() }),
      logger: silentLogger,
    },
  );
}

t.test('of several ports the first is taken that nobody has', async (t) => {
  const first = await listenAt(0);
  t.teardown(() => first.close());
  const { port } = first.address;
  // Whoever else takes ports on this machine may have the next ones; of 50 one is free.
  const second = await listenAt(port, Math.min(port + 50, 65_535));
  t.ok(second.address.port > port && second.address.port <= port + 50);
  await second.close();
  await t.rejects(listenAt(port), {
    code: 'ERR_USAGE_ADDRESS',
    message: new RegExp(`^cannot listen on 127\\.0\\.0\\.1:${port}: .*EADDRINUSE`),
  });
  await t.rejects(
    listenAt(port, port + 9, '192.0.2.1'),
    { code: 'ERR_USAGE_ADDRESS', message: new RegExp(`192\\.0\\.2\\.1:${port}: .*EADDRNOTAVAIL`) },
    'what is wrong at every port is not tried at every port',
  );
});
