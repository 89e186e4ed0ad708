/** Joins what decides about other nodes: the store, the questions, the invitations, the revocations. */
import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import { ConsentQueue } from '../peer/consent.ts';
import { Invites } from '../peer/invites.ts';
import { Revocations } from '../peer/revocations.ts';
import { TrustStore } from '../peer/trust.ts';
import type { DaemonConfig } from './config.ts';
import type { Appliers } from './live-config.ts';

/** The parts; the same as the options of `Peers` call them. */
export interface TrustParts {
  readonly trust: TrustStore;
  readonly consent: ConsentQueue;
  readonly invites: Invites;
  readonly revocations: Revocations;
}

/** Opens the store of a state directory. @throws MemcloudError `ERR_IDENTITY` */
export function openTrust(config: DaemonConfig, clock: Clock, logger: Logger): TrustParts {
  const { autoTrust, trustFingerprints: fingerprints, obeyRevocations: obey } = config;
  if (autoTrust) {
    logger.warn({}, '--auto-trust: every machine that reaches this port is trusted unasked');
  }
  const trust = TrustStore.load(config.stateDirectory, { autoTrust, fingerprints });
  return {
    trust,
    consent: new ConsentQueue({ clock }),
    invites: new Invites(clock),
    revocations: new Revocations({ trust, obey, logger }),
  };
}

/** What a reload may change of it. */
export function trustAppliers({
  trust,
  revocations,
}: TrustParts): Pick<Appliers, 'trust-fingerprint' | 'obey-revocations'> {
  return {
    'trust-fingerprint': (fingerprints) => trust.setFingerprints(fingerprints),
    'obey-revocations': (obey) => revocations.setObey(obey),
  };
}
