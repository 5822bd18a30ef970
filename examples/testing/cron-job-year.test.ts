/**
 * A CronJob of every Sunday night over a whole year, in Berlin's time zone, with both daylight-saving changes. It takes
 * about a second.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, kinds } from 'tiphys/testing';

const manifest = `
apiVersion: batch/v1
kind: CronJob
metadata: { name: weekly }
spec:
  schedule: "15 4 * * 0"
  timeZone: Europe/Berlin
  successfulJobsHistoryLimit: 1
  jobTemplate:
    spec:
      template:
        metadata: { labels: { job: weekly } }
        spec:
          restartPolicy: Never
          containers: [{ name: report, image: report:1 }]
`;

test('a CronJob runs every Sunday of a year, at the same time on the wall', async () => {
  const runs: string[] = [];
  await using cluster = await createCluster({
    nodes: 1,
    start: '2026-01-01T00:00:00+01:00',
    events: false,
    managedFields: false,
    // What the Pod does: it notes when it ran, and ends well after half a minute.
    scripts: [
      {
        selector: 'job=weekly',
        script: ({ nowMs, attempt }) => {
          if (attempt === 0) runs.push(new Date(nowMs).toISOString());
          return { exitAfter: '30s', startAfter: 0 };
        },
      },
    ],
  });
  await cluster.apply(manifest);
  await cluster.advance('365d');

  const days = new Map(runs.map((time) => [time.slice(0, 10), time.slice(11, 16)]));
  assert.equal(days.size, 52);
  assert.equal(days.get('2026-03-22'), '03:15'); // winter: UTC+1
  assert.equal(days.get('2026-03-29'), '02:15'); // the night of the change, and from then on UTC+2
  assert.equal(days.get('2026-10-25'), '03:15'); // and back
  const [last] = (await cluster.client.list(kinds.Job, { namespace: 'default' })).items;
  assert.equal(last?.status?.succeeded, 1);
});
