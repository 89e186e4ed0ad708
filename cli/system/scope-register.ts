/**
 * Groups that are not ours and whose limits we changed: a file for each, named by the process that
 * will give them back, with the limits as they were. Who is killed cannot give back anything; then the
 * file is what tells the next command (and `memcloud doctor`) what the group had and which swap area
 * was for it. The folder does not outlive a boot, as control groups do not.
 */
import fs from 'node:fs';
import path from 'node:path';
import { makeDirectory } from '../../common/directory.ts';
import { CGROUP_ROOT } from '../../common/control-group.ts';
import { MemcloudError } from '../../common/errors.ts';
import { processStart } from '../../common/process-start.ts';
import { replaceFile } from '../../common/replace-file.ts';
import { areLimits, type GroupLimits } from './scope.ts';

const REGISTER = '/run/memcloud-scopes';

/** A group with limits of ours. */
export interface ScopeEntry {
  /** Its directory. */
  readonly directory: string;
  /** Its limits as they were before. */
  readonly before: GroupLimits;
  /** The swap area that is on for it. */
  readonly device: string;
}

/** An entry whose process is gone. */
export interface AbandonedScope extends ScopeEntry {
  /** The file of the entry. */
  readonly file: string;
}

/** Undefined for a file that is no entry. */
function readEntry(file: string, root: string): (ScopeEntry & { started: string }) | undefined {
  try {
    const { directory, before, device, started } = JSON.parse(
      fs.readFileSync(file, 'utf8'),
    ) as Record<string, unknown>;
    const isGroup = typeof directory === 'string' && directory.startsWith(`${root}/`);
    if (!isGroup || !areLimits(before) || typeof device !== 'string') return undefined;
    return { directory, before, device, started: String(started) };
  } catch {
    return undefined;
  }
}

/** The entries of this machine. */
export class ScopeRegister {
  readonly #folder: string;
  readonly #root: string;

  /** @param folder - where the files lie; `root` is where control groups are mounted */
  constructor(folder: string = REGISTER, root: string = CGROUP_ROOT) {
    this.#folder = folder;
    this.#root = root;
  }

  /** Enters a group for this process. @throws MemcloudError `ERR_NATIVE` when it cannot be written */
  enter(entry: ScopeEntry): void {
    const file = path.join(this.#folder, String(process.pid));
    try {
      makeDirectory(this.#folder, 0o755);
      this.#dropOfGoneGroups();
      const text = JSON.stringify({ ...entry, started: processStart(process.pid) });
      replaceFile(file, `${text}\n`, 0o644);
    } catch (cause) {
      throw new MemcloudError('ERR_NATIVE', `cannot write ${file}: ${String(cause)}`, { cause });
    }
  }

  /** Removes the entry of this process. */
  leave(): void {
    fs.rmSync(path.join(this.#folder, String(process.pid)), { force: true });
  }

  /** Entries whose process is gone and whose group is there; of a group that is gone nothing is left. */
  abandoned(): AbandonedScope[] {
    let names: string[];
    try {
      names = fs.readdirSync(this.#folder).filter((name) => /^\d+$/.test(name));
    } catch {
      return [];
    }
    return names.flatMap((name): AbandonedScope[] => {
      const file = path.join(this.#folder, name);
      const entry = readEntry(file, this.#root);
      if (entry === undefined || !fs.existsSync(entry.directory)) return [];
      const { started, ...scope } = entry;
      return processStart(name) === started ? [] : [{ ...scope, file }];
    });
  }

  /** Forgets an entry whose limits were given back. */
  forget({ file }: AbandonedScope): void {
    fs.rmSync(file, { force: true });
  }

  #dropOfGoneGroups(): void {
    for (const name of fs.readdirSync(this.#folder)) {
      const file = path.join(this.#folder, name);
      const entry = readEntry(file, this.#root);
      if (entry !== undefined && !fs.existsSync(entry.directory)) fs.rmSync(file, { force: true });
    }
  }
}
