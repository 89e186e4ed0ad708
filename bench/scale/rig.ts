/** The nodes that `scale` measures: providers that all consumers share, each consumer with as many as it needs. */
import { processMemory, settle } from '../proc.ts';
import type { Stage } from '../stage.ts';
import { slope } from '../statistics.ts';
import {
  offerFor,
  refuseElision,
  serveVolume,
  startNode,
  waitForPeers,
  type RunningNode,
  type RunningVolume,
} from '../targets/memcloud.ts';
import type { RunningTarget, Target } from '../targets/target.ts';
import { fill } from '../trials.ts';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';
import { SERIES, pointName, type MetadataRow, type SeriesName } from './series.ts';

const GIB = 2 ** 30;
const METADATA_STEP_COUNT = 6;
/** GiB written to tell the metadata of a page from the coming and going of the heap. */
const METADATA_GIB = 2;
/** Fills of the first step before the first reading: buffers, heaps and compiled code are there then. */
const METADATA_WARM_UP_COUNT = 3;

/** Share of the providers that must have pages: slabs are drawn, so that of many some may have none. */
const USED_SHARE_MIN = 0.75;

interface Pair {
  readonly consumer: RunningNode;
  readonly pids: readonly number[];
  readonly directory: string;
  readonly providers: readonly string[];
}

/** How much each volume of a series gets. */
export interface ScaleSizes {
  /** Bytes that a volume serves and works on. */
  readonly volumeBytes: number;
  readonly quick: boolean;
}

/** Makes the points of a series into targets of trials. */
export class ScaleRig {
  /** Filled by `sizes`. */
  readonly metadata: MetadataRow[] = [];
  readonly #stage: Stage;
  readonly #sizes: ScaleSizes;
  readonly #note: (text: string) => void;
  readonly #providers: RunningNode[] = [];
  readonly #consumers: RunningNode[] = [];
  #shared: { pair: Pair; volumes: RunningVolume[] } | undefined;

  constructor(stage: Stage, sizes: ScaleSizes, note: (text: string) => void) {
    this.#stage = stage;
    this.#sizes = sizes;
    this.#note = note;
  }

