/**
 * The volumes of a daemon while another process gets ready to go on with them: clients wait unread,
 * nothing is sent, leased or given back. Until the other has confirmed, all of it can be undone.
 */
import { VOLUME_SECRETS_SIZE_BYTES } from '../../common/units.ts';
import type { HeldService, VolumeEntry } from '../volumes.ts';
import type { Luggage } from './belongings.ts';
import type { VolumeRecord } from './manifest.ts';

/** The volumes. */
export class HeldVolumes {
  readonly #entries: readonly VolumeEntry[];

  /** @param entries - every volume; none may come or go until the end */
  constructor(entries: readonly VolumeEntry[]) {
    this.#entries = entries;
  }

  get #services(): HeldService[] {
    return this.#entries.flatMap(({ services, attachments }) => [
      ...services,
      ...[...attachments].map(({ service }) => service),
    ]);
  }

  /** Holds the clients of every volume. */
  hold(): void {
    for (const service of this.#services) service.hold();
  }

  /** True when no request of a client is under way. */
  get held(): boolean {
    return this.#services.every(({ held }) => held);
  }

  /** Holds the volumes themselves. Their clients are held. */
  freeze(): void {
    for (const { volume } of this.#entries) volume.freeze();
  }

  /** True when nothing is on its way to or from providers. */
  get idle(): boolean {
    return this.#entries.every(({ volume }) => volume.idle);
  }

  /** Undoes everything. */
  goOn(): void {
    for (const { volume } of this.#entries) volume.thaw();
    for (const service of this.#services) service.goOn();
  }

  /** Writes everything down. In one turn, with everything held and frozen. */
  records(luggage: Luggage): VolumeRecord[] {
    return this.#entries.map(({ volume, providers, services, attachments }) => {
      const capture = volume.capture();
      const image = luggage.addMemory('memcloud-volume', capture.sizeBytes);
      capture.writeTo(image.file);
      const secrets = luggage.addMemory('memcloud-key', VOLUME_SECRETS_SIZE_BYTES);
      volume.exportSecrets(secrets.file.bytes);
      return {
        image: image.place,
        secrets: secrets.place,
        providers: providers === undefined ? null : [...providers],
        services: [...services].map((service) => service.record(luggage)),
        attachments: [...attachments].map((attachment) => attachment.record(luggage)),
      };
    });
  }

  /** Lets go of everything: a successor has it. The keys in this process are destroyed. */
  abandon(): void {
    for (const service of this.#services) service.abandon();
    for (const { volume, attachments } of this.#entries) {
      for (const attachment of attachments) attachment.abandon();
      volume.abandon();
    }
  }
}
