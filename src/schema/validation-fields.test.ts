import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { defaultTemplate } from './defaults.ts';
import { FieldErrors } from './field-errors.ts';
import { validateDaemonSet, validateStatefulSet } from './validate-apps.ts';
import { validateJob } from './validate-batch.ts';
import { validateAutoscaler } from './validate-autoscaler.ts';
import { validateClaim } from './validate-claim.ts';
import { validateIngress, validateSecret } from './validate-core.ts';
import { validateVolume } from './validate-volume.ts';
import { validatePodSpec } from './validate-pod.ts';
import { validateBudget } from './validate-policy.ts';

/** The fields that a validation names, in its order. */
function fieldsNamed(validate: (errors: FieldErrors) => void): string[] {
  const errors = new FieldErrors();
  validate(errors);
  return errors.causes.map(({ field }) => field ?? '');
}

const container = (more: TestJson = {}): TestJson => ({ name: 'c', image: 'i', ...more });
/** A template as it is once its defaults are set. */
const templateOf = (spec: TestJson): TestJson => {
  const made = { metadata: { labels: { a: 'b' } }, spec };
  defaultTemplate(made);
  return made;
};
const pod = (more: TestJson): string[] =>
  fieldsNamed((errors) => {
    const made = { spec: { containers: [container()], ...structuredClone(more) } };
    defaultTemplate(made);
    validatePodSpec(made.spec, 'spec', errors);
  });
const one = (more: TestJson): string[] => pod({ containers: [container(more)] });
const template = templateOf({ restartPolicy: 'Never', containers: [container()] });

