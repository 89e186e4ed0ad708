/**
 * Where a node takes peers: `ADDR:PORT`, or `ADDR:PORT-PORT` for the first of these ports that nobody has, so
 * that a second node on a machine needs no settings. Peers find it whichever it is: adverts, invitations and
 * peer exchange tell the real one.
 */
import { MemcloudError } from './errors.ts';
import { parseAddress } from './units.ts';

/** Ports of a range at most: a longer one is a mistake. */
const PORT_COUNT_MAX = 100;

/** An address, and the ports to try there in turn. */
export interface ListenRange {
  /** The address; empty for all. */
  readonly host: string;
  /** The first port; 0 for any free one. */
  readonly port: number;
  /** The last port to try. */
  readonly lastPort: number;
}

/**
 * Splits `ADDR:PORT` or `ADDR:PORT-PORT`; the address is as `parseAddress` takes it.
 *
 * @throws MemcloudError `ERR_USAGE_ADDRESS`: no address, a range from port 0 or backwards, or of more
 *   than 100 ports
 */
export function parseListenRange(text: string): ListenRange {
  const [, first, last] = /^(.*:\d{1,5})-(\d{1,5})$/.exec(text.trim()) ?? [];
  if (first === undefined || last === undefined) {
    const { host, port } = parseAddress(text);
    return { host, port, lastPort: port };
  }
  const { host, port } = parseAddress(first);
  const lastPort = Number(last);
  const count = lastPort - port + 1;
  if (port === 0 || lastPort > 65_535 || count < 1 || count > PORT_COUNT_MAX) {
    throw new MemcloudError(
      'ERR_USAGE_ADDRESS',
      `ports: expected at most ${PORT_COUNT_MAX} of 1 to 65535, the lower one first, got "${text}"`,
    );
  }
  return { host, port, lastPort };
}

/** The ports of a range as people write them: `7070`, `7070-7079`. */
export function formatPorts({ port, lastPort }: Pick<ListenRange, 'port' | 'lastPort'>): string {
  return port === lastPort ? String(port) : `${port}-${lastPort}`;
}
