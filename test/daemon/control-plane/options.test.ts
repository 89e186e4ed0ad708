/** The command line of a control node (daemon/control-plane/options.ts). */
import t from 'tap';
import { readControlConfig } from '../../../daemon/control-plane/options.ts';

t.test('flags and variables become a configuration', async (t) => {
  const words = ['--listen', '10.0.0.1:7171', '--state', '/var/lib/x', '--json'];
  const config = await readControlConfig(words, { MEMCLOUD_CONTROL_NAME: 'quorum-1' });
  t.match(config, {
    name: 'quorum-1',
    store: 'embedded:/var/lib/x/store',
    listen: { host: '10.0.0.1', port: 7171 },
    advertise: undefined,
    stateDirectory: '/var/lib/x',
    logLevel: 'info',
    json: true,
  });
  const other = await readControlConfig(['--store', 'etcd://a:1', '--advertise', 'c.lan:7071'], {});
  t.match(other, { store: 'etcd://a:1', advertise: 'c.lan:7071', json: false });
});

t.test('what it cannot read it refuses in words', async (t) => {
  for (const words of [
    ['--stor', 'x'],
    ['--listen', 'x'],
    ['--name', 'a', '--name', 'b'],
  ]) {
    await t.rejects(readControlConfig(words, {}), { code: /^ERR_USAGE/ }, words.join(' '));
  }
});
