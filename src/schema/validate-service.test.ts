import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Service } from '#api/core.v1.ts';
import { dropForType } from './validate-service.ts';

const service = (type: string, nodePorts: (number | undefined)[]): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: {
    name: 'web',
    namespace: 'default',
    uid: '1',
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  spec: {
    type,
    ports: nodePorts.map((nodePort, i) => ({ name: `p${i}`, port: 80 + i, ...(nodePort ? { nodePort } : {}) })),
  },
});

test('a type without ports of the nodes drops those that the Service had, in any order, and no new ones', () => {
  const old = service('NodePort', [30_001, 30_002, 30_003]);
  const after = (nodePorts: (number | undefined)[]): (number | undefined)[] => {
    const now = service('ClusterIP', nodePorts);
    dropForType(now, old);
    return (now.spec.ports ?? []).map((port) => port.nodePort);
  };
  assert.deepEqual(after([30_003, undefined, 30_001]), [undefined, undefined, undefined]);
  assert.deepEqual(after([30_002]), [undefined]);
  assert.deepEqual(after([30_001, 30_009]), [30_001, 30_009]);
});
