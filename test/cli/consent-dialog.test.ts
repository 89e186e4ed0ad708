import t from 'tap';
import type { ConsentInfo } from '../../common/rpc-schema.ts';
import { ConsentDialog, describeRequest, type DialogAction } from '../../cli/consent-dialog.ts';

const OURS = 'abandon-ability-able-about-above-absent-absorb-abstract';

function request(id: string, name = id): ConsentInfo {
  return {
    ...{ request: id, name, nodeId: 'ab'.repeat(16), address: '10.0.0.2:7070' },
    ...{ fingerprint: `words-of-${id}`, direction: 'inbound', expiresInS: 90 },
  };
}

/** What was printed, as one text. */
const printed = (actions: readonly DialogAction[]): string =>
  actions.map((action) => (action.kind === 'print' ? action.text : `<${action.kind}>`)).join('');

t.test('a request shows both keys in words, each plainly labelled', async (t) => {
  const text = describeRequest(request('r1', 'alpha'), OURS);
  t.match(text, /"alpha" asks to be let in, from 10\.0\.0\.2:7070/);
  t.match(text, /they are: words-of-r1/);
  t.match(text, new RegExp(`we are: {3}${OURS} {2}\\(what they see\\)`));
  const dialled = describeRequest({ ...request('r1'), direction: 'outbound' }, OURS);
  t.match(dialled, /which this machine dialled/);
});

t.test('escapes of a hostile daemon or name do not reach the terminal', async (t) => {
  const name = 'a\u001b[2J\u009b31m\u202eb\r\n';
  const dialog = new ConsentDialog(OURS);
  const shown = [
    printed(dialog.onRequests([request('r1', name)])),
    printed(dialog.onAnswered(request('r1', name), 'deny', `no\u001b]0;title\u0007`)),
    printed(dialog.onAnswered(request('r1', name), 'trust')),
    printed(dialog.onRequests([])),
  ].join('');
  t.notMatch(shown, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
});

const KEYS: Record<string, string> = { o: 'allow', t: 'trust', d: 'deny', T: 'trust' };
for (const [key, answer] of Object.entries(KEYS)) {
  t.test(`${key} answers ${answer}`, async (t) => {
    const dialog = new ConsentDialog(OURS);
    dialog.onRequests([request('r1')]);
    t.match(dialog.onKey(key), [{ kind: 'answer', request: { request: 'r1' }, answer }]);
    t.same(dialog.onKey(key), [], 'once');
  });
}

t.test('skip skips: the next one is asked about, and the first never again', async (t) => {
  const dialog = new ConsentDialog(OURS);
  const both = [request('r1'), request('r2')];
  t.match(printed(dialog.onRequests(both)), /words-of-r1/);
  t.match(printed(dialog.onKey('s')), /skipped.*consent trust r1/);
  t.match(printed(dialog.onRequests(both)), /words-of-r2/);
  dialog.onKey('s');
  for (let look = 0; look < 100; look += 1) t.same(dialog.onRequests(both), [], 'silence');
  t.match(printed(dialog.onRequests([...both, request('r3')])), /words-of-r3/, 'a new one comes');
});

t.test('other keys do nothing; q, Ctrl-C and Ctrl-D end it', async (t) => {
  const dialog = new ConsentDialog(OURS);
  dialog.onRequests([request('r1')]);
  for (const key of ['x', '\r', ' ', '\u001b', '']) t.same(dialog.onKey(key), []);
  for (const key of ['q', '\u0003', '\u0004']) t.match(printed(dialog.onKey(key)), /<end>/);
});

t.test('a request that goes while it is asked about is said to be gone', async (t) => {
  const dialog = new ConsentDialog(OURS);
  dialog.onRequests([request('r1')]);
  const text = printed(dialog.onRequests([request('r2')]));
  t.match(text, /"r1" is gone/);
  t.match(text, /words-of-r2/);
  t.match(dialog.onKey('d'), [{ request: { request: 'r2' } }], 'the key is for the new one');
});

t.test('that nobody waits is said once, and again after somebody did', async (t) => {
  const dialog = new ConsentDialog(OURS);
  t.match(printed(dialog.onRequests([])), /Nobody waits/);
  t.same(dialog.onRequests([]), []);
  dialog.onRequests([request('r1')]);
  dialog.onKey('t');
  t.match(printed(dialog.onRequests([])), /Nobody waits/);
});
