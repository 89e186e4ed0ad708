/** What a command module gives to yargs, and the shell that runs its work. */
import type { Argv, CommandModule } from 'yargs';
import { MemcloudClient } from '../sdk/client.ts';
import type { GlobalFlags } from './output.ts';

/** A command as yargs takes it; the flags are typed by the module's own builder. */
export type Command<Flags = object> = CommandModule<GlobalFlags, GlobalFlags & Flags>;

/** A command with flags of its own, as one among others. */
export function command<Flags>(module: Command<Flags>): Command {
  return module as Command;
}

/** Makes a command that only groups others. */
export function group(name: string, describe: string, commands: readonly Command[]): Command {
  return {
    command: name,
    describe,
    builder: (argv: Argv<GlobalFlags>) =>
      commands
        .reduce((parser, module) => parser.command(module), argv)
        .demandCommand(1, `${name}: expected a command; see memcloud ${name} --help`),
    handler: () => undefined,
  };
}

/** Connects to the daemon, runs `work`, and closes the connection however it ends. */
export async function withDaemon<T>(
  flags: GlobalFlags,
  work: (client: MemcloudClient) => Promise<T>,
): Promise<T> {
  const client = await MemcloudClient.connect(flags.socket);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}
