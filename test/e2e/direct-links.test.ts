/**
 * Swap on a kernel without TLS. One guest with two network namespaces: the provider in the far one,
 * joined by a bare link and by a real WireGuard tunnel over it. Over the bare link nothing is direct:
 * it is refused, and a unit that is named swaps through memnode. Through the tunnel the kernel swaps
 * directly, and every word is right.
 */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { findProgram } from '../../cli/guest/host-command.ts';
import type { Guest } from '../../cli/guest/guest.ts';
import type { DirectDeviceInfo, StatusInfo } from '../../common/rpc-schema.ts';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';
import { HOG_PROGRAM, buildHog, skipWithoutCompiler } from '../helpers/soak/soak-guest.ts';

const HOG_MIB = 96;
const HOG_LIMIT = '32M';
const HOG_S = 20;

const skipWithoutTools =
  ['wg', 'ip', 'mdadm'].some((name) => findProgram(name) === undefined) &&
  'wg, ip or mdadm is not installed (apt-get install wireguard-tools iproute2 mdadm)';

/** Two namespaces, 192.168.77.1 and .2 in clear, 10.77.0.1 and .2 through WireGuard. */
const NETWORK = `set -e
  find / -xdev -name 'tls.ko*' -delete
  ip netns add far
  ip link add veth0 type veth peer name veth1
  ip link set veth1 netns far
  ip addr add 192.168.77.1/24 dev veth0 && ip link set veth0 up
  ip -n far addr add 192.168.77.2/24 dev veth1 && ip -n far link set veth1 up
  ip -n far link set lo up
  umask 077
  wg genkey >/tmp/near.key && wg genkey >/tmp/far.key
  ip link add wg0 type wireguard
  wg set wg0 private-key /tmp/near.key listen-port 51820 peer "$(wg pubkey </tmp/far.key)" \\
    allowed-ips 10.77.0.2/32 endpoint 192.168.77.2:51820
  ip addr add 10.77.0.1/24 dev wg0 && ip link set wg0 up
  ip -n far link add wg0 type wireguard
  ip netns exec far wg set wg0 private-key /tmp/far.key listen-port 51820 \\
    peer "$(wg pubkey </tmp/near.key)" allowed-ips 10.77.0.1/32 endpoint 192.168.77.1:51820
  ip -n far addr add 10.77.0.2/24 dev wg0 && ip -n far link set wg0 up
  busybox ping -c 1 -W 10 10.77.0.2`;

/** The shell functions that every command begins with. */
const PREAMBLE = `cd /opt/memcloud
  near() { node dist/cli/main.js --socket /tmp/near.sock "$@"; }
  far() { node dist/cli/main.js --socket /tmp/far.sock "$@"; }
  await_peer() {
    for second in $(seq 120); do grep -q 'peer up' /tmp/near.log && return 0; sleep 1; done
    tail -n 20 /tmp/near.log /tmp/far.log >&2; return 1
  }
`;

async function json<T>(guest: Guest, words: string): Promise<T> {
  const { stdout } = await guest.run(`${PREAMBLE} ${words}`, { timeoutMs: 120_000 });
  return JSON.parse(stdout) as T;
}

/** (Re)starts the consumer, which knows the provider by this address only. */
async function startNear(t: Test, guest: Guest, address: string): Promise<void> {
  const script = `${PREAMBLE}
    if [ -e /tmp/near.pid ]; then
      kill "$(cat /tmp/near.pid)"
      for half in $(seq 60); do [ -d "/proc/$(cat /tmp/near.pid)" ] || break; sleep 0.5; done
    fi
    node dist/daemon/main.js --name near --state /tmp/near --socket /tmp/near.sock --offer 0 \\
      --listen 127.0.0.1:0 --auto-trust --connect ${address}:7070 >/tmp/near.ready 2>/tmp/near.log &
    echo $! >/tmp/near.pid
    await_peer`;
  await runOk(t, guest, script, { timeoutMs: 180_000 });
}

async function bootWithTunnel(t: Test): Promise<Guest> {
  const guest = await bootGuest(t, {
    timeoutMs: 1_200_000,
    memoryMib: 768,
    files: { [HOG_PROGRAM]: { hostPath: buildHog(t) } },
    modules: [
      ...['nbd nbds_max=4', 'chacha20poly1305', 'xts', 'dm-crypt', 'raid1'],
      ...['veth', 'wireguard'],
    ],
    programs: ['mdadm', 'ip', 'wg'],
  });
  const { exitCode } = await runOk(t, guest, NETWORK);
  if (exitCode !== 0) t.bailout('no tunnel in the guest');
  const far = `${PREAMBLE}
    ip netns exec far node dist/daemon/main.js --name far --state /tmp/far --socket /tmp/far.sock \\
      --listen 0.0.0.0:7070 --offer 192M --auto-trust >/tmp/far.ready 2>/tmp/far.log &
    for second in $(seq 60); do [ -s /tmp/far.ready ] && exit 0; sleep 1; done; exit 1`;
  await runOk(t, guest, far, { timeoutMs: 90_000 });
  return guest;
}

const skip = skipWithoutGuest() || skipWithoutCompiler() || skipWithoutTools;

