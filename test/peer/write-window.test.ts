/** The window of writes, over links that are worked out: a queue of so many pages a millisecond, and a delay. */
import t from 'tap';
import {
  READ_QUEUE_MS,
  WINDOW_PAGE_COUNT_MIN,
  WRITE_QUEUE_MS,
  WriteWindow,
} from '../../peer/write-window.ts';
import { seededRandom } from '../helpers/sim-world.ts';

interface Link {
  pagesPerMs: number;
  /** There and back, with nothing before it. */
  delayMs: number;
}

interface Sent {
  readonly slot: number;
  readonly pages: number;
  readonly doneMs: number;
}

/** A sender that always has pages, or as many as it is given, over one link. */
class Sender {
  readonly window = new WriteWindow();
  readonly link: Link;
  nowMs = 0;
  /** Reads are sent all the time. */
  reads = true;
  /** Pages answered. */
  donePages = 0;
  #freeMs = 0;
  #inFlight = 0;
  #slot = 0;
  readonly #sent: Sent[] = [];
  readonly #pagesOf: () => number;

  constructor(link: Link, pagesOf: () => number = () => 1) {
    this.link = link;
    this.#pagesOf = pagesOf;
  }

  /** What a read that is sent now waits behind, milliseconds. */
  get queueMs(): number {
    return Math.max(0, this.#freeMs - this.nowMs);
  }

  /** Sends as much as may be sent. */
  fill(): void {
    for (;;) {
      const pages = this.#pagesOf();
      if (this.#inFlight > 0 && this.#inFlight + pages > this.window.pageCount) {
        this.window.onRefusal(true);
        return;
      }
      this.send(pages);
    }
  }

  send(pages: number): void {
    this.#freeMs = Math.max(this.#freeMs, this.nowMs) + pages / this.link.pagesPerMs;
    const slot = (this.#slot += 1);
    if (this.window.wantsProbe) this.window.onProbe(slot, this.nowMs);
    this.#inFlight += pages;
    this.#sent.push({ slot, pages, doneMs: this.#freeMs + this.link.delayMs });
  }

  /** Lets the next reply come. @returns false when none is due */
  step(): boolean {
    const next = this.#sent.shift();
    if (next === undefined) return false;
    this.nowMs = Math.max(this.nowMs, next.doneMs);
    this.#inFlight -= next.pages;
    this.donePages += next.pages;
    this.window.onReply(next.slot, this.nowMs);
    return true;
  }

  /** Sends all the time until then. @returns the median of the queue, and the share of the link that was used */
  run(durationMs: number): { queueMs: number; share: number } {
    const fromMs = this.nowMs;
    const fromPages = this.donePages;
    const queues: number[] = [];
    while (this.nowMs < fromMs + durationMs) {
      if (this.reads) this.window.onRead();
      this.fill();
      queues.push(this.queueMs);
      this.step();
    }
    const possible = (this.nowMs - fromMs) * this.link.pagesPerMs;
    const queueMs = queues.sort((a, b) => a - b)[queues.length >> 1] ?? 0;
    return { queueMs, share: (this.donePages - fromPages) / possible };
  }
}

/** Pages a millisecond of a link with so many megabits a second. */
const pagesPerMs = (megabits: number): number => (megabits * 1000) / 8 / 4136;

for (const megabits of [100, 1000, 10_000]) {
  for (const delayMs of [0.2, 1, 10]) {
    t.test(`${megabits} Mb/s, ${delayMs} ms: the link is full and the queue short`, (t) => {
      const sender = new Sender({ pagesPerMs: pagesPerMs(megabits), delayMs });
      sender.run(1000);
      const { queueMs, share } = sender.run(22_000);
      const least = WINDOW_PAGE_COUNT_MIN / sender.link.pagesPerMs;
      t.ok(share >= 0.98, `share ${share}`);
      t.ok(queueMs <= Math.max(least, 1.1 * READ_QUEUE_MS), `queue ${queueMs} ms`);
      t.end();
    });
  }
}

t.test('where nobody reads the queue is longer, and short again with the first reads', (t) => {
  const sender = new Sender({ pagesPerMs: pagesPerMs(1000), delayMs: 0.2 });
  for (const reads of [false, true, false]) {
    sender.reads = reads;
    sender.run(1500);
    const { queueMs, share } = sender.run(5000);
    t.ok(share >= 0.99, `share ${share}`);
    const targetMs = reads ? READ_QUEUE_MS : WRITE_QUEUE_MS;
    t.ok(Math.abs(queueMs - targetMs) <= 0.2 * targetMs, `queue ${queueMs} ms`);
  }
  sender.reads = true;
  sender.run(150);
  t.ok(sender.run(100).queueMs <= 1.5 * READ_QUEUE_MS, 'within 150 ms of the first read');
  t.end();
});

t.test('large writes, and writes of all sizes', (t) => {
  const random = seededRandom(1);
  for (const pagesOf of [() => 64, () => 1 + Math.floor(random() * 64)]) {
    const sender = new Sender({ pagesPerMs: pagesPerMs(1000), delayMs: 0.2 }, pagesOf);
    sender.run(1000);
    const { queueMs, share } = sender.run(30_000);
    t.ok(share >= 0.98, `share ${share}`);
    // 64 pages alone take 2.1 ms.
    t.ok(queueMs <= 2 * READ_QUEUE_MS + 2.2, `queue ${queueMs} ms`);
  }
  t.end();
});

t.test('a way that gets slower, longer, faster again', (t) => {
  const sender = new Sender({ pagesPerMs: pagesPerMs(1000), delayMs: 0.2 });
  for (const [megabits, delayMs, knownMs] of [
    [100, 0.2, 2500],
    [1000, 0.2, 12_000],
    // That shrinking does not help says it at once.
    [1000, 10, 500],
    // A shorter way behind our own queue is seen when the shortest time is renewed.
    [1000, 0.2, 12_000],
  ] as const) {
    sender.link.pagesPerMs = pagesPerMs(megabits);
    sender.link.delayMs = delayMs;
    sender.run(knownMs);
    const { queueMs, share } = sender.run(10_000);
    t.ok(share >= 0.93, `${megabits} Mb/s, ${delayMs} ms: share ${share}`);
    const least = WINDOW_PAGE_COUNT_MIN / sender.link.pagesPerMs;
    t.ok(queueMs <= Math.max(least, 1.1 * READ_QUEUE_MS), `queue ${queueMs} ms`);
  }
  t.end();
});

t.test('pauses of the peer are no queue', (t) => {
  const random = seededRandom(1);
  const sender = new Sender({ pagesPerMs: pagesPerMs(1000), delayMs: 0.2 });
  const { link } = sender;
  sender.run(1000);
  const fromPages = sender.donePages;
  const fromMs = sender.nowMs;
  while (sender.nowMs < fromMs + 10_000) {
    sender.run(50);
    // A collection of garbage: one reply is late, and all behind it.
    link.delayMs = 3 + 5 * random();
    sender.fill();
    sender.step();
    link.delayMs = 0.2;
  }
  const share = (sender.donePages - fromPages) / ((sender.nowMs - fromMs) * link.pagesPerMs);
  t.ok(share > 0.8, `share ${share}`);
  t.end();
});

t.test('who writes little is not held up, however long it took', (t) => {
  const sender = new Sender({ pagesPerMs: 30, delayMs: 50 });
  for (let turn = 0; turn < 1000; turn += 1) {
    sender.send(1);
    while (sender.step());
    sender.nowMs += 10;
  }
  t.ok(sender.window.pageCount >= 64);
  t.end();
});

t.test('a reply to another write says nothing', (t) => {
  const window = new WriteWindow();
  window.onProbe(7, 0);
  t.notOk(window.wantsProbe);
  window.onReply(8, 1);
  t.notOk(window.wantsProbe);
  window.onReply(7, 2);
  t.ok(window.wantsProbe);
  t.end();
});
