/**
 * The door of a control node follows the members of the control plane: whoever is a member is trusted,
 * whoever is one no more loses it at once, and with it its sessions. The list of members is in the store
 * and comes anew with each change, to every control node, so nothing of it is kept here.
 *
 * Members come in by an invitation or by consent: both are a promise of roles, made by an admin to a key
 * that was not known yet. The promise is kept by writing the member; until the write has ended the key is
 * let in, and if it fails it is put out again, so that nobody is trusted who is no member.
 */
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { isKeyPattern, parseKeyPattern, type KeyPattern } from '../../common/fingerprint.ts';
import type { Logger } from '../../common/log.ts';
import type { MemberRole } from '../../common/managed.ts';
import type { NodeId } from '../../common/ports.ts';
import type { ControlMember } from '../../common/rpc-control.ts';
import type { ConsentQueue, ConsentRequest } from '../../peer/consent.ts';
import type { Joined } from '../../peer/gatekeeper.ts';
import type { TrustStore } from '../../peer/trust.ts';

/** A member as the control plane tells its nodes. */
export interface MemberKey {
  /** 64 hex digits; empty while only the pattern is known. */
  readonly publicKey: string;
  /** What an admin named the key by: words, node id or key. */
  readonly pattern: string;
  /** Empty while the key is not known. */
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly name: string;
}

/** What a new member gets; null: no limit; undefined: what the control plane gives to anybody. */
export interface MemberGrant {
  readonly roles: readonly MemberRole[];
  readonly quotaBytes?: number | null | undefined;
  readonly quotaLeases?: number | null | undefined;
}

/** What the door is made of. */
export interface MemberDoorOptions {
  /** Whom this control node trusts; held in memory only, since the members are in the store. */
  readonly trust: TrustStore;
  /** Strangers that wait. */
  readonly consent: ConsentQueue;
  /** Writes a member. @throws MemcloudError as `admin.member-put` */
  readonly put: (key: string, name: string, grant: MemberGrant) => Promise<ControlMember>;
  readonly logger: Logger;
}

/** Invitations that may be open at once are fewer (peer/constants.ts); used and lapsed ones are dropped here. */
const PROMISE_COUNT_MAX = 64;

/** Whether a key is one of some members'. */
class MemberKeys {
  readonly #publicKeys: ReadonlySet<string>;
  readonly #patterns: readonly KeyPattern[];

  constructor(members: readonly MemberKey[]) {
    this.#publicKeys = new Set(members.map(({ publicKey }) => publicKey));
    const nameless = members.filter(({ publicKey }) => publicKey === '');
    this.#patterns = nameless.map(({ pattern }) => parseKeyPattern(pattern));
  }

  has(nodeId: NodeId, publicKey: string): boolean {
    if (this.#publicKeys.has(publicKey)) return true;
    return this.#patterns.some(({ fits }) => fits(nodeId, publicKey));
  }
}

/** See the top of the file. */
export class MemberDoor {
  readonly #options: MemberDoorOptions;
  /** By invitation: what whoever joins by it gets. */
  readonly #promises = new Map<string, MemberGrant>();
  /** Public keys of those who were let in and are being written. */
  readonly #joining = new Map<string, number>();
  #members: readonly MemberKey[] = [];

  constructor(options: MemberDoorOptions) {
    this.#options = options;
  }

  /** Takes the whole list of members: trusts, and ends trust. */
  onMembers(members: readonly MemberKey[]): void {
    this.#members = members;
    this.#follow();
  }

  /** Remembers what an invitation is good for; of too many the oldest is forgotten, and admits nobody. */
  promise(invite: string, grant: MemberGrant): void {
    this.#promises.set(invite, grant);
    const [oldest] = this.#promises.keys();
    if (this.#promises.size > PROMISE_COUNT_MAX && oldest !== undefined)
      this.#promises.delete(oldest);
  }

  /** A machine has joined by an invitation: it becomes a member, or is put out again. */
  async onJoined({ peer, invite }: Joined): Promise<void> {
    const grant = this.#promises.get(invite);
    this.#promises.delete(invite);
    const { nodeId, name } = peer;
    const { logger } = this.#options;
    if (grant === undefined) {
      logger.error({ nodeId, name }, 'a machine joined by an invitation without a role; put out');
      return this.#follow();
    }
    await this.#write(Buffer.from(peer.publicKey).toString('hex'), name, grant).catch((thrown) => {
      const { code, message } = asMemcloudError(thrown);
      const fields = { nodeId, name, code };
      logger.error(fields, `a machine joined but is no member, and has to join again: ${message}`);
    });
  }

