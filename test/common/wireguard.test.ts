/** WireGuard as the kernel shows it, from a made-up /sys; and the binding of real sockets to the loopback. */
import { once } from 'node:events';
import net from 'node:net';
import t from 'tap';
import { bindToInterface, hasWireGuard, isWireGuard } from '../../common/wireguard.ts';

/** The form of `/sys/class/net/NAME/uevent`: Linux drivers/base/core.c, net/core/net-sysfs.c. */
const UEVENTS = {
  lo: 'INTERFACE=lo\nIFINDEX=1\n',
  eth0: 'INTERFACE=eth0\nIFINDEX=2\n',
  wg0: 'DEVTYPE=wireguard\nINTERFACE=wg0\nIFINDEX=3\n',
  br0: 'DEVTYPE=bridge\nINTERFACE=br0\nIFINDEX=4\n',
  // A WireGuard in user space, and an interface that only has the name.
  utun: 'INTERFACE=utun\nIFINDEX=5\n',
  wireguard: 'INTERFACE=wireguard\nIFINDEX=6\n',
};

t.test('only the device type counts, not the name', async (t) => {
  const tree = Object.fromEntries(
    Object.entries(UEVENTS).map(([name, uevent]) => [name, { uevent }]),
  );
  const folder = t.testdir(tree);
  const found = Object.keys(UEVENTS).filter((name) => isWireGuard(name, folder));
  t.same(found, ['wg0']);
  for (const name of ['', 'absent', '../wg0', 'x/../wg0', '.']) {
    t.equal(isWireGuard(name, folder), false, JSON.stringify(name));
  }
  t.equal(hasWireGuard(folder), true);
});

t.test('no interface, no folder: none', async (t) => {
  t.equal(hasWireGuard(t.testdir({ eth0: { uevent: UEVENTS.eth0 } })), false);
  t.equal(hasWireGuard('/no/such/folder'), false);
});

t.test('a connected socket can be bound, and an interface that is none is an error', async (t) => {
  const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  await once(client, 'connect');
  const { fd } = (client as unknown as { _handle: { fd: number } })._handle;
  bindToInterface(fd, 'lo');
  client.write('ping');
  const [echo] = (await once(client, 'data')) as [Buffer];
  t.equal(echo.toString(), 'ping', 'what comes by it still comes');
  t.throws(() => bindToInterface(fd, 'no-such-wg0'), {
    code: 'ERR_NATIVE',
    message: /no-such-wg0/,
  });
  client.destroy();
  server.close();
});
