/** `--managed`, `--ttl` and `--zone`: what is made on memory that the control plane leases. */
import { MemcloudError } from '../common/errors.ts';
import { MANAGED_TTL_MAX_MS, MANAGED_TTL_MIN_MS } from '../common/managed.ts';
import { parseDuration } from './duration.ts';

/** Leases are asked for, presented and, where they are in parts, asked for again: longer than a plain call. */
export const MANAGED_CALL_TIMEOUT_MS = 120_000;

/** As written. */
export interface ManagedFlags {
  /** `--managed`. */
  readonly managed?: boolean | undefined;
  /** `--ttl`. */
  readonly ttl?: string | undefined;
  /** `--zone`. */
  readonly zone?: string | undefined;
}

/** As the daemon takes it. */
export interface ManagedSettings {
  readonly ttlMs?: number;
  readonly zone?: string;
}

/** For yargs. */
export const MANAGED_OPTION = {
  type: 'boolean',
  default: false,
  describe: 'on memory that the control plane leases: all of it at once, renewed while it is used',
} as const;
/** For yargs. */
export const TTL_OPTION = {
  type: 'string',
  describe: 'with --managed: how long its leases live without renewal, 5s to 24h (default 10m)',
} as const;
/** For yargs. */
export const ZONE_OPTION = {
  type: 'string',
  describe: 'with --managed: only providers of this zone',
} as const;

/** Milliseconds of a time to live. @throws MemcloudError `ERR_USAGE` */
export function parseTtl(text: string): number {
  const ttlMs = parseDuration(text, '--ttl');
  if (ttlMs >= MANAGED_TTL_MIN_MS && ttlMs <= MANAGED_TTL_MAX_MS) return ttlMs;
  throw new MemcloudError('ERR_USAGE', `--ttl: expected 5s to 24h, got "${text}"`);
}

/**
 * What the daemon is asked for; undefined without `--managed`.
 *
 * @throws MemcloudError `ERR_USAGE`
 */
export function managedSettings(flags: ManagedFlags): ManagedSettings | undefined {
  const { managed, ttl, zone } = flags;
  if (managed !== true) {
    if (ttl === undefined && zone === undefined) return undefined;
    throw new MemcloudError(
      'ERR_USAGE',
      '--ttl and --zone are about leases: they go with --managed',
    );
  }
  return {
    ...(ttl === undefined ? {} : { ttlMs: parseTtl(ttl) }),
    ...(zone === undefined ? {} : { zone }),
  };
}
