/**
 * Which way a new swap area goes. Direct where the kernel can reach the providers by itself, because
 * then nothing of ours is in the path of a page and the whole machine may swap. Else through memnode,
 * but for one unit only, if one is named. Else not at all: through memnode the whole machine can
 * freeze, so that wants `--force`. The question what the kernel can do is the caller's; the rest is pure.
 */
import { MemcloudError } from '../common/errors.ts';
import type { DirectCheck, DirectConnection } from '../common/rpc-schema.ts';
import { formatSize } from '../common/units.ts';
import type { SwapSettings } from './swap-settings.ts';

/** The way for a new swap area, and why. */
export type Choice =
  | {
      readonly path: 'direct' | 'pool';
      readonly why: string;
      /** What protects connections of the direct path. */
      readonly connection?: DirectConnection;
    }
  | {
      readonly path: 'scoped';
      readonly why: string;
      /** The unit or group, as written. */
      readonly scope: string;
      /** RAM of it, bytes. */
      readonly memoryBytes: number;
    };

/** How `swap on` was asked. */
export interface ChoiceOptions {
  /** Also what can freeze the machine. */
  readonly force: boolean;
  /** The command may not stay: it is a step of a service. */
  readonly mustReturn: boolean;
}

const WHY_DIRECT: Readonly<Record<DirectConnection, string>> = {
  tls: 'the kernel reaches the providers by itself: safe',
  wireguard:
    'the kernel reaches the providers by itself, through WireGuard because it has no kernel TLS',
  plain: 'the kernel reaches the providers by itself, over bare TCP (--insecure-plain)',
};

function unsafe(sizeBytes: number): string {
  const size = formatSize(sizeBytes).replace(/ |iB/g, '');
  return `Through memnode the whole machine can freeze when memory runs out: memnode needs memory to
send the page that would free memory. Let only the programs swap that need to:
  memcloud swap on ${size} --scope UNIT --memory 4G
  memcloud run --memory 4G --swap ${size} -- COMMAND
or, knowing the risk, add --force.`;
}

function scoped(
  settings: Pick<SwapSettings, 'scope' | 'memoryBytes'>,
  why: string,
  { mustReturn }: ChoiceOptions,
): Choice {
  const { scope, memoryBytes } = settings;
  if (scope === undefined || memoryBytes === undefined) {
    throw new MemcloudError(
      'ERR_USAGE',
      'swap for one unit: expected --scope UNIT and --memory SIZE, or scope and memory of [swap] in config.toml',
    );
  }
  if (mustReturn) {
    throw new MemcloudError(
      'ERR_USAGE',
      `${why}. Swap for ${scope} lasts as long as the command that guards it, so it is a service of ` +
        'its own (Type=exec): ExecStart=memcloud swap on --via scoped; see docs/architecture.md',
    );
  }
  return { path: 'scoped', why, scope, memoryBytes };
}

/**
 * Chooses.
 *
 * @param check - asks the daemon; called only where the answer counts
 * @throws MemcloudError `ERR_UNSUPPORTED`, `ERR_SWAP_UNSAFE`, `ERR_USAGE`: with what to type instead
 */
export async function chooseSwapPath(
  settings: Pick<SwapSettings, 'via' | 'scope' | 'memoryBytes' | 'sizeBytes'>,
  options: ChoiceOptions,
  check: () => Promise<DirectCheck>,
): Promise<Choice> {
  const { via, scope, sizeBytes } = settings;
  if (via === 'scoped' || via === 'loop') return scoped(settings, 'asked for', options);
  let why = 'asked for';
  if (via !== 'pool') {
    const { possible, problems, connection } = await check();
    if (possible) return { path: 'direct', why: WHY_DIRECT[connection], connection };
    why = `direct swap is not possible here: ${problems.join('; ')}`;
    if (via === 'direct') throw new MemcloudError('ERR_UNSUPPORTED', why);
    if (scope !== undefined) return scoped(settings, why, options);
  }
  if (options.force) return { path: 'pool', why };
  throw new MemcloudError('ERR_SWAP_UNSAFE', `${why}.\n${unsafe(sizeBytes)}`);
}
