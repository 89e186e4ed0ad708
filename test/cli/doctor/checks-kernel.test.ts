import t from 'tap';
import { checkAll } from '../../../cli/doctor/checks.ts';
import * as kernel from '../../../cli/doctor/checks-kernel.ts';
import type { KernelFacts, MachineFacts } from '../../../cli/doctor/facts.ts';
import { faults, healthyFacts } from '../../helpers/machine-facts.ts';

const HEALTHY = healthyFacts();

function withKernel(change: Partial<KernelFacts>): MachineFacts {
  return { ...HEALTHY, kernel: { ...HEALTHY.kernel, ...change } };
}

function withModules(change: Partial<KernelFacts['modules']>): MachineFacts {
  return withKernel({ modules: { ...HEALTHY.kernel.modules, ...change } });
}

t.test('a machine without a fault: every line ok, and none with a command', async (t) => {
  const results = checkAll(HEALTHY);
  t.strictSame(faults(results), []);
  t.ok(results.length >= 20, `${results.length} lines`);
  for (const { check, finding, fix } of results) {
    t.equal(fix, '', check);
    t.match(finding, /\S/, check);
  }
});

t.test('Node: 20.19 is the oldest', async (t) => {
  for (const [nodeVersion, fault] of [
    ['20.19.0', []],
    ['20.18.9', ['problem node']],
    ['18.20.4', ['problem node']],
    ['22.0.0', []],
  ] as const) {
    t.strictSame(faults(kernel.checkNode({ ...HEALTHY, nodeVersion })), fault, nodeVersion);
  }
});

t.test('nbd: ready, to be loaded, absent', async (t) => {
  t.match(kernel.checkNbd(HEALTHY), [{ level: 'ok' }]);
  const loadable = kernel.checkNbd(withModules({ nbd: 'loadable' }));
  t.match(loadable, [{ level: 'warning', fix: 'modprobe nbd nbds_max=16' }]);
  t.match(kernel.checkNbd(withModules({ nbd: 'absent' })), [{ level: 'problem', fix: /^apt-get/ }]);
});

t.test('the direct path: each part that is missing is named with its cost', async (t) => {
  const { ciphers } = HEALTHY.kernel;
  const cases: [string, MachineFacts, string[], RegExp][] = [
    [
      'modules to be loaded are there',
      withModules({ tls: 'loadable', raid1: 'loadable' }),
      [],
      /./,
    ],
    ['no tls', withModules({ tls: 'absent' }), ['warning kernel TLS'], /no tls module/],
    [
      'no chacha20-poly1305',
      withKernel({ ciphers: { ...ciphers, 'rfc7539(chacha20,poly1305)': 'absent' } }),
      ['warning kernel TLS'],
      /no chacha20-poly1305/,
    ],
    [
      'no dm-crypt',
      withModules({ 'dm-crypt': 'absent' }),
      ['warning dm-crypt'],
      /could read pages/,
    ],
    [
      'no xts(aes)',
      withKernel({ ciphers: { ...ciphers, 'xts(aes)': 'absent' } }),
      ['warning dm-crypt'],
      /no xts\(aes\)/,
    ],
    ['no raid1', withModules({ raid1: 'absent' }), ['warning mirrors'], /one copy only/],
    [
      'what the daemon saw by a try counts most',
      { ...HEALTHY, directProblems: ['kernel TLS: the kernel refused the keys: EIO'] },
      ['warning direct path'],
      /refused the keys: EIO/,
    ],
  ];
  for (const [fact, facts, expected, sentence] of cases) {
    const results = kernel.checkDirectPath(facts);
    t.strictSame(faults(results), expected, fact);
    t.match(results.map(({ finding }) => finding).join('\n'), sentence, fact);
    for (const { level, fix } of results) t.equal(fix === '', level === 'ok', fact);
  }
});

