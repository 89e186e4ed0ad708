/** Whole nodes for tests: identity, trust, consent and peers of one, on loopback, cleaned up by the test. */
import type { Test } from 'tap';
import { monotonicClock } from '../../common/clock.ts';
import type { IoStatusValue, PageCompletionSink } from '../../common/ports.ts';
import { ConsentQueue } from '../../peer/consent.ts';
import { Identity } from '../../peer/identity.ts';
import type { PeersOptions } from '../../peer/peers-options.ts';
import { Peers } from '../../peer/peers.ts';
import { TrustStore } from '../../peer/trust.ts';
import { MemorySlabs } from './memory-slabs.ts';

/** One node. */
export interface TestNode {
  identity: Identity;
  trust: TrustStore;
  consent: ConsentQueue;
  slabs: MemorySlabs;
  peers: Peers;
  /** Listens on loopback and returns the address. */
  listen(): Promise<string>;
}

/** Makes a node; it trusts at first sight unless told otherwise. */
export function testNode(
  t: Test,
  name: string,
  options: Partial<PeersOptions> & { autoTrust?: boolean; consentTtlMs?: number } = {},
): TestNode {
  const identity = options.identity ?? Identity.ephemeral();
  const trust = options.trust ?? TrustStore.inMemory({ autoTrust: options.autoTrust ?? true });
  const ttlMs = options.consentTtlMs ?? 60_000;
  const consent = new ConsentQueue({ clock: monotonicClock, ttlMs });
  const slabs = new MemorySlabs(2 ** 26);
  const peers = new Peers({ provider: slabs, ...options, identity, name, trust, consent });
  t.teardown(async () => {
    consent.close();
    await peers.close();
    slabs.free();
  });
  const listen = async (): Promise<string> => {
    const { host, port } = await peers.listen({ host: '127.0.0.1', port: 0 });
    return `${host}:${port}`;
  };
  return { identity, trust, consent, slabs, peers, listen };
}

/** The port of `HOST:PORT`. */
export function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}

/** Waits until `condition` holds; fails after 5 s. */
export async function until(condition: () => boolean, what = 'the condition'): Promise<void> {
  for (let waitedMs = 0; waitedMs < 5000; waitedMs += 5) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`${what} did not come about`);
}

/** A sink that keeps what ended. */
export class KeepingSink implements PageCompletionSink {
  readonly reads: { tag: number; status: IoStatusValue; first: number }[] = [];
  readonly done: { tag: number; status: IoStatusValue }[] = [];
  credits = 0;

  onPagesRead: PageCompletionSink['onPagesRead'] = (tag, status, pages, offset) => {
    this.reads.push({ tag, status, first: pages.bytes[offset] ?? -1 });
  };

  onPagesDone: PageCompletionSink['onPagesDone'] = (tag, status) => {
    this.done.push({ tag, status });
  };

  onCredit: PageCompletionSink['onCredit'] = () => {
    this.credits += 1;
  };
}