describe('what a Pod may not say', () => {
  it('host ports are given once, to containers that run side by side', () => {
    const port = { containerPort: 80, hostPort: 80, protocol: 'TCP' };
    const twice = [container({ ports: [port] }), container({ name: 'd', ports: [{ ...port, containerPort: 81 }] })];
    assert.deepEqual(pod({ containers: twice }), ['spec.containers[1].ports[0].hostPort']);
    assert.deepEqual(pod({ initContainers: twice.map((c, i) => ({ ...c, name: `i${i}` })) }), []);
    assert.deepEqual(one({ ports: [port, { ...port, protocol: 'UDP' }, { ...port, hostIP: '10.0.0.1' }] }), []);
  });

  it("the host's namespaces are shared consistently", () => {
    assert.deepEqual(
      pod({ hostNetwork: true, containers: [container({ ports: [{ containerPort: 80, hostPort: 81 }] })] }),
      ['spec.containers[0].ports[0].hostPort'],
    );
    assert.deepEqual(
      pod({
        hostNetwork: true,
        containers: [container({ ports: [{ containerPort: 80, hostPort: 80 }, { containerPort: 82 }] })],
      }),
      [],
    );
    assert.deepEqual(pod({ hostPID: true, shareProcessNamespace: true }), ['spec.shareProcessNamespace']);
  });

  it('affinity has terms, weights and topologies', () => {
    const required = 'requiredDuringSchedulingIgnoredDuringExecution';
    const preferred = 'preferredDuringSchedulingIgnoredDuringExecution';
    const term = (e: TestJson): TestJson => ({
      affinity: { nodeAffinity: { [required]: { nodeSelectorTerms: [{ matchExpressions: [e] }] } } },
    });
    const at = `spec.affinity.nodeAffinity.${required}.nodeSelectorTerms`;
    assert.deepEqual(pod({ affinity: { nodeAffinity: { [required]: { nodeSelectorTerms: [] } } } }), [at]);
    assert.deepEqual(pod(term({ key: 'a', operator: 'Is', values: ['b'] })), [`${at}[0].matchExpressions[0].operator`]);
    assert.deepEqual(pod(term({ key: 'a', operator: 'In' })), [`${at}[0].matchExpressions[0].values`]);
    assert.deepEqual(pod(term({ key: 'a', operator: 'Gt', values: ['1', '2'] })), [
      `${at}[0].matchExpressions[0].values`,
    ]);
    assert.deepEqual(pod(term({ key: 'a', operator: 'Gt', values: ['1'] })), []);
    for (const kind of ['podAffinity', 'podAntiAffinity']) {
      const without = new Set(pod({ affinity: { [kind]: { [required]: [{ labelSelector: {} }] } } }));
      assert.deepEqual([...without], [`spec.affinity.${kind}.${required}[0].topologyKey`]);
      assert.deepEqual(
        pod({ affinity: { [kind]: { [preferred]: [{ weight: 101, podAffinityTerm: { topologyKey: 'a' } }] } } }),
        [`spec.affinity.${kind}.${preferred}[0].weight`],
      );
    }
  });

  it('devices come whole, and are requested as they are limited', () => {
    assert.deepEqual(one({ resources: { limits: { 'x.io/gpu': '500m' } } }), [
      'spec.containers[0].resources.limits[x.io/gpu]',
    ]);
    assert.deepEqual(one({ resources: { limits: { 'x.io/gpu': '2' }, requests: { 'x.io/gpu': '1' } } }), [
      'spec.containers[0].resources.requests',
    ]);
    assert.deepEqual(one({ resources: { limits: { 'x.io/gpu': '2' }, requests: { 'x.io/gpu': '2' } } }), []);
    assert.deepEqual(pod({ resources: { limits: { cpu: '1' }, requests: { cpu: '2' } } }), ['spec.resources.requests']);
  });

  it('single fields keep their bounds', () => {
    assert.deepEqual(pod({ dnsConfig: { nameservers: ['1.1.1.1', '1.1.1.2', '1.1.1.3', '1.1.1.4'] } }), [
      'spec.dnsConfig.nameservers',
    ]);
    assert.deepEqual(pod({ schedulingGates: [{ name: 'a' }, { name: 'a' }] }), ['spec.schedulingGates[1]']);
    assert.deepEqual(pod({ os: { name: 'plan9' } }), ['spec.os']);
    const secured = {
      securityContext: { windowsOptions: {}, runAsUser: 0 },
      hostPID: true,
      hostIPC: false,
      containers: [container({ securityContext: { windowsOptions: {}, privileged: false } })],
    };
    assert.deepEqual(pod(secured), []);
    assert.deepEqual(pod({ ...secured, os: { name: 'linux' } }), [
      'spec.securityContext.windowsOptions',
      'spec.containers[0].securityContext.windowsOptions',
    ]);
    assert.deepEqual(pod({ ...secured, os: { name: 'windows' } }), [
      'spec.hostPID',
      'spec.securityContext.runAsUser',
      'spec.containers[0].securityContext.privileged',
    ]);
    assert.deepEqual(pod({ volumes: [{ name: 'v', emptyDir: { sizeLimit: '-1' } }] }), [
      'spec.volumes[0].emptyDir.sizeLimit',
    ]);
    assert.deepEqual(one({ securityContext: { procMount: 'Foo' } }), ['spec.containers[0].securityContext.procMount']);
    assert.deepEqual(one({ volumeDevices: [{ name: 'v', devicePath: '/d' }] }), [
      'spec.containers[0].volumeDevices[0].name',
    ]);
    const sleeping = { containers: [container({ lifecycle: { preStop: { sleep: { seconds: 31 } } } })] };
    assert.deepEqual(pod({ ...sleeping, terminationGracePeriodSeconds: 30 }), [
      'spec.containers[0].lifecycle.preStop.sleep',
    ]);
    assert.deepEqual(pod({ ...sleeping, terminationGracePeriodSeconds: 31 }), []);
  });
});

