import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { once } from 'node:events';
import path from 'node:path';
import t, { type Test } from 'tap';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';

const skip = skipWithoutGuest();

/** True while the process runs; a zombie no longer does. */
function alive(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function untilGone(t: Test, pid: number): Promise<void> {
  for (let tries = 0; tries < 100 && alive(pid); tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.notOk(alive(pid), 'QEMU is gone');
}

function leftovers(pid: number): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith(`memcloud-guest-${pid}-`));
}

t.test('commands run in a guest', { skip }, async (t) => {
  const guest = await bootGuest(t, {
    timeoutMs: 120_000,
    files: { '/opt/given/hello.mjs': 'console.log("hello from", process.arch);' },
  });

  await t.test('exit code and both outputs come back, apart', async (t) => {
    const result = await guest.run('echo out; echo err >&2; exit 7', { timeoutMs: 10_000 });
    t.equal(result.exitCode, 7);
    t.equal(result.stdout, 'out\n');
    t.equal(result.stderr, 'err\n');
  });

  await t.test('any bytes pass unchanged in both directions', async (t) => {
    const bytes = randomBytes(300_000);
    const result = await guest.run('cat', { timeoutMs: 20_000, stdin: bytes });
    t.ok(result.stdoutBytes.equals(bytes));
  });

  await t.test('the cable is pulled out and put back', async (t) => {
    const carrier = async (): Promise<string> => {
      const { stdout } = await guest.run('sleep 0.5; cat /sys/class/net/eth0/carrier', {
        timeoutMs: 10_000,
      });
      return stdout.trim();
    };
    t.equal(await carrier(), '1');
    await guest.plugCable(false);
    t.equal(await carrier(), '0');
    await guest.plugCable(true);
    t.equal(await carrier(), '1');
  });

  await t.test('lines are told while the command runs', async (t) => {
    const lines: string[] = [];
    const started = guest.run('echo one; sleep 1; echo two >&2; printf three', {
      timeoutMs: 10_000,
      onLine: (line, stream) => lines.push(`${stream} ${line}`),
    });
    await started;
    t.same(lines.sort(), ['stderr two', 'stdout one', 'stdout three']);
  });

  await t.test('commands asked for at once run one after the other', async (t) => {
    const results = await Promise.all(
      [1, 2, 3].map((n) => guest.run(`echo ${n}`, { timeoutMs: 10_000 })),
    );
    t.same(
      results.map((result) => result.stdout),
      ['1\n', '2\n', '3\n'],
    );
  });

  await t.test(
    'what a background process prints later does not reach the next command',
    async (t) => {
      await guest.run('(sleep 1; echo late) &', { timeoutMs: 10_000 });
      await guest.run('exec >/dev/null; sleep 2', { timeoutMs: 10_000 });
      t.equal((await guest.run('echo mine', { timeoutMs: 10_000 })).stdout, 'mine\n');
    },
  );

  await t.test('node, an injected file, koffi and the product load', async (t) => {
    const { stdout } = await runOk(t, guest, 'node /opt/given/hello.mjs');
    t.equal(stdout, 'hello from x64\n');
    const load = `import('/opt/memcloud/dist/common/libc.js').then((m) => console.log(typeof m.mmap))`;
    t.equal((await runOk(t, guest, `node -e "${load}"`)).stdout, 'function\n');
  });

  await t.test('the host loopback is at 10.0.2.2', async (t) => {
    const server = net.createServer((socket) => socket.end('from the host\n'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => server.close());
    const { port } = server.address() as net.AddressInfo;
    const { stdout } = await runOk(t, guest, `nc 10.0.2.2 ${port} </dev/null`);
    t.equal(stdout, 'from the host\n');
  });

  await t.test('a memory limit by cgroup v2 is enforced', async (t) => {
    const { stdout } = await runOk(
      t,
      guest,
      `mkdir /sys/fs/cgroup/small && echo 20M >/sys/fs/cgroup/small/memory.max
       (sh -c 'echo $$ >/sys/fs/cgroup/small/cgroup.procs; exec dd if=/dev/zero of=/dev/null bs=50M count=1') 2>/dev/null
       grep oom_kill /sys/fs/cgroup/small/memory.events; rmdir /sys/fs/cgroup/small`,
    );
    t.match(stdout, /oom_kill [1-9]/);
  });

  await t.test('modprobe finds modules with what they need', async (t) => {
    const { stdout } = await runOk(t, guest, 'modprobe zram && modprobe dm-crypt && lsmod');
    for (const name of ['zram', 'zsmalloc', 'dm_crypt', 'dm_mod', 'nbd']) {
      t.match(stdout, new RegExp(`^${name} `, 'm'));
    }
  });

  await t.test('the kernel log goes to the console, not to a command', async (t) => {
    await runOk(t, guest, 'echo marked-line >/dev/kmsg; sleep 1');
    t.match(guest.kernelLog, /marked-line/);
  });

  t.test('stopping leaves no process and no file', async (t) => {
    const { pid } = guest;
    t.ok(alive(pid));
    await guest.stop();
    t.notOk(alive(pid));
    t.same(leftovers(process.pid), []);
    await t.rejects(guest.run('true', { timeoutMs: 1000 }), { code: 'ERR_GUEST' });
  });
});

t.test('a command beyond its time ends the guest and tells where it hung', { skip }, async (t) => {
  const guest = await bootGuest(t, { timeoutMs: 60_000, modules: [] });
  await t.rejects(guest.run('sleep 100', { timeoutMs: 500 }), {
    code: 'ERR_TIMEOUT',
    message: /did not end within 500 ms: sleep 100/,
  });
  t.match(guest.kernelLog, /sysrq: Show Blocked State/, 'the kernel was asked for its stacks');
  await untilGone(t, guest.pid);
});

t.test('a guest beyond its life is stopped', { skip }, async (t) => {
  const guest = await bootGuest(t, { timeoutMs: 20_000, modules: [] });
  await t.rejects(guest.run('sleep 100', { timeoutMs: 60_000 }), { code: 'ERR_TIMEOUT' });
  await untilGone(t, guest.pid);
});

t.test('a kernel panic ends the guest and its last words are in the error', { skip }, async (t) => {
  const guest = await bootGuest(t, { timeoutMs: 60_000, modules: [] });
  await t.rejects(guest.run('echo c >/proc/sysrq-trigger', { timeoutMs: 30_000 }), {
    code: 'ERR_GUEST',
    message: /Kernel panic/,
  });
});

t.test('killing the parent kills the guest', { skip }, async (t) => {
  const script = path.join(import.meta.dirname, '../helpers/guest-parent/main.js');
  t.ok(existsSync(script));
  const parent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => parent.kill('SIGKILL'));
  const [chunk] = (await once(parent.stdout, 'data')) as [Buffer];
  const pid = Number(chunk.toString());
  t.ok(alive(pid));
  parent.kill('SIGKILL');
  await untilGone(t, pid);
  t.same(leftovers(parent.pid ?? 0), []);
});
