/** sd_notify against a real datagram socket, alone and from a memnode process. */
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { silentLogger } from '../../common/log.ts';
import {
  ServiceNotifier,
  notifyAddress,
  statusText,
  swapNumbers,
  watchdogFeedMs,
  type PoolNumbers,
} from '../../daemon/notify.ts';
import { LabNode, eventually, labFolder } from '../helpers/lab-node.ts';
import { NotifyReceiver } from '../helpers/notify-receiver.ts';

const PID = 4711;
const POOL: PoolNumbers = {
  peersUp: 2,
  peerCount: 3,
  lentBytes: 2 ** 30,
  offeredBytes: 8 * 2 ** 30,
  borrowedBytes: 512 * 2 ** 20,
  devices: ['/dev/nbd0'],
};

function notifier(
  t: Test,
  environment: Record<string, string>,
  warnings: string[] = [],
): ServiceNotifier {
  const logger = { ...silentLogger, warn: (_: unknown, text: string) => void warnings.push(text) };
  const made = new ServiceNotifier(environment, PID, logger);
  t.teardown(() => made.close());
  return made;
}

t.test('the address of a notify socket', async (t) => {
  t.strictSame(notifyAddress('/run/n'), Buffer.from('\x01\0/run/n\0', 'latin1'));
  t.strictSame(notifyAddress('@n/1'), Buffer.from('\x01\0\0n/1', 'latin1'));
  t.equal(notifyAddress(`/${'a'.repeat(106)}`)?.length, 2 + 108, 'the longest path');
  t.equal(notifyAddress(`@${'a'.repeat(107)}`)?.length, 2 + 108, 'the longest name');
  for (const wrong of ['', '/', '@', 'vsock:2:1', 'run/n', '/a\0b', `/${'a'.repeat(107)}`]) {
    t.equal(notifyAddress(wrong), undefined, JSON.stringify(wrong.slice(0, 20)));
  }
});

t.test('the watchdog is fed three times within its time, and only if it is ours', async (t) => {
  t.equal(watchdogFeedMs({ WATCHDOG_USEC: '30000000' }, PID), 10_000);
  t.equal(watchdogFeedMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '4711' }, PID), 10_000);
  t.equal(watchdogFeedMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '4712' }, PID), undefined);
  for (const wrong of ['', '0', '-1', '1e6', 'soon', '9'.repeat(17)]) {
    t.equal(watchdogFeedMs({ WATCHDOG_USEC: wrong }, PID), undefined, `"${wrong}"`);
  }
  t.equal(watchdogFeedMs({}, PID), undefined);
});

t.test('the status line has the numbers of the pool and of its swap only', async (t) => {
  const procSwaps =
    'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n' +
    '/dev/sda2                               partition\t999999\t\t99999\t\t-2\n' +
    '/dev/nbd0                               partition\t8388604\t\t1048576\t\t-3\n';
  const swap = swapNumbers(procSwaps, POOL.devices);
  t.strictSame(swap, { sizeBytes: 8388604 * 1024, usedBytes: 2 ** 30 });
  t.equal(
    statusText(POOL, swap),
    'peers 2 of 3 up, lent 1 GiB of 8 GiB, borrowed 512 MiB, swap 1 GiB of 8 GiB',
  );
  t.match(statusText(POOL, swapNumbers(procSwaps, [])), /, no swap$/);
  t.match(statusText(POOL, swapNumbers('', POOL.devices)), /, no swap$/);
});

t.test('each message reaches a path and an abstract name', async (t) => {
  for (const name of [path.join(labFolder(t), 'notify'), `@memcloud-test-${process.pid}`]) {
    const receiver = new NotifyReceiver(t, name);
    const environment = { NOTIFY_SOCKET: name, WATCHDOG_USEC: '3000000', PATH: '/bin' };
    const manager = notifier(t, environment);
    t.strictSame(environment, { PATH: '/bin' }, 'children do not inherit the socket');
    manager.ready();
    t.strictSame(receiver.take(), ['READY=1']);
    manager.reloading();
    t.match(receiver.take(), [/^RELOADING=1\nMONOTONIC_USEC=\d+$/]);
    manager.onTick(1000, () => POOL);
    t.strictSame(receiver.take(), ['WATCHDOG=1'], 'fed on the first tick');
    const came: string[] = [];
    await eventually('a status', () => came.push(...receiver.take()) > 0);
    t.match(came, [/^STATUS=peers 2 of 3 up, lent 1 GiB of 8 GiB, borrowed 512 MiB, no swap$/]);
    manager.onTick(1999, () => POOL);
    t.strictSame(receiver.take(), [], 'not fed before a third of its time');
    manager.onTick(2000, () => POOL);
    t.strictSame(receiver.take(), ['WATCHDOG=1']);
    manager.onTick(20_000, () => POOL);
    await delay(50);
    t.strictSame(receiver.take(), ['WATCHDOG=1'], 'an unchanged status is not repeated');
    manager.stopping();
    t.match(receiver.take(), [/^STOPPING=1\nSTATUS=./]);
    manager.onTick(30_000, () => ({ ...POOL, peersUp: 0 }));
    await delay(50);
    t.strictSame(receiver.take(), ['WATCHDOG=1'], 'the last status stays');
  }
});

