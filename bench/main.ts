#!/usr/bin/env node
/**
 * `npm run bench`: measures what we build beside what people would use instead, in one run on one
 * machine. Exit code 0 when everything asked for ran, whether goals were reached or not; 1 when
 * something failed to run or the machine is busy; 2 for a wrong command line. docs/benchmarks.md
 * tells the method.
 */
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { ExitCode } from '../common/errors.ts';
import { describeMachine, renderMachine, type Machine } from './machine.ts';
import { BUSY_SHARE_MAX, waitUntilQuiet } from './proc.ts';
import { writeResults } from './results.ts';
import { Stage } from './stage.ts';
import { seededRandom } from './statistics.ts';
import { CONTROL_STORES } from './control/network.ts';
import { block } from './suites/block.ts';
import { controlPlane, installControlStores } from './suites/control-plane.ts';
import { cpu } from './suites/cpu.ts';
import { FILE_WORK_NAMES, MOUNT_TARGETS, files } from './suites/files.ts';
import { guest } from './suites/guest.ts';
import { LIMIT_WORK_NAMES, installLimitTools, limits } from './suites/limits.ts';
import { LINK_WORK_NAMES, installLinkTools, links } from './suites/links.ts';
import { memory } from './suites/memory.ts';
import { OBJECT_TARGETS, OBJECT_WORK_NAMES, installStores, objects } from './suites/objects.ts';
import { rack } from './suites/rack.ts';
import { SCALE_WORK_NAMES, scale } from './suites/scale.ts';
import { SOAK_STACKS, soakSuite } from './suites/soak.ts';
import { steadyState } from './suites/steady-state.ts';
import type { Suite, SuiteResult } from './suites/suite.ts';
import { formatNumber } from './table.ts';
import { memcloud, memcloudLocal } from './targets/memcloud.ts';
import { nbdServerTls } from './targets/nbd-server.ts';
import { nbdkitTcp, nbdkitTls, nbdkitUnix } from './targets/nbdkit.ts';
import { qemuNbd } from './targets/qemu-nbd.ts';
import type { Target } from './targets/target.ts';
import { describeTool, installTools, missingTools } from './tools.ts';
import { reasonOf } from './trials.ts';

const SUITES: readonly Suite[] = [
  block,
  cpu,
  memory,
  steadyState,
  files,
  objects,
  controlPlane,
  links,
  scale,
  guest,
  soakSuite,
  limits,
  rack,
];
const TARGETS: readonly Target[] = [
  ...[memcloud, memcloudLocal],
  ...[nbdkitTls, nbdkitUnix, nbdkitTcp, qemuNbd, nbdServerTls],
];
/** Guests and racks take minutes, mounts want root: they are measured when asked for. */
const DEFAULT_SUITES: readonly string[] = [block, cpu, memory, steadyState].map(({ name }) => name);
/** Without more words, a quick run compares these. */
const QUICK_TARGETS: readonly Target[] = [memcloud, nbdkitTls];

/** A build may have ended just now; its traces may take this long to fade. */
const START_QUIET_TIMEOUT_MS = 10_000;
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

const note = (text: string): void => void process.stderr.write(`${text}\n`);

