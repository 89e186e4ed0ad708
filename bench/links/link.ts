/**
 * Two machines in miniature and a link between them that can be made slow and long. Each machine shapes
 * what it sends (tc-tbf); between them is a third network in which frames pass a bridge, or are delayed:
 * by the kernel's netem where it has one, else by a process of ours (bench/peers/delay-line.c).
 */
import { compile } from '../compile.ts';
import type { Server, Stage } from '../stage.ts';
import { commandAt, type Place } from '../targets/place.ts';
import { shaperArguments, type LinkCondition } from './conditions.ts';
import { NetworkNamespace } from './namespace.ts';

const START_TIMEOUT_MS = 10_000;
/** RFC 2544: addresses for benchmarks. */
const ADDRESSES = { consumer: '198.18.0.1', provider: '198.18.0.2' };
const PREFIX_LENGTH = 24;
const NETWORK = '198.18.0.0/24';
/** What most machines have; set for the route, since a network may not choose freely for all. */
const CONGESTION_CONTROL = 'cubic';
const PORTS = ['to-consumer', 'to-provider'] as const;

/** What delays frames. */
export type Delayer = 'netem' | 'delay-line';

/** A pair of machines and their link. */
export class Link {
  readonly consumer: Place;
  readonly provider: Place;
  /** What delays frames here. */
  readonly delayer: Delayer;
  readonly #stage: Stage;
  readonly #ends: readonly NetworkNamespace[];
  readonly #hub: NetworkNamespace;
  #condition: LinkCondition | undefined;
  #delayLine: Server | undefined;

  private constructor(
    stage: Stage,
    hub: NetworkNamespace,
    ends: readonly [NetworkNamespace, NetworkNamespace],
    delayer: Delayer,
  ) {
    this.#stage = stage;
    this.#hub = hub;
    this.#ends = ends;
    this.delayer = delayer;
    this.consumer = ends[0].at(ADDRESSES.consumer);
    this.provider = ends[1].at(ADDRESSES.provider);
  }

  /** Joins two new machines with a link that is neither slow nor long. */
  static async start(stage: Stage): Promise<Link> {
    const hub = await NetworkNamespace.start(stage);
    await hub.run('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await hub.run('ip', 'link', 'set', 'br0', 'up');
    const end = async (port: string, address: string): Promise<NetworkNamespace> => {
      const machine = await NetworkNamespace.start(stage);
      const peer = ['peer', 'name', 'eth0', 'netns', String(machine.pid)];
      await hub.run('ip', 'link', 'add', port, 'type', 'veth', ...peer);
      await hub.run('ip', 'link', 'set', port, 'master', 'br0', 'up');
      await machine.run('ip', 'address', 'add', `${address}/${PREFIX_LENGTH}`, 'dev', 'eth0');
      await machine.run('ip', 'link', 'set', 'eth0', 'up');
      const route = ['dev', 'eth0', 'src', address, 'congctl', CONGESTION_CONTROL];
      await machine.run('ip', 'route', 'replace', NETWORK, ...route);
      return machine;
    };
    const consumer = await end(PORTS[0], ADDRESSES.consumer);
    const provider = await end(PORTS[1], ADDRESSES.provider);
    return new Link(stage, hub, [consumer, provider], await findDelayer(hub));
  }

  /** Makes the link so; does nothing when it is. */
  async set(condition: LinkCondition): Promise<void> {
    if (this.#condition === condition) return;
    const shaper = shaperArguments(condition);
    for (const machine of this.#ends) {
      await machine.run('tc', 'qdisc', 'replace', 'dev', 'eth0', 'root', 'handle', '1:', ...shaper);
    }
    if (this.#condition?.delayUs !== condition.delayUs) await this.#delay(condition.delayUs);
    this.#condition = condition;
  }

  async #delay(delayUs: number): Promise<void> {
    await this.#delayLine?.stop();
    this.#delayLine = undefined;
    const bridged = delayUs === 0 || this.delayer === 'netem';
    for (const port of PORTS) {
      const master = bridged ? ['master', 'br0'] : ['nomaster'];
      await this.#hub.run('ip', 'link', 'set', port, ...master);
      if (this.delayer !== 'netem') continue;
      const queue = ['netem', 'delay', `${delayUs}us`, 'limit', '100000'];
      await this.#hub.run('tc', 'qdisc', 'replace', 'dev', port, 'root', ...queue);
    }
    if (bridged) return;
    const program = await compile(this.#stage, 'delay-line', ['-Wall']);
    const { command, args } = commandAt(this.#hub.at(''), program, [...PORTS, String(delayUs)]);
    const isReady = (output: string): boolean => output.includes('ready');
    this.#delayLine = await this.#stage.serve(command, args, START_TIMEOUT_MS, isReady);
  }
}

/** Tries netem on a device that is in nobody's way. */
async function findDelayer(hub: NetworkNamespace): Promise<Delayer> {
  try {
    await hub.run('tc', 'qdisc', 'add', 'dev', 'br0', 'root', 'netem', 'delay', '1ms');
    await hub.run('tc', 'qdisc', 'del', 'dev', 'br0', 'root');
    return 'netem';
  } catch {
    return 'delay-line';
  }
}
