/**
 * Who survives when the whole machine runs out of memory: the same programs, which need half as much
 * memory again as the guest has and check every word of it, on swap of four kinds. No control group
 * limits anybody. A kernel that reports a task blocked for 120 s, or a run that does not end in three
 * times its time, counts as frozen. It is no measurement of speed.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { asMemcloudError } from '../../common/errors.ts';
import { Guest } from '../../cli/guest/guest.ts';
import { GUEST_PACKAGE_ROOT } from '../../cli/guest/root-image.ts';
import type { Stage } from '../stage.ts';
import { formatNumber, layOut } from '../table.ts';
import { startNode } from '../targets/memcloud.ts';
import { freePort, serveNbdkit } from '../targets/nbdkit.ts';
import { reasonOf } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

const MEMORY_MIB = 512;
const HOGS = { count: 2, mebibytes: 330 };
const SWAP_MIB = 1024;
const SECONDS_DEFAULT = 60;
const FROZEN_TASK_S = 120;
const START_TIMEOUT_MS = 180_000;
const OFFER_BYTES = 2 * 2 ** 30;
/** What a kernel says that gives up, or is about to. */
const LAST_WORDS = /Kernel panic[^\n]*|INFO: task [^\n]*blocked[^\n]*/;
const SOCKET = '/tmp/memcloud.sock';
/** The name in the certificate of nbdkit. */
const SERVER_NAME = 'soak';
const SOURCE = new URL('../../../test/helpers/soak/hog.c', import.meta.url);

/** What a stack needs on the host and does in the guest. */
interface Scenery {
  /** Ends by printing the swap device that is on. */
  readonly script: string;
  readonly files?: Readonly<Record<string, { hostPath: string }>>;
}

/** A way to swap onto another machine. */
export interface Stack {
  readonly name: string;
  readonly description: string;
  readonly prepare: (stage: Stage) => Promise<Scenery>;
}

const SWAP_ON = 'mkswap /dev/nbd0 >&2 && swapon --discard=pages /dev/nbd0 && echo /dev/nbd0';

function portOf(address: string): string {
  return address.split(':').at(-1) ?? '';
}

/** memnode in the guest with its own protection left out, as a plain relay would be. */
async function memnodeScenery(stage: Stage, swapOn: string): Promise<Scenery> {
  const directory = stage.makeDirectory('soak');
  const connect: string[] = [];
  for (const name of ['provider-a', 'provider-b']) {
    const { peerAddress } = await startNode(stage, directory, name, OFFER_BYTES, []);
    connect.push(`--connect 10.0.2.2:${portOf(peerAddress)}`);
  }
  const script = `cd ${GUEST_PACKAGE_ROOT}
    node dist/daemon/main.js --name guest --state /tmp/state --socket ${SOCKET} \\
      --listen 127.0.0.1:0 --offer 0 --auto-trust ${connect.join(' ')} \\
      >/tmp/ready 2>/tmp/memnode.log &
    for second in $(seq 170); do
      if [ "$(grep -c 'peer up' /tmp/memnode.log)" -ge 2 ]; then break; fi
      sleep 1
    done
    node dist/cli/main.js --socket ${SOCKET} --json swap on ${SWAP_MIB}M ${swapOn}`;
  return { script };
}

async function plainScenery(stage: Stage): Promise<Scenery> {
  const port = await freePort();
  const directory = stage.makeDirectory('soak');
  const args = ['--ipaddr', '127.0.0.1', '--port', `${port}`, 'memory', `${SWAP_MIB}M`];
  await serveNbdkit(stage, directory, 'plain', args);
  return { script: `nbd-client -b 4096 10.0.2.2 ${port} /dev/nbd0 >&2 && ${SWAP_ON}` };
}

