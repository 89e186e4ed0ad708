/** What is done to a machine, in which order. */
import t from 'tap';
import { installPlan, planScript, uninstallPlan, type Step } from '../../../cli/service/plan.ts';

const TARGET = { prefix: '', templates: { 'memnode.service': 'ExecStart=/usr/bin/memnode\n' } };
const VALUES = { daemon: ['/n', "it's"], cli: ['/n'], readme: '/r', swapSize: '1' };
const UNITS = '/etc/systemd/system';

function short(steps: readonly Step[]): string[] {
  return steps.map((step) =>
    step.step === 'run' ? step.words.join(' ') : `${step.step} ${step.path.replace(UNITS, '')}`,
  );
}

t.test(
  'install with swap: files, then reload, enable, start; swap is not waited for',
  async (t) => {
    t.strictSame(short(installPlan(TARGET, VALUES, 'on', [])), [
      ...['write /memcloud.slice', 'write /memnode.service'],
      ...['write /memcloud-swap.service', 'write /memcloud-sleep.service'],
      'systemctl daemon-reload',
      'systemctl enable memnode.service memcloud-swap.service memcloud-sleep.service',
      'systemctl start memnode.service',
      'systemctl --no-block start memcloud-swap.service',
    ]);
  },
);

t.test(
  'install without swap leaves swap units alone, --swap 0 takes them away first',
  async (t) => {
    const present = ['memcloud-swap.service', 'memcloud-sleep.service', 'memnode.service'];
    const rest = [
      ...['write /memcloud.slice', 'write /memnode.service', 'systemctl daemon-reload'],
      ...['systemctl enable memnode.service', 'systemctl start memnode.service'],
    ];
    t.strictSame(short(installPlan(TARGET, VALUES, 'keep', present)), rest);
    t.strictSame(short(installPlan(TARGET, VALUES, 'off', present)), [
      'systemctl disable --now memcloud-sleep.service memcloud-swap.service',
      ...['remove /memcloud-sleep.service', 'remove /memcloud-swap.service'],
      ...rest,
    ]);
    t.strictSame(short(installPlan(TARGET, VALUES, 'off', [])), rest, 'nothing to take away');
  },
);

t.test('another root: nothing is started, stopped or reloaded', async (t) => {
  const target = { ...TARGET, prefix: '/image' };
  const plans = [
    ...short(installPlan(target, VALUES, 'on', [])),
    ...short(uninstallPlan('/image', ['memnode.service'], true)),
  ];
  const commands = plans.filter((text) => text.startsWith('systemctl'));
  t.match(commands, [
    /^systemctl --root=\/image enable /,
    'systemctl --root=/image disable memnode.service',
  ]);
  for (const text of plans) t.match(text, /\/image/);
});

t.test('uninstall: swap stops first, identity stays unless purged', async (t) => {
  const present = ['memnode.service', 'memcloud.slice', 'memcloud-swap.service'];
  const steps = [
    'systemctl disable --now memcloud-swap.service memnode.service',
    ...['remove /memcloud-swap.service', 'remove /memnode.service', 'remove /memcloud.slice'],
  ];
  const plan = short(uninstallPlan('', present, false));
  t.strictSame(plan, [...steps, 'systemctl daemon-reload']);
  const purge = short(uninstallPlan('', present, true));
  t.ok(purge.includes('remove /var/lib/memcloud') && purge.includes('remove /etc/memcloud'));
  t.ok(purge.includes('remove /memnode.service.d'), 'drop-ins too');
  t.strictSame(short(uninstallPlan('', [], false)), [
    'remove /memcloud.slice',
    'systemctl daemon-reload',
  ]);
});

t.test('the script says the same in shell', async (t) => {
  const steps: Step[] = [
    { step: 'write', path: '/a b/u', content: "x='$HOME'\n" },
    { step: 'remove', path: '/c' },
    { step: 'run', words: ['systemctl', 'enable', "it's"] },
  ];
  t.equal(
    planScript(steps),
    "mkdir -p '/a b'\ncat >'/a b/u' <<'END_OF_UNIT'\nx='$HOME'\nEND_OF_UNIT\nrm -rf /c\n" +
      "systemctl enable 'it'\\''s'",
  );
});
