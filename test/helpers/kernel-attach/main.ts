/**
 * Runs inside a guest for test/e2e/kernel-attach.test.ts:
 *
 *     node main.js netlink|nbd-client PORT CONNECTIONS     attach, print, write, read, trim, detach
 *     node main.js reconnect PORT DEVICE CONNECTIONS       attach DEVICE and mend it when it dies
 *     node main.js orphan PORT DEVICE                      attach DEVICE, start writing, end like a crash
 *     node main.js resume PORT DEVICE                      take the orphan over, verify what was written
 *
 * Each fact is one line of JSON, so that the test decides and this program only reports.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import {
  attachKernel,
  detachKernel,
  isAttached,
  resumeKernel,
  type AttachOptions,
} from '../../../nbd-server/client/kernel/attach.ts';
import { deviceSizeBytes, deviceUser } from '../../../nbd-server/client/kernel/devices.ts';
import { keepConnected } from '../../../nbd-server/client/kernel/keep-connected.ts';
import {
  attachByNbdClient,
  detachByNbdClient,
} from '../../../nbd-server/client/kernel/nbd-client-program.ts';

const [mode, port, third, fourth] = process.argv.slice(2);
const address = { host: '10.0.2.2', port: Number(port) };

function tell(fact: string, value: unknown = true): void {
  process.stdout.write(`${JSON.stringify({ fact, value })}\n`);
}

function queue(index: number, name: string): string {
  return readFileSync(`/sys/block/nbd${index}/queue/${name}`, 'utf8').trim();
}

/** Writes random bytes through the kernel, drops its cache, reads them back; then trims and reads zeroes. */
function useDevice(device: string): void {
  const shell = (script: string): string =>
    execFileSync('sh', ['-ec', script], { encoding: 'utf8' }).trim();
  shell(`dd if=/dev/urandom of=/tmp/pattern bs=1M count=4`);
  shell(`dd if=/tmp/pattern of=${device} bs=256k oflag=direct conv=fsync`);
  shell(`echo 3 >/proc/sys/vm/drop_caches`);
  const back = shell(`dd if=${device} bs=256k count=16 iflag=direct | sha256sum`);
  tell('readsBackWhatWasWritten', back === shell('sha256sum </tmp/pattern'));
  shell(`blkdiscard -o 1048576 -l 1048576 ${device}`);
  const zeroes = shell('dd if=/dev/zero bs=1M count=1 | sha256sum');
  const trimmed = shell(`dd if=${device} bs=1M skip=1 count=1 iflag=direct | sha256sum`);
  tell('trimmedRangeIsZero', trimmed === zeroes);
  const kept = shell(`dd if=${device} bs=1M count=1 iflag=direct | sha256sum`);
  tell('neighbourIsKept', kept === shell('head -c 1048576 /tmp/pattern | sha256sum'));
}

