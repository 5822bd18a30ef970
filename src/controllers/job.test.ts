import type { CronJob, Job } from '#api/batch.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleOf, type TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { planCronJob, parseSchedule } from './cronjob.ts';
import { formatIndexes, parseIndexes } from './job-indexes.ts';
import { jobFinalizer } from './job-count.ts';
import { planJob } from './job.ts';

const now = Date.parse('2026-01-01T01:00:00Z');

function job(spec: TestJson = {}, status: TestJson = { startTime: '2026-01-01T00:59:00Z' }): Job {
  return sampleOf(kinds.Job, {
    metadata: { name: 'j', namespace: 'n', uid: 'j' },
    spec: { completions: 2, parallelism: 2, backoffLimit: 6, template: { spec: { restartPolicy: 'Never' } }, ...spec },
    status,
  });
}

function pod(name: string, phase: string, extra: TestJson = {}): Pod {
  const ended = phase === 'Failed' || phase === 'Succeeded';
  return sampleOf(kinds.Pod, {
    metadata: {
      name,
      namespace: 'n',
      uid: name,
      creationTimestamp: '2026-01-01T00:59:00Z',
      finalizers: extra.counted === true ? [] : [jobFinalizer],
      ...(extra.index === undefined
        ? {}
        : { annotations: { 'batch.kubernetes.io/job-completion-index': String(extra.index) } }),
    },
    spec: {},
    status: {
      phase,
      containerStatuses: ended
        ? [
            {
              name: 'c',
              state: {
                terminated: {
                  exitCode: extra.exitCode ?? (phase === 'Failed' ? 1 : 0),
                  finishedAt: extra.at ?? '2026-01-01T00:59:30Z',
                },
              },
            },
          ]
        : [],
    },
  });
}

const reasonOf = (plan: { status: TestJson }, type: string): string | undefined =>
  plan.status.conditions?.find((condition: TestJson) => condition.type === type)?.reason;

test('a finished Pod is first noted, then released, then counted', () => {
  const first = planJob({ job: job(), pods: [pod('a', 'Succeeded'), pod('b', 'Running')] }, now);
  assert.deepEqual(first.status.uncountedTerminatedPods, { succeeded: ['a'] });
  assert.equal(first.status.succeeded, undefined);
  assert.deepEqual(
    first.releaseFinalizer.map(({ metadata }) => metadata.name),
    ['a'],
  );
  const second = planJob(
    { job: job({}, first.status), pods: [pod('a', 'Succeeded', { counted: true }), pod('b', 'Running')] },
    now,
  );
  assert.equal(second.status.succeeded, 1);
  assert.deepEqual(second.status.uncountedTerminatedPods, {});
  assert.equal(
    planJob({ job: job({}, second.status), pods: [pod('a', 'Succeeded', { counted: true }), pod('b', 'Running')] }, now)
      .status.succeeded,
    1,
  );
});

test('a Pod that was noted as failed when it was deleted is not noted again when it ends well', () => {
  for (const mode of ['NonIndexed', 'Indexed']) {
    const noted = { startTime: '2026-01-01T00:59:00Z', uncountedTerminatedPods: { failed: ['a'] } };
    const plan = planJob(
      { job: job({ completionMode: mode }, noted), pods: [pod('a', 'Succeeded', { index: 0 })] },
      now,
    );
    assert.deepEqual(
      [plan.status.uncountedTerminatedPods, plan.status.succeeded, plan.status.completedIndexes ?? ''],
      [{ failed: ['a'] }, undefined, ''],
    );
  }
});

test('as many run as are wanted and may', () => {
  assert.equal(planJob({ job: job({ completions: 5, parallelism: 3 }), pods: [] }, now).create.length, 3);
  assert.equal(
    planJob(
      { job: job({ completions: 2, parallelism: 3 }, { succeeded: 1, startTime: '2026-01-01T00:59:00Z' }), pods: [] },
      now,
    ).create.length,
    1,
  );
  assert.equal(
    planJob({ job: job({ parallelism: 1 }), pods: [pod('a', 'Running'), pod('b', 'Running')] }, now).delete.length,
    1,
  );
  assert.equal(planJob({ job: job({ suspend: true }), pods: [pod('a', 'Running')] }, now).delete.length, 1);
});

