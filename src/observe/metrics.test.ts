/** What is recorded, and how it is shown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exposeMetrics } from './exposition.ts';
import { Metrics } from './metrics.ts';

const lines = async (metrics: Metrics): Promise<string[]> =>
  (await exposeMetrics(metrics)).body.split('\n').filter((line) => line !== '' && !line.startsWith('# HELP'));

test('counters, gauges and histograms are shown in the exposition format, with each series once', async () => {
  const metrics = new Metrics();
  const requests = metrics.counter({ name: 'requests_total', help: 'r', labels: ['verb', 'code'] });
  requests.of('GET', '200').add();
  requests.of('GET', '200').add(2);
  requests.of('POST', '').add();
  let depth = 3;
  metrics.gauge({ name: 'depth', help: 'd' }, (family) => {
    family.of().value = depth;
  });
  const seconds = metrics.histogram({ name: 'seconds', help: 's', labels: ['op'] }, [0.1, 1]);
  for (const value of [0.05, 0.1, 0.5, 7]) seconds.of('a"b').observe(value);
  assert.deepEqual(await lines(metrics), [
    '# TYPE requests_total counter',
    'requests_total{verb="GET",code="200"} 3',
    'requests_total{verb="POST",code=""} 1',
    '# TYPE depth gauge',
    'depth 3',
    '# TYPE seconds histogram',
    'seconds_bucket{op="a\\"b",le="0.1"} 2',
    'seconds_bucket{op="a\\"b",le="1"} 3',
    'seconds_bucket{op="a\\"b",le="+Inf"} 4',
    'seconds_sum{op="a\\"b"} 7.65',
    'seconds_count{op="a\\"b"} 4',
  ]);
  depth = 5;
  assert.ok((await lines(metrics)).includes('depth 5'), 'a gauge is read when somebody looks');
});

test('a name is one family', () => {
  const metrics = new Metrics();
  metrics.counter({ name: 'a_total', help: 'a' });
  assert.throws(() => metrics.counter({ name: 'a_total', help: 'b' }), /defined already/);
});
