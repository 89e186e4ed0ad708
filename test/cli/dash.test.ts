import t from 'tap';
import { hideDashes, showDashes, showDashesIn } from '../../cli/dash.ts';

t.test('a lone dash before -- comes through the parser, other words are left alone', async (t) => {
  const words = ['set', '-', '--file', '-', '-o-', '--', '-', '--'];
  const hidden = hideDashes(words);
  t.same(
    hidden.map((word) => word === '-'),
    [false, false, false, false, false, false, true, false],
  );
  const flags = { _: hidden, file: hidden[1], count: 3, none: undefined };
  showDashes(flags);
  t.same(flags, { _: words, file: '-', count: 3, none: undefined });
});

t.test('what the parser says shows the dash', async (t) => {
  const [hidden = ''] = hideDashes(['-']);
  t.equal(showDashesIn(`Unknown argument: ${hidden}`), 'Unknown argument: -');
  t.equal(showDashesIn(`Given: ${JSON.stringify(hidden)}, "x"`), 'Given: "-", "x"');
});
