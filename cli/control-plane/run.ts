/** `memcloud control-plane`: this process becomes a control node. */
import { spawn } from 'node:child_process';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Argv } from 'yargs';
import {
  CONTROL_OPTIONS,
  CONTROL_OPTION_KEYS,
  resolveControlOptions,
  type ControlOptionKey,
} from '../../common/config/control-options.ts';
import type { GlobalFlags } from '../output.ts';
import { usualSocketPath } from '../usual-socket.ts';

/** The built control node beside this file. */
const CONTROL_FILE = fileURLToPath(new URL('../../daemon/control-main.js', import.meta.url));

/** Adds the options of a control node, but `--socket`, which every command has. */
export function runOptions(argv: Argv<GlobalFlags>): Argv<GlobalFlags> {
  return CONTROL_OPTION_KEYS.filter((key) => key !== 'socket').reduce((parser, key) => {
    const { describe, fallbackText } = CONTROL_OPTIONS[key];
    return parser.option(key, {
      ...{ type: 'string', describe, defaultDescription: fallbackText },
      // Not of the commands below it.
      global: false,
    });
  }, argv);
}

/** The flags that were given, by option of a control node. */
async function given(flags: GlobalFlags): Promise<Partial<Record<ControlOptionKey, unknown>>> {
  const all: Readonly<Record<string, unknown>> = { ...flags };
  const rows = CONTROL_OPTION_KEYS.filter((key) => key !== 'socket').map((key) => [key, all[key]]);
  // Memnode's socket is what the parser fills in; that is no place for a control node.
  const socket = flags.socket === (await usualSocketPath()) ? undefined : flags.socket;
  return Object.fromEntries(
    [...rows, ['socket', socket]].filter(([, value]) => value !== undefined),
  ) as Partial<Record<ControlOptionKey, unknown>>;
}

/** With our own terminal; resolves to its exit code, 128 + n for signal n. */
function runBeside(words: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, words, { stdio: 'inherit' });
    const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    for (const signal of signals) process.on(signal, forward);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      for (const name of signals) process.off(name, forward);
      resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal]));
    });
  });
}

/**
 * Runs a control node in the place of this process, so that a service manager has only that one; as a
 * child where the kernel does not let it.
 *
 * @throws MemcloudError `ERR_USAGE`, `ERR_USAGE_ADDRESS` before anything is started
 */
export async function runControlNode(flags: GlobalFlags): Promise<void> {
  const written = await given(flags);
  resolveControlOptions(written, process.env);
  const words = [
    CONTROL_FILE,
    ...Object.entries(written).map(([key, value]) => `--${key}=${String(value)}`),
    ...(flags.json ? ['--json'] : []),
  ];
  const { replaceProcess } = await import('../../common/replace-process.ts');
  replaceProcess(words, process.env);
  process.exitCode = await runBeside(words);
}
