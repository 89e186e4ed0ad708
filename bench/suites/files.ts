/**
 * Files: our mount beside what people would use instead, in requests of one size, many small files and real
 * work; what an inode costs; and what cannot be compared on this machine, with the reason. Must be run by
 * root, who may mount.
 */
import { FILE_GOALS, INODE_BYTES_MAX, REMOTE_READ_IOPS_MIN } from '../mounts/file-goals.ts';
import {
  filePanels,
  judgeGoals,
  renderFileGoals,
  renderSummaries,
  summarise,
  type FileSummary,
} from '../mounts/file-report.ts';
import { FileTrials, type FilePlan } from '../mounts/file-trials.ts';
import {
  CACHED_READS,
  FIO_WORKLOADS,
  SMALL_FILES,
  type FileWorkload,
} from '../mounts/file-workloads.ts';
import { measureInodeCost, type InodeCost } from '../mounts/inode-cost.ts';
import type { MountTarget } from '../mounts/mount-target.ts';
import {
  memcloudBuildCache,
  memcloudLocal,
  memcloudNative,
  memcloudRemote,
} from '../mounts/ours.ts';
import { bareRemote, fuseNative, libfuse, passthrough, sshfs, tmpfs } from '../mounts/peers.ts';
import { RECIPE_WORKLOADS } from '../mounts/recipes.ts';
import { formatNumber, layOut } from '../table.ts';
import { describeTool, missingTools } from '../tools.ts';
import { reasonOf } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

/** Mounts that can be compared. */
export const MOUNT_TARGETS: readonly MountTarget[] = [
  memcloudLocal,
  memcloudBuildCache,
  memcloudNative,
  memcloudRemote,
  bareRemote,
  libfuse,
  fuseNative,
  passthrough,
  sshfs,
  tmpfs,
];
const WORKLOADS: readonly FileWorkload[] = [
  ...FIO_WORKLOADS,
  CACHED_READS,
  SMALL_FILES,
  ...RECIPE_WORKLOADS,
];
const ROUNDS = { quick: 2, full: 5 };
const SECONDS = { quick: 0.5, full: 1.2 };
const INODES = { quick: 50_000, full: 200_000 };
const CYCLES = { quick: 50_000, full: 1_000_000 };

/** What this suite cannot show here, whoever runs it. */
const NOT_SHOWN: Readonly<Record<string, string>> = {
  'nbd-ext4':
    'ext4 on the kernel nbd over the nbdkit TLS pair: --only guest measures that kernel path',
};

/** The targets that can run here; the others are skipped, and said so. */
function usableMounts(
  { names, note }: Pick<SuiteOptions, 'names' | 'note'>,
  skipped: Record<string, string>,
): MountTarget[] {
  const asked = MOUNT_TARGETS.filter(({ name }) => names === undefined || names.includes(name));
  return asked.filter((target) => {
    const lacks = missingTools(target.tools).map(describeTool);
    const reason = lacks.length > 0 ? lacks.join(', ') : target.obstacle?.();
    if (reason === undefined) return true;
    skipped[target.name] = reason;
    note(`skipping ${target.name}: ${reason}`);
    return false;
  });
}

function usableWorkloads(
  { works, note }: Pick<SuiteOptions, 'works' | 'note'>,
  skipped: Record<string, string>,
): FileWorkload[] {
  const needs: Readonly<Record<string, 'git' | 'ccache' | 'gcc'>> = {
    ...{ 'git-clone': 'git', 'ccache-warm': 'ccache', 'small-files': 'gcc' },
  };
  return WORKLOADS.filter(({ name }) => works === undefined || works.includes(name)).filter(
    ({ name }) => {
      const tool = needs[name];
      if (tool === undefined || missingTools([tool]).length === 0) return true;
      skipped[name] = describeTool(tool);
      note(`skipping ${name}: ${describeTool(tool)}`);
      return false;
    },
  );
}

function renderCost(cost: InodeCost): string {
  const rows = [
    ['metadata of an inode, counted, bytes', formatNumber(cost.countedBytes), INODE_BYTES_MAX],
    ['growth of the process for it, bytes', formatNumber(cost.measuredBytes), '-'],
    ['growth for a file made and removed, bytes', formatNumber(cost.growthPerCycleBytes), 0],
    ['process after a tenth of the cycles, MiB', formatNumber(cost.firstBytes / 2 ** 20), '-'],
    ['process after all cycles, MiB', formatNumber(cost.lastBytes / 2 ** 20), '-'],
    ['made and removed a second', formatNumber(cost.cyclesPerSecond), '-'],
  ];
  return layOut(
    [`memory (${formatNumber(cost.cycles)} cycles)`, 'measured', 'bound'],
    rows.map((row) => row.map(String)),
  );
}

function renderRemote(summaries: readonly FileSummary[]): string {
  const found = summaries.find(
    ({ workload, target }) => workload === 'randread-4k-j8' && target === 'memcloud-remote',
  );
  if (found === undefined) return '';
  const verdict = found.estimate.value >= REMOTE_READ_IOPS_MIN ? 'reached' : 'missed';
  const iops = formatNumber(found.estimate.value);
  return `remote 4 KiB reads, 8 jobs: ${iops} IOPS, bound ${REMOTE_READ_IOPS_MIN}: ${verdict} (this, or the goal beside bare-remote)`;
}

async function inodeCost(
  options: SuiteOptions,
  failures: Record<string, string>,
): Promise<InodeCost | undefined> {
  const { stage, quick, works, note } = options;
  if (works !== undefined && !works.includes(INODE_WORK)) return undefined;
  const size = quick ? 'quick' : 'full';
  try {
    return await measureInodeCost(stage, INODES[size], CYCLES[size], note);
  } catch (thrown) {
    failures[INODE_WORK] = reasonOf(thrown);
    return undefined;
  }
}

const INODE_WORK = 'inodes';
/** What `--works` may name. */
export const FILE_WORK_NAMES: readonly string[] = [
  ...WORKLOADS.map(({ name }) => name),
  INODE_WORK,
];

/** See the top of the file. */
export const files: Suite = {
  name: 'files',
  description: 'the mount: requests, small files, real work, memory, against the peers (root)',
  run: async (options) => {
    const { stage, quick, force, random, note } = options;
    if (process.getuid?.() !== 0) {
      const reason = 'must be run by root, who may mount';
      return { data: {}, text: reason, panels: [], failures: { files: reason } };
    }
    const skipped: Record<string, string> = { ...NOT_SHOWN };
    const mounts = usableMounts(options, skipped);
    const size = quick ? 'quick' : 'full';
    const plan: FilePlan = {
      workloads: usableWorkloads(options, skipped),
      rounds: options.rounds ?? ROUNDS[size],
      seconds: options.seconds ?? SECONDS[size],
      force,
      random,
    };
    const set = await new FileTrials(stage, plan, note).run(mounts);
    const failures = { ...set.failures };
    const cost = await inodeCost(options, failures);
    const summaries = summarise(plan.workloads, set.trials, random);
    const goals = judgeGoals(FILE_GOALS, set.trials, random);
    const skips = Object.entries(skipped).map(([name, why]) => `SKIP ${name}: ${why}`);
    const parts = [renderSummaries(summaries), renderFileGoals(goals), renderRemote(summaries)];
    if (cost !== undefined) parts.push(renderCost(cost));
    const { rounds, seconds } = plan;
    return {
      data: { rounds, seconds, goals, summaries, cost, skipped, trials: set.trials },
      text: [...parts, skips.join('\n')].filter((part) => part !== '').join('\n\n'),
      panels: filePanels(summaries),
      failures,
    };
  },
};
