/** `memcloud invite` and `memcloud join`: two machines trust each other by one line. */
import os from 'node:os';
import { text } from 'node:stream/consumers';
import type { Argv } from 'yargs';
import { MemcloudError } from '../../common/errors.ts';
import { fingerprintOf } from '../../common/fingerprint.ts';
import { decodeInviteToken, type ControlNodePlace } from '../../common/invite-token.ts';
import type { InviteInfo } from '../../common/rpc-nodes.ts';
import { parseSizeExpression } from '../../common/size-expression.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { note, printData, printable, table } from '../output.ts';
import { renderPeers } from './peer.ts';

const JOIN_TIMEOUT_MS = 40_000;
const UNITS_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `90s`, `10m`, `2h`, `1d`. @returns milliseconds. @throws MemcloudError `ERR_USAGE` */
export function parseDurationMs(written: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,6})([smhd])$/.exec(written.trim()) ?? [];
  const ms = Number(digits) * (UNITS_MS[unit] ?? 0);
  if (ms > 0) return ms;
  throw new MemcloudError(
    'ERR_USAGE',
    `--ttl: expected a time such as 10m or 2h, got "${written}"`,
  );
}

/** Open invitations as a table. */
function renderInvites(invites: readonly InviteInfo[]): string {
  if (invites.length === 0) return 'No invitation is open.';
  const rows = invites.map(({ invite, addresses, expiresInS, allowedBytes }) => [
    invite,
    `${formatDuration(expiresInS * 1000)}`,
    allowedBytes === null ? '-' : formatSize(allowedBytes),
    addresses.join(' '),
  ]);
  return table(['INVITATION', 'LAPSES IN', 'MAY USE', 'ADDRESSES'], rows);
}

/** What the other machine may use here; a share is one of this machine's RAM. */
function bytesOf(written: string | undefined): { allowedBytes?: number } {
  return written === undefined ? {} : { allowedBytes: parseSizeExpression(written, os.totalmem()) };
}

/**
 * The commands `ls` and `revoke` of an `invite` command.
 *
 * @param reach - connects the process whose invitations they are
 * @param parent - how the `invite` command is called
 */
export function inviteSubcommands(reach: typeof withDaemon, parent: string): [Command, Command] {
  const list: Command = {
    command: 'ls',
    aliases: ['list'],
    describe: 'list the invitations that are open',
    handler: (flags) =>
      reach(flags, async (client) => {
        printData(flags, await client.call('invite.list', {}), renderInvites);
      }),
  };
  const revoke = command<{ invite: string }>({
    command: 'revoke <invite>',
    aliases: ['rm'],
    describe: 'take an invitation back',
    builder: (argv) =>
      argv.positional('invite', {
        type: 'string',
        demandOption: true,
        describe: `from ${parent} ls`,
      }),
    handler: (flags) =>
      reach(flags, async (client) => {
        await client.call('invite.revoke', { invite: flags.invite });
        printData(flags, null, () => `Revoked ${printable(flags.invite)}.`);
      }),
  });
  return [list, revoke];
}

/**
 * The options `--ttl` and `--address` of an `invite` command.
 *
 * @param reached - what `--address` leads to
 * @param usual - what is offered without it
 */
export function inviteOptions<T>(
  argv: Argv<T>,
  reached: string,
  usual: string,
): Argv<T & { ttl: string; address: string[] | undefined }> {
  return argv
    .option('ttl', {
      type: 'string',
      default: '10m',
      describe: 'how long it is open: 90s, 10m, 2h',
    })
    .option('address', {
      type: 'string',
      array: true,
      nargs: 1,
      describe: `HOST:PORT where ${reached}; may be repeated`,
      defaultDescription: usual,
    });
}

/** Says where an invitation leads, and what the other machine will see. */
export function noteWhereItLeads(token: string, addresses: readonly string[]): void {
  note(`It leads to ${addresses.join(', ')}`);
  note(`we are: ${fingerprintOf(decodeInviteToken(token).nodeId)} (what they see)`);
}

const [list, revoke] = inviteSubcommands(withDaemon, 'memcloud invite');

const invite = command<{ ttl: string; address: string[] | undefined; allow: string | undefined }>({
  command: 'invite',
  describe: 'print a token by which one other machine joins this one',
  builder: (argv) =>
    inviteOptions(
      argv
        .usage(
          '$0 invite\n\nThe token is shown this once, works once, and is like a password until then. ' +
            'On the other machine: memcloud join TOKEN. A restart of memnode ends open invitations.',
        )
        .command(list)
        .command(revoke),
      'the other machine reaches this one',
      'every address of this machine',
    ).option('allow', {
      type: 'string',
      describe: 'RAM that the other machine may use here',
      defaultDescription: 'as much as any peer',
    }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const { ttl, address, allow } = flags;
      const created = await client.call('invite.create', {
        ttlMs: parseDurationMs(ttl),
        ...(address === undefined ? {} : { addresses: address }),
        ...bytesOf(allow),
      });
      printData(flags, created, ({ token }) => token);
      if (flags.json) return;
      const lapse = formatDuration(created.expiresInS * 1000);
      note(`For one machine, within ${lapse}: memcloud join TOKEN (or "join -", which reads it).`);
      noteWhereItLeads(created.token, created.addresses);
    }),
});

/** What makes a node that has joined a control plane take part in it. */
function noteControlPlane(places: readonly ControlNodePlace[]): void {
  const list = places.map(({ nodeId, address }) => `"${nodeId}@${printable(address)}"`).join(', ');
  note(
    'It is a control node, and this machine is a member now. To take part, also after a restart,',
  );
  note(`put this into the configuration and restart memnode: control-plane = [${list}]`);
}

const join = command<{ token: string; allow: string | undefined }>({
  command: 'join <token>',
  describe: 'join the machine that printed a token; both trust each other from then on',
  builder: (argv) =>
    argv
      .usage('$0 join TOKEN\n\n"join -" reads the token from stdin, so that ps does not show it.')
      .positional('token', {
        type: 'string',
        demandOption: true,
        describe: 'from memcloud invite on the other machine; - for stdin',
      })
      .option('allow', {
        type: 'string',
        describe: 'RAM that the other machine may use here',
        defaultDescription: 'as much as any peer',
      }),
  handler: async (flags) => {
    const token = flags.token === '-' ? await text(process.stdin) : flags.token;
    // A mistyped one goes no further than this.
    const { nodeId, controlNodes } = decodeInviteToken(token);
    await withDaemon(flags, async (client) => {
      const params = { token: token.trim(), ...bytesOf(flags.allow) };
      const timeoutMs = JOIN_TIMEOUT_MS;
      const peer = await client.call('invite.join', params, { timeoutMs });
      if (!flags.json) note(`Joined. they are: ${fingerprintOf(nodeId)}`);
      printData(flags, peer, (data) => renderPeers([data]));
      if (controlNodes !== undefined) {
        // Each of them may lead one day.
        for (const each of controlNodes)
          await client.call('trust.add', { fingerprint: each.nodeId });
        noteControlPlane([{ nodeId, address: peer.address }, ...controlNodes]);
      } else if (!flags.json) {
        note(`To dial it after a restart too: connect = ["${peer.address}"] in the configuration.`);
      }
    });
  },
});

/** The commands of this file. */
export const commands: readonly Command[] = [invite, join];