if (mode === 'netlink') {
  const options: AttachOptions = {
    address,
    exportName: '',
    connections: Number(third),
    timeoutS: 20,
    deadConnectionTimeoutS: 60,
  };
  const started = performance.now();
  const attachment = await attachKernel(options);
  tell('attachMs', Math.round(performance.now() - started));
  tell('device', attachment.device);
  tell('sizeBytes', deviceSizeBytes(attachment.index));
  tell('blockSize', queue(attachment.index, 'logical_block_size'));
  tell('discardMaxIsPositive', Number(queue(attachment.index, 'discard_max_bytes')) > 0);
  tell('writeCache', queue(attachment.index, 'write_cache'));
  tell('isAttached', await isAttached(attachment.device));
  const busy = await attachKernel({ ...options, device: attachment.device }).then(
    () => 'attached twice',
    (error: Error) => error.message,
  );
  tell('secondAttach', busy);
  useDevice(attachment.device);
  attachment.close();
  tell('staysAfterClose', deviceUser(attachment.index) !== undefined);
  await detachKernel(attachment.device);
  tell('isAttachedAfterDetach', await isAttached(attachment.device));
  const again = await detachKernel(attachment.device).then(
    () => 'detached twice',
    (error: Error) => error.message,
  );
  tell('secondDetach', again);
  const absent = await attachKernel({ ...options, address: { host: '10.0.2.2', port: 1 } }).then(
    () => 'attached to nothing',
    (error: { code?: string }) => error.code,
  );
  tell('noServer', absent);
} else if (mode === 'nbd-client') {
  const { device, sizeBytes } = await attachByNbdClient({ address, exportName: '' });
  tell('device', device);
  tell('sizeBytes', sizeBytes);
  useDevice(device);
  await detachByNbdClient(device);
  tell('isAttachedAfterDetach', await isAttached(device));
} else if (mode === 'orphan') {
  const { device } = await attachKernel({
    address,
    exportName: '',
    device: third ?? '',
    timeoutS: 5,
    deadConnectionTimeoutS: 120,
  });
  execFileSync('sh', ['-c', 'dd if=/dev/urandom of=/tmp/orphan bs=1M count=4 2>/dev/null']);
  const script = `dd if=/tmp/orphan of=${device} bs=128k oflag=direct conv=fsync; echo $? >/tmp/code`;
  spawn('sh', ['-c', script], { stdio: 'ignore', detached: true }).unref();
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), 1000);
} else if (mode === 'resume') {
  const options: AttachOptions & { device: string } = {
    address,
    exportName: '',
    device: third ?? '',
  };
  const started = performance.now();
  // The kernel takes fresh sockets only once it knows that the old ones are dead, and it does.
  const attachment = await resumeKernel(options);
  tell('device', attachment.device);
  while (!existsSync('/tmp/code')) await new Promise((resolve) => setTimeout(resolve, 100));
  tell('writtenAfterMs', Math.round(performance.now() - started));
  tell('writerCode', readFileSync('/tmp/code', 'utf8').trim());
  execFileSync('sh', ['-c', 'echo 3 >/proc/sys/vm/drop_caches']);
  const digest = (source: string): string =>
    execFileSync('sh', ['-c', `dd if=${source} bs=1M count=4 | sha256sum`], { encoding: 'utf8' });
  tell('readsBackWhatWasWritten', digest(attachment.device) === digest('/tmp/orphan'));
  const other = await resumeKernel({ ...options, device: '/dev/nbd3' }).then(
    () => 'resumed',
    (error: Error) => error.message,
  );
  tell('resumeOfFreeDevice', other);
  await attachment.detach();
} else {
  const attachment = await attachKernel({
    address,
    exportName: '',
    device: third ?? '',
    connections: Number(fourth),
    timeoutS: 5,
    deadConnectionTimeoutS: 120,
  });
  const stop = keepConnected(attachment, (event) => {
    if (event.type === 'retry') tell('retry', event.error.code);
    else tell(event.type);
  });
  // Only the device's user keeps this process alive, as in a daemon.
  execFileSync('sh', ['-c', 'dd if=/dev/urandom of=/tmp/pattern bs=1M count=4 2>/dev/null']);
  const script = `dd if=/tmp/pattern of=${attachment.device} bs=128k oflag=direct conv=fsync`;
  const writer = spawn('sh', ['-c', script], { stdio: 'ignore' });
  setTimeout(() => tell('writing'), 1000);
  const [code] = (await once(writer, 'exit')) as [number];
  tell('writerCode', code);
  const digest = (source: string): string =>
    execFileSync('sh', ['-c', `dd if=${source} bs=1M count=4 | sha256sum`], { encoding: 'utf8' });
  execFileSync('sh', ['-c', 'echo 3 >/proc/sys/vm/drop_caches']);
  tell('readsBackWhatWasWritten', digest(attachment.device) === digest('/tmp/pattern'));
  tell('sha256', digest('/tmp/pattern').split(' ')[0]);
  stop();
  await attachment.detach();
  tell('detached', deviceUser(attachment.index) === undefined);
}
