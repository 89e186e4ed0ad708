/** A plot draws each bar to scale, names it, and is well-formed whatever the names are. */
import t from 'tap';
import { drawBarPlot } from '../../bench/bar-plot.ts';

const exact = (value: number) => ({ value, low: value, high: value });

t.test('bars are drawn to scale within their panel', async (t) => {
  const svg = drawBarPlot('title', 'machine', [
    {
      title: 'rate',
      bars: [
        { label: 'memcloud', estimate: { value: 100, low: 50, high: 200 }, ours: true },
        { label: 'peer', estimate: exact(50), ours: false },
      ],
    },
    { title: 'left out', bars: [] },
  ]);
  const widths = [...svg.matchAll(/<rect x="130" y="\d+" width="([\d.]+)"/g)].map(([, w]) => w);
  // 760 wide, 130 for labels, 80 for values: 550 for the largest upper bound, 200.
  t.same(widths, ['275.0', '137.5']);
  t.match(svg, /M267\.5 98H680\.0/, 'the whisker spans the interval');
  t.match(svg, /fill="#1f6feb"/);
  t.notMatch(svg, /left out/);
});

t.test('names cannot break out of the text they stand in', async (t) => {
  const bars = [{ label: '<b>&"', estimate: exact(1), ours: false }];
  const svg = drawBarPlot('a<b', 'c&d', [{ title: '</svg>', bars }]);
  t.match(svg, />&lt;b&gt;&amp;&quot;<\/text>/);
  t.equal(svg.split('</svg>').length, 2, 'one end of the picture');
});

t.test('a panel of zeroes has finite numbers', async (t) => {
  const svg = drawBarPlot('t', 's', [
    { title: 'p', bars: [{ label: 'x', estimate: exact(0), ours: false }] },
  ]);
  t.notMatch(svg, /NaN|Infinity/);
});