t.test('a daemon without a pool has a line of its own', async (t) => {
  const name = path.join(labFolder(t), 'notify');
  const receiver = new NotifyReceiver(t, name);
  const manager = notifier(t, { NOTIFY_SOCKET: name, WATCHDOG_USEC: '3000000' });
  manager.onTextTick(1000, () => 'leads, term 1');
  t.strictSame(receiver.take(), ['WATCHDOG=1', 'STATUS=leads, term 1']);
  manager.onTextTick(20_000, () => 'leads, term 1');
  t.strictSame(receiver.take(), ['WATCHDOG=1'], 'not repeated');
  manager.onTextTick(20_001, () => t.fail('a line that is not due') as never);
  manager.stopping('handing over');
  t.strictSame(receiver.take(), ['STOPPING=1\nSTATUS=handing over']);
});

t.test('without a socket, or with one that nobody reads, nothing happens', async (t) => {
  const warnings: string[] = [];
  for (const environment of [{}, { NOTIFY_SOCKET: 'vsock:2:1', WATCHDOG_USEC: '3000000' }]) {
    const manager = notifier(t, environment, warnings);
    manager.ready();
    manager.onTick(1000, () => t.fail('numbers that nobody wants') as never);
    manager.stopping();
  }
  t.strictSame(warnings, []);
  const gone = path.join(labFolder(t), 'gone');
  const orphan = notifier(t, { NOTIFY_SOCKET: gone, WATCHDOG_USEC: '3000000' }, warnings);
  orphan.ready();
  orphan.ready();
  t.strictSame(warnings, ['the service manager takes no notifications'], 'said once');
});

t.test('a manager that does not read costs the loop nothing', async (t) => {
  const name = path.join(labFolder(t), 'full');
  const receiver = new NotifyReceiver(t, name);
  const manager = notifier(t, { NOTIFY_SOCKET: name, WATCHDOG_USEC: '3' });
  for (let nowMs = 0; nowMs < 5000; nowMs += 1) manager.onTick(nowMs, () => POOL);
  const held = receiver.take();
  t.ok(held.length > 0 && held.length < 5000, `the queue held ${held.length} datagrams`);
  manager.onTick(6000, () => POOL);
  t.match(receiver.take(), ['WATCHDOG=1'], 'fed again once there is room');
});

t.test('memnode', async (t) => {
  const folder = labFolder(t);
  const name = path.join(folder, 'notify');
  const receiver = new NotifyReceiver(t, name);
  const environment = ['env', `NOTIFY_SOCKET=${name}`, 'WATCHDOG_USEC=900000'];
  const starting = LabNode.start(t, { name: 'told', folder, offer: '64M', launcher: environment });
  const came: string[] = [];
  await eventually('the first message', () => came.push(...receiver.take()) > 0);
  t.equal(came[0], 'READY=1', 'ready is the first word');

  // Nobody waited for the ready line: both ports must take clients now.
  await connects({ path: path.join(folder, 'told.sock') });
  const node = await starting;
  const [host = '', port = ''] = node.peerAddress.split(':');
  await connects({ host, port: Number(port) });
  t.pass('both ports listen');

  await eventually('watchdog and status', () => {
    came.push(...receiver.take());
    return came.filter((text) => text === 'WATCHDOG=1').length > 2 && came.some(isStatus);
  });
  t.equal(came.find(isStatus), 'STATUS=peers 0 of 0 up, lent 0 B of 64 MiB, borrowed 0 B, no swap');

  node.child.kill('SIGSTOP');
  await delay(100);
  receiver.take();
  await delay(1200);
  t.strictSame(receiver.take(), [], 'a loop that stands still does not feed');
  node.child.kill('SIGCONT');
  await eventually('fed again', () => receiver.take().includes('WATCHDOG=1'));

  await node.end('SIGTERM');
  t.match(
    receiver.take().filter((text) => !/^(WATCHDOG|STATUS)=/.test(text)),
    [/^STOPPING=1\n/],
  );
});

function isStatus(text: string): boolean {
  return text.startsWith('STATUS=');
}

function connects(address: net.NetConnectOpts): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(address, () => {
      socket.destroy();
      resolve();
    });
    socket.on('error', reject);
  });
}
