/**
 * A host name may stand for several addresses, of which some lead nowhere today: a machine with a
 * cable and a radio, an IPv6 address without a route. They are tried in the order in which the
 * system gives them, each with the full time of a connect, and the first that takes the connection
 * is the one. Node can race them; it gives each a quarter of a second, which a machine that wakes
 * up does not keep.
 */
import dns from 'node:dns/promises';
import net from 'node:net';

/** Addresses of one name that are tried. */
export const ADDRESS_COUNT_MAX = 8;

/** A host, by name or address, and a port. */
interface Target {
  readonly host: string;
  readonly port: number;
}

/** Gives the addresses of a name, best first. */
export type Lookup = (host: string) => Promise<readonly string[]>;

async function systemLookup(host: string): Promise<readonly string[]> {
  const found = await dns.lookup(host, { all: true, verbatim: true });
  return found.map(({ address }) => address);
}

/**
 * Connects to the first address of a host that answers.
 *
 * @param connect - makes one connection, with a deadline of its own
 * @throws what `connect` threw for the last address, or the look-up
 */
export async function connectInTurn<T>(
  { host, port }: Target,
  connect: (target: Target) => Promise<T>,
  lookup: Lookup = systemLookup,
): Promise<T> {
  // An address with a scope (`fe80::1%eth0`) is an address too.
  const isAddress = net.isIP(host.split('%', 1)[0] ?? '') !== 0;
  const hosts = isAddress ? [host] : (await lookup(host)).slice(0, ADDRESS_COUNT_MAX);
  let failure: unknown = new Error(`${host} has no address`);
  for (const each of hosts) {
    try {
      return await connect({ host: each, port });
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}
