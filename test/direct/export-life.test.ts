import t from 'tap';
import { ExportLife } from '../../direct/export-life.ts';

t.test('without a connection an export ends its time to live after the last renewal', async (t) => {
  const life = new ExportLife(1000, 5000);
  t.equal(life.connected, false);
  t.equal(life.hasEnded(5999.9), false);
  t.equal(life.hasEnded(6000), true);
  life.renew(5500);
  t.equal(life.hasEnded(6499.9), false);
  t.equal(life.hasEnded(6500), true);
});

t.test('a connected export never ends, and then has its whole time again', async (t) => {
  const life = new ExportLife(1000, 0);
  life.connect();
  t.equal(life.connected, true);
  t.equal(life.hasEnded(1e12), false);
  life.disconnect(50_000);
  t.equal(life.connected, false);
  t.equal(life.hasEnded(50_999.9), false);
  t.equal(life.hasEnded(51_000), true);
});

t.test('the later of both counts', async (t) => {
  const life = new ExportLife(1000, 0);
  life.connect();
  life.disconnect(100);
  life.renew(600);
  t.equal(life.hasEnded(1599), false);
  t.equal(life.hasEnded(1600), true);
  life.renew(300);
  t.equal(life.hasEnded(1599), false, 'an older renewal takes nothing back');
});