t.test(
  'a try of the direct path: the command that its sentence names, else check-kernel',
  async (t) => {
    const script = '/opt/memcloud/kernel-scripts/check-kernel.sh';
    for (const [sentence, fix] of [
      ['kernel TLS: the kernel has no TLS for sockets; run: modprobe tls', 'modprobe tls'],
      ['dmsetup is not installed (apt-get install dmsetup)', 'apt-get install dmsetup'],
      ['kernel TLS: the kernel knows no TLS 1.3 (Linux 5.11 is needed)', script],
      ['kernel TLS: the kernel refused the keys: EIO', script],
    ] as const) {
      const results = kernel.checkDirectPath({ ...HEALTHY, directProblems: [sentence] });
      t.match(results.at(-1), { level: 'warning', finding: sentence, fix });
    }
    const directProblems = ['the nbd module is not loaded (modprobe nbd)'];
    const loaded = kernel.checkDirectPath({ ...HEALTHY, directProblems });
    t.match(loaded.at(-1), { check: 'direct path', level: 'ok' }, 'swap on loads modules itself');
    const tunnelled = kernel.checkDirectPath({ ...HEALTHY, directConnection: 'wireguard' });
    t.match(tunnelled.at(-1), { level: 'ok', finding: /through WireGuard/ });
    const unasked = kernel.checkDirectPath({ ...HEALTHY, directProblems: undefined });
    t.notOk(unasked.some(({ check }) => check === 'direct path'));
  },
);

t.test('tools: those of every swap are a problem, that of the direct path a warning', async (t) => {
  const { tools } = HEALTHY.kernel;
  for (const [change, expected] of [
    [{}, []],
    [{ mkswap: false }, ['problem tools']],
    [{ dmsetup: false }, ['warning tools']],
    [{ mdadm: false }, ['warning tools']],
    [{ swapon: false, dmsetup: false }, ['problem tools', 'warning tools']],
  ] as const) {
    const facts = withKernel({ tools: { ...tools, ...change } });
    t.strictSame(faults(kernel.checkTools(facts)), expected, JSON.stringify(change));
  }
});

t.test('capabilities: each missing bit is named with what needs it', async (t) => {
  const all = 0x1ff_ffff_ffffn;
  for (const [bit, name] of [
    [12n, 'CAP_NET_ADMIN'],
    [21n, 'CAP_SYS_ADMIN'],
    [23n, 'CAP_SYS_NICE'],
    [24n, 'CAP_SYS_RESOURCE'],
  ] as const) {
    const [result] = kernel.checkCapabilities(withKernel({ capabilities: all & ~(1n << bit) }));
    t.match(result, {
      level: 'warning',
      finding: new RegExp(`^missing: ${name} \\([^,]+(, [^,]+)*\\)$`),
    });
  }
  const none = withKernel({ capabilities: 0n });
  t.match(kernel.checkCapabilities({ ...none, root: false }), [{ fix: 'sudo memcloud doctor' }]);
  t.match(kernel.checkCapabilities(none), [{ fix: /--cap-add/ }]);
  const unknown = withKernel({ capabilities: undefined });
  t.match(kernel.checkCapabilities(unknown), [{ level: 'warning', finding: /does not tell/ }]);
});

t.test('locked memory: 128 MiB, or root', async (t) => {
  for (const [memlockBytes, root, level] of [
    [134_217_728, false, 'ok'],
    [134_217_727, false, 'warning'],
    [8_388_608, true, 'ok'],
    [Infinity, false, 'ok'],
  ] as const) {
    const facts = { ...withKernel({ memlockBytes }), root };
    t.match(kernel.checkMemlock(facts), [{ level }], `${memlockBytes} ${root}`);
  }
});

t.test('without root the report says what it could not see', async (t) => {
  t.strictSame(kernel.checkPrivileges(HEALTHY), []);
  const [line] = kernel.checkPrivileges({ ...HEALTHY, root: false });
  t.match(line, { level: 'warning', finding: /cannot be seen/, fix: 'sudo memcloud doctor' });
});
