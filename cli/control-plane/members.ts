/** `memcloud control-plane members|member|invite|consent`: who takes part, and how they come in. */
import type { Argv } from 'yargs';
import { MemcloudError } from '../../common/errors.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import type { ControlMember } from '../../common/rpc-control.ts';
import { command, group, type Command } from '../command.ts';
import {
  inviteOptions,
  inviteSubcommands,
  noteWhereItLeads,
  parseDurationMs,
} from '../commands/invite.ts';
import { renderRequests } from '../commands/consent.ts';
import { note, printData, printable } from '../output.ts';
import { withControl } from './caller.ts';
import { GRANT_OPTIONS, readGrant, readNewGrant, type GrantFlags } from './options.ts';
import { leasesText, renderMembers } from './render.ts';

function grantOptions<T>(argv: Argv<T>) {
  return argv
    .option('role', GRANT_OPTIONS.role)
    .option('quota', GRANT_OPTIONS.quota)
    .option('leases', GRANT_OPTIONS.leases);
}

function positionalMember<T>(argv: Argv<T>, describe: string) {
  return argv.positional('member', {
    type: 'string' as const,
    demandOption: true as const,
    describe,
  });
}

const KNOWN_MEMBER = 'words, node id or name, from memcloud control-plane members';

function told(member: ControlMember, what: string): string {
  const { name, nodeId, roles, quotaBytes } = member;
  const who = printable(name) || (nodeId === '' ? 'A key that did not come yet' : nodeId);
  const quota = quotaBytes === null ? '' : `, may lease ${formatSize(quotaBytes)}`;
  return `${who} ${what}: ${roles.join(', ')}${quota}.`;
}

const members: Command = {
  command: 'members',
  describe: 'list who may borrow, lend and decide',
  handler: (flags) =>
    withControl(flags, async (caller) => {
      printData(flags, await caller.all('admin.members'), renderMembers);
    }),
};

const listMembers: Command = { ...members, command: 'ls', aliases: ['list'] };

const add = command<GrantFlags & { member: string; name: string | undefined }>({
  command: 'add <member>',
  describe: 'make a key a member, by its words, id or in full; it may come later',
  builder: (argv) =>
    grantOptions(
      positionalMember(argv, 'eight words, a node id or a public key: memcloud id there'),
    )
      .option('name', { type: 'string', describe: 'what to call it until it has told its name' })
      .example('$0 control-plane member add WORDS --role client --quota 8G', '')
      .example('$0 control-plane member add 0123...cdef --role provider', ''),
  handler: (flags) => {
    const { member: key, name } = flags;
    const grant = readNewGrant(flags);
    return withControl(flags, async (caller) => {
      const params = { key, ...grant, ...(name === undefined ? {} : { name }) };
      const member = await caller.call('admin.member-put', params);
      printData(flags, member, (row) => told(row, 'is a member'));
    });
  },
});

const set = command<GrantFlags & { member: string; name: string | undefined }>({
  command: 'set <member>',
  describe: 'change roles and limits of a member; what is not said stays',
  builder: (argv) =>
    grantOptions(positionalMember(argv, KNOWN_MEMBER))
      .option('name', { type: 'string', describe: 'what to call it' })
      .example('$0 control-plane member set worker-3 --quota 16G --leases none', ''),
  handler: (flags) => {
    const { name } = flags;
    const change = { ...readGrant(flags), ...(name === undefined ? {} : { name }) };
    if (Object.keys(change).length === 0) {
      throw new MemcloudError('ERR_USAGE', 'expected --role, --quota, --leases or --name');
    }
    return withControl(flags, async (caller) => {
      const rows = await caller.all('admin.members');
      const key = caller.keyOf(flags.member, rows);
      const member = await caller.call('admin.member-put', { key, ...change });
      printData(flags, member, (row) => told(row, 'is changed'));
    });
  },
});

