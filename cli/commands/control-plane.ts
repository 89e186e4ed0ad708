/** `memcloud control-plane`: a control node in the foreground, and what its admins ask and say. */
import type { Argv } from 'yargs';
import type { Command } from '../command.ts';
import { leaseCommands } from '../control-plane/leases.ts';
import { memberCommands } from '../control-plane/members.ts';
import { reportCommands } from '../control-plane/report.ts';
import { runControlNode, runOptions } from '../control-plane/run.ts';
import type { GlobalFlags } from '../output.ts';

const USAGE = `$0 control-plane [OPTION]...
$0 control-plane COMMAND

Without a command: runs a control node in the foreground. The commands ask the control node of this
machine, or, where none runs, its memnode, which must be a member with the role admin; --socket says
which. Invitations and consent are made on the machine of the control node.`;

/** The commands of this file. */
export const commands: readonly Command[] = [
  {
    command: 'control-plane',
    describe: 'run a control node; or say who may lease memory, and see who does',
    builder: (argv: Argv<GlobalFlags>) =>
      [...leaseCommands, ...memberCommands, ...reportCommands]
        .reduce((parser, module) => parser.command(module), runOptions(argv))
        .usage(USAGE)
        .example('$0 control-plane --store embedded:/var/lib/memcloud-control/store', '')
        .example('$0 control-plane --store etcd://10.0.0.1:2379,10.0.0.2:2379', '')
        .example('$0 control-plane invite --role provider', '')
        .example('$0 control-plane status', ''),
    handler: runControlNode,
  },
];
