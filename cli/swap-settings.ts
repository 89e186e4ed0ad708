/**
 * What `swap on` does: its words, and for what they leave open the table `[swap]` of the configuration,
 * as the daemon read it last. A reload therefore counts for the next `swap on` and for no swap that is on.
 */
import os from 'node:os';
import type { OptionKey, OptionValue } from '../common/config/options.ts';
import { MemcloudError } from '../common/errors.ts';
import { parseSizeExpression } from '../common/size-expression.ts';
import { managedSettings, type ManagedFlags, type ManagedSettings } from './managed-options.ts';
import type { MemcloudClient } from '../sdk/client.ts';

/** Ways to the providers. */
export const SWAP_PATHS = ['auto', 'direct', 'scoped', 'pool', 'loop'] as const;

/** What a command line may say about a new swap area. */
export interface SwapWords extends ManagedFlags {
  /** As written: `8G`, `50%`. */
  readonly size: string | undefined;
  /** The way to the providers. */
  readonly via: (typeof SWAP_PATHS)[number] | undefined;
  /** Providers that keep each page. */
  readonly copies: number | undefined;
  /** Only these providers; empty: any. */
  readonly provider: string[];
  /** The priority of swapon(8). */
  readonly priority: number | undefined;
  /** The unit or control group that swaps where the machine as a whole cannot. */
  readonly scope?: string | undefined;
  /** RAM of the scope, as written. */
  readonly memory?: string | undefined;
}

/** A new swap area. */
export interface SwapSettings {
  /** Bytes. */
  readonly sizeBytes: number;
  /** The way to the providers. */
  readonly via: (typeof SWAP_PATHS)[number];
  /** Undefined: as many as the pool has, two at most. */
  readonly copies: number | undefined;
  /** Only these; empty: any. */
  readonly providers: readonly string[];
  /** Undefined: the kernel chooses. */
  readonly priority: number | undefined;
  /** Whether freed pages give their RAM back. */
  readonly discard: boolean;
  /** The unit or control group that swaps where the machine as a whole cannot; undefined: none. */
  readonly scope: string | undefined;
  /** RAM of the scope, bytes. */
  readonly memoryBytes: number | undefined;
  /** On managed leases; undefined: on any provider that lends. */
  readonly managed?: ManagedSettings | undefined;
}

/** Bytes of a size as written. @throws MemcloudError `ERR_USAGE_SIZE` */
export function checkSize(size: string | undefined): number | undefined {
  return size === undefined ? undefined : parseSizeExpression(size, os.totalmem());
}

/**
 * The words of a command over the daemon's `[swap]`.
 *
 * @throws MemcloudError `ERR_USAGE_SIZE`; `ERR_USAGE` when nobody says a size
 */
export async function swapSettings(
  client: Pick<MemcloudClient, 'call'>,
  words: SwapWords,
): Promise<SwapSettings> {
  const { settings } = await client.call('config.get', {});
  const configured = <K extends OptionKey>(key: K): OptionValue<K> => {
    const value = settings.find((setting) => setting.key === key)?.value;
    return (value ?? undefined) as OptionValue<K>;
  };
  const sizeBytes = checkSize(words.size) ?? configured('swap.size');
  if (sizeBytes === undefined) {
    throw new MemcloudError('ERR_USAGE', 'swap on: expected a size, or [swap] size in config.toml');
  }
  const managed = managedSettings(words);
  return {
    ...(managed === undefined ? {} : { managed }),
    sizeBytes,
    via: words.via ?? configured('swap.path'),
    copies: words.copies ?? configured('swap.copies'),
    providers: words.provider,
    priority: words.priority ?? configured('swap.priority'),
    discard: configured('swap.discard'),
    scope: words.scope ?? configured('swap.scope'),
    memoryBytes: checkSize(words.memory) ?? configured('swap.memory'),
  };
}

/**
 * One copy is for who says so: when its provider dies, so do the programs whose pages it held.
 *
 * @param asked - copies as said or configured; undefined when nobody did
 * @param made - copies that there are now
 * @throws MemcloudError `ERR_VOLUME_CAPACITY`, which waiting for a second provider may mend
 */
export function requireSaidAloud(asked: number | undefined, made: number): void {
  if (made > 1 || asked === 1) return;
  throw new MemcloudError(
    'ERR_VOLUME_CAPACITY',
    'only one machine lends enough now: if it went away, programs whose pages it held would die. ' +
      'Connect a second one, or accept that with --copies 1',
  );
}
