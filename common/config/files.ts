/**
 * The configuration files of a daemon: which there are, in which order they count, and their text.
 *
 *   /etc/memcloud/config.toml < /etc/memcloud/config.d/*.toml by name < the user's own, likewise
 *
 * A user's daemon reads the machine's files first. `--config PATH` names one file, or one folder of this
 * shape, instead of all of them.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { CONFIG_FILE_COUNT_MAX, CONFIG_FILE_SIZE_MAX_BYTES } from './limits.ts';

/** Where the machine's files lie. */
const SYSTEM_CONFIG_DIRECTORY = '/etc/memcloud';

/** An empty configuration. */
const NO_FILE = '/dev/null';

/** Which files, or why they cannot be told. */
export interface ConfigFiles {
  /** The least important first. */
  readonly files: readonly string[];
  /** Sentences about paths that cannot be used. */
  readonly problems: readonly { readonly file: string; readonly message: string }[];
}

/** The name of an errno, for a sentence. */
function errnoName(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

/** `config.toml` and `config.d/*.toml` of a folder; what is not there is left out. */
function filesIn(folder: string): ConfigFiles {
  const main = path.join(folder, 'config.toml');
  const parts = path.join(folder, 'config.d');
  const files = fs.existsSync(main) ? [main] : [];
  try {
    const names = fs
      .readdirSync(parts)
      .filter((name) => name.endsWith('.toml') && !name.startsWith('.'))
      .sort();
    const problems =
      names.length <= CONFIG_FILE_COUNT_MAX
        ? []
        : [{ file: parts, message: `expected at most ${CONFIG_FILE_COUNT_MAX} files` }];
    const chosen = names.slice(0, CONFIG_FILE_COUNT_MAX).map((name) => path.join(parts, name));
    return { files: [...files, ...chosen], problems };
  } catch (error) {
    const code = errnoName(error);
    if (code === 'ENOENT') return { files, problems: [] };
    return { files, problems: [{ file: parts, message: `cannot read the folder: ${code}` }] };
  }
}

/** The folder of the user's own files; root's daemon has none besides the machine's. */
function userConfigDirectory(env: NodeJS.ProcessEnv): string | undefined {
  if (process.geteuid?.() === 0) return undefined;
  const { XDG_CONFIG_HOME = '' } = env;
  // The XDG base directory specification: a relative path is to be ignored.
  const base = path.isAbsolute(XDG_CONFIG_HOME)
    ? XDG_CONFIG_HOME
    : path.join(os.homedir(), '.config');
  return path.join(base, 'memcloud');
}

/**
 * The files that count.
 *
 * @param chosen - a file or folder to read instead of the usual ones
 */
export function findConfigFiles(chosen: string | undefined, env: NodeJS.ProcessEnv): ConfigFiles {
  if (chosen !== undefined) {
    const found = fs.statSync(chosen, { throwIfNoEntry: false });
    return found?.isDirectory() === true ? filesIn(chosen) : { files: [chosen], problems: [] };
  }
  const folders = [SYSTEM_CONFIG_DIRECTORY, userConfigDirectory(env)];
  const found = folders.filter((folder) => folder !== undefined).map(filesIn);
  return {
    files: found.flatMap(({ files }) => files),
    problems: found.flatMap(({ problems }) => problems),
  };
}

/** Why root should not believe a file; undefined when it may. */
function distrust(stat: fs.Stats): string | undefined {
  if (process.geteuid?.() !== 0 || (stat.mode & 0o002) === 0) return undefined;
  return 'everybody may write to this file; as root: chmod o-w';
}

/** The text of a file, at most one byte more than a file may have, or why there is none. */
export function readConfigFile(file: string): { text: string } | { message: string } {
  if (file === NO_FILE) return { text: '' };
  let fd: number | undefined;
  try {
    // Not to wait for the other end, should it be a FIFO.
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) return { message: 'expected a file' };
    const message = distrust(stat);
    if (message !== undefined) return { message };
    const bytes = Buffer.alloc(CONFIG_FILE_SIZE_MAX_BYTES + 1);
    let length = 0;
    for (;;) {
      const count = fs.readSync(fd, bytes, length, bytes.length - length, null);
      if (count === 0) break;
      length += count;
    }
    return { text: bytes.toString('utf8', 0, length) };
  } catch (error) {
    return { message: `cannot read: ${errnoName(error)}` };
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}
