/** The seam between what serves files and how it is measured: a target is a directory that is mounted. */
import type { Stage } from '../stage.ts';
import type { ToolName } from '../targets/target.ts';

/** A mount that is there. */
export interface RunningMount {
  /** Where. */
  readonly directory: string;
  /** The processes that serve it. */
  readonly pids: readonly number[];
  /** Unmounts it and ends them. */
  readonly stop: () => Promise<void>;
}

/** A mount that can be made. */
export interface MountTarget {
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  /** Commands and libraries that must be there. */
  readonly tools: readonly ToolName[];
  /** True for what we build. */
  readonly ours: boolean;
  /** Why it cannot run on this machine; undefined when it may. */
  readonly obstacle?: () => string | undefined;
  /** Mounts it. What it starts belongs to `stage`. */
  readonly start: (stage: Stage) => Promise<RunningMount>;
}
