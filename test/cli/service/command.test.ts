/** `memcloud service` as a process: plans, another root, and what it says where it cannot work. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { labFolder, memcloud, memcloudJson } from '../../helpers/lab-node.ts';
import { judge, requires } from '../../helpers/judges.ts';

const SOCKET = '/nonexistent/memcloud.sock';
const ROOT = process.getuid?.() === 0;
const BOOTED = fs.existsSync('/run/systemd/system');

function files(folder: string): string[] {
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .sort();
}

const UNITS = 'etc/systemd/system';
const CONFIG = 'etc/memcloud';
const INSTALLED = [
  `${CONFIG}/config.d/50-service.toml`,
  `${CONFIG}/config.toml`,
  `${UNITS}/memcloud-sleep.service`,
  `${UNITS}/memcloud-swap.service`,
  `${UNITS}/memcloud.slice`,
  `${UNITS}/memnode.service`,
  `${UNITS}/memnode.service.wants/memcloud-swap.service`,
  `${UNITS}/multi-user.target.wants/memnode.service`,
  `${UNITS}/sleep.target.requires/memcloud-sleep.service`,
];

t.test('--print-only prints a shell script that does the same, and changes nothing', async (t) => {
  const prefix = labFolder(t);
  const words = ['service', 'install', '--prefix', prefix, '--print-only'];
  const options = ['--swap', '2G', '--offer', '1G', '--connect', 'a:1', '--connect', 'b:2'];
  const { code, stdout, stderr } = await memcloud(SOCKET, ...words, ...options);
  t.strictSame({ code, stderr }, { code: 0, stderr: '' });
  t.strictSame(files(prefix), []);
  t.match(stdout, '\noffer = "1G"\nconnect = ["a:1","b:2"]\n\n[swap]\nsize = "2G"\n');
  const script = stdout.replaceAll(/^systemctl .*$/gm, ':');
  t.match(await judge('sh', ['-eu'], { input: script }), { code: 0, stderr: '' });
  for (const name of ['memnode.service', 'memcloud-swap.service']) {
    const written = fs.readFileSync(path.join(prefix, UNITS, name), 'utf8');
    t.ok(stdout.includes(written), `${name} is what was printed`);
  }
  const both = await memcloud(SOCKET, ...words, '--control-plane');
  t.match(both.stdout, /^systemctl --root=\S+ enable memcloud-control\.service$/m);
  t.match(both.stdout, /^ExecStart=\S+ \S+\/main\.js control-plane$/m);
  const json = await memcloudJson<{ steps: { step: string }[] }>(t, SOCKET, ...words, ...options);
  t.strictSame([...new Set(json.steps.map(({ step }) => step))], ['write', 'create', 'run']);
});

t.test('another root: installed twice, removed twice', requires('systemctl'), async (t) => {
  const prefix = labFolder(t);
  const service = (...words: string[]): Promise<{ changed: string[] }> =>
    memcloudJson(t, SOCKET, 'service', ...words, '--prefix', prefix);
  t.equal((await service('install', '--swap', '2G')).changed.length, 6);
  t.strictSame(files(prefix), INSTALLED);
  const check = await memcloud(SOCKET, 'config', 'check', '--config', path.join(prefix, CONFIG));
  t.match(check, { code: 0 }, `memnode will understand it: ${check.stderr}`);
  t.strictSame((await service('install', '--swap', '2G')).changed, [], 'nothing to change');
  t.strictSame((await service('install')).changed, [], 'without --swap, swap stays as it is');
  const settings = path.join(prefix, CONFIG, 'config.d/50-service.toml');
  t.strictSame((await service('install', '--offer', '50%')).changed, [settings]);
  t.match(fs.readFileSync(settings, 'utf8'), /\noffer = "50%"\n\n\[swap\]\nsize = "2G"\n$/);

  fs.writeFileSync(path.join(prefix, CONFIG, 'config.toml'), '# mine\n');
  t.equal((await service('install', '--swap', '0')).changed.length, 2, 'the swap units go');
  t.strictSame(
    files(prefix),
    INSTALLED.filter((name) => !/swap|sleep/.test(name)),
  );
  fs.mkdirSync(path.join(prefix, 'var/lib/memcloud'), { recursive: true });
  fs.writeFileSync(path.join(prefix, 'var/lib/memcloud/identity'), '');
  await service('uninstall');
  const kept = [`${CONFIG}/config.toml`, 'var/lib/memcloud/identity'];
  t.strictSame(files(prefix), kept, 'identity and what people wrote stay');
  t.strictSame((await service('uninstall')).changed, []);
  await service('uninstall', '--purge');
  t.strictSame(files(prefix), []);
});

t.test('a mount is installed and removed', requires('systemctl'), async (t) => {
  const prefix = labFolder(t);
  const service = (...words: string[]): Promise<{ changed: string[] }> =>
    memcloudJson(t, SOCKET, 'service', ...words, '--prefix', prefix);
  t.equal((await service('install', '--mount', '/mnt/memcloud')).changed.length, 7);
  const mounted = [
    ...[`${CONFIG}/config.d/50-service.toml`, `${CONFIG}/config.toml`],
    ...[`${UNITS}/memcloud-mount.service`, `${UNITS}/memcloud.slice`, `${UNITS}/memnode.service`],
    `${UNITS}/memnode.service.d/mount.conf`,
    `${UNITS}/memnode.service.wants/memcloud-mount.service`,
    `${UNITS}/multi-user.target.wants/memnode.service`,
    'sbin/mount.memcloud',
  ];
  t.strictSame(files(prefix), mounted);
  const helper = path.join(prefix, 'sbin/mount.memcloud');
  t.ok(fs.statSync(helper).mode & 0o111, 'the helper is there and can be run');
  const check = await memcloud(SOCKET, 'config', 'check', '--config', path.join(prefix, CONFIG));
  t.match(check, { code: 0 }, check.stderr);
  t.strictSame((await service('install')).changed, [], 'without --mount it stays as it is');
  t.equal((await service('install', '--mount', 'off')).changed.length, 3);
  t.notOk(files(prefix).some((name) => /mount/.test(name)));
  await service('install', '--mount', '/mnt/memcloud');
  fs.rmSync(helper);
  fs.writeFileSync(helper, 'of others');
  const words = ['install', '--mount', '/mnt/memcloud', '--prefix', prefix];
  t.match(await memcloud(SOCKET, 'service', ...words), { code: 1, stderr: /a file of others/ });
});

t.test('a control node is installed and removed', requires('systemctl'), async (t) => {
  const prefix = labFolder(t);
  const service = (...words: string[]): Promise<{ changed: string[] }> =>
    memcloudJson(t, SOCKET, 'service', ...words, '--prefix', prefix);
  const alone = [
    `${CONFIG}/control.env`,
    `${UNITS}/memcloud-control.service`,
    `${UNITS}/multi-user.target.wants/memcloud-control.service`,
  ];
  t.equal((await service('install', '--control-plane', 'only')).changed.length, 2);
  t.strictSame(files(prefix), alone, 'and no memnode');
  const options = path.join(prefix, CONFIG, 'control.env');
  fs.writeFileSync(options, 'MEMCLOUD_CONTROL_NAME=mine\n');
  t.strictSame((await service('install', '--control-plane', 'only')).changed, []);
  await service('install', '--control-plane');
  t.ok(files(prefix).includes(`${UNITS}/memnode.service`), 'beside memnode');
  t.strictSame((await service('install')).changed, [], 'without the option it stays as it is');
  t.equal((await service('install', '--control-plane', 'off')).changed.length, 1);
  t.notOk(files(prefix).some((name) => /memcloud-control/.test(name)));
  await service('install', '--control-plane', 'on');
  await service('uninstall');
  t.strictSame(files(prefix), [`${CONFIG}/config.toml`, `${CONFIG}/control.env`]);
  t.equal(fs.readFileSync(options, 'utf8'), 'MEMCLOUD_CONTROL_NAME=mine\n', 'people wrote it');
});

t.test('wrong words change nothing', async (t) => {
  const prefix = labFolder(t);
  for (const [words, code] of [
    ['--swap 8X', 2],
    ['--offer much', 2],
    ['--mount here', 2],
    ['--control-plane maybe', 2],
    ['--control-plane only --offer 1G', 2],
    ['--connect nowhere', 2],
    ['--connect a:1 --swap 1G --swap 2G', 2],
  ] as const) {
    const args = ['service', 'install', '--prefix', prefix, ...words.split(' ')];
    const ended = await memcloud(SOCKET, ...args);
    t.match(ended, { code, stdout: '', stderr: /^memcloud: / }, words);
  }
  t.strictSame(files(prefix), []);
});

t.test('without systemd: one sentence that says what to do', { skip: BOOTED }, async (t) => {
  for (const word of ['install', 'uninstall']) {
    const { code, stdout, stderr } = await memcloud(SOCKET, 'service', word);
    t.strictSame({ code, stdout }, { code: 1, stdout: '' });
    t.match(stderr, /^memcloud: service \w+: systemd does not run this machine; .*--prefix DIR\n$/);
  }
});

t.test("the units' own commands", { skip: !ROOT && 'needs root' }, async (t) => {
  const off = await memcloud(SOCKET, 'service', 'swap-off');
  t.strictSame(off.code, 0, `no swap on the network here is off already: ${off.stderr}`);
  const on = await memcloud(SOCKET, 'service', 'swap-on', '--deadline', '2', '--', '1G');
  t.match(on, { code: 3, stdout: '' }, 'no memnode, also not after two seconds');
  t.equal((await memcloud(SOCKET, 'service', 'swap-on', '--', '1X')).code, 2);
  t.match(await memcloud(SOCKET, 'service', 'mount-off'), { code: 0 }, 'nothing is mounted');
  t.match(await memcloud(SOCKET, 'service', 'mount-clean'), { code: 0, stderr: '' });
  t.match(await memcloud(SOCKET, 'service', 'mount-on', '--deadline', '2'), { code: 3 });
  const { stdout } = await memcloud(SOCKET, 'service', '--help');
  t.notMatch(stdout, /swap-o|mount-o|mount-c/, 'not for people');
});
