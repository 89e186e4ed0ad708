/**
 * Swap through memnode for some programs only, those of one control group: the swap area
 * (`scoped-device.ts`), the group's limits and the reserve guard, in this order, and undone in the opposite one. `memcloud
 * run` makes a group for a command (`commands/run.ts`); a group that runs already is taken as it is,
 * by `run --scope` and by `swap on` where the kernel cannot reach the providers by itself.
 *
 * The guard lives in this process, so the swap lasts as long as this command does. Were it to go to
 * the background, nobody would see it end. Of a command that is killed the limits stay; the register
 * tells the next one, which gives them back.
 */
import os from 'node:os';
import path from 'node:path';
import { CGROUP_ROOT, hasMemoryController } from '../common/control-group.ts';
import { ExitCode, MemcloudError } from '../common/errors.ts';
import { enterKit, type Kit } from '../common/kit.ts';
import { formatSize } from '../common/units.ts';
import type { MemcloudClient } from '../sdk/client.ts';
import { note } from './output.ts';
import { afterTrim, describeRun, type RunSummary } from './run-summary.ts';
import { startScopedSwap, type ScopedDevice, type ScopedSwap } from './scoped-device.ts';
import { Cleanup } from './system/cleanup.ts';
import { ReserveGuard, defaultReserveBytes } from './system/reserve-guard.ts';
import { ScopeRegister } from './system/scope-register.ts';
import { ScopedGroup, checkScope } from './system/scope.ts';
import { swapCounters } from './system/swap-counters.ts';
import { returnProblem } from './system/swap-device.ts';

/** What `memory.min` asks for: this program is small. */
const MEMORY_MIN_BYTES = 96 * 2 ** 20;
/** Unless told, before other swap areas. */
export const SCOPED_PRIORITY = 100;
/** What ends a scope. */
export const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Scoped swap that is on. */
export interface ScopedRun {
  /** The swap device. */
  readonly device: ScopedDevice;
  /** Keeps the reserve. */
  readonly guard: ReserveGuard;
  /** The kernel's counters at the beginning. */
  readonly before: ReturnType<typeof swapCounters>;
  /** The most RAM of the group. */
  readonly peakBytes: () => number;
}

/** @throws MemcloudError `ERR_UNSUPPORTED` where no group can be limited */
export function requireMemoryController(): void {
  if (hasMemoryController()) return;
  throw new MemcloudError(
    'ERR_UNSUPPORTED',
    `no memory controller in ${CGROUP_ROOT}; mount cgroup2 there and boot without cgroup_disable=memory`,
  );
}

/**
 * Protects this command from the memory shortage that it manages, and says what it could not get. It
 * may begin the program anew, so nothing may have been changed before.
 *
 * @param hint - said after what is missing
 */
export function enterCommandKit(hint = ''): Kit {
  const kit = enterKit({ memoryMinBytes: MEMORY_MIN_BYTES, realtimePriority: 0 });
  const missing = kit.parts.filter(({ active, optional }) => !active && !optional);
  if (missing.length > 0) {
    const parts = missing.map(({ part }) => part).join(', ');
    note(`memcloud: this command lacks ${parts}${hint}`);
  }
  return kit;
}

/** Starts the guard of a group. */
export function startGuard(directory: string, swap: ScopedSwap, cleanup: Cleanup): ReserveGuard {
  const { memoryBytes, reserveBytes } = swap;
  const guard = new ReserveGuard({ directory, reserveBytes, maximumBytes: memoryBytes });
  guard.start();
  cleanup.add('end the reserve guard', () => guard.stop());
  return guard;
}

/** Measures `work` and says on stderr what it did. @returns its exit code */
export async function reportRun(
  json: boolean,
  run: ScopedRun,
  work: () => Promise<number>,
): Promise<number> {
  const { before } = run;
  const exitCode = await work();
  const after = swapCounters();
  const summary: RunSummary = {
    exitCode,
    device: run.device.device,
    pagesOut: after.pagesOut - before.pagesOut,
    pagesIn: after.pagesIn - before.pagesIn,
    ...(await afterTrim(run.device)),
    peakBytes: run.peakBytes(),
    guard: run.guard.report,
  };
  note(json ? JSON.stringify(summary) : describeRun(summary));
  return exitCode;
}

/** Aborted by the signals that end a scope; a second one does nothing, the end is on its way. */
function endingSignal(): AbortSignal {
  const ending = new AbortController();
  for (const signal of ENDING_SIGNALS) process.on(signal, () => ending.abort());
  return ending.signal;
}

