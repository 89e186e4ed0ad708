/**
 * The leader as a provider's agent meets it, played by a test: it answers each call as the test says, or
 * not at all, and notes what was said. A signal that is aborted ends a call as the real link does.
 */
import { MemcloudError } from '../../common/errors.ts';
import type { NodeId } from '../../common/ports.ts';
import type { LeaderLink } from '../../control-plane/provider-registration.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from '../../control-plane/schema.ts';

type Answers = {
  [C in ManagedCall]?: (params: ManagedParams<C>) => ManagedResult<C> | Promise<ManagedResult<C>>;
};

/** A {@link LeaderLink}. Nobody leads until {@link ScriptedLeader.lead}. */
export class ScriptedLeader implements LeaderLink {
  leader: { epoch: number } | undefined;
  /** What is answered; a call that is not here is refused. */
  readonly answers: Answers = {};
  /** Every call and its parameters, in order. */
  readonly said: [ManagedCall, unknown][] = [];
  readonly controlNodes = new Set<NodeId>();
  readonly #listeners = new Set<() => void>();

  /** One leads from now on, or anew. */
  lead(epoch: number): void {
    this.leader = { epoch };
    for (const listener of this.#listeners) listener();
  }

  isControlNode(nodeId: NodeId): boolean {
    return this.controlNodes.has(nodeId);
  }

  onLeader(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** How often a call was made and not yet taken. */
  countOf(call: ManagedCall): number {
    return this.said.filter(([said]) => said === call).length;
  }

  /** Waits for a call. @returns as {@link ScriptedLeader.take} */
  async next<C extends ManagedCall>(call: C): Promise<ManagedParams<C>[]> {
    await until(() => this.countOf(call) > 0);
    return this.take(call);
  }

  /** What was said by one call, oldest first; it is forgotten then. */
  take<C extends ManagedCall>(call: C): ManagedParams<C>[] {
    const taken: ManagedParams<C>[] = [];
    for (const entry of [...this.said]) {
      if (entry[0] !== call) continue;
      this.said.splice(this.said.indexOf(entry), 1);
      taken.push(entry[1] as ManagedParams<C>);
    }
    return taken;
  }

  async call<C extends ManagedCall>(
    call: C,
    params: ManagedParams<C>,
    { signal }: { signal?: AbortSignal; timeoutMs?: number } = {},
  ): Promise<ManagedResult<C>> {
    if (signal?.aborted === true) throw new MemcloudError('ERR_CANCELLED', 'aborted before');
    this.said.push([call, params]);
    const aborted = new Promise<never>((_resolve, reject) => {
      signal?.addEventListener('abort', () => {
        reject(new MemcloudError('ERR_CANCELLED', 'aborted'));
      });
    });
    aborted.catch(() => undefined);
    if (this.leader === undefined) {
      throw new MemcloudError('ERR_CONTROL_UNREACHABLE', 'nobody leads');
    }
    const answer = this.answers[call];
    if (answer === undefined) throw new MemcloudError('ERR_CONTROL_DENIED', `no ${call}`);
    return Promise.race([Promise.resolve(answer(params)), aborted]);
  }
}

/** A promise that a test settles. */
export function settled<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: Error) => void;
} {
  let [resolve, reject]: [(value: T) => void, (error: Error) => void] = [
    () => undefined,
    () => undefined,
  ];
  const promise = new Promise<T>((onValue, onError) => {
    [resolve, reject] = [onValue, onError];
  });
  return { promise, resolve, reject };
}

/** Waits until `condition` holds, which what runs already brings about; a limit of 10 s ends a test that is wrong. */
export async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error('what was waited for did not come');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Lets everything that waits for nothing but promises go on. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
