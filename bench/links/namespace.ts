/**
 * Network namespaces without names: each lives as long as a process in it. A keeper holds it open; it
 * ends with the stage, or with us by the kernel's hand (PR_SET_PDEATHSIG) when we are killed, as does
 * what was started in it. So nothing of a network is left, however a run ends.
 */
import type { Stage } from '../stage.ts';
import { commandAt, type Place } from '../targets/place.ts';

const START_TIMEOUT_MS = 10_000;
const COMMAND_TIMEOUT_MS = 10_000;
/** Words that end a command with us. */
const DIES_WITH_US = ['setpriv', '--pdeathsig', 'KILL'];

/** A network of its own. */
export class NetworkNamespace {
  /** Process id that names it to ip(8). */
  readonly pid: number;
  readonly #stage: Stage;
  readonly #launcher: readonly string[];

  private constructor(stage: Stage, pid: number) {
    this.#stage = stage;
    this.pid = pid;
    this.#launcher = [...DIES_WITH_US, 'nsenter', `--net=/proc/${pid}/ns/net`, '--'];
  }

  /** Makes one, with its loopback up and nothing else in it. */
  static async start(stage: Stage): Promise<NetworkNamespace> {
    const [command = '', ...rest] = DIES_WITH_US;
    const keep = ['unshare', '--net', '--', 'sh', '-c', 'echo ready; exec sleep infinity'];
    const isReady = (output: string): boolean => output.includes('ready');
    const keeper = await stage.serve(command, [...rest, ...keep], START_TIMEOUT_MS, isReady);
    const namespace = new NetworkNamespace(stage, keeper.pid);
    await namespace.run('ip', 'link', 'set', 'lo', 'up');
    return namespace;
  }

  /** This network as a place, for those who reach it at `address`. */
  at(address: string): Place {
    return { launcher: this.#launcher, address };
  }

  /** Runs a command in it to its end. @returns its stdout */
  run(name: string, ...args: readonly string[]): Promise<string> {
    const { command, args: all } = commandAt(this.at(''), name, args);
    return this.#stage.run(command, all, COMMAND_TIMEOUT_MS);
  }
}
