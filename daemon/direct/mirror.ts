/**
 * Two devices as one, through the kernel's md and `mdadm --build`: RAID1 without metadata, because what
 * lies on it does not outlive the machine, and without an initial copy, because both parts are empty.
 * Why md, and why above dm-crypt: docs/adr/0007-copies-of-direct-swap.md.
 */
import { existsSync, readFileSync } from 'node:fs';
import { MemcloudError } from '../../common/errors.ts';
import { runTool } from '../../common/tool.ts';

/** Below are the numbers that people choose by hand. */
const FIRST_NUMBER = 100;
const LAST_NUMBER = 511;

/** Makes a mirror; `/dev/mdN`. @throws MemcloudError `ERR_NATIVE`, `ERR_UNSUPPORTED` when mdadm is missing */
export async function createMirror(parts: readonly string[]): Promise<string> {
  const device = freeDevice();
  const count = `--raid-devices=${parts.length}`;
  const words = ['--build', device, '--run', '--level=1', count, '--assume-clean', ...parts];
  await runTool('mdadm', words);
  return device;
}

/** Takes a mirror away; without effect when there is none. @throws MemcloudError `ERR_NATIVE` when it is in use */
export async function removeMirror(device: string): Promise<void> {
  if (!isRunning(device)) return;
  await runTool('mdadm', ['--stop', device]);
}

/** False once a part was given up by the kernel, or the mirror is gone. */
export function partIsAlive(mirror: string, part: string): boolean {
  try {
    const state = readFileSync(`${sysFolder(mirror)}/dev-${nameOf(part)}/state`, 'utf8');
    return partStateIsAlive(state);
  } catch {
    // md drops the folder of a part that was removed.
    return false;
  }
}

/** What the state file of a part says: words with commas between them. */
export function partStateIsAlive(state: string): boolean {
  const words = state.trim().split(',');
  return words.includes('in_sync') && !words.includes('faulty');
}

function freeDevice(): string {
  for (let number = FIRST_NUMBER; number <= LAST_NUMBER; number += 1) {
    if (!isRunning(`/dev/md${number}`)) return `/dev/md${number}`;
  }
  throw new MemcloudError('ERR_NATIVE', 'every md device is in use');
}

/** An array that was stopped may leave an empty device behind. */
function isRunning(device: string): boolean {
  const state = `${sysFolder(device)}/array_state`;
  return existsSync(state) && readFileSync(state, 'utf8').trim() !== 'clear';
}

function sysFolder(device: string): string {
  return `/sys/block/${nameOf(device)}/md`;
}

function nameOf(device: string): string {
  return device.slice('/dev/'.length);
}
