import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds } from '#base/kinds.ts';
import { sampleOf } from '#base/testing.ts';
import { planRevisions, templateOfRevision } from './revisions.ts';

test('a revision holds the template in the bytes that Go makes of it', () => {
  const template = {
    spec: {
      terminationGracePeriodSeconds: 30,
      restartPolicy: 'Always',
      containers: [{ image: 'i', name: 'c', resources: {}, env: [{ value: '2', name: 'Z' }] }],
      securityContext: {},
    },
    metadata: { labels: { b: '1', a: '2' } },
  };
  const set = sampleOf(kinds.DaemonSet, { metadata: { name: 'd', namespace: 'n', uid: 'd' }, spec: { template } });
  const { create } = planRevisions(set, [], 0);
  assert.equal(
    JSON.stringify(create?.data),
    '{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"2","b":"1"}},"spec":{"containers":[{"env":[{"name":"Z","value":"2"}],"image":"i","name":"c","resources":{}}],"restartPolicy":"Always","securityContext":{},"terminationGracePeriodSeconds":30}}}}',
  );
  const held = sampleOf(kinds.ControllerRevision, { metadata: { name: 'd-1' }, data: create?.data, revision: 1 });
  assert.deepEqual(templateOfRevision(held), template);
  assert.equal(planRevisions(set, [held], 0).update, held);
});