test('after a failure the next Pod waits, longer each time', () => {
  const once = planJob({ job: job(), pods: [pod('a', 'Failed', { counted: true, at: '2026-01-01T00:59:55Z' })] }, now);
  assert.deepEqual([once.create.length, once.requeueAfterMs], [0, 5_000]);
  const twice = planJob(
    {
      job: job(),
      pods: [pod('a', 'Failed', { counted: true }), pod('b', 'Failed', { counted: true, at: '2026-01-01T00:59:55Z' })],
    },
    now,
  );
  assert.equal(twice.requeueAfterMs, 15_000);
  assert.equal(planJob({ job: job(), pods: [pod('a', 'Failed', { counted: true })] }, now).create.length, 2);
});

test('a Job ends for its reason, and only when its Pods have', () => {
  const failing = planJob({ job: job({ backoffLimit: 0 }), pods: [pod('a', 'Failed'), pod('b', 'Running')] }, now);
  assert.equal(reasonOf(failing, 'FailureTarget'), 'BackoffLimitExceeded');
  assert.equal(reasonOf(failing, 'Failed'), undefined);
  assert.equal(failing.delete.length, 1);
  const failed = planJob(
    { job: job({ backoffLimit: 0 }, { ...failing.status, failed: 1, uncountedTerminatedPods: {} }), pods: [] },
    now,
  );
  assert.equal(reasonOf(failed, 'Failed'), 'BackoffLimitExceeded');
  assert.equal(
    reasonOf(planJob({ job: job({ activeDeadlineSeconds: 30 }), pods: [pod('a', 'Running')] }, now), 'FailureTarget'),
    'DeadlineExceeded',
  );
  const done = planJob(
    { job: job({ completions: 1 }, { succeeded: 1, startTime: '2026-01-01T00:59:00Z' }), pods: [] },
    now,
  );
  assert.equal(reasonOf(done, 'Complete'), 'CompletionsReached');
  assert.equal(done.status.completionTime, '2026-01-01T01:00:00Z');
});

test('indexes are given out, completed and never repeated', () => {
  const indexed = job(
    { completionMode: 'Indexed', completions: 4, parallelism: 4 },
    { startTime: '2026-01-01T00:59:00Z', completedIndexes: '1' },
  );
  const plan = planJob(
    { job: indexed, pods: [pod('a', 'Running', { index: 0 }), pod('b', 'Succeeded', { index: 2 })] },
    now,
  );
  assert.deepEqual(plan.create, [3]);
  assert.equal(plan.status.completedIndexes, '1,2');
  assert.equal(plan.status.succeeded, 2);
  assert.equal(formatIndexes(parseIndexes('0,2-5,9', 100)), '0,2-5,9');
});

test('the failure policy ignores, counts or ends by exit code', () => {
  const policy = {
    podFailurePolicy: {
      rules: [
        { action: 'FailJob', onExitCodes: { operator: 'In', values: [42] } },
        { action: 'Ignore', onExitCodes: { operator: 'In', values: [7] } },
      ],
    },
  };
  const fatal = planJob({ job: job(policy), pods: [pod('a', 'Failed', { exitCode: 42 })] }, now);
  assert.equal(
    fatal.status.conditions?.[0]?.message,
    'Container c for pod n/a failed with exit code 42 matching FailJob rule at index 0',
  );
  assert.deepEqual(
    planJob({ job: job(policy), pods: [pod('a', 'Failed', { exitCode: 7 })] }, now).status.uncountedTerminatedPods,
    {},
  );
});

test('Pods that the Job itself takes away are no failures', () => {
  const running = ['a', 'b', 'c'].map((name, index) => pod(name, 'Running', { index }));
  for (const spec of [{ parallelism: 1, completions: 3 }, { suspend: true }]) {
    const plan = planJob({ job: job({ backoffLimit: 0, ...spec }), pods: running }, now);
    assert.deepEqual(
      [plan.deleteUncounted, plan.delete.length, plan.status.uncountedTerminatedPods],
      [true, spec.suspend === true ? 3 : 2, {}],
    );
    // Their finalizers are off and they end: nothing is counted, and nothing waits for them.
    const going = running.map((p) => ({
      ...p,
      metadata: { ...p.metadata, finalizers: [], deletionTimestamp: '2026-01-01T00:59:59Z' },
    }));
    const after = planJob(
      {
        job: job({ backoffLimit: 0, parallelism: 3, completions: 3 }, plan.status),
        pods: going,
        takenAway: new Set(['a', 'b', 'c']),
      },
      now,
    );
    assert.deepEqual(
      [after.status.failed, reasonOf(after, 'FailureTarget'), after.create.length, after.requeueAfterMs],
      [undefined, undefined, 3, undefined],
    );
  }
  assert.equal(
    planJob({ job: job({ activeDeadlineSeconds: 30 }), pods: running.slice(0, 1) }, now).deleteUncounted,
    false,
  );
});

