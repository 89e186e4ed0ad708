import t from 'tap';
import * as network from '../../../cli/doctor/checks-network.ts';
import type { MachineFacts, NetworkFacts, PathFacts } from '../../../cli/doctor/facts.ts';
import { daemonFacts, healthyFacts } from '../../helpers/machine-facts.ts';

const HEALTHY = healthyFacts();
const PATH: PathFacts = {
  peer: 'alpha',
  host: '192.0.2.1',
  interface: 'eth0',
  interfaceMtu: 1500,
  ethernet: true,
  pathMtu: 1500,
};

function withNetwork(change: Partial<NetworkFacts>): MachineFacts {
  const base: NetworkFacts = {
    paths: [],
    probes: [{ address: '192.0.2.9:7070', failure: '' }],
    firewall: '',
  };
  return { ...HEALTHY, network: { ...base, ...change } };
}

t.test(
  'MTU: small cards and narrow places on the way are named, tunnels are not faults',
  async (t) => {
    const cases: [string, Partial<PathFacts>, string | undefined, RegExp][] = [
      ['Ethernet', {}, 'ok', /^1500 \(eth0\)$/],
      ['unknown path', { pathMtu: undefined }, 'ok', /^1500/],
      ['jumbo frames all the way', { interfaceMtu: 9000, pathMtu: 9000 }, 'ok', /^9000/],
      ['a small card', { interfaceMtu: 1400, pathMtu: 1400 }, 'warning', /at most 1400 bytes/],
      ['jumbo frames, a plain switch', { interfaceMtu: 9000 }, 'warning', /takes only 1500/],
      ['a tunnel', { ethernet: false, interfaceMtu: 1420, pathMtu: 1420 }, 'ok', /a tunnel/],
      [
        'a tunnel in a tunnel',
        { ethernet: false, interfaceMtu: 1420, pathMtu: 1340 },
        'warning',
        /takes only 1340/,
      ],
      ['this machine itself', { host: '127.0.0.1', interfaceMtu: 100 }, undefined, /./],
      ['this machine itself, v6', { host: '::1', interfaceMtu: 100 }, undefined, /./],
      ['an interface that cannot be told', { interface: '' }, undefined, /./],
    ];
    for (const [fact, change, level, finding] of cases) {
      const results = network.checkPaths(withNetwork({ paths: [{ ...PATH, ...change }] }));
      if (level === undefined) t.strictSame(results, [], fact);
      else t.match(results, [{ check: 'MTU to alpha', level, finding }], fact);
    }
    const narrow = withNetwork({ paths: [{ ...PATH, peer: 'a\x1b[2J', pathMtu: 1400 }] });
    const [line] = network.checkPaths(narrow);
    t.match(line, { check: 'MTU to a?[2J', fix: 'ip route replace 192.0.2.1 dev eth0 mtu 1400' });
    t.strictSame(network.checkPaths({ ...HEALTHY, network: undefined }), []);
  },
);

t.test('peer port: on the loopback only, unreachable, or behind a firewall', async (t) => {
  const { provider } = daemonFacts().status;
  const lends = daemonFacts({ peerAddress: '127.0.0.1:7070' });
  const usage = { ...provider.usage, offeredBytes: 0 };
  const borrows = daemonFacts({ peerAddress: '[::1]:7070', provider: { ...provider, usage } });
  const facts = withNetwork({});
  t.match(network.checkPort(facts), [{ level: 'ok', finding: 'answers at 192.0.2.9:7070' }]);
  t.match(network.checkPort({ ...facts, daemon: lends }), [
    { level: 'warning', fix: 'memnode --listen :7070' },
  ]);
  t.match(network.checkPort({ ...facts, daemon: borrows }), [{ level: 'ok' }]);
  t.match(network.checkPort(withNetwork({ probes: [] })), [{ level: 'warning' }]);
  const probes = [
    { address: '192.0.2.9:7070', failure: '' },
    { address: '[2001:db8::1]:7070', failure: 'timeout' },
  ];
  t.match(network.checkPort(withNetwork({ probes })), [
    { level: 'warning', finding: '[2001:db8::1]:7070 does not answer (timeout)' },
  ]);
  const unseen = network.checkPort(withNetwork({ firewall: undefined }));
  t.match(unseen, [{ level: 'ok' }, { level: 'ok', finding: /cannot be seen.*nc -zv/ }]);
  const firewall =
    'table inet filter { chain input { type filter hook input priority 0; policy drop; } }';
  t.match(network.checkPort(withNetwork({ firewall })), [
    { level: 'ok' },
    { level: 'warning', finding: /no rule names port 7070/, fix: /tcp dport 7070 accept/ },
  ]);
  t.strictSame(network.checkPort({ ...facts, daemon: { reason: 'x' } }), []);
});

const INPUT = 'type filter hook input priority filter;';
const rulesets: [string, string, boolean][] = [
  ['no rules', '', false],
  ['accepts all', `table inet f {\n chain input { ${INPUT} policy accept; }\n}`, false],
  ['drops all', `table inet f {\n chain input { ${INPUT} policy drop; }\n}`, true],
  [
    'names the port',
    `table inet f {\n chain input { ${INPUT} policy drop;\n tcp dport 7070 accept\n } }`,
    false,
  ],
  [
    'names it in a set',
    `table inet f {\n chain input { ${INPUT} policy drop;\n tcp dport { 22, 7070 } accept\n } }`,
    false,
  ],
  [
    'names a longer number',
    `table inet f {\n chain input { ${INPUT} policy drop;\n tcp dport 17070 accept\n } }`,
    true,
  ],
  [
    'rejects at the end (firewalld)',
    `table inet f {\n chain in { ${INPUT} policy accept;\n reject with icmpx admin-prohibited\n } }`,
    true,
  ],
  [
    'drops what is forwarded only',
    `table inet f {\n chain input { ${INPUT} policy accept; }\n chain forward { hook forward; policy drop; } }`,
    false,
  ],
];
for (const [fact, ruleset, blocks] of rulesets) {
  t.test(`a rule set that ${fact} ${blocks ? 'may keep' : 'lets'} peers`, async (t) => {
    t.equal(network.firewallMayBlock(ruleset, 7070), blocks);
  });
}

t.test('clock: never set, not kept, kept, unknown', async (t) => {
  const set = Date.UTC(2026, 10, 21);
  for (const [wallMs, synchronised, level, finding] of [
    [0, true, 'warning', /1970-01-01 and was never set/],
    [Date.UTC(2025, 11, 31), undefined, 'warning', /2025-12-31/],
    [set, false, 'warning', /nothing keeps it right.*leases do not/],
    [set, true, 'ok', /kept right/],
    [set, undefined, 'ok', /^set$/],
  ] as const) {
    const clock = { wallMs, synchronised };
    t.match(network.checkClock({ ...HEALTHY, clock }), [{ level, finding }]);
  }
});
