/**
 * A control group with a memory limit: what makes remote swap safe through a daemon on the same
 * machine. Only the programs in the group run out of memory, so the daemon, the network and the
 * kernel's own workers never meet the watermark (docs/architecture.md, "Not freezing").
 */
import fs from 'node:fs';
import path from 'node:path';
import { CGROUP_ROOT, hasMemoryController } from '../../common/control-group.ts';
import { MemcloudError } from '../../common/errors.ts';

const REMOVE_TRIES = 50;
const REMOVE_WAIT_MS = 100;

/** The group. */
export class MemoryGroup {
  /** Its directory. */
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /**
   * Makes a group.
   *
   * @param limits - bytes of RAM and of swap
   * @throws MemcloudError `ERR_UNSUPPORTED`, `ERR_NATIVE`
   */
  static create(name: string, limits: { memoryBytes: number; swapBytes: number }): MemoryGroup {
    if (!hasMemoryController()) {
      throw new MemcloudError(
        'ERR_UNSUPPORTED',
        `no memory controller in ${CGROUP_ROOT}; mount cgroup2 there and boot without cgroup_disable=memory`,
      );
    }
    const group = new MemoryGroup(path.join(CGROUP_ROOT, name));
    try {
      fs.writeFileSync(path.join(CGROUP_ROOT, 'cgroup.subtree_control'), '+memory');
      fs.mkdirSync(group.directory);
      group.#write('memory.max', limits.memoryBytes);
      group.#write('memory.swap.max', limits.swapBytes);
      group.#write('memory.oom.group', 1);
    } catch (cause) {
      fs.rmSync(group.directory, { recursive: true, force: true });
      throw new MemcloudError('ERR_NATIVE', `cannot make a control group: ${String(cause)}`, {
        cause,
      });
    }
    return group;
  }

  /**
   * Words that, put before a command, run it in the group.
   *
   * @param oomScore - oom_score_adj of the command: were it spared as we are, nothing in the group
   *   could be killed when the group is full, and the command would stand still for good
   */
  launcher(oomScore: number): string[] {
    const join = `echo $$ > ${this.directory}/cgroup.procs`;
    const score = `echo ${oomScore} > /proc/$$/oom_score_adj`;
    return ['/bin/sh', '-c', `${score} && ${join} && exec "$@"`, 'memcloud-run'];
  }

  /** The most memory that the group used, bytes; 0 where the kernel does not tell. */
  peakBytes(): number {
    try {
      return Number(fs.readFileSync(path.join(this.directory, 'memory.peak'), 'utf8'));
    } catch {
      return 0;
    }
  }

  /** Ends what still runs in the group and removes it. */
  async remove(): Promise<void> {
    if (!fs.existsSync(this.directory)) return;
    for (let tries = 0; tries < REMOVE_TRIES; tries += 1) {
      try {
        this.#write('cgroup.kill', 1);
        fs.rmdirSync(this.directory);
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, REMOVE_WAIT_MS));
      }
    }
    throw new MemcloudError('ERR_NATIVE', `cannot remove ${this.directory}: it is still in use`);
  }

  #write(file: string, value: number): void {
    fs.writeFileSync(path.join(this.directory, file), String(value));
  }
}
