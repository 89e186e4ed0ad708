/** How the earlier MemCloud spells what memnode takes at its start, beside our own names. */
import { MemcloudError } from '../errors.ts';
import { formatPorts } from '../listen-range.ts';
import type { OptionKey } from './options.ts';

const PORT_MAX = 65_535;
/** Ports after `--port` that are tried when it is taken. */
const PORT_FALLBACK_COUNT = 9;

/** Other names of options. */
export const EARLIER_NAMES: Readonly<Partial<Record<OptionKey, readonly string[]>>> = {
  name: ['n'],
  offer: ['m', 'memory', 'total-memory'],
};

/** What `--port` is, for help. */
export const PORT_DESCRIPTION =
  'take peers on this port of every address, or on the first of the nine after it that is free';

/**
 * What `--port` means, as the text of `--listen`.
 *
 * @param listen - what `--listen` says; only one of the two may
 * @throws MemcloudError `ERR_USAGE`
 */
export function listenAtPort(port: number, listen: unknown): string {
  if (listen !== undefined) {
    throw new MemcloudError('ERR_USAGE', 'expected one of --port and --listen, got both');
  }
  if (!(Number.isInteger(port) && port >= 0 && port <= PORT_MAX)) {
    throw new MemcloudError('ERR_USAGE', `--port: expected 0 to ${PORT_MAX}, got ${port}`);
  }
  const lastPort = port === 0 ? 0 : Math.min(port + PORT_FALLBACK_COUNT, PORT_MAX);
  return `0.0.0.0:${formatPorts({ port, lastPort })}`;
}
