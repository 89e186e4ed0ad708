/** Carries a plan of `plan.ts` out on this machine, and says how the units are afterwards. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeDirectory } from '../../common/directory.ts';
import { MemcloudError } from '../../common/errors.ts';
import { runTool } from '../../common/tool.ts';
import type { Step } from './plan.ts';

const QUESTION_TIMEOUT_MS = 10_000;
const SETTLE_INTERVAL_MS = 500;
const UNIT_FILE_MODE = 0o644;

/** True when systemd runs this machine: sd_booted(3). */
export function systemdRuns(): boolean {
  return fs.existsSync('/run/systemd/system');
}

/**
 * Does every step in order. Files that have their content already are left alone, so that doing it
 * twice changes nothing.
 *
 * @returns the files that were written or removed
 * @throws MemcloudError `ERR_NATIVE` for a file or a command that failed; steps before it are done
 */
export async function carryOut(steps: readonly Step[]): Promise<string[]> {
  const changed: string[] = [];
  for (const step of steps) {
    switch (step.step) {
      case 'write':
        if (writeFile(step.path, step.content)) changed.push(step.path);
        break;
      case 'create':
        if (!fs.existsSync(step.path) && writeFile(step.path, step.content)) {
          changed.push(step.path);
        }
        break;
      case 'link':
        if (linkFile(step.path, step.target)) changed.push(step.path);
        break;
      case 'remove':
        if (removeFile(step.path)) changed.push(step.path);
        break;
      case 'run': {
        const [program = '', ...args] = step.words;
        await runTool(program, args);
        break;
      }
    }
  }
  return changed;
}

/** Writes beside the place and renames, so that systemd never reads half a unit. */
function writeFile(place: string, content: string): boolean {
  try {
    if (fs.existsSync(place) && fs.readFileSync(place, 'utf8') === content) return false;
    makeDirectory(path.dirname(place), 0o755);
    const fresh = `${place}.new`;
    fs.writeFileSync(fresh, content, { mode: UNIT_FILE_MODE });
    fs.chmodSync(fresh, UNIT_FILE_MODE);
    fs.renameSync(fresh, place);
    return true;
  } catch (cause) {
    throw new MemcloudError('ERR_NATIVE', `cannot write ${place}: ${String(cause)}`, { cause });
  }
}

function linkFile(place: string, target: string): boolean {
  try {
    const there = fs.lstatSync(place, { throwIfNoEntry: false });
    if (there?.isSymbolicLink() === true) {
      if (fs.readlinkSync(place) === target) return false;
      fs.rmSync(place);
    } else if (there !== undefined) {
      throw new Error('a file of others is there');
    }
    makeDirectory(path.dirname(place), 0o755);
    fs.symlinkSync(target, place);
    return true;
  } catch (cause) {
    throw new MemcloudError('ERR_NATIVE', `cannot link ${place}: ${String(cause)}`, { cause });
  }
}

function removeFile(place: string): boolean {
  try {
    if (fs.lstatSync(place, { throwIfNoEntry: false }) === undefined) return false;
    fs.rmSync(place, { recursive: true });
    return true;
  } catch (cause) {
    throw new MemcloudError('ERR_NATIVE', `cannot remove ${place}: ${String(cause)}`, { cause });
  }
}

/** What a question to systemctl is answered with; '' when it is not. */
function ask(...words: string[]): string {
  const options = { encoding: 'utf8', timeout: QUESTION_TIMEOUT_MS } as const;
  const { stdout } = spawnSync('systemctl', words, options);
  return typeof stdout === 'string' ? stdout.trim() : '';
}

/** `systemctl is-active`: `active`, `activating`, `inactive`, `failed` or `unknown`. */
export function unitState(name: string): string {
  return ask('is-active', name) || 'unknown';
}

/** True when a unit stops or has stopped only to be started again. */
export function isReplaced(name: string): boolean {
  return (
    unitState(name) === 'activating' || / restart /.test(ask('list-jobs', '--no-legend', name))
  );
}

/** True while the machine is shut down or rebooted. */
export function machineStops(): boolean {
  return ask('is-system-running') === 'stopping';
}

/** Waits until a unit is active or has failed, at most so long; returns its state. */
export async function settledState(name: string, timeoutMs: number): Promise<string> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const state = unitState(name);
    if (state !== 'activating' && state !== 'inactive') return state;
    if (performance.now() > endMs) return state;
    await delay(SETTLE_INTERVAL_MS);
  }
}