  /**
   * Makes a stranger that waits a member and lets it in.
   *
   * @param which - request id, words, node id or key; or a name, if only one bears it
   * @throws MemcloudError `ERR_PEER_UNKNOWN`, `ERR_USAGE`, and as `admin.member-put`
   */
  async consentTo(which: string, grant: MemberGrant): Promise<ControlMember> {
    const { publicKey, name } = this.#waiting(which);
    return this.#write(publicKey, name, grant);
  }

  async #write(publicKey: string, name: string, grant: MemberGrant): Promise<ControlMember> {
    this.#joining.set(publicKey, (this.#joining.get(publicKey) ?? 0) + 1);
    try {
      const member = await this.#options.put(publicKey, name, grant);
      const { nodeId } = member;
      // The next list has it; this one may have come before.
      if (!this.#members.some((each) => each.publicKey === publicKey)) {
        this.#members = [...this.#members, { publicKey, pattern: publicKey, nodeId, name }];
      }
      return member;
    } finally {
      const left = (this.#joining.get(publicKey) ?? 1) - 1;
      if (left > 0) this.#joining.set(publicKey, left);
      else this.#joining.delete(publicKey);
      this.#follow();
    }
  }

  #waiting(which: string): ConsentRequest {
    const rows = this.#options.consent.list();
    const pattern = isKeyPattern(which) ? parseKeyPattern(which) : undefined;
    const fits = ({ id, nodeId, publicKey, name }: ConsentRequest): boolean => {
      if (id === which) return true;
      return pattern?.fits(nodeId, publicKey) ?? name.toLowerCase() === which.toLowerCase();
    };
    const [found, second] = rows.filter(fits);
    if (found !== undefined && second === undefined) return found;
    throw found === undefined
      ? new MemcloudError(
          'ERR_PEER_UNKNOWN',
          'no such request for consent; it expired or its connection ended',
        )
      : new MemcloudError(
          'ERR_USAGE',
          'several nodes that wait claim that name; say which by its request id or its words',
        );
  }

  #follow(): void {
    const { trust, consent } = this.#options;
    const keys = new MemberKeys(this.#members);
    for (const { publicKey, nodeId, decision } of trust.list()) {
      if (decision !== 'trusted' || this.#joining.has(publicKey)) continue;
      if (!keys.has(nodeId, publicKey)) trust.remove(publicKey);
    }
    const wanted = new Set(this.#members.map(({ pattern }) => pattern.trim().toLowerCase()));
    for (const { pattern } of [...trust.expected]) if (!wanted.has(pattern)) trust.remove(pattern);
    const trusted = trust.list().filter(({ decision }) => decision === 'trusted');
    const known = new Set(trusted.map(({ publicKey }) => publicKey));
    for (const member of this.#members) {
      if (member.publicKey !== '') {
        if (!known.has(member.publicKey)) this.#trust(member);
        continue;
      }
      const { fits } = parseKeyPattern(member.pattern);
      if (!trusted.some(({ nodeId, publicKey }) => fits(nodeId, publicKey))) this.#trust(member);
    }
    for (const { id, nodeId, publicKey } of consent.list()) {
      if (keys.has(nodeId, publicKey)) consent.answer(id, 'trust');
    }
  }

  /** Trusts a member under its name, or under its number while that is another's or none. */
  #trust({ publicKey, pattern, nodeId, name }: MemberKey): void {
    const { trust, logger } = this.#options;
    const spare = nodeId === '' ? '' : `node-${nodeId.slice(0, 8)}`;
    let problem: MemcloudError | undefined;
    for (const label of [name, spare]) {
      if (label === '' && publicKey !== '') continue;
      try {
        trust.expect(publicKey === '' ? pattern : publicKey, label);
        return;
      } catch (thrown) {
        problem = asMemcloudError(thrown);
      }
    }
    const fields = { nodeId, name, code: problem?.code };
    logger.error(fields, `a member is not let in: ${problem?.message ?? 'it has no name'}`);
  }
}
