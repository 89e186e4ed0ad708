/**
 * A member of a control plane in the hands of a test: the real transport, and on it whatever calls the test
 * makes, to whom it likes. It shares codecs with the product, and none of its machines for leases.
 */
import type { Test } from 'tap';
import type { ManagedLink, ManagedService } from '../../common/managed.ts';
import { decodeManagedReply, encodeManagedCall } from '../../control-plane/messages.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from '../../control-plane/schema.ts';
import { Identity } from '../../peer/identity.ts';
import { testNode, until, type TestNode } from './peer-node.ts';

/** Where a node is reached. */
interface Reached {
  readonly peerAddress: string;
  readonly nodeId: string;
}

/** Answers no call of others, as an empty body, which is none, says. */
const deaf: ManagedService = { serveManaged: () => Promise.resolve(new Uint8Array()) };

/** See the top of the file. */
export class WireClient {
  readonly node: TestNode;
  readonly identity: Identity;

  /** Makes one; the test ends it. */
  constructor(t: Test, name: string, managed: ManagedService = deaf) {
    this.identity = Identity.ephemeral();
    this.node = testNode(t, name, { identity: this.identity, name, managed });
  }

  /** Who it is. */
  get nodeId(): string {
    return this.identity.nodeId;
  }

  /** The public key of a node that was reached, 32 bytes. */
  keyOf(nodeId: string): Buffer {
    const known = this.node.trust.list().find((entry) => entry.nodeId === nodeId);
    if (known === undefined) throw new Error(`${nodeId} was not reached`);
    return Buffer.from(known.publicKey, 'hex');
  }

  /** Whether there is a session with a node. */
  isUp(to: Reached): boolean {
    return this.node.peers.managedLinks.find(to.nodeId)?.up === true;
  }

  /** Dials a node now, unless there is a session with it, and waits for nothing. */
  dial(to: Reached): void {
    if (!this.isUp(to)) this.node.peers.connect(to.peerAddress);
  }

  /** Dials a node, if it did not yet, and waits for a session on which it answers calls. */
  async reach(to: Reached): Promise<ManagedLink> {
    this.dial(to);
    await until(() => this.isUp(to), `a session with ${to.nodeId}`);
    const link = this.node.peers.managedLinks.find(to.nodeId);
    if (link === undefined) throw new Error('no link');
    return link;
  }

  /** Makes one call. @throws MemcloudError the refusal */
  async ask<C extends ManagedCall>(
    to: Reached,
    call: C,
    params: ManagedParams<C>,
  ): Promise<ManagedResult<C>> {
    const link = await this.reach(to);
    return decodeManagedReply(call, await link.request(encodeManagedCall(call, params)));
  }

  /** The code of the refusal of a call; `granted` when it is none. */
  async refusal<C extends ManagedCall>(
    to: Reached,
    call: C,
    params: ManagedParams<C>,
  ): Promise<string> {
    try {
      await this.ask(to, call, params);
      return 'granted';
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    }
  }
}
