/** The ring of events. */
import t from 'tap';
import { EventRing } from '../../control-plane/events.ts';

const fill = (ring: EventRing, count: number): void => {
  for (let n = 0; n < count; n += 1) ring.add({ event: 'e', detail: { n } });
};

t.test('events come once, in order, behind a cursor', async (t) => {
  const ring = new EventRing('1-a', 10);
  const start = ring.cursor;
  t.equal(ring.after(start), undefined, 'there is none yet');
  fill(ring, 3);
  const first = ring.after(start)!;
  t.same(
    first.events.map(({ detail }) => detail),
    [{ n: 0 }, { n: 1 }, { n: 2 }],
  );
  t.equal(first.missed, false);
  t.equal(ring.after(first.cursor), undefined);
  t.match(ring.after(first.events[1]!.cursor)!.events, [{ detail: { n: 2 } }]);
});

t.test('a cursor that is too old, of another stream, or none, is told so', async (t) => {
  const ring = new EventRing('1-a', 10);
  const start = ring.cursor;
  fill(ring, 10);
  t.equal(ring.after(start)!.events.length, 10, 'just not too old');
  fill(ring, 1);
  for (const cursor of [start, '2-a:0', '1-a:12', '1-a:', '1-a', '', '1-a:-1', '1-a:1e1', ':::']) {
    t.same(ring.after(cursor), { events: [], cursor: '1-a:11', missed: true }, cursor);
  }
});

t.test('memory is bounded, and an answer fits a message', async (t) => {
  const ring = new EventRing('1-a', 100);
  fill(ring, 1000);
  t.equal(ring.after('1-a:900')!.events.length, 100);
  for (let n = 0; n < 50; n += 1) ring.add({ event: 'big', detail: { text: 'x'.repeat(5000) } });
  let cursor = '1-a:1000';
  let seen = 0;
  for (let answer = ring.after(cursor); answer !== undefined; answer = ring.after(cursor)) {
    t.ok(JSON.stringify(answer).length < 60_000);
    seen += answer.events.length;
    ({ cursor } = answer);
  }
  t.equal(seen, 50);
});