/** Until the group is gone or somebody asks for the end. */
async function untilEnd(guard: ReserveGuard, ending: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    guard.onGone = resolve;
    if (ending.aborted) resolve();
    else ending.addEventListener('abort', () => resolve(), { once: true });
  });
}

/**
 * Gives a running group swap on the pool, until Ctrl-C, SIGTERM or the end of the group.
 *
 * @param scope - as `findScope` returned it
 * @param onReady - told the device once swap is on and the limits hold
 * @returns the exit code
 * @throws MemcloudError as `checkScope`, `ScopedGroup.limit`, the daemon; `ERR_SWAP_UNSAFE` when at the
 *   end the pages have no room in RAM: limits and swap stay then
 */
export async function holdScope(
  client: MemcloudClient,
  json: boolean,
  scope: string,
  swap: ScopedSwap,
  onReady: (device: string) => Promise<void> | void = () => undefined,
): Promise<number> {
  checkScope(scope, (await client.call('status', {})).pid);
  const register = new ScopeRegister();
  restoreAbandonedScopes(register, swap.reserveBytes);
  const ending = endingSignal();
  const group = new ScopedGroup(path.join(CGROUP_ROOT, scope));
  const { directory } = group;
  const cleanup = new Cleanup();
  try {
    const made = await startScopedSwap(client, swap, cleanup);
    const { device } = made;
    register.enter({ directory, before: group.before, device });
    cleanup.add(`restore the limits of ${scope}`, () => {
      group.restore();
      register.leave();
    });
    const before = swapCounters();
    await group.limit(swap, ending);
    const guard = startGuard(directory, swap, cleanup);
    const { memoryBytes, swapBytes } = swap;
    note(
      `memcloud: ${scope} has ${formatSize(memoryBytes)} of RAM and ${formatSize(swapBytes)} on ` +
        `${device} until Ctrl-C`,
    );
    await onReady(device);
    const run = { device: made, guard, before, peakBytes: () => group.peakBytes };
    return await reportRun(json, run, async () => {
      await untilEnd(guard, ending);
      if (!group.exists) note(`memcloud: ${scope} has ended`);
      const problem = returnProblem(device, swap.reserveBytes);
      if (problem === undefined) return ExitCode.OK;
      guard.stop();
      cleanup.abandon();
      throw new MemcloudError(
        'ERR_SWAP_UNSAFE',
        `${problem}. The limits of ${scope} and the swap on ${device} stay. When there is room, ` +
          `this ends both:\n  memcloud swap off ${device}`,
      );
    });
  } finally {
    await cleanup.run();
  }
}

/**
 * Gives groups their limits back that commands of ours left when they were killed, and says so. Where
 * what is on their swap has no room in RAM they keep them: without a limit and a guard they could push
 * the whole machine onto swap that needs memory to be served.
 */
export function restoreAbandonedScopes(
  register: ScopeRegister = new ScopeRegister(),
  reserveBytes: number = defaultReserveBytes(),
): void {
  for (const scope of register.abandoned()) {
    const { directory, device } = scope;
    const said = `the limits of ${directory}, left by a command that was killed`;
    const problem = returnProblem(device, reserveBytes);
    if (problem !== undefined) {
      note(`memcloud: ${said}, stay: ${problem}; later: memcloud swap off ${device}`);
      continue;
    }
    new ScopedGroup(directory, scope.before).restore();
    register.forget(scope);
    note(`memcloud: ${said}, are as before; if its swap is on: memcloud swap off ${device}`);
  }
}

/** Before the swap of a killed command goes off: its group needs room for the pages that come back. */
export function liftAbandonedScope(device: string, register = new ScopeRegister()): void {
  for (const scope of register.abandoned().filter((each) => each.device === device)) {
    new ScopedGroup(scope.directory, scope.before).restore();
    register.forget(scope);
    note(`memcloud: ${scope.directory} has its limits back, which a killed command had left`);
  }
}

/** @throws MemcloudError `ERR_USAGE` when the reserve is as large as the machine */
export function checkReserve(reserveBytes: number): number {
  if (reserveBytes < os.totalmem()) return reserveBytes;
  const got = `${formatSize(reserveBytes)} of ${formatSize(os.totalmem())}`;
  throw new MemcloudError('ERR_USAGE', `--reserve: expected less than the machine has, got ${got}`);
}
