import type { Service } from '#api/core.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { containerEnvironment, expandVariables, serviceVariables, type EnvContext } from './env.ts';
import { stored } from './stored.testing.ts';

const service: Service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { ...stored, name: 'my-db', namespace: 'default' },
  spec: { clusterIP: '10.96.0.7', ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }] },
};

function context(over: Partial<EnvContext>): EnvContext {
  return {
    pod: {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...stored, name: 'web', namespace: 'default', uid: 'u', labels: { app: 'web' } },
      spec: { containers: [] },
    },
    container: { name: 'main' },
    objects: {
      configMap: async (_namespace, name) =>
        name === 'settings'
          ? { apiVersion: 'v1', kind: 'ConfigMap', metadata: { ...stored, name: 'c' }, data: { COLOUR: 'blue' } }
          : undefined,
      secret: async () => ({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { ...stored, name: 'c' },
        data: { key: Buffer.from('hidden').toString('base64') },
      }),
    },
    services: [],
    podIp: '10.244.0.2',
    hostIp: '10.0.0.1',
    nodeAllocatable: { cpu: 4, memory: 1024, ephemeralStorage: 1 },
    ...over,
  };
}

test('references expand to earlier variables, $$ escapes, and unknown ones stay', () => {
  const lookup = (name: string): string | undefined => (name === 'A' ? 'one' : undefined);
  assert.equal(expandVariables('$(A) $(B) $$(A) $A', lookup), 'one $(B) $(A) $A');
});

test('Services of the namespace become variables with their ports', () => {
  const variables = serviceVariables('default', [service], true);
  assert.equal(variables.get('MY_DB_SERVICE_HOST'), '10.96.0.7');
  assert.equal(variables.get('MY_DB_SERVICE_PORT_SQL'), '5432');
  assert.equal(variables.get('MY_DB_PORT_5432_TCP'), 'tcp://10.96.0.7:5432');
  assert.equal(serviceVariables('other', [service], true).size, 0);
});

test('values come from fields, ConfigMaps, Secrets and resources', async () => {
  const env = await containerEnvironment(
    context({
      container: {
        name: 'main',
        envFrom: [{ prefix: 'C_', configMapRef: { name: 'settings' } }],
        resources: { limits: { memory: '1Mi' } },
        env: [
          { name: 'POD', valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
          { name: 'SECRET', valueFrom: { secretKeyRef: { name: 's', key: 'key' } } },
          { name: 'LIMIT', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Ki' } } },
          { name: 'CPU', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
          { name: 'BOTH', value: '$(POD)-$(C_COLOUR)' },
        ],
      },
    }),
  );
  assert.deepEqual(Object.fromEntries(env), {
    C_COLOUR: 'blue',
    POD: 'web',
    SECRET: 'hidden',
    LIMIT: '1024',
    CPU: '4',
    BOTH: 'web-blue',
  });
});

test('a missing reference is an error unless it is optional', async () => {
  const container = (optional: boolean) => ({
    name: 'main',
    env: [{ name: 'X', valueFrom: { configMapKeyRef: { name: 'gone', key: 'k', optional } } }],
  });
  await assert.rejects(containerEnvironment(context({ container: container(false) })), /configmap "gone" not found/);
  assert.equal((await containerEnvironment(context({ container: container(true) }))).size, 0);
});