t.test('a kernel without TLS', { skip, timeout: 1_200_000 }, async (t) => {
  const guest = await bootWithTunnel(t);
  const run = (words: string): ReturnType<Guest['run']> =>
    guest.run(`${PREAMBLE} ${words}`, { timeoutMs: 180_000 });

  await t.test('over a bare link direct swap is refused, with what to type', async (t) => {
    await startNear(t, guest, '192.168.77.2');
    const refused = await run('near swap on 64M');
    t.equal(refused.exitCode, 1);
    t.match(refused.stderr, /no WireGuard link to a provider, and kernel TLS: /);
    t.match(refused.stderr, /memcloud swap on 64M --scope UNIT --memory 4G/);
    t.equal((await run('near swap on 64M --via direct')).exitCode, 1);
  });

  await t.test('--insecure-plain alone does not open the provider', async (t) => {
    const refused = await run('near swap on 64M --insecure-plain --via direct');
    t.not(refused.exitCode, 0);
    t.match(refused.stderr, /hung up|no connection/);
    t.match((await run('cat /tmp/far.log')).stdout, /from outside of WireGuard: closed/);
    const { directExports } = await json<StatusInfo>(guest, 'far --json status');
    t.same(directExports, [], 'nothing is left of the attempt');
  });

  await t.test('a unit that is named swaps through memnode, until it is told to end', async (t) => {
    const { stdout } = await runOk(
      t,
      guest,
      `${PREAMBLE}
      mkdir /sys/fs/cgroup/batch
      node dist/cli/main.js --socket /tmp/near.sock --json swap on 128M --copies 1 --scope /batch --memory ${HOG_LIMIT} >/tmp/on.out 2>/tmp/on.err &
      on=$!
      for second in $(seq 90); do [ -s /tmp/on.out ] && break; sleep 1; done
      cat /tmp/on.out; cat /sys/fs/cgroup/batch/memory.max
      sh -c 'echo $$ >/sys/fs/cgroup/batch/cgroup.procs
        exec ${HOG_PROGRAM} 48 5 1 ${randomBytes(32).toString('hex')}'
      kill -TERM $on; wait $on; echo "code $?"
      cat /sys/fs/cgroup/batch/memory.max; cat /tmp/on.err`,
      { timeoutMs: 300_000 },
    );
    t.match(stdout, /"path":"scoped"/);
    t.match(stdout, /\n33554432\n/, 'limited while it is on');
    t.match(stdout, /code 0\nmax\n/, 'and as before when it is off');
    t.match(
      stdout,
      /scoped path, for \/batch only: direct swap is not possible here: no WireGuard/,
    );
  });

  await t.test(
    'a command that was killed: the next one says so and ends what it left',
    async (t) => {
      const { stdout, stderr } = await runOk(
        t,
        guest,
        `${PREAMBLE}
      node dist/cli/main.js --socket /tmp/near.sock --json swap on 64M --copies 1 --scope /batch --memory ${HOG_LIMIT} >/tmp/on.out 2>/tmp/on.err &
      on=$!
      for second in $(seq 90); do [ -s /tmp/on.out ] && break; sleep 1; done
      kill -9 $on; sleep 1
      cat /sys/fs/cgroup/batch/memory.max
      near doctor | grep -A1 'left by a command'
      near swap off
      cat /sys/fs/cgroup/batch/memory.max; near --json volume ls`,
        { timeoutMs: 300_000 },
      );
      t.match(stdout, /^33554432\n[^]*left by a command that was killed[^]*\nmax\n\[\]\n$/);
      t.match(stderr, /has its limits back/);
    },
  );

  await t.test('through WireGuard the kernel swaps directly', async (t) => {
    await startNear(t, guest, '10.77.0.2');
    const on = await runOk(t, guest, `${PREAMBLE} near --json swap on 128M --copies 1`, {
      timeoutMs: 120_000,
    });
    t.match(on.stderr, /direct path: .*through WireGuard/);
    const { directDevices } = await json<StatusInfo>(guest, 'near --json status');
    t.match(directDevices, [{ health: 'ok', legs: [{ connection: 'wireguard', state: 'live' }] }]);
    const canary = randomBytes(32).toString('hex');
    const hog = await runOk(
      t,
      guest,
      `mkdir /sys/fs/cgroup/hog; echo ${HOG_LIMIT} >/sys/fs/cgroup/hog/memory.max
      sh -c 'echo $$ >/sys/fs/cgroup/hog/cgroup.procs
        exec ${HOG_PROGRAM} ${HOG_MIB} ${HOG_S} 7 ${canary}'
      cat /sys/fs/cgroup/hog/memory.events; wg show wg0 transfer`,
      { timeoutMs: 400_000 },
    );
    t.match(hog.stdout, /\bwrong"?[ :=]+0\b/);
    const [, received = 0, sent = 0] = /\t(\d+)\t(\d+)\n/.exec(hog.stdout) ?? [];
    const expected = ((HOG_MIB - 32) * 2 ** 20) / 2;
    t.ok(Number(sent) > expected && Number(received) > expected, `${received} in, ${sent} out`);
    // What left in clear on the underlay is WireGuard's UDP and nothing else: the socket is bound.
    const sockets = await run('ip netns exec far cat /proc/net/tcp');
    t.match(sockets.stdout, /02004D0A:1B9E 01004D0A:[0-9A-F]{4} 01/, 'the connection is inside');
    await runOk(t, guest, `${PREAMBLE} near swap off`, { timeoutMs: 300_000 });
    const left = await json<DirectDeviceInfo[]>(guest, 'near --json swap ls');
    t.same(left, []);
  });
  t.notMatch(guest.kernelLog, /blocked for more than|Kernel panic/);
});
