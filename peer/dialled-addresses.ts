/**
 * The addresses that an operator, a configuration or an invitation wants connected: a dialler for each,
 * and who is expected to answer there. A part of the peers of a node (peers.ts), which owns the
 * connections.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import { formatAddress } from '../common/units.ts';
import type { DialExpectation } from './connection-context.ts';
import type { Connection } from './connection.ts';
import { DIAL_COUNT_MAX } from './constants.ts';
import { Dialer, dialTarget } from './dialer.ts';
import { requireExpected } from './gatekeeper.ts';
import type { PeerRecord } from './peer-info.ts';

/** What it needs of the peers. */
export interface DialledAddressesParts {
  /** Connections that are no sessions yet, with who dialled. */
  readonly connections: ReadonlyMap<Connection, unknown>;
  readonly records: ReadonlyMap<NodeId, PeerRecord>;
  /** Begins a connection. */
  readonly dial: (dialer: Dialer, target: { host: string; port: number }) => void;
  /** Jitter: a number from 0 to 1, below 1. */
  readonly random: () => number;
  /** Milliseconds, monotonic. */
  readonly nowMs: () => number;
}

/** See the top of the file. */
export class DialledAddresses {
  readonly #parts: DialledAddressesParts;
  readonly #dialers = new Map<string, Dialer>();

  constructor(parts: DialledAddressesParts) {
    this.#parts = parts;
  }

  /** The addresses, `HOST:PORT`, without those of guests: who dials them knows for how long. */
  get addresses(): string[] {
    return this.values().flatMap(({ address, expected }) => (expected.asGuest ? [] : [address]));
  }

  /** The dialler of an address in its one spelling. */
  find(key: string): Dialer | undefined {
    return this.#dialers.get(key);
  }

  /** The diallers. */
  values(): Dialer[] {
    return [...this.#dialers.values()];
  }

  /**
   * The dialler of an address, which its owner starts.
   *
   * @param expected - who is to answer there from now on; without, what was said before stays
   * @throws MemcloudError as `Peers.connect`
   */
  open(address: string, expected: DialExpectation | undefined): Dialer {
    const { key, target } = dialTarget(address);
    const known = this.#dialers.get(key);
    if (known !== undefined) {
      if (expected !== undefined) this.#expect(known, expected);
      return known;
    }
    if (this.#dialers.size >= DIAL_COUNT_MAX) {
      throw new MemcloudError('ERR_USAGE', `cannot dial more than ${DIAL_COUNT_MAX} addresses`);
    }
    const { records, dial, random, nowMs } = this.#parts;
    const dialer: Dialer = new Dialer({
      address: key,
      dial: () => dial(dialer, target),
      isUp: (nodeId) => records.get(nodeId)?.session !== undefined,
      ...{ random, nowMs },
    });
    dialer.expected = expected ?? {};
    // An address that was given up for a while and whose session goes on: it is that session's again.
    const held = formatAddress(target.host, target.port);
    dialer.nodeId = [...records.values()].find(
      (record) => record.session?.dialled === true && record.address === held,
    )?.store.nodeId;
    this.#dialers.set(key, dialer);
    return dialer;
  }

  /** Dials an address no more. @throws MemcloudError `ERR_USAGE_ADDRESS` */
  stop(address: string): void {
    const { key } = dialTarget(address);
    this.#dialers.get(key)?.stop();
    this.#dialers.delete(key);
  }

  /** Dials the addresses of a node no more. */
  stopNode(nodeId: NodeId): void {
    for (const { address, nodeId: there } of this.values())
      if (there === nodeId) this.stop(address);
  }

  /** Holds a dialler to what is expected now: attempts that were not are begun anew. */
  #expect(dialer: Dialer, expected: DialExpectation): void {
    const { records, connections } = this.#parts;
    const record = dialer.state === 'up' ? records.get(dialer.nodeId ?? '') : undefined;
    const peer = record?.session?.peer;
    if (peer !== undefined) requireExpected(peer, dialer.address, expected.pin);
    dialer.expected = expected;
    for (const [connection, owner] of [...connections]) {
      if (owner !== dialer) continue;
      connection.close(new MemcloudError('ERR_CANCELLED', 'the address is dialled anew'));
    }
    dialer.lastError = undefined;
  }
}
