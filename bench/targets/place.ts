/** Where a process runs: here, or in a network of its own that stands for another machine. */

/** See the top of the file. */
export interface Place {
  /** The words before a command that run it there. */
  readonly launcher: readonly string[];
  /** The address that others reach it at. */
  readonly address: string;
}

/** This machine, on its loopback. */
export const HERE: Place = { launcher: [], address: '127.0.0.1' };

/** A command line as it runs at a place: the program and its arguments. */
export function commandAt(
  place: Place,
  command: string,
  args: readonly string[],
): { command: string; args: string[] } {
  const [first = command, ...rest] = [...place.launcher, command, ...args];
  return { command: first, args: rest };
}
