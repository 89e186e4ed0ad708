/** The seam between what is measured and how: a target is something that serves NBD over RAM. */
import type { Stage } from '../stage.ts';

/** A target that runs. */
export interface RunningTarget {
  /** Where fio connects. */
  readonly uri: string;
  /** Further exports that get the same load at once; they are filled as well. */
  readonly moreUris?: readonly string[];
  /** Connections to each export; 1 unless it says otherwise. */
  readonly connectionCount?: number;
  /** The processes whose time is counted. */
  readonly pids: readonly number[];
  /** Ends the processes; does nothing the second time. */
  readonly stop: () => Promise<void>;
  /**
   * Checks that the work asked for was work done, and returns the target's own counters.
   *
   * @throws Error when it was not, so that the numbers mean nothing
   */
  readonly verify?: () => Promise<Readonly<Record<string, number>>>;
}

/** A target that can be started. */
export interface Target {
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  /** Commands that must be there. */
  readonly tools: readonly ToolName[];
  /** True for what we build. */
  readonly ours: boolean;
  /** Starts it, serving at least `sizeBytes`. What it starts belongs to `stage`. */
  readonly start: (stage: Stage, sizeBytes: number) => Promise<RunningTarget>;
}

/** The commands that benchmarks use. */
export type ToolName =
  | 'fio'
  | 'nbdkit'
  | 'qemu-nbd'
  | 'nbd-server'
  | 'gcc'
  | 'openssl'
  | 'strace'
  | 'perf'
  | 'etcd'
  | 'libfuse3'
  | 'sshfs'
  | 'sshd'
  | 'tc'
  | 'nsenter'
  | 'git'
  | 'ccache'
  | 'redis-server'
  | 'memcached';
