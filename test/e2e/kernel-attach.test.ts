import { createHash } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { Guest } from '../../cli/guest/guest.ts';
import { bootGuest, skipWithoutGuest } from '../helpers/guest.ts';
import { freePort, skipWithout, startNbdkit, temporaryFolder } from '../helpers/nbd-servers.ts';

const skip = skipWithoutGuest() || skipWithout('nbdkit');
const SIZE_BYTES = 64 * 2 ** 20;

type Facts = Record<string, unknown>;

/** Runs the helper in the guest; returns its facts and hands each on as it comes. */
async function runHelper(
  t: Test,
  guest: Guest,
  helperArguments: string,
  onFact: (fact: string) => void = () => undefined,
): Promise<Facts> {
  const facts: Facts = {};
  const program = '/opt/memcloud/dist/test/helpers/kernel-attach/main.js';
  const result = await guest.run(`node ${program} ${helperArguments}`, {
    timeoutMs: 150_000,
    onLine: (line, stream) => {
      if (stream !== 'stdout' || !line.startsWith('{')) return;
      const { fact, value } = JSON.parse(line) as { fact: string; value: unknown };
      facts[fact] = value;
      onFact(fact);
    },
  });
  t.equal(result.exitCode, 0, 'the helper ends well');
  if (result.exitCode !== 0) t.comment(result.stdout, result.stderr, guest.kernelLog.slice(-3000));
  return facts;
}

t.test('the kernel serves a device from a remote NBD server', { skip }, async (t) => {
  const guest = await bootGuest(t, { timeoutMs: 400_000, includeTests: true });

  for (const connections of [1, 2]) {
    await t.test(`attached by netlink with ${connections} connection(s)`, async (t) => {
      const port = await freePort();
      await startNbdkit(t, ['memory', `${SIZE_BYTES}`], port);
      const facts = await runHelper(t, guest, `netlink ${port} ${connections}`);
      t.match(facts, {
        device: '/dev/nbd0',
        sizeBytes: 67_108_864,
        blockSize: '4096',
        discardMaxIsPositive: true,
        writeCache: 'write back',
        isAttached: true,
        secondAttach: /\/dev\/nbd0 is in use/,
        readsBackWhatWasWritten: true,
        trimmedRangeIsZero: true,
        neighbourIsKept: true,
        staysAfterClose: true,
        isAttachedAfterDetach: false,
        secondDetach: /\/dev\/nbd0 is not attached/,
        noServer: 'ERR_NBD_CLOSED',
      });
      t.comment(`attach took ${String(facts['attachMs'])} ms`);
    });
  }

  await t.test('attached by the nbd-client program', async (t) => {
    const port = await freePort();
    await startNbdkit(t, ['memory', `${SIZE_BYTES}`], port);
    const facts = await runHelper(t, guest, `nbd-client ${port}`);
    t.match(facts, {
      device: '/dev/nbd0',
      sizeBytes: 67_108_864,
      readsBackWhatWasWritten: true,
      trimmedRangeIsZero: true,
      neighbourIsKept: true,
      isAttachedAfterDetach: false,
    });
  });

  await t.test('a server that is killed under writes and comes back loses nothing', async (t) => {
    const image = path.join(temporaryFolder(t), 'disk.img');
    writeFileSync(image, '');
    truncateSync(image, SIZE_BYTES);
    const port = await freePort();
    // Slow writes, so that some are in flight when the server dies.
    const slow = ['--filter=delay', 'file', image, 'wdelay=200ms'];
    const first = await startNbdkit(t, slow, port);
    let restarted: Promise<unknown> = Promise.resolve();
    const facts = await runHelper(t, guest, `reconnect ${port} /dev/nbd2`, (fact) => {
      if (fact !== 'writing') return;
      restarted = first.kill().then(async () => {
        await new Promise((resolve) => setTimeout(resolve, 1500));
        await startNbdkit(t, ['file', image], port);
      });
    });
    await restarted;
    t.match(facts, {
      linkDead: true,
      firstTry: 'ERR_NBD_CLOSED',
      reconnected: Number,
      writerCode: 0,
      readsBackWhatWasWritten: true,
      detached: true,
    });
    const written = readFileSync(image).subarray(0, 8 * 2 ** 20);
    const sha256 = createHash('sha256').update(written).digest('hex');
    t.equal(sha256, facts['sha256'], 'the bytes on the server are the bytes written');
    t.match(guest.kernelLog, /nbd2: Receive control failed|nbd2: .*(dead|reconnect)/i);
  });
});

t.test('without the module the error says what to do', { skip }, async (t) => {
  const guest = await bootGuest(t, { timeoutMs: 120_000, modules: [], includeTests: true });
  const program = '/opt/memcloud/dist/test/helpers/kernel-attach/main.js';
  const result = await guest.run(`node ${program} netlink 1 1`, { timeoutMs: 60_000 });
  t.not(result.exitCode, 0);
  t.match(result.stderr, /run: modprobe nbd/);
  t.match(result.stderr, /ERR_UNSUPPORTED/);
});
