/**
 * What lies under the files of a mount whose only provider is its own process (`--provider local`): RAM of
 * this machine, under the same reserve and in the same tmpfs as what is lent to others, without a volume
 * above it. Nobody is dialled, nothing is sealed or kept twice, and no page leaves the process.
 */
import { MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { makeProcessSpin } from '../common/process-spin.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { Identity } from '../peer/identity.ts';
import { MemoryBlockDevice } from '../provider/memory-device.ts';
import type { RamProvider } from '../provider/service.ts';
import type { StartMessage } from './mounts/child.ts';
import {
  ownProvider,
  waitForRoom,
  type Arrivals,
  type MountBacking,
  type MountBackingStatus,
} from './wire-mount-parts.ts';
import { localSource } from './wire-volume.ts';

const NOBODY_ELSE: Arrivals = { settled: true, hurry: () => undefined };

/** See the top of the file. */
export class MountMemory implements MountBacking {
  readonly spin = makeProcessSpin();
  readonly device: MemoryBlockDevice;
  readonly #provider: RamProvider;
  readonly #nodeName: string;

  private constructor(device: MemoryBlockDevice, provider: RamProvider, nodeName: string) {
    this.device = device;
    this.#provider = provider;
    this.#nodeName = nodeName;
  }

  /**
   * Takes nothing yet but asks whether there is room.
   *
   * @throws MemcloudError `ERR_VOLUME_CAPACITY`, `ERR_IDENTITY`, `ERR_CANCELLED`
   */
  static async open(
    start: StartMessage,
    logger: Logger,
    cancelled: () => boolean,
  ): Promise<MountMemory> {
    const { name: nodeName, hostId, zone, stateDirectory, request } = start;
    const provider = ownProvider(start, logger);
    try {
      const { nodeId } = Identity.load(stateDirectory);
      const source = localSource({ nodeId, nodeName, hostId, zone }, provider);
      await waitForRoom(start, { list: () => [source] }, NOBODY_ELSE, cancelled);
      const memory = provider.openObjectMemory();
      const { volumeName: name, sizeBytes } = request;
      const device = new MemoryBlockDevice({ name, sizeBytes, memory, owner: nodeId });
      return new MountMemory(device, provider, nodeName);
    } catch (error) {
      provider.close();
      throw error;
    }
  }

  /** @inheritDoc */
  status(): MountBackingStatus {
    const leasedBytes = this.device.chargedBytes;
    const providers = [{ name: this.#nodeName, up: true, leasedBytes }];
    return { leasedBytes, degradedSlabs: 0, providers };
  }

  /** @inheritDoc */
  freePageCount(usedPageCount: number): number {
    const pageCount = this.device.chargedBytes / PAGE_SIZE_BYTES;
    return Math.max(0, pageCount + this.device.freeBytes / PAGE_SIZE_BYTES - usedPageCount);
  }

  /** Nobody else is asked for memory. */
  setPeers(): void {
    return;
  }

  /** @inheritDoc */
  setLeases(): never {
    throw new MemcloudError('ERR_INTERNAL', 'leases of a mount that has none');
  }

  /** @inheritDoc */
  async close(): Promise<void> {
    this.device.close();
    this.#provider.close();
    return Promise.resolve();
  }
}
