/**
 * Runs inside a guest for test/e2e/direct.test.ts: `node main.js support`, or `node main.js EXPORT
 * DATA_PORT TICKET_PORT`. The second attaches the export by kernel TLS and uses it: writes and reads
 * 32 MiB, mends the connection when the provider cuts it under writes, trims, detaches. Each fact is
 * one line of JSON, so that the test decides and this program only reports.
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import type { DirectTicket } from '../../../common/ports.ts';
import { beginDirectConnection, kernelTlsSupport } from '../../../direct/kernel-tls.ts';
import { KernelSocket } from '../../../nbd-server/client/kernel-socket.ts';
import { attachKernel } from '../../../nbd-server/client/kernel/attach.ts';
import { keepConnected } from '../../../nbd-server/client/kernel/keep-connected.ts';

const HOST = '10.0.2.2';
const [exportName = '', dataPort, ticketPort] = process.argv.slice(2);

function tell(fact: string, value: unknown = true): void {
  process.stdout.write(`${JSON.stringify({ fact, value })}\n`);
}

function shell(script: string): string {
  return execFileSync('sh', ['-ec', script], { encoding: 'utf8' }).trim();
}

async function askTicket(consumerNonce: string): Promise<DirectTicket> {
  const socket = net.connect(Number(ticketPort), HOST);
  socket.write(`${consumerNonce}\n`);
  const [line] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return JSON.parse(line.toString()) as DirectTicket;
}

async function connect(): Promise<KernelSocket> {
  const consumerNonce = randomBytes(32).toString('hex');
  const ticket = await askTicket(consumerNonce);
  return KernelSocket.connect(
    { host: HOST, port: ticket.port },
    {
      exportName,
      prepare: (fd) => beginDirectConnection(fd, { ...ticket, consumerNonce }),
    },
  );
}

tell('support', kernelTlsSupport());
if (exportName !== 'support') {
  const attachment = await attachKernel({
    address: { host: HOST, port: Number(dataPort) },
    connector: connect,
    exportName,
    timeoutS: 8,
    deadConnectionTimeoutS: 120,
  });
  const { device } = attachment;
  tell('device', device);
  const stop = keepConnected(attachment, (event) => tell(event.type));
  const digest = (file: string): string =>
    shell(`dd if=${file} bs=1M count=32 2>/dev/null | sha256sum`);
  shell('dd if=/dev/urandom of=/tmp/pattern bs=1M count=32 2>/dev/null');
  shell(`dd if=/tmp/pattern of=${device} bs=1M oflag=direct conv=fsync 2>/dev/null`);
  shell('echo 3 >/proc/sys/vm/drop_caches');
  tell('sha256', digest('/tmp/pattern').split(' ')[0]);
  tell('readsBackWhatWasWritten', digest(device) === digest('/tmp/pattern'));
  tell('written');

  shell('dd if=/dev/urandom of=/tmp/pattern bs=1M count=32 2>/dev/null');
  const script = `dd if=/tmp/pattern of=${device} bs=128k oflag=direct conv=fsync 2>/dev/null`;
  const writer = spawn('sh', ['-c', script], { stdio: 'ignore' });
  tell('writing');
  const [code] = (await once(writer, 'exit')) as [number];
  tell('writerCode', code);
  shell('echo 3 >/proc/sys/vm/drop_caches');
  tell('readsBackAfterCut', digest(device) === digest('/tmp/pattern'));

  shell(`blkdiscard -o 0 -l ${16 * 2 ** 20} ${device}`);
  const zeroes = shell('dd if=/dev/zero bs=1M count=16 2>/dev/null | sha256sum');
  const trimmed = shell(`dd if=${device} bs=1M count=16 iflag=direct 2>/dev/null | sha256sum`);
  tell('trimmedRangeIsZero', trimmed === zeroes);
  tell('trimmed');
  stop();
  await attachment.detach();
  tell('detached');
}
