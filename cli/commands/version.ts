/** `memcloud version`: this program's version; it asks no daemon. */
import { VERSION } from '../../common/version.ts';
import { type Command } from '../command.ts';
import { printData } from '../output.ts';

/** The commands of this file. */
export const commands: readonly Command[] = [
  {
    command: 'version',
    describe: 'print the version of this program; status tells that of the daemon',
    handler: (flags) =>
      printData(flags, { version: VERSION }, ({ version }) => `memcloud ${version}`),
  },
];
