/** `memcloud nbd`: volumes as network block devices, for any NBD client or for this kernel. */
import path from 'node:path';
import { MemcloudError } from '../../common/errors.ts';
import type { AttachmentInfo, RpcParams } from '../../common/rpc-schema.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { printData, printable, table } from '../output.ts';

const ATTACH_TIMEOUT_MS = 120_000;

function renderAttachments(attachments: AttachmentInfo[]): string {
  if (attachments.length === 0) return 'No volume is attached to the kernel.';
  const rows = attachments.map(({ device, volume, connections, via }) => [
    device,
    volume,
    String(connections),
    via,
  ]);
  return table(['DEVICE', 'VOLUME', 'CONNECTIONS', 'VIA'], rows);
}

interface ServeFlags {
  name: string;
  unix: string | undefined;
  tcp: string | undefined;
  'read-only': boolean;
  tls: 'allow' | 'require' | undefined;
  'tls-certificates': string | undefined;
  'tls-keys': string | undefined;
  'tls-verify-peer': boolean;
}

/** Parameters for the flags that were given, paths made absolute for the daemon. */
function tlsParams(flags: ServeFlags): Partial<RpcParams<'nbd.serve'>> {
  const { tls, 'tls-certificates': certificates, 'tls-keys': keys } = flags;
  if (tls === undefined) return {};
  return {
    tls,
    tlsVerifyPeer: flags['tls-verify-peer'],
    ...(certificates === undefined ? {} : { tlsCertificates: path.resolve(certificates) }),
    ...(keys === undefined ? {} : { tlsKeys: path.resolve(keys) }),
  };
}

const serve = command<ServeFlags>({
  command: 'serve <name>',
  describe: 'serve a volume over NBD; returns once the socket listens',
  builder: (argv) =>
    argv
      .positional('name', { type: 'string', demandOption: true, describe: 'the volume' })
      .option('unix', { type: 'string', describe: 'path of the Unix socket' })
      .option('tcp', { type: 'string', describe: 'HOST:PORT; anybody who reaches it can use it' })
      .option('read-only', { type: 'boolean', default: false, describe: 'refuse writes' })
      .option('tls', {
        choices: ['allow', 'require'] as const,
        describe: 'whether clients may or must use TLS',
      })
      .option('tls-certificates', {
        type: 'string',
        describe: 'directory of server-cert.pem, server-key.pem, ca-cert.pem',
      })
      .option('tls-keys', { type: 'string', describe: 'file of pre-shared keys (psktool)' })
      .option('tls-verify-peer', {
        type: 'boolean',
        default: false,
        describe: 'demand a client certificate',
      }),
  handler: (flags) => {
    if ((flags.unix === undefined) === (flags.tcp === undefined)) {
      throw new MemcloudError(
        'ERR_USAGE',
        'nbd serve: expected one of --unix PATH, --tcp HOST:PORT',
      );
    }
    return withDaemon(flags, async (client) => {
      const served = await client.call('nbd.serve', {
        name: flags.name,
        readOnly: flags['read-only'],
        ...tlsParams(flags),
        ...(flags.unix === undefined ? {} : { unixPath: path.resolve(flags.unix) }),
        ...(flags.tcp === undefined ? {} : { tcpAddress: flags.tcp }),
      });
      printData(flags, served, ({ uri }) => uri);
    });
  },
});

const stop = command<{ name: string }>({
  command: 'stop <name>',
  describe: 'stop serving a volume; requests in flight finish',
  builder: (argv) =>
    argv.positional('name', { type: 'string', demandOption: true, describe: 'the volume' }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      await client.call('nbd.stop', { name: flags.name });
      printData(flags, null, () => `Stopped serving ${printable(flags.name)}.`);
    }),
});

interface AttachFlags {
  name: string;
  device: string | undefined;
  connections: number;
  via: 'netlink' | 'nbd-client';
  timeout: number;
}

const attach = command<AttachFlags>({
  command: 'attach <name>',
  describe: 'attach a volume to the kernel as /dev/nbdN',
  builder: (argv) =>
    argv
      .positional('name', { type: 'string', demandOption: true, describe: 'the volume' })
      .option('device', { type: 'string', describe: 'such as /dev/nbd0 (default: a free one)' })
      .option('connections', { type: 'number', default: 1, describe: 'sockets to the daemon' })
      .option('via', {
        choices: ['netlink', 'nbd-client'] as const,
        default: 'netlink' as const,
        describe: 'how the kernel is asked: by memnode, or by the program nbd-client',
      })
      .option('timeout', {
        type: 'number',
        default: 0,
        describe: 'seconds that the kernel waits for a reply, 0 for ever (best for swap)',
      }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const params = {
        name: flags.name,
        connections: flags.connections,
        via: flags.via,
        timeoutS: flags.timeout,
        ...(flags.device === undefined ? {} : { device: flags.device }),
      };
      const attached = await client.call('nbd.attach', params, { timeoutMs: ATTACH_TIMEOUT_MS });
      printData(flags, attached, ({ device }) => device);
    }),
});

const detach = command<{ device: string }>({
  command: 'detach <device>',
  describe: 'detach a kernel device; the volume stays',
  builder: (argv) =>
    argv.positional('device', {
      type: 'string',
      demandOption: true,
      describe: 'such as /dev/nbd0',
    }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const timeoutMs = ATTACH_TIMEOUT_MS;
      await client.call('nbd.detach', { device: flags.device }, { timeoutMs });
      printData(flags, null, () => `Detached ${printable(flags.device)}.`);
    }),
});

const list: Command = {
  command: 'ls',
  aliases: ['list'],
  describe: 'list the kernel devices of this daemon',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      printData(flags, await client.call('nbd.list', {}), renderAttachments);
    }),
};

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('nbd', 'serve volumes over NBD, attach them to the kernel', [
    serve,
    stop,
    attach,
    detach,
    list,
  ]),
];