describe('what other objects may not say', () => {
  it('policies of a Job fit its mode and its indexes', () => {
    const job = (more: TestJson): string[] =>
      fieldsNamed((errors) => {
        const labels = { a: 'b' };
        const own = { manualSelector: true, selector: { matchLabels: labels } };
        validateJob({ metadata: { name: 'j' }, spec: { ...own, template, ...more } }, errors);
      });
    const indexed = { completionMode: 'Indexed', completions: 3 };
    assert.deepEqual(job({ backoffLimitPerIndex: 1 }), ['spec.backoffLimitPerIndex']);
    assert.deepEqual(job({ ...indexed, maxFailedIndexes: 1 }), ['spec.backoffLimitPerIndex']);
    assert.deepEqual(job({ ...indexed, backoffLimitPerIndex: 1, maxFailedIndexes: 4 }), ['spec.maxFailedIndexes']);
    const failure = (rule: TestJson): string[] => job({ podFailurePolicy: { rules: [rule] } });
    const rule = 'spec.podFailurePolicy.rules[0]';
    assert.deepEqual(failure({ action: 'FailJob' }), [rule]);
    assert.deepEqual(failure({ action: 'FailJob', onExitCodes: { operator: 'In', values: [0] } }), [
      `${rule}.onExitCodes.values[0]`,
    ]);
    assert.deepEqual(failure({ action: 'FailJob', onExitCodes: { operator: 'In', values: [2, 1] } }), [
      `${rule}.onExitCodes.values`,
    ]);
    assert.deepEqual(failure({ action: 'FailIndex', onExitCodes: { operator: 'In', values: [1] } }), [
      `${rule}.action`,
    ]);
    assert.deepEqual(
      failure({ action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] }),
      [],
    );
    const success = (more: TestJson, of: TestJson = indexed): string[] =>
      job({ ...of, successPolicy: { rules: [more] } });
    assert.deepEqual(success({ succeededCount: 1 }, {}).slice(0, 1), ['spec.successPolicy']);
    assert.deepEqual(success({ succeededIndexes: '0,2' }), []);
    assert.deepEqual(success({ succeededIndexes: '' }), []);
    for (const indexes of ['5-9', '2,1', '1,1', '2-1', '1-1', 'x', '0-1-2'])
      assert.deepEqual(
        success({ succeededIndexes: indexes }),
        ['spec.successPolicy.rules[0].succeededIndexes'],
        indexes,
      );
    assert.deepEqual(success({ succeededCount: 4 }), ['spec.successPolicy.rules[0].succeededCount']);
    assert.deepEqual(success({ succeededIndexes: '0-1', succeededCount: 3 }), [
      'spec.successPolicy.rules[0].succeededCount',
    ]);
    assert.deepEqual(job({ managedBy: 'foo' }), ['spec.managedBy']);
    assert.deepEqual(job({ podReplacementPolicy: 'Never' }), ['spec.podReplacementPolicy']);
  });

  it('metrics and pace of an autoscaler are complete', () => {
    const scaler = (more: TestJson): string[] =>
      fieldsNamed((errors) => {
        validateAutoscaler(
          {
            spec: { scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'a' }, maxReplicas: 2, ...more },
          },
          errors,
        );
      });
    const cpu = (target: TestJson): string[] =>
      scaler({ metrics: [{ type: 'Resource', resource: { name: 'cpu', target } }] });
    assert.deepEqual(scaler({ metrics: [{ type: 'Foo' }] }), ['spec.metrics[0].type', 'spec.metrics[0].type']);
    assert.deepEqual(scaler({ metrics: [{ type: 'Resource' }] }), ['spec.metrics[0].resource']);
    assert.deepEqual(cpu({ type: 'Utilization' }), ['spec.metrics[0].resource.target.averageUtilization']);
    assert.deepEqual(cpu({ type: 'Utilization', averageUtilization: 50 }), []);
    assert.deepEqual(cpu({ type: 'AverageValue', averageValue: '1' }), []);
    assert.deepEqual(scaler({ behavior: { scaleDown: { stabilizationWindowSeconds: 3601 } } }), [
      'spec.behavior.scaleDown.stabilizationWindowSeconds',
    ]);
    const policy = 'spec.behavior.scaleUp.policies[0]';
    assert.deepEqual(scaler({ behavior: { scaleUp: { policies: [{ type: 'X', value: 0, periodSeconds: 1801 }] } } }), [
      `${policy}.type`,
      `${policy}.value`,
      `${policy}.periodSeconds`,
    ]);
  });

  it('disruption budgets, StatefulSets and DaemonSets keep to their values', () => {
    const budget = (spec: TestJson): string[] =>
      fieldsNamed((errors) => {
        validateBudget({ spec }, errors);
      });
    assert.deepEqual(budget({ minAvailable: '150%' }), ['spec.minAvailable']);
    assert.deepEqual(budget({ maxUnavailable: -1 }), ['spec.maxUnavailable']);
    assert.deepEqual(budget({ minAvailable: 1, unhealthyPodEvictionPolicy: 'X' }), ['spec.unhealthyPodEvictionPolicy']);
    const base = {
      selector: { matchLabels: { a: 'b' } },
      template: templateOf({ containers: [container()] }),
    };
    const set = (more: TestJson): string[] =>
      fieldsNamed((errors) => {
        validateStatefulSet(
          { spec: { ...base, podManagementPolicy: 'Parallel', updateStrategy: { type: 'OnDelete' }, ...more } },
          errors,
        );
      });
    assert.deepEqual(set({ updateStrategy: { type: 'OnDelete', rollingUpdate: { partition: 1 } } }), [
      'spec.updateStrategy.rollingUpdate',
    ]);
    assert.deepEqual(set({ ordinals: { start: -1 } }), ['spec.ordinals.start']);
    assert.deepEqual(set({ persistentVolumeClaimRetentionPolicy: { whenDeleted: 'X', whenScaled: 'Retain' } }), [
      'spec.persistentVolumeClaimRetentionPolicy.whenDeleted',
    ]);
    const daemons = (rollingUpdate: TestJson): string[] =>
      fieldsNamed((errors) => {
        validateDaemonSet({ spec: { ...base, updateStrategy: { type: 'RollingUpdate', rollingUpdate } } }, errors);
      });
    assert.deepEqual(daemons({ maxSurge: 1, maxUnavailable: 1 }), ['spec.updateStrategy.rollingUpdate.maxSurge']);
    assert.deepEqual(daemons({ maxSurge: 1, maxUnavailable: 0 }), []);
  });

  it('claims, volumes, Secrets and Ingress paths hold what can be used', () => {
    const claim = (more: TestJson): string[] =>
      fieldsNamed((errors) => {
        validateClaim(
          { spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, ...more } },
          errors,
        );
      });
    assert.deepEqual(claim({ accessModes: ['ReadWriteOncePod', 'ReadWriteOnce'] }), ['spec.accessModes']);
    assert.deepEqual(claim({ resources: { requests: { storage: '0' } } }), ['spec.resources[storage]']);
    assert.deepEqual(claim({ volumeMode: 'X' }), ['spec.volumeMode']);
    const volume = {
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: '1Gi' },
      hostPath: { path: '/a' },
      persistentVolumeReclaimPolicy: 'Keep',
    };
    const volumeFields = (more: TestJson): string[] =>
      fieldsNamed((errors) => {
        validateVolume({ spec: { ...volume, ...more } }, errors);
      });
    assert.deepEqual(volumeFields({}), ['spec.persistentVolumeReclaimPolicy']);
    const recycled = (path: string): string[] =>
      volumeFields({ persistentVolumeReclaimPolicy: 'Recycle', hostPath: { path } });
    assert.deepEqual(recycled('/a'), []);
    for (const path of ['/', '//', '/.'])
      assert.deepEqual(recycled(path), ['spec.persistentVolumeReclaimPolicy'], path);
    assert.deepEqual(recycled('/a/../..'), ['spec.hostPath.path', 'spec.persistentVolumeReclaimPolicy']);
    const kept = { persistentVolumeReclaimPolicy: 'Retain' };
    assert.deepEqual(volumeFields({ ...kept, hostPath: { path: '', type: 'X' } }), [
      'spec.hostPath.path',
      'spec.hostPath.type',
    ]);
    assert.deepEqual(volumeFields({ ...kept, capacity: { storage: '1', cpu: '1' } }), ['spec.capacity']);
    assert.deepEqual(volumeFields({ ...kept, accessModes: ['ReadWriteOncePod', 'ReadOnlyMany'] }), [
      'spec.accessModes',
    ]);
    const login = (text: string): TestJson => ({
      metadata: {},
      type: 'kubernetes.io/dockerconfigjson',
      data: { '.dockerconfigjson': Buffer.from(text).toString('base64') },
    });
    assert.deepEqual(
      fieldsNamed((errors) => {
        validateSecret(login('nope'), errors);
      }),
      ['data[.dockerconfigjson]'],
    );
    assert.deepEqual(
      fieldsNamed((errors) => {
        validateSecret(login('{"auths":{}}'), errors);
      }),
      [],
    );
    const paths = (path: string): TestJson => ({
      spec: {
        rules: [
          {
            http: { paths: [{ path, pathType: 'Prefix', backend: { service: { name: 's', port: { number: 80 } } } }] },
          },
        ],
      },
    });
    for (const path of ['//a', '/a/../b', '/a%2fb', '/a/..'])
      assert.deepEqual(
        fieldsNamed((errors) => {
          validateIngress(paths(path), errors);
        }),
        ['spec.rules[0].http.paths[0].path'],
        path,
      );
  });
});