const remove = command<{ member: string }>({
  command: 'rm <member>',
  aliases: ['remove'],
  describe: 'end a membership: its leases are revoked and its sessions end at once',
  builder: (argv) => positionalMember(argv, KNOWN_MEMBER),
  handler: (flags) =>
    withControl(flags, async (caller) => {
      const key = caller.keyOf(flags.member, await caller.all('admin.members'));
      const ended = await caller.call('admin.member-remove', { key });
      printData(flags, ended, ({ revokedLeases }) => {
        return `${printable(flags.member)} is no member any more; ${leasesText(revokedLeases)} revoked.`;
      });
    }),
});

const [listInvites, revokeInvite] = inviteSubcommands(
  (flags, work) => withControl(flags, ({ client }) => work(client)),
  'memcloud control-plane invite',
);

const invite = command<GrantFlags & { ttl: string; address: string[] | undefined }>({
  command: 'invite',
  describe: 'print a token by which one machine becomes a member',
  builder: (argv) =>
    inviteOptions(
      grantOptions(
        argv
          .usage(
            '$0 control-plane invite --role ROLE\n\nThe token is shown this once, works once, and is like ' +
              'a password until then. On the other machine: memcloud join TOKEN. A restart of the ' +
              'control node ends open invitations.',
          )
          .command(listInvites)
          .command(revokeInvite),
      ),
      'the machine reaches this control node',
      'every address that is known',
    )
      .example('$0 control-plane invite --role provider', '')
      .example('$0 control-plane invite --role client,provider --quota 4G --ttl 1h', ''),
  handler: (flags) => {
    const { address: addresses } = flags;
    const params = {
      ...readNewGrant(flags),
      ttlMs: parseDurationMs(flags.ttl),
      ...(addresses === undefined ? {} : { addresses }),
    };
    return withControl(flags, async ({ client }) => {
      const created = await client.call('control.invite', params);
      printData(flags, created, ({ token }) => token);
      if (flags.json) return;
      const lapse = formatDuration(created.expiresInS * 1000);
      note(`For one machine, as ${created.roles.join(' and ')}, within ${lapse}:`);
      note('memcloud join TOKEN (or "join -", which reads it).');
      noteWhereItLeads(created.token, created.addresses);
    });
  },
});

const listRequests: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the machines that ask to be let in',
  handler: (flags) =>
    withControl(flags, async ({ client }) => {
      const requests = await client.call('consent.list', {});
      const { fingerprint } = await client.call('status', {});
      printData(flags, requests, (data) =>
        renderRequests(
          data,
          fingerprint,
          'memcloud control-plane consent allow REQUEST --role client',
        ),
      );
    }),
};

function positionalRequest<T>(argv: Argv<T>) {
  return argv.positional('request', {
    type: 'string' as const,
    demandOption: true as const,
    describe: 'request id or words; or a name, which anybody may claim',
  });
}

const allow = command<GrantFlags & { request: string }>({
  command: 'allow <request>',
  describe: 'let a machine in, as a member',
  builder: (argv) =>
    grantOptions(positionalRequest(argv)).example(
      '$0 control-plane consent allow 0123456789abcdef --role provider',
      '',
    ),
  handler: (flags) => {
    const params = { request: flags.request, ...readNewGrant(flags) };
    return withControl(flags, async ({ client }) => {
      const member = await client.call('control.consent', params);
      printData(flags, member, (row) => told(row, 'is a member'));
    });
  },
});

const deny = command<{ request: string }>({
  command: 'deny <request>',
  describe: 'refuse a machine, until the control node is started anew',
  builder: (argv) => positionalRequest(argv),
  handler: (flags) =>
    withControl(flags, async ({ client }) => {
      await client.call('consent.answer', { request: flags.request, answer: 'deny' });
      printData(flags, null, () => `Answered ${printable(flags.request)}: deny.`);
    }),
});

/** These commands. */
export const memberCommands: readonly Command[] = [
  members,
  group('member', 'add, change and remove members', [listMembers, add, set, remove]),
  invite,
  group('consent', 'answer machines that ask to be let in', [listRequests, allow, deny]),
];
