import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { readConfig as readWritten } from '../../daemon/config.ts';

/** No settings of whoever runs the tests, and no files of their machine. */
const ENV = { MEMCLOUD_CONFIG: '/dev/null' };

/** The configuration without what was written. */
async function readConfig(args: readonly string[], env: NodeJS.ProcessEnv = ENV) {
  const config = await readWritten(args, env);
  if (config === undefined) return undefined;
  const { written, ...rest } = config;
  t.ok(written.resolved.problems.length === 0);
  return rest;
}

t.test('without arguments everything has a safe default', async (t) => {
  const config = await readConfig([]);
  t.match(config, {
    listen: { host: '0.0.0.0', port: 7070, lastPort: 7079 },
    connect: [],
    autoTrust: false,
    allowPlain: false,
    memoryDirectory: undefined,
    exportVolume: undefined,
    leaseTtlMs: 120_000,
    peerDeadMs: 500,
    logLevel: 'info',
    json: false,
  });
  const offer = config?.offerBytes ?? 0;
  t.equal(offer, Math.min(Math.floor(os.totalmem() / 4), 8589934592));
  t.match(config?.name, /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
});

t.test('each option ends where it belongs', async (t) => {
  const words =
    '--replace --force --state s --socket x.sock --listen [::1]:0 --offer 1.5G --name n.1-_ --connect a:1 ' +
    '--connect b:2 --no-mdns --mdns-interfaces e0 --mdns-interfaces e1 --dns d.example --no-peer-exchange --auto-trust --allow-plain --memory-dir /m --export e=4097 --lease-ttl 5 ' +
    '--host h --zone z --reserve 1M --recall-grace 0.5 --control-plane c:3 --managed-only ' +
    '--kit off --realtime 9 --log-level silent --json';
  t.same(await readConfig(words.split(' ')), {
    stateDirectory: path.resolve('s'),
    socketPath: path.resolve('x.sock'),
    listen: { host: '::1', port: 0, lastPort: 0 },
    offerBytes: 1610612736,
    name: 'n.1-_',
    host: 'h',
    zone: 'z',
    reserveBytes: 1048576,
    recallGraceMs: 500,
    connect: ['a:1', 'b:2'],
    mdns: false,
    mdnsInterfaces: ['e0', 'e1'],
    dns: ['d.example'],
    peerExchange: false,
    controlPlane: ['c:3'],
    managedOnly: true,
    trustFingerprints: [],
    obeyRevocations: false,
    objectReaders: 'trusted',
    rpcGroup: 'memcloud',
    autoTrust: true,
    allowPlain: true,
    memoryDirectory: '/m',
    exportVolume: { name: 'e', sizeBytes: 8192 },
    kit: 'off',
    realtimePriority: 9,
    leaseTtlMs: 5000,
    peerDeadMs: 500,
    logLevel: 'silent',
    json: true,
    replace: true,
    force: true,
  });
});

t.test('as memnode of the earlier MemCloud was started', async (t) => {
  const cases: [string, object][] = [
    ['--port 8080', { listen: { host: '0.0.0.0', port: 8080, lastPort: 8089 } }],
    ['-p 65530', { listen: { host: '0.0.0.0', port: 65530, lastPort: 65535 } }],
    ['-p 0', { listen: { host: '0.0.0.0', port: 0, lastPort: 0 } }],
    ['--memory 1gb', { offerBytes: 1073741824 }],
    ['-m 1gb -n NodeB', { offerBytes: 1073741824, name: 'NodeB' }],
  ];
  for (const [words, expected] of cases) {
    t.match(await readConfig(words.split(' ')), expected, words);
  }
  for (const words of ['--port 1 --listen :2', '--port 65536', '--port x', '--port -1', '-p 1.5']) {
    await t.rejects(readConfig(words.split(' ')), { code: 'ERR_USAGE', message: /--port/ }, words);
  }
});

t.test('what is wrong is refused in a sentence', async (t) => {
  const cases: [string, string, RegExp][] = [
    ['--bogus', 'ERR_USAGE', /Unknown argument: bogus; see memnode --help/],
    ['word', 'ERR_USAGE', /Unknown argument: word/],
    ['--offer lots', 'ERR_USAGE_SIZE', /got "lots"/],
    ['--listen 7070', 'ERR_USAGE_ADDRESS', /expected ADDR:PORT or ADDR:PORT-PORT/],
    ['--listen h:65536', 'ERR_USAGE_ADDRESS', /ADDR:PORT/],
    ['--connect nowhere', 'ERR_USAGE_ADDRESS', /got "nowhere"/],
    ['--name a/b', 'ERR_USAGE', /--name: expected 1 to 63 letters/],
    ['--name -a', 'ERR_USAGE', /./],
    [`--name ${'x'.repeat(64)}`, 'ERR_USAGE', /--name/],
    [`--socket /${'x'.repeat(107)}`, 'ERR_USAGE', /socket path: expected 1 to 107 bytes, got 108/],
    ['--export x', 'ERR_USAGE_SIZE', /size/],
    ['--export x=0', 'ERR_USAGE', /expected NAME=SIZE/],
    ['--export =1M', 'ERR_USAGE', /expected NAME=SIZE/],
    ['--lease-ttl 4.9', 'ERR_USAGE', /--lease-ttl: expected 5 to 86400 seconds, got 4\.9/],
    [
      '--peer-dead-ms 99',
      'ERR_USAGE',
      /--peer-dead-ms: expected 100 to 60000 milliseconds, got 99/,
    ],
    ['--lease-ttl x', 'ERR_USAGE', /--lease-ttl: expected 5 to 86400 seconds, got "x"/],
    ['--host a/b', 'ERR_USAGE', /--host: expected 1 to 64 letters/],
    [`--zone ${'z'.repeat(65)}`, 'ERR_USAGE', /--zone/],
    ['--recall-grace -1', 'ERR_USAGE', /--recall-grace/],
    ['--kit on', 'ERR_USAGE', /--kit: expected one of auto, off, got "on"/],
    ['--realtime 100', 'ERR_USAGE', /--realtime: expected .*0 to 99.*got 100/],
    ['--realtime -1', 'ERR_USAGE', /got -1/],
    ['--realtime 1.5', 'ERR_USAGE', /got 1\.5/],
    ['--log-level loud', 'ERR_USAGE', /--log-level: expected one of debug, .*, got "loud"/],
    ['--state a --state b', 'ERR_USAGE', /--state was given 2 times/],
  ];
  for (const [words, code, message] of cases) {
    await t.rejects(readConfig(words.split(' ')), { code, message }, words);
  }
  t.equal(
    (await readConfig(['--socket', `/${'x'.repeat(106)}`]))?.socketPath.length,
    107,
    'the longest path',
  );
});
