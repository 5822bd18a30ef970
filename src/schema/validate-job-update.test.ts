import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Job, JobSpec, JobStatus } from '#api/batch.v1.ts';
import { FieldErrors } from './field-errors.ts';
import { validateJobStatus, validateJobUpdate } from './validate-job-update.ts';

const container = { name: 'c', image: 'i' };
const spec: JobSpec = {
  completions: 3,
  parallelism: 1,
  completionMode: 'Indexed',
  suspend: true,
  template: { spec: { containers: [container], nodeSelector: { a: 'b' } } },
};

const jobOf = (more: Partial<JobSpec>, status: JobStatus = {}): Job =>
  ({ apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'j' }, spec: { ...spec, ...more }, status }) as Job;

function fields(validate: (errors: FieldErrors) => void): string[] {
  const errors = new FieldErrors();
  validate(errors);
  return errors.causes.map(({ field, message }) => `${field}: ${message}`);
}

describe('what of a Job may change', () => {
  const update = (now: Partial<JobSpec>, was: Partial<JobSpec> = {}, status: JobStatus = {}): string[] =>
    fields((errors) => validateJobUpdate(jobOf({ ...was, ...now }), jobOf(was, status), errors)).map(
      (line) => line.split(': ')[0] ?? '',
    );
  const directed = { template: { spec: { containers: [container], nodeSelector: { a: 'c' } } } };
  const sized = {
    template: { spec: { ...spec.template.spec, containers: [{ ...container, resources: { limits: {} } }] } },
  };
  const renamed = { template: { spec: { ...spec.template.spec, containers: [{ name: 'd', image: 'i' }] } } };

  it('of one that is suspended and has no Pods: where they go and what they take', () => {
    assert.deepEqual(update(directed as Partial<JobSpec>), []);
    assert.deepEqual(update(sized as Partial<JobSpec>), []);
    assert.deepEqual(update(renamed as Partial<JobSpec>), ['spec.template.spec']);
  });
  it('of one that runs, nothing of the template', () => {
    assert.deepEqual(update(directed as Partial<JobSpec>, { suspend: false }), ['spec.template']);
    assert.deepEqual(update(directed as Partial<JobSpec>, {}, { startTime: '2026-01-01T00:00:00Z' }), [
      'spec.template',
    ]);
    assert.deepEqual(update(directed as Partial<JobSpec>, {}, { active: 1 }), ['spec.template']);
  });
  it('completions of an Indexed Job change together with how many run at once', () => {
    assert.deepEqual(update({ completions: 4 }), ['spec.completions']);
    assert.deepEqual(update({ completions: 4, parallelism: 4 }), []);
    assert.deepEqual(update({ completions: 4 }, { completionMode: 'NonIndexed' }), ['spec.completions']);
  });
});

describe("what a Job's status may say next", () => {
  const step = (now: JobStatus, was: JobStatus = {}, more: Partial<JobSpec> = {}): string[] =>
    fields((errors) => validateJobStatus(jobOf(more, now), jobOf(more, was), errors));
  const condition = (type: string) => ({ type, status: 'True' });
  const end = { startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:01:00Z' };
  const complete: JobStatus = { ...end, conditions: [condition('SuccessCriteriaMet'), condition('Complete')] };

  it('a Job ends once, in order, with nothing left over', () => {
    assert.deepEqual(step(complete), []);
    assert.deepEqual(step({ conditions: [condition('Complete')], ...end }), [
      'status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition',
    ]);
    assert.deepEqual(step({ ...complete, active: 1, ready: 2 }), [
      'status.active: Invalid value: 1: active>0 is invalid for finished job',
      'status.ready: Invalid value: 2: cannot set more ready pods than active',
    ]);
    assert.deepEqual(step({ conditions: [], ...end }, complete).slice(1), [
      'status.conditions: Invalid value: cannot disable the terminal Complete=True condition',
      'status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition',
    ]);
  });
  it('indexes are below the number of completions, and either completed or failed', () => {
    const per = { backoffLimitPerIndex: 1 };
    assert.deepEqual(step({ completedIndexes: '0,2' }), []);
    assert.deepEqual(step({ completedIndexes: '0,3' }), [
      'status.completedIndexes: Invalid value: "0,3": error parsing completedIndexes: too large index: "3"',
    ]);
    assert.deepEqual(step({ completedIndexes: '0-1', failedIndexes: '1-2' }, {}, per), [
      'status.failedIndexes: Invalid value: "1-2": failedIndexes and completedIndexes overlap at index: 1',
    ]);
    // What was wrong before may stay: the specification may have changed.
    assert.deepEqual(step({ completedIndexes: '0,3', active: 1 }, { completedIndexes: '0,3' }), []);
  });
  it('counts of what has ended do not go back', () => {
    assert.deepEqual(step({ failed: 1, succeeded: 1 }, { failed: 2, succeeded: 2 }), [
      'status.failed: Invalid value: 1: cannot decrease the failed counter',
      'status.succeeded: Invalid value: 1: cannot decrease the succeeded counter',
    ]);
    assert.deepEqual(step({ succeeded: 1 }, { succeeded: 2 }, { completions: 1 }), []);
  });
});
