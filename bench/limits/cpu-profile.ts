/**
 * Sums what V8's sampling profiler wrote (`node --cpu-prof`; the format is that of the inspector's
 * Profiler.Profile). Each sample names the function that ran, as a node of the tree of calls; each is
 * charged with the time until the next one. A function that says nothing by itself, such as a native
 * one or one that many stages share, is charged to the stage that called it. Times of samples are of the
 * system's monotonic clock, the one of `process.hrtime`, so that a window that another process measured
 * can be cut out. Pure.
 */

/** A function of the program. */
export interface CallFrame {
  readonly functionName: string;
  /** Of its file; empty for native functions and for what is not in a function, such as `(idle)`. */
  readonly url: string;
  /** Where it begins there, from 0. */
  readonly lineNumber: number;
  readonly columnNumber: number;
}

/** What is used of the file. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: CallFrame;
    readonly children?: readonly number[];
  }[];
  /** Microseconds. */
  readonly startTime: number;
  /** Microseconds. */
  readonly endTime: number;
  /** The node of each sample. */
  readonly samples: readonly number[];
  /** Microseconds from the sample before, or from the start. */
  readonly timeDeltas: readonly number[];
}

/** A span of time, microseconds of the monotonic clock. */
export interface Window {
  readonly startUs: number;
  readonly endUs: number;
}

/** Which stage a function belongs to; undefined leaves it to its caller. */
export type StageOf = (frame: CallFrame) => string | undefined;

/** The stage of samples that no function on the way to the root decides. */
export const UNKNOWN_STAGE = 'other';

/** Microseconds by name. */
export type Times = ReadonlyMap<string, number>;

/** What a window of a profile holds. */
export interface ProfileSum {
  /** By stage. */
  readonly stages: Times;
  /** By function and file, each with its own time only. */
  readonly functions: Times;
  readonly sampleCount: number;
}

/** Reads the file. @throws RangeError when it is not a profile with samples */
export function parseCpuProfile(text: string): CpuProfile {
  let found: Partial<CpuProfile>;
  try {
    found = JSON.parse(text) as Partial<CpuProfile>;
  } catch (cause) {
    throw new RangeError('CPU profile: expected JSON, got something else', { cause });
  }
  const { nodes, samples, timeDeltas, startTime, endTime } = found;
  if (
    nodes === undefined ||
    samples === undefined ||
    timeDeltas === undefined ||
    startTime === undefined ||
    endTime === undefined ||
    samples.length !== timeDeltas.length
  ) {
    throw new RangeError('CPU profile: expected nodes, samples and as many time deltas');
  }
  return { nodes, samples, timeDeltas, startTime, endTime };
}

/** The stage of each node: its own, or that of the nearest caller who has one. */
function stagesOfNodes(profile: CpuProfile, stageOf: StageOf): Map<number, string> {
  const byId = new Map(profile.nodes.map((node) => [node.id, node]));
  const called = new Set(profile.nodes.flatMap(({ children }) => children ?? []));
  const stages = new Map<number, string>();
  const waiting = profile.nodes
    .filter(({ id }) => !called.has(id))
    .map(({ id }) => ({ id, inherited: UNKNOWN_STAGE }));
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const node = byId.get(next.id);
    if (node === undefined || stages.has(next.id)) continue;
    const stage = stageOf(node.callFrame) ?? next.inherited;
    stages.set(node.id, stage);
    for (const id of node.children ?? []) waiting.push({ id, inherited: stage });
  }
  return stages;
}

function nameOf({ functionName, url }: CallFrame): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  return url === '' ? name : `${name} ${url.replace(/^.*\/dist\//, '')}`;
}

/** Charges the samples of `window` to stages and functions. */
export function sumProfile(profile: CpuProfile, window: Window, stageOf: StageOf): ProfileSum {
  const stageOfNode = stagesOfNodes(profile, stageOf);
  const nameOfNode = new Map(profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const stages = new Map<string, number>();
  const functions = new Map<string, number>();
  const add = (sums: Map<string, number>, name: string, us: number): void =>
    void sums.set(name, (sums.get(name) ?? 0) + us);
  let sampleCount = 0;
  let atUs = profile.startTime;
  profile.samples.forEach((id, index) => {
    atUs += profile.timeDeltas[index] ?? 0;
    const nextUs = atUs + (profile.timeDeltas[index + 1] ?? 0);
    if (atUs < window.startUs || nextUs > window.endUs) return;
    // Samples of one moment may come out of order; a negative time would be taken from another.
    const ownUs = Math.max(0, nextUs - atUs);
    sampleCount += 1;
    add(stages, stageOfNode.get(id) ?? UNKNOWN_STAGE, ownUs);
    add(functions, nameOfNode.get(id) ?? UNKNOWN_STAGE, ownUs);
  });
  return { stages, functions, sampleCount };
}

/** The largest of `times`, largest first. */
export function largest(times: Times, count: number): [string, number][] {
  return [...times].sort(([, a], [, b]) => b - a).slice(0, count);
}