/** Certificates for nbdkit and a client, of an authority that is thrown away. */
function makeCertificates(directory: string): void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' });
  };
  const key = ['-newkey', 'rsa:2048', '-nodes', '-days', '2'];
  openssl(
    ...['req', '-x509', ...key, '-subj', '/CN=soak CA'],
    ...['-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'],
  );
  // nbd-client compares names, not addresses, and looks for them where RFC 6125 has them.
  fs.writeFileSync(path.join(directory, 'names'), `subjectAltName=DNS:${SERVER_NAME}\n`);
  for (const name of ['server', 'client']) {
    const files = ['-keyout', `${name}-key.pem`, '-out', `${name}.csr`];
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${name}`, ...files);
    const authority = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial'];
    openssl(
      ...['x509', '-req', '-days', '2', '-in', `${name}.csr`, '-out', `${name}-cert.pem`],
      ...[...authority, '-extfile', 'names'],
    );
  }
}

async function tlsScenery(stage: Stage): Promise<Scenery> {
  const port = await freePort();
  const directory = stage.makeDirectory('soak');
  makeCertificates(directory);
  await serveNbdkit(stage, directory, 'tls', [
    ...['--ipaddr', '127.0.0.1', '--port', `${port}`],
    ...['--tls=require', `--tls-certificates=${directory}`, 'memory', `${SWAP_MIB}M`],
  ]);
  const names = ['ca-cert.pem', 'client-cert.pem', 'client-key.pem'];
  const files = Object.fromEntries(
    names.map((name) => [`/pki/${name}`, { hostPath: path.join(directory, name) }]),
  );
  const tls =
    '-certfile /pki/client-cert.pem -keyfile /pki/client-key.pem -cacertfile /pki/ca-cert.pem';
  const attach = `nbd-client -swap -b 4096 10.0.2.2 ${port} /dev/nbd0 ${tls} -tlshostname ${SERVER_NAME}`;
  return { files, script: `${attach} >&2 && ${SWAP_ON}` };
}

/** What is compared, by the names that `--targets` takes. */
export const SOAK_STACKS: readonly Stack[] = [
  {
    name: 'direct-2',
    description: 'memcloud swap on, direct path, 2 copies',
    prepare: (stage) => memnodeScenery(stage, '--via direct --copies 2'),
  },
  {
    name: 'direct-1',
    description: 'memcloud swap on, direct path, 1 copy',
    prepare: (stage) => memnodeScenery(stage, '--via direct --copies 1'),
  },
  { name: 'nbd-plain', description: 'kernel nbd, plain, to nbdkit', prepare: plainScenery },
  { name: 'nbd-tls', description: 'nbd-client -swap with TLS, to nbdkit', prepare: tlsScenery },
  {
    name: 'relay',
    description: 'memcloud swap on --via pool --force: a relay without protection',
    prepare: (stage) => memnodeScenery(stage, '--via pool --force --copies 1'),
  },
];

interface Outcome {
  readonly stack: string;
  readonly verdict: 'survived' | 'killed' | 'frozen' | 'failed';
  readonly detail: string;
  readonly wrongWords: number;
  readonly checkedWords: number;
  readonly pagesOut: number;
  readonly pagesIn: number;
  readonly seconds: number;
}

function hogScript(seconds: number): string {
  const canary = '5a'.repeat(32);
  const hogs = Array.from({ length: HOGS.count }, (_, index) => {
    return `/opt/hog ${HOGS.mebibytes} ${seconds} ${index + 1} ${canary} & pids="$pids $!"`;
  });
  return `${hogs.join('\n')}\nfor pid in $pids; do wait $pid || code=$?; done
    grep -E '^pswp(in|out) ' /proc/vmstat; exit $code`;
}

function judgeRun(stack: string, stdout: string, exitCode: number, ms: number): Outcome {
  const results = [...stdout.matchAll(/"type":"result","checked":(\d+),"wrong":(\d+)/g)];
  const sum = (group: 1 | 2): number =>
    results.reduce((all, match) => all + Number(match[group]), 0);
  const count = (name: string): number =>
    Number(new RegExp(`^${name} (\\d+)`, 'm').exec(stdout)?.[1] ?? 0);
  const whole = exitCode === 0 && results.length === HOGS.count;
  return {
    stack,
    verdict: whole ? 'survived' : 'killed',
    detail: whole ? '' : `${results.length} of ${HOGS.count} programs came to their end`,
    checkedWords: sum(1),
    wrongWords: sum(2),
    pagesOut: count('pswpout'),
    pagesIn: count('pswpin'),
    seconds: ms / 1000,
  };
}

async function soak(options: SuiteOptions, stack: Stack, hog: string): Promise<Outcome> {
  const { stage, note, seconds = SECONDS_DEFAULT } = options;
  const nothing = { wrongWords: 0, checkedWords: 0, pagesOut: 0, pagesIn: 0, seconds: 0 };
  const { script, files } = await stack.prepare(stage);
  const limitMs = seconds * 3000 + 120_000;
  const guest = await Guest.boot({
    timeoutMs: limitMs + START_TIMEOUT_MS,
    memoryMib: MEMORY_MIB,
    hungTaskTimeoutS: FROZEN_TASK_S,
    modules: ['nbd nbds_max=4', 'tls', 'chacha20poly1305', 'xts', 'dm-crypt', 'raid1'],
    programs: ['mdadm', 'nbd-client'],
    files: { ...files, '/opt/hog': { hostPath: hog } },
    onProgress: note,
  });
  let isUnderWay = false;
  try {
    const set = await guest.run(script, { timeoutMs: START_TIMEOUT_MS });
    if (set.exitCode !== 0) {
      const detail = set.stderr.trim().split('\n').at(-1) ?? '';
      return { stack: stack.description, verdict: 'failed', detail, ...nothing };
    }
    isUnderWay = true;
    const startMs = performance.now();
    const { stdout, exitCode } = await guest.run(hogScript(seconds), { timeoutMs: limitMs });
    return judgeRun(stack.description, stdout, exitCode, performance.now() - startMs);
  } catch (thrown) {
    const { message } = asMemcloudError(thrown);
    const [first = ''] = message.split('\n');
    const detail = LAST_WORDS.exec(guest.kernelLog)?.[0] ?? first;
    return {
      stack: stack.description,
      verdict: isUnderWay ? 'frozen' : 'failed',
      detail,
      ...nothing,
    };
  } finally {
    await guest.stop();
  }
}

function render(outcomes: readonly Outcome[]): string {
  const header = ['swap', 'outcome', 'words checked', 'wrong', 'pages out', 'in', 's', ''];
  return layOut(
    header,
    outcomes.map((row) => [
      ...[row.stack, row.verdict, formatNumber(row.checkedWords), String(row.wrongWords)],
      ...[String(row.pagesOut), String(row.pagesIn), formatNumber(row.seconds)],
      row.detail.slice(0, 60),
    ]),
  );
}

/** See the top of the file. */
export const soakSuite: Suite = {
  name: 'soak',
  description: 'swap under global memory pressure, in emulated guests: who survives',
  run: async (options) => {
    const failures: Record<string, string> = {};
    const outcomes: Outcome[] = [];
    const hog = path.join(options.stage.makeDirectory('hog'), 'hog');
    try {
      execFileSync('gcc', ['-O2', '-static', '-o', hog, SOURCE.pathname]);
      const asked = SOAK_STACKS.filter(({ name }) => options.names?.includes(name) !== false);
      for (const stack of asked) {
        options.note(`soak: ${stack.description}`);
        outcomes.push(await soak(options, stack, hog));
      }
    } catch (thrown) {
      failures['soak'] = reasonOf(thrown);
    }
    fs.rmSync(hog, { force: true });
    return { data: { outcomes }, text: render(outcomes), panels: [], failures };
  },
};