test('a Pod whose index is gone or taken goes uncounted', () => {
  const indexed = (completions: number): Job =>
    job({ completionMode: 'Indexed', completions, parallelism: completions });
  const running = ['a', 'b', 'c'].map((name, index) => pod(name, 'Running', { index }));
  const fewer = planJob({ job: indexed(2), pods: running }, now);
  assert.deepEqual([fewer.delete.map((p) => p.metadata.name), fewer.deleteUncounted], [['c'], true]);
  const twice = planJob(
    { job: indexed(3), pods: [pod('a', 'Running', { index: 0 }), pod('b', 'Running', { index: 0 })] },
    now,
  );
  assert.deepEqual([twice.delete.map((p) => p.metadata.name), twice.create], [['b'], []]);
});

test('schedules mean what five fields mean, in their zone', () => {
  const cases: [string, string | undefined, string, string | undefined][] = [
    ['*/15 * * * *', undefined, '2026-01-01T00:07:00Z', '2026-01-01T00:15:00Z'],
    ['0 0 13 * 5', undefined, '2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'],
    ['@daily', undefined, '2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'],
    ['0 3 * * *', 'America/New_York', '2026-01-01T00:00:00Z', '2026-01-01T08:00:00Z'],
    ['0 0 30 2 *', undefined, '2026-01-01T00:00:00Z', undefined],
    ['0 12 ? * MON', undefined, '2026-01-01T00:00:00Z', '2026-01-05T12:00:00Z'],
    ['TZ=Asia/Tokyo 0 0 * * *', undefined, '2026-01-01T00:00:00Z', '2026-01-01T15:00:00Z'],
    ['@every 90m', undefined, '2026-01-01T00:00:00Z', '2026-01-01T01:30:00Z'],
  ];
  for (const [text, zone, after, expected] of cases) {
    const next = parseSchedule(text, zone).next(Date.parse(after));
    assert.equal(next === undefined ? undefined : new Date(next).toISOString().replace('.000', ''), expected, text);
  }
  for (const text of ['* * * *', '* * * * * *', 'x * * * *', '61 * * * *'])
    assert.throws(() => parseSchedule(text, undefined), text);
});

test('of missed runs only the last one starts, within its deadline and policy', () => {
  const cronJob = (spec: TestJson, status: TestJson = { lastScheduleTime: '2026-01-01T00:00:00Z' }): CronJob =>
    sampleOf(kinds.CronJob, {
      metadata: { name: 'c', namespace: 'n', uid: 'c', creationTimestamp: '2025-12-31T00:00:00Z' },
      spec: { schedule: '*/10 * * * *', jobTemplate: { spec: {} }, ...spec },
      status,
    });
  const at = Date.parse('2026-01-01T00:35:00Z');
  const missed = planCronJob({ cronJob: cronJob({}), jobs: [] }, at);
  assert.equal(missed.start?.job.metadata.name, `c-${Date.parse('2026-01-01T00:30:00Z') / 60_000}`);
  assert.equal(missed.requeueAfterMs, 300_000);
  assert.equal(planCronJob({ cronJob: cronJob({ startingDeadlineSeconds: 60 }), jobs: [] }, at).start, undefined);
  const running: Job = sampleOf(kinds.Job, { metadata: { name: 'r', namespace: 'n', uid: 'r' }, status: {} });
  assert.equal(
    planCronJob({ cronJob: cronJob({ concurrencyPolicy: 'Forbid' }), jobs: [running] }, at).start,
    undefined,
  );
  assert.deepEqual(planCronJob({ cronJob: cronJob({ concurrencyPolicy: 'Replace' }), jobs: [running] }, at).replace, [
    running,
  ]);
  assert.equal(planCronJob({ cronJob: cronJob({ suspend: true }), jobs: [] }, at).start, undefined);
});
