/** The settings of `service install`, merged with those of an earlier one. */
import t from 'tap';
import { parse } from 'smol-toml';
import { settingsText, type ServiceSettings } from '../../../cli/service/settings.ts';

const NONE: ServiceSettings = {
  ...{ offer: undefined, connect: undefined },
  ...{ swapSize: undefined, mountDirectory: undefined },
};

t.test('nothing given, nothing there: no file', async (t) => {
  t.equal(settingsText('', NONE), undefined);
});

t.test('what is given is set, what is not stays as it was', async (t) => {
  const first =
    settingsText('', { ...NONE, offer: '4G', connect: ['a:1', 'b:2'], swapSize: '8G' }) ?? '';
  t.same(parse(first), { offer: '4G', connect: ['a:1', 'b:2'], swap: { size: '8G' } });
  t.match(first, /^# Written by/);
  t.equal(settingsText(first, NONE), first, 'the same again');
  const second = settingsText(first, { ...NONE, connect: ['c:3'] }) ?? '';
  t.same(parse(second), { offer: '4G', connect: ['c:3'], swap: { size: '8G' } });
  const swapOnly = settingsText('', { ...NONE, swapSize: 'min(ram, 8GiB)' }) ?? '';
  t.same(parse(swapOnly), { swap: { size: 'min(ram, 8GiB)' } });
  const both = settingsText(swapOnly, { ...NONE, mountDirectory: '/mnt/memcloud' }) ?? '';
  t.same(parse(both), { swap: { size: 'min(ram, 8GiB)' }, mount: { directory: '/mnt/memcloud' } });
  t.equal(settingsText(both, NONE), both);
});

t.test('text that is no TOML is not overwritten', async (t) => {
  t.throws(() => settingsText('offer = 4G\n', { ...NONE, swapSize: '1G' }), {
    code: 'ERR_CONFIG',
    message: /^\/etc\/memcloud\/config\.d\/50-service\.toml:1: .*; mend or remove it$/,
  });
});
