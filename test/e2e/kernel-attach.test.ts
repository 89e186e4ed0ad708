import { createHash } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { Guest } from '../../cli/guest/guest.ts';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';
import { freePort } from '../helpers/free-ports.ts';
import { skipWithout, startNbdkit, temporaryFolder } from '../helpers/nbd-servers.ts';

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

function diskImage(t: Test): string {
  const image = path.join(temporaryFolder(t), 'disk.img');
  writeFileSync(image, '');
  truncateSync(image, SIZE_BYTES);
  return image;
}

function sha256OfStart(image: string): string {
  const written = readFileSync(image).subarray(0, 4 * 2 ** 20);
  return createHash('sha256').update(written).digest('hex');
}

t.test('the kernel serves a device from a remote NBD server', { skip }, async (t) => {
  const scripts = path.join(import.meta.dirname, '../../../kernel-scripts');
  const guest = await bootGuest(t, {
    timeoutMs: 600_000,
    includeTests: true,
    programs: ['bash'],
    files: {
      '/opt/attach.sh': { hostPath: path.join(scripts, 'attach.sh') },
      '/opt/detach.sh': { hostPath: path.join(scripts, 'detach.sh') },
    },
  });

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

  await t.test('attached and detached by the shell scripts', async (t) => {
    const port = await freePort();
    await startNbdkit(t, ['memory', `${SIZE_BYTES}`], port);
    const attach = `bash /opt/attach.sh --tcp 10.0.2.2:${port} --connections 2`;
    const dry = await runOk(
      t,
      guest,
      `${attach} --dry-run; ls /sys/block/nbd0/pid 2>/dev/null || true`,
    );
    t.equal(dry.stdout, '/dev/nbd0\n', 'a dry run attaches nothing');
    t.match(dry.stderr, /would run: nbd-client 10\.0\.2\.2 \d+ \/dev\/nbd0/);
    t.equal((await runOk(t, guest, attach)).stdout, '/dev/nbd0\n');
    await runOk(t, guest, 'mkswap /dev/nbd0 && swapon --discard=pages /dev/nbd0');
    const refused = await guest.run('bash /opt/detach.sh /dev/nbd0', { timeoutMs: 30_000 });
    t.equal(refused.exitCode, 1);
    t.match(refused.stderr, /swapped to; run: swapoff \/dev\/nbd0/);
    await runOk(
      t,
      guest,
      'bash /opt/detach.sh --swapoff /dev/nbd0 && test ! -e /sys/block/nbd0/pid',
    );
    const twice = await runOk(t, guest, 'bash /opt/detach.sh /dev/nbd0');
    t.match(twice.stderr, /not attached/);
    const nobody = await guest.run('bash /opt/attach.sh --tcp 10.0.2.2:1', { timeoutMs: 60_000 });
    t.not(nobody.exitCode, 0);
    t.equal(nobody.stdout, '');
  });

  for (const [connections, device] of [
    [1, '/dev/nbd1'],
    [2, '/dev/nbd2'],
  ] as const) {
    const name = `a server killed under writes and restarted loses nothing, ${connections} connection(s)`;
    await t.test(name, async (t) => {
      const image = diskImage(t);
      const port = await freePort();
      // Slow writes, so that some are in flight when the server dies.
      const slow = ['--filter=delay', 'file', image, 'wdelay=100ms'];
      const first = await startNbdkit(t, slow, port);
      let restarted: Promise<unknown> = Promise.resolve();
      const helper = `reconnect ${port} ${device} ${connections}`;
      const facts = await runHelper(t, guest, helper, (fact) => {
        if (fact !== 'writing') return;
        restarted = first.kill().then(async () => {
          await new Promise((resolve) => setTimeout(resolve, 1500));
          await startNbdkit(t, ['file', image], port);
        });
      });
      await restarted;
      t.match(facts, {
        linkDead: true,
        retry: 'ERR_NBD_CLOSED',
        reconnected: true,
        writerCode: 0,
        readsBackWhatWasWritten: true,
        detached: true,
      });
      t.equal(sha256OfStart(image), facts['sha256'], 'the server has the bytes written');
    });
  }

  await t.test('a device outlives the process that attached it and is taken over', async (t) => {
    const image = diskImage(t);
    const port = await freePort();
    const first = await startNbdkit(t, ['--filter=delay', 'file', image, 'wdelay=100ms'], port);
    const program = '/opt/memcloud/dist/test/helpers/kernel-attach/main.js';
    const orphan = await guest.run(`node ${program} orphan ${port} /dev/nbd1`, {
      timeoutMs: 60_000,
    });
    t.equal(orphan.exitCode, 137, 'the first process was killed');
    await first.kill();
    await startNbdkit(t, ['file', image], port);
    const facts = await runHelper(t, guest, `resume ${port} /dev/nbd1`);
    t.match(facts, {
      device: '/dev/nbd1',
      writerCode: '0',
      readsBackWhatWasWritten: true,
      resumeOfFreeDevice: /\/dev\/nbd3 is not attached/,
    });
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
