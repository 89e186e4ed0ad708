/**
 * A hostile donor as a process: `main.js NAME MODE [HOST]`, started with an IPC channel. MODE `pages` is
 * a node like any other whose slabs lie; `wire` is one that lies in the protocol. It tells where it
 * listens, takes new rates, and reports its exact counts:
 *
 *   -> {rates: {flip: 0.5}}   or {rates: {answer: 0.5}}      <- {ready: {port, nodeId}}
 *   -> {report: true}                                        <- {counts, faultCount, ...}
 *
 * It ends with its parent.
 */
import { monotonicClock } from '../../../common/clock.ts';
import { ConsentQueue } from '../../../peer/consent.ts';
import { Identity } from '../../../peer/identity.ts';
import { Peers } from '../../../peer/peers.ts';
import { TrustStore } from '../../../peer/trust.ts';
import { HostileSlabs, type LieRates } from './hostile-slabs.ts';
import { RawDonor, type WireRates } from './raw-donor.ts';

/** More than anybody else, so that placement likes it. */
const OFFERED_BYTES = 2 ** 40;

const [name = 'hostile', mode = 'pages', host = '127.0.0.1'] = process.argv.slice(2);
const slabs = new HostileSlabs(OFFERED_BYTES, process.pid);
const donor = mode === 'wire' ? new RawDonor(name, slabs) : undefined;

async function listen(): Promise<{ port: number; nodeId: string }> {
  if (donor !== undefined) return { port: await donor.listen(host), nodeId: donor.nodeId };
  const identity = Identity.ephemeral();
  const trust = TrustStore.inMemory({ autoTrust: true });
  const consent = new ConsentQueue({ clock: monotonicClock });
  const peers = new Peers({ identity, name, trust, consent, provider: slabs });
  const { port } = await peers.listen({ host, port: 0 });
  return { port, nodeId: identity.nodeId };
}

process.on('disconnect', () => process.exit(0));
process.on('message', (message: { rates?: LieRates & WireRates; report?: boolean }) => {
  if (message.rates !== undefined) {
    slabs.rates = message.rates;
    if (donor !== undefined) donor.rates = message.rates;
  }
  if (message.report !== true) {
    process.send?.({ done: true });
    return;
  }
  const wire = donor?.counts ?? { answer: 0, short: 0, ghost: 0 };
  const { pagesServed, pagesForgotten } = slabs;
  const counts = { ...slabs.counts, ...wire };
  const faultCount = slabs.faultCount + wire.answer;
  process.send?.({ counts, faultCount, pagesServed, pagesForgotten });
});
process.send?.({ ready: await listen() });
