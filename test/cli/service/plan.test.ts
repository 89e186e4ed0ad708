/** What is done to a machine, in which order. */
import t from 'tap';
import { installPlan, planScript, uninstallPlan, type Step } from '../../../cli/service/plan.ts';

const TARGET = { prefix: '', templates: {}, present: [] as string[] };
const WISH = {
  values: { daemon: ['/n'], cli: ['/n'], root: '/r' },
  control: 'keep' as 'keep' | 'on' | 'only' | 'off',
  example: '# example\n',
  mountHelper: '/opt/m/mount.memcloud',
};
const UNITS = '/etc/systemd/system';
const SETTINGS = '/etc/memcloud/config.d/50-service.toml';

/** A plan of an installation, in short. */
function install(swap: 'on' | 'off' | 'keep', target = TARGET, settings?: string): string[] {
  return short(installPlan(target, { ...WISH, settings, swap, mount: 'keep' }));
}

/** The same of a mount. */
function installMount(mount: 'on' | 'off', target = TARGET): string[] {
  return short(installPlan(target, { ...WISH, settings: undefined, swap: 'keep', mount }));
}

function short(steps: readonly Step[]): string[] {
  return steps.map((step) =>
    step.step === 'run' ? step.words.join(' ') : `${step.step} ${step.path.replace(UNITS, '')}`,
  );
}

t.test('install with swap: files, reload, enable, start; swap is not waited for', async (t) => {
  t.strictSame(install('on', TARGET, 'offer = "1G"\n'), [
    ...['write /memcloud.slice', 'write /memnode.service'],
    ...['write /memcloud-swap.service', 'write /memcloud-sleep.service'],
    ...['create /etc/memcloud/config.toml', `write ${SETTINGS}`],
    'systemctl daemon-reload',
    'systemctl enable memnode.service memcloud-swap.service memcloud-sleep.service',
    'systemctl reload-or-restart memnode.service',
    'systemctl --no-block start memcloud-swap.service',
  ]);
});

t.test('without --swap the swap units stay as they are, --swap 0 takes them away', async (t) => {
  const present = ['memcloud-swap.service', 'memcloud-sleep.service', 'memnode.service'];
  const rest = [
    ...['write /memcloud.slice', 'write /memnode.service', 'create /etc/memcloud/config.toml'],
    ...['systemctl daemon-reload', 'systemctl enable memnode.service'],
    'systemctl reload-or-restart memnode.service',
  ];
  t.strictSame(install('keep', { ...TARGET, present }), rest);
  t.strictSame(install('off', { ...TARGET, present }), [
    'systemctl disable --now memcloud-sleep.service memcloud-swap.service',
    ...['remove /memcloud-sleep.service', 'remove /memcloud-swap.service'],
    ...rest,
  ]);
  t.strictSame(install('off'), rest, 'nothing to take away');
});

t.test('install with a mount: its unit, what memnode’s needs for it, the helper', async (t) => {
  t.strictSame(installMount('on'), [
    ...['write /memcloud.slice', 'write /memnode.service'],
    ...['write /memnode.service.d/mount.conf', 'write /memcloud-mount.service'],
    'link /sbin/mount.memcloud',
    'create /etc/memcloud/config.toml',
    'systemctl daemon-reload',
    'systemctl enable memnode.service memcloud-mount.service',
    'systemctl reload-or-restart memnode.service',
    'systemctl --no-block start memcloud-mount.service',
  ]);
  const present = ['memcloud-mount.service', 'memcloud-swap.service', 'memnode.service'];
  t.strictSame(installMount('off', { ...TARGET, present }).slice(0, 4), [
    'systemctl disable --now memcloud-mount.service',
    'remove /memcloud-mount.service',
    'remove /memnode.service.d/mount.conf',
    'remove /sbin/mount.memcloud',
  ]);
  for (const text of installMount('on', { ...TARGET, prefix: '/image' })) t.match(text, /\/image/);
});

t.test('a control node: beside memnode, alone, and away again', async (t) => {
  const steps = [
    ...['write /memcloud-control.service', 'create /etc/memcloud/control.env'],
    'systemctl daemon-reload',
    'systemctl enable memcloud-control.service',
    'systemctl start memcloud-control.service',
  ];
  const wish = { ...WISH, settings: undefined, swap: 'keep', mount: 'keep' } as const;
  t.strictSame(short(installPlan(TARGET, { ...wish, control: 'only' })), steps);
  const both = short(installPlan(TARGET, { ...wish, control: 'on' }));
  t.strictSame(both, [...short(installPlan(TARGET, wish)), ...steps]);
  const present = ['memcloud-control.service', 'memnode.service'];
  const off = short(installPlan({ ...TARGET, present }, { ...wish, control: 'off' }));
  t.strictSame(off.slice(0, 2), [
    'systemctl disable --now memcloud-control.service',
    'remove /memcloud-control.service',
  ]);
  const image = short(installPlan({ ...TARGET, prefix: '/image' }, { ...wish, control: 'only' }));
  for (const text of image) t.match(text, /\/image/, 'nothing starts in another root');
  const purge = short(uninstallPlan('', present, true));
  t.equal(purge[0], 'systemctl disable --now memnode.service memcloud-control.service');
  t.ok(purge.includes('remove /var/lib/private/memcloud-control'), 'its store and identity');
  t.notOk(
    short(uninstallPlan('', ['memnode.service'], true))
      .join()
      .includes('lib/memcloud-'),
  );
});

t.test('another root: nothing is started, stopped or reloaded', async (t) => {
  const target = { ...TARGET, prefix: '/image' };
  const plans = [
    ...install('on', target),
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
    ...['remove /memcloud-swap.service', 'remove /memnode.service'],
    ...['remove /memnode.service.d/mount.conf', 'remove /sbin/mount.memcloud'],
    'remove /memcloud.slice',
    `remove ${SETTINGS}`,
  ];
  const plan = short(uninstallPlan('', present, false));
  t.strictSame(plan, [...steps, 'systemctl daemon-reload']);
  const purge = short(uninstallPlan('', present, true));
  t.ok(purge.includes('remove /var/lib/memcloud') && purge.includes('remove /etc/memcloud'));
  t.ok(purge.includes('remove /memnode.service.d'), 'drop-ins too');
  t.strictSame(short(uninstallPlan('', [], false)), [
    ...['remove /memnode.service.d/mount.conf', 'remove /sbin/mount.memcloud'],
    'remove /memcloud.slice',
    `remove ${SETTINGS}`,
    'systemctl daemon-reload',
  ]);
});

t.test('the script says the same in shell', async (t) => {
  const steps: Step[] = [
    { step: 'write', path: '/a b/u', content: "x='$HOME'\n" },
    { step: 'create', path: '/d', content: 'd\n' },
    { step: 'link', path: '/l/x', target: '/t' },
    { step: 'remove', path: '/c' },
    { step: 'run', words: ['systemctl', 'enable', "it's"] },
  ];
  t.equal(
    planScript(steps),
    "mkdir -p '/a b'\ncat >'/a b/u' <<'END_OF_FILE'\nx='$HOME'\nEND_OF_FILE\nmkdir -p /\n" +
      "test -e /d || cat >/d <<'END_OF_FILE'\nd\nEND_OF_FILE\nmkdir -p /l\nln -sfn /t /l/x\nrm -rf /c\n" +
      "systemctl enable 'it'\\''s'",
  );
});
