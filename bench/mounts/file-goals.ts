/** What files must reach, as data: our target against a peer, by the ratio of medians. Pure. */
import type { Goal } from '../goals.ts';

/** A goal of one of our mounts. */
export interface FileGoal extends Pick<Goal, 'workload' | 'peer' | 'sense' | 'bound'> {
  /** Which of our mounts, or the trial of passthrough. */
  readonly ours: string;
}

const LOCAL = 'memcloud';
const BUILD_CACHE = 'memcloud-build-cache';
const REMOTE = 'memcloud-remote';

const atLeast = (workload: string, peer: string, bound: number, ours = LOCAL): FileGoal => ({
  ...{ workload, peer, bound, ours, sense: 'at least' },
});

/** Names of real work, which tmpfs is the measure of. */
export const RECIPE_NAMES = ['git-clone', 'npm-ci', 'tar-x', 'tsc-build', 'ccache-warm'] as const;
const RECIPE_TIME_BOUND = 1.3;

/** The goals of the mount. */
export const FILE_GOALS: readonly FileGoal[] = [
  atLeast('randread-4k-j1', 'fuse-native', 3),
  atLeast('randread-4k-j1', 'libfuse', 1),
  atLeast('randread-4k-j8', 'fuse-native', 2.5),
  atLeast('randread-4k-j8', 'libfuse', 1),
  atLeast('write-4k-buffered', 'fuse-native', 14),
  atLeast('write-4k-buffered', 'libfuse', 1),
  atLeast('write-1m', 'fuse-native', 2),
  atLeast('write-1m', 'libfuse', 0.9),
  atLeast('read-1m', 'fuse-native', 2),
  atLeast('read-1m', 'libfuse', 0.9),
  atLeast('small-files', 'fuse-native', 4, BUILD_CACHE),
  atLeast('small-files', 'libfuse', 1.3, BUILD_CACHE),
  atLeast('randread-4k-cached', 'tmpfs', 0.8),
  ...['randread-4k-j1', 'write-4k-buffered', 'write-1m', 'read-1m'].map((workload) =>
    atLeast(workload, 'tmpfs', 0.8, 'passthrough'),
  ),
  ...RECIPE_NAMES.map((workload): FileGoal => {
    const sense = 'at most';
    return { workload, peer: 'tmpfs', sense, bound: RECIPE_TIME_BOUND, ours: BUILD_CACHE };
  }),
  atLeast('randread-4k-j8', 'bare-remote', 0.9, REMOTE),
  atLeast('write-1m', 'sshfs', 3, REMOTE),
  atLeast('read-1m', 'sshfs', 3, REMOTE),
];

/** Requests a second that random reads of a remote donor must reach with 8 jobs, or the goal beside `bare-remote`. */
export const REMOTE_READ_IOPS_MIN = 50_000;
/** Bytes of metadata of an inode, its name not counted. */
export const INODE_BYTES_MAX = 256;
