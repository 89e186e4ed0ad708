/** Checks of the swap areas: their order, their queues, and how many copies their pages have. */
import type { DirectDeviceInfo } from '../../common/rpc-schema.ts';
import { printable } from '../output.ts';
import { isRemote } from '../system/block-queue.ts';
import { queueSettings } from '../system/swap-tuning.ts';
import type { MachineFacts, SwapFacts } from './facts.ts';
import { ok, problem, warning, type CheckResult } from './finding.ts';

/** zswap's pool is local RAM: beyond this share it takes what it should free, percent. */
const ZSWAP_POOL_MAX_PERCENT = 50;

/** Whether any of the areas lies on other machines. */
export function hasRemoteSwap(swaps: readonly SwapFacts[]): boolean {
  return swaps.some(({ queues }) => isRemote(queues));
}

/** Whether the area is compressed RAM. */
export function isZram(device: string): boolean {
  return /\/zram\d+$/.test(device);
}

/**
 * zram in front of remote swap turns the order of the pages around: the cold ones, which went first,
 * fill it and stay, and what is swapped later, hotter, goes far away. zswap moves the coldest on.
 */
export function checkZram({ swaps, memory }: MachineFacts): CheckResult[] {
  const check = 'zram';
  const zrams = swaps.filter(({ device }) => isZram(device));
  const remote = swaps.filter(({ queues }) => isRemote(queues));
  const above = zrams.filter((a) => remote.some((b) => a.priority >= b.priority));
  if (above.length === 0) return [ok(check, 'not in front of remote swap')];
  const finding =
    'zram fills first and keeps cold pages, so that hot ones end up remote; ' +
    'zswap in front of remote swap moves cold pages on instead';
  const off = `swapoff ${above.map(({ device }) => device).join(' ')}`;
  const on = ' && echo Y >/sys/module/zswap/parameters/enabled';
  return [warning(check, finding, memory.zswap === undefined ? off : off + on)];
}

/** zswap, the compressed cache in front of swap. */
export function checkZswap({ swaps, memory: { zswap } }: MachineFacts): CheckResult[] {
  const check = 'zswap';
  if (zswap === undefined) return [ok(check, 'not in this kernel; remote swap does without')];
  const { enabled, maxPoolPercent } = zswap;
  if (!enabled) {
    const advice = hasRemoteSwap(swaps)
      ? 'off; on, it would keep compressible pages here: echo Y >/sys/module/zswap/parameters/enabled'
      : 'off';
    return [ok(check, advice)];
  }
  if (maxPoolPercent <= ZSWAP_POOL_MAX_PERCENT) {
    return [ok(check, `on, with at most ${maxPoolPercent} % of the RAM`)];
  }
  const finding = `on, with up to ${maxPoolPercent} % of the RAM: it takes what swap should free`;
  return [warning(check, finding, 'echo 20 >/sys/module/zswap/parameters/max_pool_percent')];
}

/** The request queues under remote swap. */
export function checkSwapQueues({ swaps }: MachineFacts): CheckResult[] {
  return swaps.flatMap(({ device, queues }) => {
    if (!isRemote(queues)) return [];
    const check = `swap ${device}`;
    const results: CheckResult[] = [];
    const mute = queues.filter(({ discardMaxBytes }) => discardMaxBytes === 0);
    if (mute.length > 0) {
      const finding =
        `${mute.map(({ name }) => name).join(', ')} takes no discards: ` +
        'RAM of lenders only grows until swap is off';
      results.push(warning(check, finding, `memcloud swap off ${device}`));
    }
    for (const { file, before, wanted } of queueSettings(queues)) {
      const finding =
        before > wanted
          ? `page-outs of up to ${before} KiB pin their pages on the way: programs in small control ` +
            `groups may be killed; ${wanted} KiB are as fast`
          : `page-outs are cut into ${before} KiB; ${wanted} KiB need fewer requests`;
      results.push(warning(check, finding, `echo ${wanted} >${file}`));
    }
    return results.length > 0
      ? results
      : [ok(check, 'requests as large as they should be, discards')];
  });
}

/** Swap whose pages have one copy: the end of one lender ends programs. */
export function checkSwapCopies({ swaps, daemon }: MachineFacts): CheckResult[] {
  if (!('status' in daemon)) return [];
  const swapped = new Set(swaps.map(({ device }) => device));
  return daemon.volumes.flatMap(({ name, copies, devices, sizeBytes }) => {
    const device = devices.find((path) => swapped.has(path));
    if (device === undefined) return [];
    const check = `copies of swap ${device}`;
    if (copies > 1) return [ok(check, `${copies}`)];
    const finding = `one (volume ${name}): when its lender goes, programs lose memory and are killed`;
    const fix = name.startsWith('run-')
      ? 'memcloud run --copies 2'
      : `memcloud swap on ${sizeBytes} --copies 2 && memcloud swap off ${device}`;
    return [warning(check, finding, fix)];
  });
}

function checkDirectDevice(direct: DirectDeviceInfo): CheckResult {
  const { device, copies, health, legs } = direct;
  const check = `direct swap ${device}`;
  const down = legs.filter(({ state }) => state !== 'live');
  const names = down.map(({ name, state }) => `${printable(name)} is ${state}`).join(', ');
  if (health === 'lost') {
    const finding = `pages were lost${names === '' ? '' : ` (${names})`}: programs that need them are killed`;
    return problem(check, finding, `memcloud swap off ${device}`);
  }
  const move = `memcloud swap move ${device}`;
  if (health !== 'ok') return warning(check, `one copy is left (${names})`, `${move} --copies 2`);
  if (down.length > 0) return warning(check, names, 'memcloud peer ls');
  if (legs.some(({ connection }) => connection === 'plain')) {
    const finding = 'over bare TCP (--insecure-plain): whoever is on the network can damage pages';
    return warning(check, finding, `memcloud swap off ${device}`);
  }
  if (copies > 1) return ok(check, `${copies} copies, both lenders connected`);
  const finding = 'one copy: when its lender goes, programs lose memory and are killed';
  return warning(check, finding, `${move} --copies 2`);
}

/** Limits that nobody is left to take back: the group can neither grow nor, without its guard, yield. */
export function checkAbandonedScopes({ abandonedScopes, swaps }: MachineFacts): CheckResult[] {
  return abandonedScopes.map(({ directory, device, before }) => {
    const isOn = swaps.some((line) => line.device === device);
    const restore = Object.entries(before).map(
      ([file, text]) => `echo ${text} >${directory}/${file}`,
    );
    const finding = `${directory} still has the limits left by a command that was killed`;
    const fix = isOn ? `memcloud swap off ${device}` : restore.join(' && ');
    return problem(`limits of ${directory}`, finding, fix);
  });
}

/** Swap that the kernel reaches by itself: its copies and its lenders. */
export function checkDirectDevices({ daemon }: MachineFacts): CheckResult[] {
  if (!('status' in daemon)) return [];
  return daemon.status.directDevices.map(checkDirectDevice);
}
