/**
 * Nodes by name, for networks that carry no multicast: each name of the option `dns` is looked up as SRV
 * `_memcloud._tcp.NAME` and as addresses of NAME itself, and again every half minute. Who answers there
 * nobody has said: the handshake will.
 */
import dns from 'node:dns/promises';
import { MemcloudError } from '../../common/errors.ts';
import { formatAddress } from '../../common/units.ts';
import {
  DEFAULT_PORT,
  DNS_ADDRESS_COUNT_MAX,
  DNS_REFRESH_MS,
  DNS_TIMEOUT_MS,
  PROTOCOL_VERSION,
} from './constants.ts';
import type { Sighting } from './discovery-machine.ts';

/** Asks name servers. */
export interface Resolver {
  /** SRV records; rejects when there are none. */
  readonly services: (name: string) => Promise<readonly { name: string; port: number }[]>;
  /** IP addresses; rejects when there are none. */
  readonly addresses: (name: string) => Promise<readonly string[]>;
}

/** The resolver of the system: SRV from name servers, addresses also from `/etc/hosts`. */
export function systemResolver(): Resolver {
  const servers = new dns.Resolver({ timeout: DNS_TIMEOUT_MS / 2, tries: 2 });
  return {
    services: (name) => servers.resolveSrv(name),
    addresses: async (name) => {
      const found = await dns.lookup(name, { all: true, verbatim: true });
      return found.map(({ address }) => address);
    },
  };
}

/** `work`, or nothing when it fails or takes too long. */
async function soon<T>(work: Promise<readonly T[]>): Promise<readonly T[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const error = new MemcloudError('ERR_TIMEOUT', 'the name server did not answer');
    timer = setTimeout(reject, DNS_TIMEOUT_MS, error);
  });
  try {
    return await Promise.race([work, late]);
  } catch {
    return []; // A name without an answer stands for nobody, until it has one.
  } finally {
    clearTimeout(timer);
  }
}

/** Where the nodes of a name are, `HOST:PORT`; at most 32. */
export async function addressesOfName(name: string, resolver: Resolver): Promise<string[]> {
  const services = await soon(resolver.services(`_memcloud._tcp.${name}`));
  const targets = [...services.slice(0, DNS_ADDRESS_COUNT_MAX), { name, port: DEFAULT_PORT }];
  const found = await Promise.all(
    targets.map(async ({ name: host, port }) => {
      const addresses = await soon(resolver.addresses(host));
      return addresses.map((address) => formatAddress(address, port));
    }),
  );
  return [...new Set(found.flat())].slice(0, DNS_ADDRESS_COUNT_MAX);
}

/** Keeps names looked up. */
export class DnsNames {
  readonly #names: readonly string[];
  readonly #resolver: Resolver;
  readonly #onSighting: (sighting: Sighting) => void;
  readonly #timer: NodeJS.Timeout;
  #busy = false;
  #closed = false;

  /** Begins at once. */
  constructor(
    names: readonly string[],
    onSighting: (sighting: Sighting) => void,
    resolver: Resolver = systemResolver(),
  ) {
    this.#names = names;
    this.#resolver = resolver;
    this.#onSighting = onSighting;
    void this.#refresh();
    this.#timer = setInterval(() => void this.#refresh(), DNS_REFRESH_MS).unref();
  }

  /** Looks nothing up any more. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  async #refresh(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    // One name after the other: a resolver's threads are few, and others wait for them.
    for (const name of this.#names) {
      const addresses = await addressesOfName(name, this.#resolver);
      if (this.#closed) return;
      for (const address of addresses) {
        this.#onSighting({
          ...{ nodeId: undefined, name: '', address, origin: name, source: 'dns' },
          ...{ networkInterface: '', freeBytes: null, protocol: PROTOCOL_VERSION },
          lifeMs: 3 * DNS_REFRESH_MS,
        });
      }
    }
    this.#busy = false;
  }
}
