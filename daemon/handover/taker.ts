/**
 * The daemon that replaces another one (giver.ts has the whole exchange). It has loaded all its code
 * before it asks; from then on clients wait. It may look at everything that it was given, but speaks
 * to no client and no provider before the other one has said that all of it is its own.
 */
import * as v from 'valibot';
import { MemcloudError } from '../../common/errors.ts';
import type { NodeId } from '../../common/ports.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { Inheritance } from './belongings.ts';
import { ChannelListener, type DescriptorChannel } from './channel.ts';
import { decodeManifest, type Manifest } from './manifest.ts';

const ACCEPT_TIMEOUT_MS = 10_000;
/** The other one may wait for requests in flight and for its providers. */
const FILES_TIMEOUT_MS = 10_000;
const SEND_TIMEOUT_MS = 2000;
const YOURS_TIMEOUT_MS = 10_000;

const FILES = v.object({ type: v.literal('files'), left: v.number(), manifest: v.number() });
const YOURS = v.object({ type: v.literal('yours') });

/** What was handed over. */
export interface Estate {
  /** The list of it. */
  readonly manifest: Manifest;
  /** The open files that the list names. */
  readonly inheritance: Inheritance;
  /** What clients had sent and nobody handled; empty when there was nothing. */
  readonly unread: Buffer;
  /** Bytes of memory in it that were read so far, for the log. */
  readonly sizeBytes: number;
}

/** The daemon that runs now. */
export class Predecessor {
  readonly #socketPath: string;
  readonly #force: boolean;
  #channel: DescriptorChannel | undefined;

  /** @param socketPath - its RPC socket. @param force - take over although something is lost by it */
  constructor(socketPath: string, force: boolean) {
    this.#socketPath = socketPath;
    this.#force = force;
  }

  /**
   * Asks for everything. The other one waits from now on, until {@link Predecessor.confirm} or the
   * end of this process.
   *
   * @param nodeId - who we are; the other one must be the same
   * @throws MemcloudError `ERR_HANDOVER` when it refuses or is another node, `ERR_DAEMON_UNREACHABLE`
   */
  ask(nodeId: NodeId): Promise<Estate> {
    return this.#ask(nodeId, false);
  }

  /**
   * Goes through the exchange once without holding anybody, so that all code of it has run.
   *
   * @param look - reads what was given; it is closed and forgotten afterwards. Errors as {@link Predecessor.ask}
   */
  async rehearse(nodeId: NodeId, look: (estate: Estate) => void): Promise<void> {
    const estate = await this.#ask(nodeId, true);
    try {
      look(estate);
      await this.#channel?.send({ type: 'ready' }, SEND_TIMEOUT_MS);
    } finally {
      estate.inheritance.close();
      this.close();
    }
  }

  async #ask(nodeId: NodeId, rehearsal: boolean): Promise<Estate> {
    const path = `${this.#socketPath}.next`;
    const listener = ChannelListener.open(path);
    try {
      const client = await MemcloudClient.connect(this.#socketPath);
      try {
        await client.call('daemon.handover', { path, force: this.#force, rehearsal });
        this.#channel = await listener.accept(ACCEPT_TIMEOUT_MS);
      } finally {
        client.close();
      }
    } finally {
      listener.close();
    }
    const { uid } = this.#channel.peer;
    if (uid !== process.getuid?.()) {
      throw new MemcloudError('ERR_HANDOVER', `the memnode that runs is of user ${uid}`);
    }
    return this.#receive(this.#channel, nodeId);
  }

  /**
   * Says that we have everything, and waits until it is ours.
   *
   * @throws MemcloudError `ERR_HANDOVER` when the other one goes on, or died with its volumes
   */
  async confirm(): Promise<void> {
    const channel = this.#channel;
    if (channel === undefined) throw new MemcloudError('ERR_INTERNAL', 'nothing was asked for');
    await channel.send({ type: 'ready' }, SEND_TIMEOUT_MS);
    const { message } = await channel.receive(YOURS_TIMEOUT_MS);
    if (!v.safeParse(YOURS, message).success) {
      throw new MemcloudError('ERR_HANDOVER', 'the memnode that runs did not let go');
    }
    this.close();
  }

  /** Ends the exchange; before {@link Predecessor.confirm} the other one goes on. */
  close(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  async #receive(channel: DescriptorChannel, nodeId: NodeId): Promise<Estate> {
    const descriptors: number[] = [];
    for (let left = 1; left > 0;) {
      const packet = await channel.receive(FILES_TIMEOUT_MS);
      descriptors.push(...packet.descriptors);
      const parsed = v.safeParse(FILES, packet.message);
      if (!parsed.success) {
        throw new MemcloudError('ERR_HANDOVER', 'the memnode that runs sent something else');
      }
      left = parsed.output.left;
      if (left === 0) return readEstate(descriptors, parsed.output.manifest, nodeId);
    }
    throw new MemcloudError('ERR_INTERNAL', 'a handover without an end');
  }
}

function readEstate(descriptors: number[], place: number, nodeId: NodeId): Estate {
  const inheritance = new Inheritance(descriptors);
  const file = inheritance.takeMemory(place);
  const { length } = file.bytes;
  const manifest = decodeManifest(file.bytes);
  file.close();
  if (manifest.nodeId !== nodeId) {
    throw new MemcloudError(
      'ERR_HANDOVER',
      `the memnode that runs is node ${manifest.nodeId}, this one is ${nodeId}: another --state`,
    );
  }
  if (manifest.unread === null) {
    return { manifest, inheritance, unread: Buffer.alloc(0), sizeBytes: length };
  }
  const memory = inheritance.takeMemory(manifest.unread);
  const unread = Buffer.from(memory.bytes);
  memory.wipe();
  memory.close();
  return { manifest, inheritance, unread, sizeBytes: length + unread.length };
}
