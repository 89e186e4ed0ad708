/** What several admin commands take: roles, limits, and the words for them. */
import { MemcloudError } from '../../common/errors.ts';
import { MEMBER_ROLES, type MemberRole } from '../../common/managed.ts';
import { parseSize } from '../../common/units.ts';

/** Flags of a member. */
export interface GrantFlags {
  readonly role: string | undefined;
  readonly quota: string | undefined;
  readonly leases: string | undefined;
}

/** What a member gets; null: no limit. */
export interface Grant {
  roles?: MemberRole[];
  quotaBytes?: number | null;
  quotaLeases?: number | null;
}

const NO_LIMIT = 'none';

/** The options, as yargs takes them. */
export const GRANT_OPTIONS = {
  role: {
    type: 'string',
    describe: `what it may do, with commas between: ${MEMBER_ROLES.join(', ')}`,
  },
  quota: {
    type: 'string',
    describe: 'RAM that it may lease at once, as 8G; none for no limit',
  },
  leases: {
    type: 'string',
    describe: 'managed leases that it may have at once; none for no limit',
  },
} as const;

function isRole(word: string): word is MemberRole {
  return (MEMBER_ROLES as readonly string[]).includes(word);
}

/** Reads `--role`. @throws MemcloudError `ERR_USAGE` */
function readRoles(text: string): MemberRole[] {
  const words = text.split(/[\s,]+/).filter((word) => word !== '');
  const roles = words.filter(isRole);
  if (roles.length === words.length && roles.length > 0) return [...new Set(roles)];
  throw new MemcloudError(
    'ERR_USAGE',
    `--role: expected some of ${MEMBER_ROLES.join(', ')}, got "${text}"`,
  );
}

function readCount(text: string): number {
  // Given twice it is a list: other commands take several.
  if (typeof text === 'string' && /^\d{1,15}$/.test(text)) return Number(text);
  throw new MemcloudError('ERR_USAGE', `--leases: expected a whole number, got "${text}"`);
}

/** Reads these flags. @throws MemcloudError `ERR_USAGE`, `ERR_USAGE_SIZE` */
export function readGrant({ role, quota, leases }: GrantFlags): Grant {
  return {
    ...(role === undefined ? {} : { roles: readRoles(role) }),
    ...(quota === undefined ? {} : { quotaBytes: quota === NO_LIMIT ? null : parseSize(quota) }),
    ...(leases === undefined
      ? {}
      : { quotaLeases: leases === NO_LIMIT ? null : readCount(leases) }),
  };
}

/** As {@link readGrant}, for somebody new. @throws MemcloudError `ERR_USAGE` also without a role */
export function readNewGrant(flags: GrantFlags): Grant & { roles: MemberRole[] } {
  const { roles, ...rest } = readGrant(flags);
  if (roles !== undefined) return { ...rest, roles };
  throw new MemcloudError('ERR_USAGE', `expected --role, some of ${MEMBER_ROLES.join(', ')}`);
}
