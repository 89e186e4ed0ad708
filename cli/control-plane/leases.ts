/** `memcloud control-plane status|providers|leases|revoke|drain|undrain`: what is lent, and to whom. */
import { MemcloudError } from '../../common/errors.ts';
import { formatSize } from '../../common/units.ts';
import { command, type Command } from '../command.ts';
import { printData, printable } from '../output.ts';
import { withControl } from './caller.ts';
import { leasesText, renderControlStatus, renderLeases, renderProviders } from './render.ts';

/** Leases that one call may name. */
const REVOKE_COUNT_MAX = 256;

const status: Command = {
  command: 'status',
  describe: 'show the control nodes, who leads, and how much is leased',
  handler: (flags) =>
    withControl(flags, async (caller) => {
      printData(flags, await caller.call('admin.status'), renderControlStatus);
    }),
};

const providers: Command = {
  command: 'providers',
  describe: 'list the providers, what they offer and what is leased of it',
  handler: (flags) =>
    withControl(flags, async (caller) => {
      printData(flags, await caller.all('admin.providers'), renderProviders);
    }),
};

const leases: Command = {
  command: 'leases',
  describe: 'list every managed lease',
  handler: (flags) =>
    withControl(flags, async (caller) => {
      printData(flags, await caller.all('lease.list', { all: true }), renderLeases);
    }),
};

interface RevokeFlags {
  lease: string[] | undefined;
  client: string | undefined;
  provider: string | undefined;
}

/** Exactly one of the three ways to say which. */
function requireOneWay({ lease = [], client, provider }: RevokeFlags): void {
  if (Array.isArray(provider)) throw new MemcloudError('ERR_USAGE', '--provider was given twice');
  const ways = [lease.length > 0, client !== undefined, provider !== undefined];
  if (ways.filter(Boolean).length !== 1) {
    throw new MemcloudError('ERR_USAGE', 'expected leases, or one of --client and --provider');
  }
  const wrong = lease.find((id) => !/^[0-9a-f]{32}$/.test(id));
  if (wrong !== undefined) {
    throw new MemcloudError('ERR_USAGE', `a lease is 32 hex digits, got "${wrong.slice(0, 40)}"`);
  }
  if (lease.length > REVOKE_COUNT_MAX) {
    throw new MemcloudError('ERR_USAGE', `at most ${REVOKE_COUNT_MAX} leases at once`);
  }
}

const revoke = command<RevokeFlags>({
  command: 'revoke [lease..]',
  describe: 'end leases at once: reads and writes fail, the provider wipes',
  builder: (argv) =>
    argv
      .positional('lease', { type: 'string', array: true, describe: 'from control-plane leases' })
      .option('client', { type: 'string', describe: 'all leases of this client' })
      .option('provider', { type: 'string', describe: 'all leases on this provider' })
      .example('$0 control-plane revoke 3f0c...91ab', '')
      .example('$0 control-plane revoke --client worker-3', ''),
  handler: (flags) => {
    requireOneWay(flags);
    const { lease: leaseIds = [], client, provider } = flags;
    return withControl(flags, async (caller) => {
      const keys = {
        ...(client === undefined
          ? {}
          : { client: caller.keyOf(client, await caller.all('admin.members')) }),
        ...(provider === undefined
          ? {}
          : { provider: caller.keyOf(provider, await caller.all('admin.providers')) }),
      };
      const params = leaseIds.length > 0 ? { leaseIds } : keys;
      const ended = await caller.call('admin.revoke', params);
      if (ended.revoked === 0 && ended.unknown.length > 0) {
        throw new MemcloudError('ERR_LEASE_UNKNOWN', 'the control plane has no such lease');
      }
      printData(flags, ended, ({ revoked, unknown }) => {
        const rest = unknown.length === 0 ? '' : `; not known: ${unknown.join(', ')}`;
        return `${leasesText(revoked)} revoked${rest}.`;
      });
    });
  },
});

function drainCommand(word: 'drain' | 'undrain', describe: string): Command {
  const draining = word === 'drain';
  return command<{ provider: string }>({
    command: `${word} <provider>`,
    describe,
    builder: (argv) =>
      argv.positional('provider', {
        type: 'string',
        demandOption: true,
        describe: 'words, node id or name, from control-plane providers',
      }),
    handler: (flags) =>
      withControl(flags, async (caller) => {
        const provider = caller.keyOf(flags.provider, await caller.all('admin.providers'));
        const row = await caller.call('admin.drain', { provider, draining });
        printData(flags, row, ({ name, leaseCount, reservedBytes }) => {
          const left = `${leasesText(leaseCount)} (${formatSize(reservedBytes)}) go on`;
          return draining
            ? `Nothing more is placed on ${printable(name)}; ${left}.`
            : `${printable(name)} takes leases again; ${left}.`;
        });
      }),
  });
}

/** These commands. */
export const leaseCommands: readonly Command[] = [
  status,
  providers,
  leases,
  revoke,
  drainCommand('drain', 'place nothing more on a provider; its leases go on'),
  drainCommand('undrain', 'place leases on a provider again'),
];