async function readFlags(args: readonly string[]) {
  const list = (items: readonly { name: string; description: string }[]): string =>
    items.map(({ name, description }) => `  ${name.padEnd(12)} ${description}`).join('\n');
  return yargs([...args])
    .scriptName('npm run bench --')
    .usage('$0 [OPTION]...\n\nMeasures MemCloud beside its peers, in interleaved trials.')
    .option('only', {
      choices: SUITES.map(({ name }) => name),
      array: true,
      describe: 'run only these benchmarks',
    })
    .option('targets', {
      choices: [
        ...new Set(
          [
            ...[...TARGETS, ...MOUNT_TARGETS, ...OBJECT_TARGETS],
            ...[...CONTROL_STORES, ...SOAK_STACKS],
          ].map(({ name }) => name),
        ),
      ],
      array: true,
      describe: 'run only these targets',
    })
    .option('works', {
      choices: [
        ...[...FILE_WORK_NAMES, ...OBJECT_WORK_NAMES, ...LIMIT_WORK_NAMES],
        ...[...LINK_WORK_NAMES, ...SCALE_WORK_NAMES],
      ],
      array: true,
      describe: 'of "files", "objects", "limits", "links" and "scale", do only these works',
    })
    .option('quick', { type: 'boolean', default: false, describe: 'short, few targets, imprecise' })
    .option('rounds', { type: 'number', describe: 'rounds (default 9, memory 3)' })
    .option('seconds', { type: 'number', describe: 'measured seconds of a trial (default 2)' })
    .option('seed', { type: 'number', describe: 'seed of order, offsets and bootstrap' })
    .option('install', {
      type: 'boolean',
      default: false,
      describe: 'install missing programs with apt-get (as root)',
    })
    .option('force', { type: 'boolean', default: false, describe: 'run although others compute' })
    .option('json', { type: 'boolean', default: false, describe: 'print JSON, not tables' })
    .epilogue(
      `Benchmarks:\n${list(SUITES)}\n\nTargets:\n${list(TARGETS)}\n\nTargets of "files":\n${list(MOUNT_TARGETS)}` +
        `\n\nTargets of "objects":\n${list(OBJECT_TARGETS)}` +
        `\n\nTargets of "control-plane":\n${list(CONTROL_STORES)}` +
        `\n\nTargets of "soak":\n${list(SOAK_STACKS)}`,
    )
    .fail((message, error) => {
      note(`bench: ${message ?? reasonOf(error)}; see --help`);
      process.exit(ExitCode.USAGE);
    })
    .check(({ rounds = 1, seconds = 1 }) => {
      if (Number.isInteger(rounds) && rounds >= 1 && seconds > 0) return true;
      throw new Error('--rounds: expected a whole number from 1; --seconds: expected more than 0');
    })
    .strict()
    .version(false)
    .wrap(100)
    .parseAsync();
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

/** Suites that choose their targets themselves. */
const OWN_TARGETS: readonly Suite[] = [
  ...[files, objects, controlPlane, links, scale],
  ...[guest, soakSuite, limits, rack],
];

/** The targets whose programs are there. @throws Error when fio is not, or no target is left */
function usableTargets({ targets, quick, install, only }: Flags): Target[] {
  const preset = quick ? QUICK_TARGETS : TARGETS;
  const asked =
    targets === undefined ? preset : TARGETS.filter(({ name }) => targets.includes(name));
  const tools = [...new Set(['fio' as const, ...asked.flatMap((target) => target.tools)])];
  if (install && missingTools(tools).length > 0) installTools(missingTools(tools));
  const missing = missingTools(tools);
  if (missing.includes('fio')) throw new Error(`missing: ${describeTool('fio')}, or --install`);
  const usable = asked.filter((target) => {
    const lacks = target.tools.filter((tool) => missing.includes(tool));
    if (lacks.length > 0) note(`skipping ${target.name}: ${lacks.map(describeTool).join(', ')}`);
    return lacks.length === 0;
  });
  const asksForNone = only?.every((name) => OWN_TARGETS.some((suite) => suite.name === name));
  if (usable.length === 0 && asksForNone !== true) throw new Error('no target is left to measure');
  return usable;
}

/** Runs `work` on a stage that is closed however it ends. */
async function onStage<T>(work: (stage: Stage) => Promise<T>): Promise<T> {
  const stage = new Stage();
  const close = (signal: NodeJS.Signals): void => {
    note(`${signal}: stopping`);
    const code = 128 + SIGNALS[signal as keyof typeof SIGNALS];
    void stage.close().finally(() => process.exit(code));
  };
  for (const signal of Object.keys(SIGNALS)) process.once(signal, close);
  try {
    return await work(stage);
  } finally {
    for (const signal of Object.keys(SIGNALS)) process.removeListener(signal, close);
    await stage.close();
  }
}

async function main(): Promise<number> {
  const flags = await readFlags(hideBin(process.argv));
  const { quick, force, rounds, seconds } = flags;
  if (flags.install && flags.only?.includes(objects.name) === true) installStores();
  if (flags.install && flags.only?.includes(controlPlane.name) === true) installControlStores();
  if (flags.install && flags.only?.includes(limits.name) === true) installLimitTools();
  if (flags.install && flags.only?.includes(links.name) === true) installLinkTools();
  const targets = usableTargets(flags);
  const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 31);
  const busyShare = await waitUntilQuiet(force ? 0 : START_QUIET_TIMEOUT_MS);
  const busy = `the machine is ${formatNumber(busyShare * 100)} % busy with other work`;
  if (busyShare > BUSY_SHARE_MAX) {
    const limit = `more than ${BUSY_SHARE_MAX * 100} %`;
    if (!force) throw new Error(`${busy}, ${limit}: nothing measured (--force runs all the same)`);
    note(`WARNING: ${busy}, ${limit}: the numbers below are not to be quoted`);
  }
  const tools = ['fio' as const, ...new Set(targets.flatMap((target) => target.tools))];
  const machine = await onStage((stage) => describeMachine(stage, tools, busyShare));
  note(`${renderMachine(machine)}\nseed ${seed}`);

  const report: Record<string, object> = {};
  let failed = false;
  for (const suite of SUITES.filter(({ name }) => (flags.only ?? DEFAULT_SUITES).includes(name))) {
    const random = seededRandom(seed);
    const result = await onStage((stage) =>
      suite.run({
        ...{ stage, targets, rounds, seconds, quick, force, random, note },
        ...{ names: flags.targets, works: flags.works },
      }),
    );
    failed ||= Object.keys(result.failures).length > 0;
    publish(suite.name, machine, result, flags.json);
    report[suite.name] = { failures: result.failures, ...result.data };
  }
  if (flags.json) process.stdout.write(`${JSON.stringify({ machine, seed, ...report })}\n`);
  return failed ? ExitCode.FAILURE : ExitCode.OK;
}

function publish(name: string, machine: Machine, result: SuiteResult, json: boolean): void {
  const files = writeResults(name, machine, result);
  const failures = Object.entries(result.failures).map(([who, why]) => `FAILED ${who}: ${why}`);
  const text = [`== ${name} ==`, renderMachine(machine), '', result.text, ...failures, ''].join(
    '\n',
  );
  if (!json) process.stdout.write(`${text}\n`);
  for (const file of files) note(`wrote ${file}`);
}

try {
  process.exitCode = await main();
} catch (thrown) {
  note(`bench: ${reasonOf(thrown)}`);
  process.exitCode = ExitCode.FAILURE;
}
