/**
 * A Linux kernel reaches a direct export by itself: kTLS set up by us, NBD through it, no process of
 * ours in between. It holds our keys, records and fences to the kernel's own.
 */
import t from 'tap';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';
import { serveTickets, startDirectHost } from '../helpers/direct-host.ts';

const skip = skipWithoutGuest();
const PROGRAM = '/opt/memcloud/dist/test/helpers/direct-guest/main.js';
const MIB = 2 ** 20;

t.test('a kernel uses a direct export over kernel TLS', { skip, timeout: 600_000 }, async (t) => {
  const host = await startDirectHost(t);
  const guest = await bootGuest(t, {
    timeoutMs: 300_000,
    includeTests: true,
    modules: ['nbd nbds_max=4'],
  });
  await t.test('what the kernel lacks is named, with the command that brings it', async (t) => {
    const supportWith = async (before: string): Promise<unknown> => {
      const { stdout } = await runOk(t, guest, `${before}; node ${PROGRAM} support`);
      return JSON.parse(stdout);
    };
    const noLoading = 'echo /bin/false >/proc/sys/kernel/modprobe';
    t.match(await supportWith(noLoading), {
      value: { supported: false, reason: /no TLS for sockets; run: modprobe tls$/ },
    });
    t.match(await supportWith('busybox modprobe tls'), {
      value: { supported: false, reason: /run: modprobe chacha20poly1305$/ },
    });
    // From here on the kernel loads by itself what it needs, as for any root.
    await runOk(t, guest, 'echo /bin/modprobe-in-root >/proc/sys/kernel/modprobe');
  });
  const described = (): ReturnType<typeof host.access.list>[number] | undefined =>
    host.access.list().find((one) => one.exportId === exportId);
  // Nobody is connected until the guest is: that long an export is kept.
  const { exportId } = host.access.open({ sizeBytes: 64 * MIB, ttlMs: 60_000 });
  const ticketPort = await serveTickets(t, host, exportId);
  const facts: Record<string, unknown> = {};
  const onFact: Record<string, () => void> = {
    written: () => t.match(described(), { residentBytes: 32 * MIB, connected: true }),
    writing: () => {
      const before = host.exports.status()[0]?.requestCount ?? 0;
      const timer = setInterval(() => {
        // Only once it is in the midst of its 256 writes.
        if ((host.exports.status()[0]?.requestCount ?? 0) < before + 20) return;
        clearInterval(timer);
        host.streams.at(-1)?.destroy();
      }, 5);
    },
    trimmed: () => t.match(described(), { residentBytes: 16 * MIB }, 'trims give RAM back'),
  };
  const result = await guest.run(`node ${PROGRAM} ${exportId} ${host.port} ${ticketPort}`, {
    timeoutMs: 240_000,
    onLine: (line, stream) => {
      if (stream !== 'stdout' || !line.startsWith('{')) return t.comment(line);
      const { fact, value } = JSON.parse(line) as { fact: string; value: unknown };
      facts[fact] = value;
      onFact[fact]?.();
    },
  });
  if (result.exitCode !== 0) t.comment(result.stderr, guest.kernelLog.slice(-3000));
  t.equal(result.exitCode, 0, 'the helper ends well');
  t.match(facts, {
    support: { supported: true },
    device: '/dev/nbd0',
    readsBackWhatWasWritten: true,
    linkDead: true,
    reconnected: true,
    writerCode: 0,
    readsBackAfterCut: true,
    trimmedRangeIsZero: true,
    detached: true,
  });
  t.comment(`requests: ${host.exports.status()[0]?.requestCount}`);
  host.access.close(exportId);
  t.equal(host.provider.usage().usedBytes, 0);
});
