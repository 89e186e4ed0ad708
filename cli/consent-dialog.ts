/**
 * `memcloud consent` on a terminal as a machine: what waits and which keys were pressed come in, what to
 * print and what to answer go out. One request is asked about at a time, in the order in which they came.
 * A skipped request is not asked about again: it waits until it lapses, or for `memcloud consent trust`.
 */
import type { ConsentInfo } from '../common/rpc-schema.ts';
import { printable } from './output.ts';

/** An answer that goes to the daemon. */
export type DialogAnswer = 'allow' | 'trust' | 'deny';

/** What the shell is to do. */
export type DialogAction =
  | { readonly kind: 'print'; readonly text: string }
  | { readonly kind: 'answer'; readonly request: ConsentInfo; readonly answer: DialogAnswer }
  | { readonly kind: 'end' };

const ANSWERS: Readonly<Record<string, DialogAnswer>> = { o: 'allow', t: 'trust', d: 'deny' };
const DONE: Readonly<Record<DialogAnswer, string>> = {
  allow: 'let in for this session',
  trust: 'trusted, now and whenever it shows this key',
  deny: 'denied, now and whenever it shows this key',
};
/** q, Ctrl-C and Ctrl-D. */
export const QUIT_KEYS = ['q', '\u0003', '\u0004'];
const PROMPT = '[o] allow once  [t] trust  [d] deny  [s] skip  [q] quit: ';
const NOBODY = 'Nobody waits for consent. New requests appear here; q ends this.';

const print = (text: string): DialogAction => ({ kind: 'print', text });

/** A request as it is asked about; both machines show the same words for the same key. */
export function describeRequest(request: ConsentInfo, ourFingerprint: string): string {
  const { name, address, direction, fingerprint, nodeId, expiresInS } = request;
  const dialled = direction === 'outbound';
  const who = dialled
    ? `"${printable(name)}" answers at ${printable(address)}, which this machine dialled.`
    : `"${printable(name)}" asks to be let in, from ${printable(address)}.`;
  return [
    who,
    `  they are: ${fingerprint}  (id ${nodeId})`,
    `  we are:   ${ourFingerprint}  (what they see)`,
    `  Compare the words on both screens. The request lapses in ${expiresInS} s.`,
  ].join('\n');
}

/** See the top of the file. */
export class ConsentDialog {
  readonly #ourFingerprint: string;
  readonly #skipped = new Set<string>();
  #current: ConsentInfo | undefined;
  #saidNobody = false;

  /** @param ourFingerprint - our words */
  constructor(ourFingerprint: string) {
    this.#ourFingerprint = ourFingerprint;
  }

  /** What waits now. */
  onRequests(requests: readonly ConsentInfo[]): DialogAction[] {
    const waits = new Set(requests.map(({ request }) => request));
    for (const id of [...this.#skipped]) if (!waits.has(id)) this.#skipped.delete(id);
    const actions: DialogAction[] = [];
    if (this.#current !== undefined && waits.has(this.#current.request)) return actions;
    if (this.#current !== undefined) {
      actions.push(
        print(`\n"${printable(this.#current.name)}" is gone: it left, or time was up.\n`),
      );
      this.#current = undefined;
    }
    return [...actions, ...this.#ask(requests)];
  }

  /** A key was pressed. @param key - one character */
  onKey(key: string): DialogAction[] {
    if (QUIT_KEYS.includes(key)) return [print('\n'), { kind: 'end' }];
    const request = this.#current;
    if (request === undefined) return [];
    const answer = ANSWERS[key.toLowerCase()];
    if (answer === undefined && key.toLowerCase() !== 's') return [];
    this.#current = undefined;
    if (answer === undefined) {
      this.#skipped.add(request.request);
      return [print(`skipped; it waits: memcloud consent trust ${request.request}\n`)];
    }
    return [{ kind: 'answer', request, answer }];
  }

  /** The daemon took an answer, or did not. @param problem - why not */
  onAnswered(request: ConsentInfo, answer: DialogAnswer, problem?: string): DialogAction[] {
    const name = printable(request.name);
    if (problem !== undefined) return [print(`not answered: ${printable(problem)}\n`)];
    return [print(`"${name}" (${request.fingerprint}) is ${DONE[answer]}.\n`)];
  }

  #ask(requests: readonly ConsentInfo[]): DialogAction[] {
    const next = requests.find(({ request }) => !this.#skipped.has(request));
    if (next === undefined) {
      if (this.#saidNobody || requests.length > 0) return [];
      this.#saidNobody = true;
      return [print(`${NOBODY}\n`)];
    }
    this.#saidNobody = false;
    this.#current = next;
    return [print(`\n${describeRequest(next, this.#ourFingerprint)}\n${PROMPT}`)];
  }
}
