/** Which providers a new direct device is put on. Pure. */
import { MemcloudError } from '../../common/errors.ts';
import type { DirectSource } from '../../common/ports.ts';
import type { DirectConnection } from '../../common/rpc-schema.ts';
import { formatSize } from '../../common/units.ts';

const COPIES_DEFAULT = 2;

/** What a device is to be. */
export interface SourceRequest {
  /** Bytes. */
  readonly sizeBytes: number;
  /** 1 or 2; without, two where two providers have room. */
  readonly copies: number | undefined;
  /** Names or ids of the only providers to use. */
  readonly providers: readonly string[] | undefined;
  /** Names or ids of providers to leave out. */
  readonly avoid: readonly string[] | undefined;
}

/** How the connection to a provider would be protected; undefined when it may not be made. */
export type LinkOf = (source: DirectSource) => DirectConnection | undefined;

/**
 * The providers to use: those named, else those with the most room.
 *
 * @throws MemcloudError `ERR_VOLUME_CAPACITY` with the numbers, `ERR_PEER_UNKNOWN`
 */
export function chooseSources(
  all: readonly DirectSource[],
  request: SourceRequest,
  linkOf: LinkOf = () => 'tls',
): readonly DirectSource[] {
  const { sizeBytes, copies, providers, avoid = [] } = request;
  const matches = (source: DirectSource, name: string): boolean =>
    source.nodeId === name || source.nodeName.toLowerCase() === name.toLowerCase();
  for (const name of providers ?? []) {
    if (all.some((source) => matches(source, name))) continue;
    throw new MemcloudError('ERR_PEER_UNKNOWN', `no peer is called "${name}"`);
  }
  const free = ({ usage }: DirectSource): number => usage.offeredBytes - usage.usedBytes;
  const up = all
    .filter((source) => providers?.some((name) => matches(source, name)) ?? true)
    .filter((source) => source.up && !avoid.some((name) => matches(source, name)));
  const candidates = up
    .filter((source) => linkOf(source) !== undefined)
    .sort((a, b) => free(b) - free(a));
  const fitting = candidates.filter((source) => free(source) >= sizeBytes);
  const wanted = copies ?? Math.max(1, Math.min(COPIES_DEFAULT, fitting.length));
  if (fitting.length >= wanted) return fitting.slice(0, wanted);
  const rooms = candidates.map((each) => `${each.nodeName} ${formatSize(Math.max(0, free(each)))}`);
  const nobody =
    up.length > 0
      ? 'none that is up may be reached (without kernel TLS only through WireGuard)'
      : 'no provider is up';
  const have = rooms.length === 0 ? nobody : `free: ${rooms.join(', ')}`;
  const need = wanted === 1 ? 'a provider' : `${wanted} providers`;
  throw new MemcloudError(
    'ERR_VOLUME_CAPACITY',
    `${formatSize(sizeBytes)} of direct swap need ${need} with that much room; ${have}`,
  );
}