  /** The points of a series. */
  xs(series: SeriesName): readonly number[] {
    return SERIES[series][this.#sizes.quick ? 'quick' : 'full'];
  }

  /** The targets of a series; they start when trials start them. */
  targets(series: SeriesName): Target[] {
    return this.xs(series).map((x) => {
      return {
        name: pointName(series, x),
        description: 'memnodes on the loopback',
        tools: [],
        ours: true,
        start: () => this.#point(series, x),
      };
    });
  }

  /** Ends all nodes. */
  async stop(): Promise<void> {
    for (const node of [...this.#consumers, ...this.#providers]) await node.server.stop();
    this.#consumers.length = 0;
    this.#providers.length = 0;
    this.#shared = undefined;
  }

  #point(series: SeriesName, x: number): Promise<RunningTarget> {
    switch (series) {
      case 'providers':
        return this.#onProviders(x);
      case 'sizes':
        return this.#ofSize(x);
      case 'volumes':
        return this.#onShared(x, 1);
      case 'connections':
        return this.#onShared(1, x);
    }
  }

  async #onProviders(count: number): Promise<RunningTarget> {
    const pair = await this.#pair(`consumer-${count}`, count);
    const volume = await this.#volume(pair, 'scale', this.#sizes.volumeBytes);
    return this.#running(pair, [volume], 1);
  }

  /** The first volumes of one consumer that all points of the series share. */
  async #onShared(volumeCount: number, connectionCount: number): Promise<RunningTarget> {
    this.#shared ??= { pair: await this.#pair('consumer', 1), volumes: [] };
    const { pair, volumes } = this.#shared;
    while (volumes.length < volumeCount) {
      volumes.push(await this.#volume(pair, `scale-${volumes.length}`, this.#sizes.volumeBytes));
    }
    return this.#running(pair, volumes.slice(0, volumeCount), connectionCount);
  }

  async #ofSize(sizeGib: number): Promise<RunningTarget> {
    const pair = await this.#pair(`consumer-${sizeGib}g`, 1);
    const [consumerPid = 0] = pair.pids;
    await settle([consumerPid]);
    const before = bytesOf(consumerPid);
    const volume = await this.#volume(pair, 'scale', sizeGib * GIB);
    await settle([consumerPid]);
    const emptyBytes = bytesOf(consumerPid) - before;
    const readings: { x: number; y: number }[] = [];
    const writtenBytes = Math.min(sizeGib, this.#sizes.quick ? 0.5 : METADATA_GIB) * GIB;
    const aligned = Math.floor(writtenBytes / METADATA_STEP_COUNT / 2 ** 20) * 2 ** 20;
    for (let step = 0; step < METADATA_STEP_COUNT; step += 1) {
      for (let pass = 0; pass < (step === 0 ? METADATA_WARM_UP_COUNT : 1); pass += 1) {
        await fill(this.#stage, volume.uri, step * aligned, aligned, 1 + step + pass);
      }
      await settle(pair.pids);
      const x = (await volume.inspect()).storedBytes / PAGE_SIZE_BYTES;
      readings.push({ x, y: bytesOf(consumerPid) });
    }
    const pages = readings.at(-1)?.x ?? 0;
    this.metadata.push({ sizeGib, pages, emptyBytes, bytesPerPage: slope(readings) });
    this.#note(`${sizeGib} GiB: ${pages} pages written`);
    return this.#running(pair, [volume], 1);
  }

  async #pair(name: string, providerCount: number): Promise<Pair> {
    const directory = this.#stage.makeDirectory('scale');
    // Every point of a series may have a volume on the same provider.
    const offerBytes = offerFor(8 * Math.max(GIB, this.#sizes.volumeBytes));
    while (this.#providers.length < providerCount) {
      const provider = `provider-${this.#providers.length}`;
      const home = this.#stage.makeDirectory(provider);
      this.#providers.push(await startNode(this.#stage, home, provider, offerBytes, []));
    }
    const used = this.#providers.slice(0, providerCount);
    const names = used.map((_, at) => `provider-${at}`);
    const addresses = used.map(({ peerAddress }) => peerAddress);
    const consumer = await startNode(this.#stage, directory, name, 0, addresses);
    this.#consumers.push(consumer);
    await waitForPeers(this.#stage, consumer, names);
    const pids = [consumer, ...used].map(({ server }) => server.pid);
    return { consumer, pids, directory, providers: names };
  }

  #volume(pair: Pair, name: string, sizeBytes: number): Promise<RunningVolume> {
    const { consumer, directory, providers } = pair;
    return serveVolume(this.#stage, consumer, directory, {
      name,
      sizeBytes,
      providers,
      thin: true,
    });
  }

  #running(pair: Pair, volumes: readonly RunningVolume[], connectionCount: number): RunningTarget {
    const [uri = '', ...moreUris] = volumes.map((volume) => volume.uri);
    return {
      ...{ uri, moreUris, connectionCount, pids: pair.pids },
      verify: async () => {
        const all = await Promise.all(volumes.map((volume) => volume.inspect()));
        for (const { counters } of all) refuseElision(counters);
        const providerCount = Math.min(...all.map(({ providers }) => providers.length));
        const wanted = Math.ceil(pair.providers.length * USED_SHARE_MIN);
        if (providerCount < wanted) {
          throw new Error(
            `volume: expected pages on ${wanted} providers or more, got ${providerCount}`,
          );
        }
        return { providerCount };
      },
      // Nodes are shared with other points.
      stop: () => Promise.resolve(),
    };
  }
}

function bytesOf(pid: number): number {
  const { anonymousBytes, shmemBytes, pageTableBytes } = processMemory(pid);
  return anonymousBytes + shmemBytes + pageTableBytes;
}
