/** The leader's books with a client `c` and providers, moved by hand. */
import type { Decision, Steps } from '../../control-plane/decision.ts';
import { requestLeases, type Grant } from '../../control-plane/allocation-machine.ts';
import { LedgerState, type Lease } from '../../control-plane/ledger-state.ts';
import { putMember } from '../../control-plane/member-machine.ts';
import { registerProvider } from '../../control-plane/provider-machine.ts';
import type { ManagedParams } from '../../control-plane/schema.ts';

/** Ids that tell what they are. */
export const nodeId = (name: string): string => Buffer.from(name).toString('hex').padEnd(32, '0');
/** The life of a provider. */
export const LIFE = '1'.repeat(32);
/** The client. */
export const CLIENT = nodeId('c');

/** See the top of the file. */
export class LedgerRig {
  nowMs = 1000;
  readonly state: LedgerState;
  /** Names of the lines of the audit log, in order. */
  readonly lines: string[] = [];
  /** Messages, as `kind:name of the node:lease count:reason`. */
  readonly messages: string[] = [];
  #ids = 0;

  constructor() {
    const newId = (): string => (this.#ids += 1).toString(16).padStart(32, '0');
    this.state = new LedgerState({ epoch: 1, random: () => 0, newId });
    this.take(putMember(this.state, this.nowMs, { key: CLIENT, name: 'c', roles: ['client'] }));
  }

  /** Notes what steps say. */
  note(steps: Steps): void {
    for (const { audit, messages } of steps.list) {
      this.lines.push(...audit.map(({ event }) => event));
      for (const message of messages) {
        const name = Buffer.from(message.to.replace(/(00)+$/, ''), 'hex').toString();
        const rest = 'leaseIds' in message ? `${message.leaseIds.length}:${message.reason}` : '';
        this.messages.push(`${message.kind}:${name}:${rest}`);
      }
    }
  }

  /** The answer of a decision. @throws MemcloudError the refusal */
  take<T>({ steps, answer }: Decision<T>): T {
    this.note(steps);
    if ('refusal' in answer) throw answer.refusal;
    return answer.value;
  }

  /** Registers a provider, which becomes a member. */
  provider(name: string, changes: Partial<ManagedParams<'provider.register'>> = {}): string[] {
    const key = nodeId(name);
    if (!this.state.members.has(key)) {
      this.take(putMember(this.state, this.nowMs, { key, name, roles: ['provider'] }));
    }
    const session = { nodeId: key, publicKey: 'ab'.repeat(32), name, host: '10.0.0.1' };
    const registration = {
      ...{ life: LIFE, hostId: `host-${name}`, zone: '', port: 7070, offeredBytes: 1000 },
      ...{ otherBytes: 0, accepting: true, draining: false, leases: [], ...changes },
    };
    return this.take(registerProvider(this.state, this.nowMs, session, registration)).end;
  }

  /** Asks for leases. */
  request(changes: Partial<ManagedParams<'lease.request'>> = {}): Grant[] {
    const requestId = this.state.world.newId();
    const request = {
      requestId,
      sizeBytes: 100,
      ttlMs: 60_000,
      count: 1,
      purpose: 'x',
      ...changes,
    };
    return this.take(requestLeases(this.state, this.nowMs, CLIENT, request));
  }

  /** A lease that is in use. */
  active(): Lease {
    const [grant] = this.request();
    const lease = this.state.leases.get(grant!.lease.leaseId)!;
    lease.record = { ...lease.record, state: 'active' };
    lease.tokens.clear();
    this.state.tokens.clear();
    lease.deadlineMs = this.nowMs + lease.record.ttlMs;
    this.state.schedule(lease);
    return lease;
  }
}
