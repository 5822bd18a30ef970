/**
 * Objects with holes: whatever field a client leaves out, the server refuses or accepts; nothing breaks in it. Each
 * kind's example loses each of its fields in turn, when it is made and when it is replaced.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isObject } from '#base/unknown.ts';
import { createTestApi } from './fixture.ts';

const podSpec = {
  restartPolicy: 'Always',
  containers: [
    {
      name: 'c',
      image: 'i',
      ports: [{ name: 'web', containerPort: 80, hostPort: 80 }],
      env: [
        { name: 'A', value: 'b' },
        { name: 'B', valueFrom: { configMapKeyRef: { name: 'm', key: 'k' } } },
        { name: 'C', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
      ],
      envFrom: [{ configMapRef: { name: 'm' } }],
      resources: { requests: { cpu: '1' }, limits: { cpu: '1' } },
      volumeMounts: [{ name: 'v', mountPath: '/v', subPath: 'x' }],
      livenessProbe: { httpGet: { path: '/', port: 'web' }, periodSeconds: 1 },
      readinessProbe: { exec: { command: ['true'] } },
      lifecycle: { preStop: { sleep: { seconds: 1 } } },
      securityContext: { runAsUser: 1, seccompProfile: { type: 'Localhost', localhostProfile: 'p' } },
    },
  ],
  initContainers: [{ name: 'i', image: 'i', restartPolicy: 'Always' }],
  volumes: [
    { name: 'v', emptyDir: { sizeLimit: '1Gi' } },
    { name: 'w', configMap: { name: 'm', items: [{ key: 'k', path: 'p' }] } },
    { name: 'x', projected: { sources: [{ serviceAccountToken: { path: 't', expirationSeconds: 600 } }] } },
    { name: 'y', persistentVolumeClaim: { claimName: 'c' } },
    { name: 'z', downwardAPI: { items: [{ path: 'l', fieldRef: { fieldPath: 'metadata.labels' } }] } },
  ],
  tolerations: [{ key: 'k', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 1 }],
  topologySpreadConstraints: [
    { maxSkew: 1, topologyKey: 'z', whenUnsatisfiable: 'DoNotSchedule', labelSelector: { matchLabels: { a: 'b' } } },
  ],
  affinity: {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: 'k', operator: 'In', values: ['v'] }] }],
      },
      preferredDuringSchedulingIgnoredDuringExecution: [
        { weight: 1, preference: { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n'] }] } },
      ],
    },
    podAntiAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: 'h', labelSelector: {} }],
      preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 1, podAffinityTerm: { topologyKey: 'h' } }],
    },
  },
  dnsConfig: { nameservers: ['10.0.0.1'], options: [{ name: 'ndots', value: '2' }] },
  hostAliases: [{ ip: '10.0.0.1', hostnames: ['h'] }],
  securityContext: { sysctls: [{ name: 'kernel.shm_rmid_forced', value: '0' }], fsGroup: 1 },
};
const container = { name: 'c', image: 'i' };
const template = { metadata: { labels: { app: 'a' } }, spec: { containers: [container] } };
const never = { ...template, spec: { containers: [container], restartPolicy: 'Never' } };
const selector = { matchLabels: { app: 'a' } };
const core = '/api/v1/namespaces/default';
const apis = (group: string): string => `/apis/${group}/namespaces/default`;

const examples: Record<string, [path: string, fields: object]> = {
  Pod: [`${core}/pods`, { spec: { ...podSpec, schedulingGates: [{ name: 'example.com/gate' }] } }],
  PodTemplate: [`${core}/podtemplates`, { template }],
  ReplicationController: [`${core}/replicationcontrollers`, { spec: { selector: { app: 'a' }, template } }],
  Service: [
    `${core}/services`,
    { spec: { type: 'NodePort', selector: { a: 'b' }, ports: [{ name: 'p', port: 80, targetPort: 'web' }] } },
  ],
  ExternalName: [`${core}/services`, { spec: { type: 'ExternalName', externalName: 'example.com' } }],
  ConfigMap: [`${core}/configmaps`, { data: { a: 'b' }, binaryData: { c: 'ZA==' }, immutable: true }],
  Secret: [`${core}/secrets`, { type: 'kubernetes.io/tls', data: { 'tls.crt': '', 'tls.key': '' } }],
  PersistentVolumeClaim: [
    `${core}/persistentvolumeclaims`,
    { spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, storageClassName: 's' } },
  ],
  ResourceQuota: [
    `${core}/resourcequotas`,
    {
      spec: {
        hard: { pods: '1' },
        scopeSelector: { matchExpressions: [{ scopeName: 'PriorityClass', operator: 'In', values: ['p'] }] },
      },
    },
  ],
  LimitRange: [
    `${core}/limitranges`,
    { spec: { limits: [{ type: 'Container', max: { cpu: '2' }, min: { cpu: '1' }, default: { cpu: '1' } }] } },
  ],
  Endpoints: [`${core}/endpoints`, { subsets: [{ addresses: [{ ip: '10.0.0.1' }], ports: [{ port: 80 }] }] }],
  Event: [
    `${core}/events`,
    {
      involvedObject: { kind: 'Pod', namespace: 'default', name: 'p' },
      source: { component: 'c' },
      reason: 'R',
      message: 'm',
      type: 'Normal',
    },
  ],
  ServiceAccount: [`${core}/serviceaccounts`, { imagePullSecrets: [{ name: 's' }] }],
  Namespace: ['/api/v1/namespaces', { spec: { finalizers: ['kubernetes'] } }],
  Node: ['/api/v1/nodes', { spec: { taints: [{ key: 'k', effect: 'NoExecute' }], podCIDR: '10.0.0.0/24' } }],
  PersistentVolume: [
    '/api/v1/persistentvolumes',
    {
      spec: {
        capacity: { storage: '1Gi' },
        accessModes: ['ReadWriteOnce'],
        hostPath: { path: '/p' },
        nodeAffinity: {
          required: { nodeSelectorTerms: [{ matchExpressions: [{ key: 'k', operator: 'Exists' }] }] },
        },
      },
    },
  ],
  Deployment: [
    `${apis('apps/v1')}/deployments`,
    { spec: { replicas: 1, selector, template, strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } } },
  ],
  ReplicaSet: [`${apis('apps/v1')}/replicasets`, { spec: { selector, template } }],
  DaemonSet: [
    `${apis('apps/v1')}/daemonsets`,
    { spec: { selector, template, updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } } } },
  ],
  StatefulSet: [
    `${apis('apps/v1')}/statefulsets`,
    {
      spec: {
        selector,
        template,
        serviceName: 's',
        updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 1 } },
        volumeClaimTemplates: [
          {
            metadata: { name: 'd' },
            spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
          },
        ],
      },
    },
  ],
  ControllerRevision: [`${apis('apps/v1')}/controllerrevisions`, { data: { spec: {} }, revision: 1 }],
  Job: [
    `${apis('batch/v1')}/jobs`,
    {
      spec: {
        completions: 2,
        parallelism: 1,
        completionMode: 'Indexed',
        backoffLimitPerIndex: 1,
        template: never,
        podFailurePolicy: {
          rules: [
            { action: 'FailJob', onExitCodes: { operator: 'In', values: [1], containerName: 'c' } },
            { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
          ],
        },
        successPolicy: { rules: [{ succeededIndexes: '0', succeededCount: 1 }] },
      },
    },
  ],
  CronJob: [
    `${apis('batch/v1')}/cronjobs`,
    { spec: { schedule: '* * * * *', timeZone: 'Etc/UTC', jobTemplate: { spec: { template: never } } } },
  ],
  HorizontalPodAutoscaler: [
    `${apis('autoscaling/v2')}/horizontalpodautoscalers`,
    {
      spec: {
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'd' },
        maxReplicas: 2,
        metrics: [
          { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } } },
          { type: 'Pods', pods: { metric: { name: 'm' }, target: { type: 'AverageValue', averageValue: '1' } } },
        ],
        behavior: { scaleUp: { policies: [{ type: 'Pods', value: 1, periodSeconds: 1 }] } },
      },
    },
  ],
  HorizontalPodAutoscalerV1: [
    `${apis('autoscaling/v1')}/horizontalpodautoscalers`,
    {
      spec: {
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'd' },
        maxReplicas: 2,
        targetCPUUtilizationPercentage: 50,
      },
    },
  ],
  PodDisruptionBudget: [`${apis('policy/v1')}/poddisruptionbudgets`, { spec: { selector, minAvailable: 1 } }],
  EndpointSlice: [
    `${apis('discovery.k8s.io/v1')}/endpointslices`,
    {
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready: true }, hints: { forZones: [{ name: 'z' }] } }],
      ports: [{ name: 'p', port: 80 }],
    },
  ],
  Ingress: [
    `${apis('networking.k8s.io/v1')}/ingresses`,
    {
      spec: {
        tls: [{ hosts: ['h'], secretName: 's' }],
        rules: [
          {
            host: 'example.com',
            http: {
              paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 's', port: { number: 80 } } } }],
            },
          },
        ],
      },
    },
  ],
  IngressClass: ['/apis/networking.k8s.io/v1/ingressclasses', { spec: { controller: 'example.com/c' } }],
  NetworkPolicy: [
    `${apis('networking.k8s.io/v1')}/networkpolicies`,
    {
      spec: {
        podSelector: selector,
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80, endPort: 81 }] }],
        egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } }] }],
      },
    },
  ],
  StorageClass: ['/apis/storage.k8s.io/v1/storageclasses', { provisioner: 'p', parameters: { a: 'b' } }],
  CSIDriver: ['/apis/storage.k8s.io/v1/csidrivers', { spec: { attachRequired: true } }],
  VolumeAttachment: [
    '/apis/storage.k8s.io/v1/volumeattachments',
    { spec: { attacher: 'a', nodeName: 'n', source: { persistentVolumeName: 'v' } } },
  ],
  ClusterRole: [
    '/apis/rbac.authorization.k8s.io/v1/clusterroles',
    {
      rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }],
      aggregationRule: { clusterRoleSelectors: [{ matchLabels: { a: 'b' } }] },
    },
  ],
  RoleBinding: [
    `${apis('rbac.authorization.k8s.io/v1')}/rolebindings`,
    {
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'admin' },
      subjects: [{ kind: 'User', name: 'u', apiGroup: 'rbac.authorization.k8s.io' }],
    },
  ],
  PriorityClass: ['/apis/scheduling.k8s.io/v1/priorityclasses', { value: 1, preemptionPolicy: 'Never' }],
  Lease: [`${apis('coordination.k8s.io/v1')}/leases`, { spec: { holderIdentity: 'h', leaseDurationSeconds: 1 } }],
  RuntimeClass: ['/apis/node.k8s.io/v1/runtimeclasses', { handler: 'h', overhead: { podFixed: { cpu: '1' } } }],
  ValidatingWebhookConfiguration: [
    '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations',
    {
      webhooks: [
        {
          name: 'a.b.c',
          clientConfig: { service: { name: 's', namespace: 'n', path: '/p' } },
          sideEffects: 'None',
          admissionReviewVersions: ['v1'],
          rules: [{ operations: ['CREATE'], apiGroups: ['example.com'], apiVersions: ['*'], resources: ['*'] }],
        },
      ],
    },
  ],
  ValidatingAdmissionPolicy: [
    '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies',
    {
      spec: {
        validations: [{ expression: 'true' }],
        matchConstraints: {
          resourceRules: [{ apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*'] }],
        },
      },
    },
  ],
  MutatingAdmissionPolicy: [
    '/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies',
    {
      spec: {
        mutations: [{ patchType: 'ApplyConfiguration', applyConfiguration: { expression: 'Object{}' } }],
        matchConstraints: {
          resourceRules: [{ apiGroups: ['*'], apiVersions: ['*'], operations: ['CREATE'], resources: ['*'] }],
        },
        reinvocationPolicy: 'Never',
      },
    },
  ],
  CustomResourceDefinition: [
    '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    {
      metadata: { name: 'xs.example.com' },
      spec: {
        group: 'example.com',
        scope: 'Namespaced',
        names: { plural: 'xs', kind: 'X' },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            subresources: { status: {}, scale: { specReplicasPath: '.spec.r', statusReplicasPath: '.status.r' } },
            additionalPrinterColumns: [{ name: 'N', type: 'string', jsonPath: '.spec.n' }],
            schema: {
              openAPIV3Schema: {
                type: 'object',
                properties: {
                  spec: {
                    type: 'object',
                    properties: { n: { type: 'string', default: 'x' }, r: { type: 'integer' } },
                  },
                  status: { type: 'object', properties: { r: { type: 'integer' } } },
                },
              },
            },
          },
        ],
      },
    },
  ],
  APIService: [
    '/apis/apiregistration.k8s.io/v1/apiservices',
    {
      metadata: { name: 'v1.example.org' },
      spec: { group: 'example.org', version: 'v1', groupPriorityMinimum: 1, versionPriority: 1 },
    },
  ],
};

/** The paths of all fields and items of a value. */
function* pathsIn(value: unknown, at: readonly (string | number)[] = []): Generator<readonly (string | number)[]> {
  const entries = Array.isArray(value) ? value.entries() : isObject(value) ? Object.entries(value) : [];
  for (const [key, item] of entries) {
    yield [...at, key];
    yield* pathsIn(item, [...at, key]);
  }
}

/** A copy of an object without one field. */
function without(object: object, path: readonly (string | number)[]): unknown {
  const copy: unknown = structuredClone(object);
  let holder = copy;
  for (const key of path.slice(0, -1)) holder = Reflect.get(Object(holder), key);
  const last = path.at(-1) ?? '';
  if (Array.isArray(holder)) holder.splice(Number(last), 1);
  else Reflect.deleteProperty(Object(holder), last);
  return copy;
}

describe('an object with a hole breaks nothing', () => {
  for (const [name, [path, fields]] of Object.entries(examples))
    it(name, async () => {
      await using t = await createTestApi();
      const object = { metadata: { name: 'x' }, ...fields };
      const broken: string[] = [];
      const judge = (verb: string, hole: readonly (string | number)[], { status, text }: Answer): void => {
        if (status >= 500) broken.push(`${verb} without ${hole.join('.')}: ${text.slice(0, 200)}`);
      };
      for (const hole of pathsIn(object))
        judge('POST', hole, await t.call('POST', `${path}?dryRun=All`, without(object, hole)));
      const made = await t.call('POST', path, object);
      assert.equal(made.status, 201, made.text);
      const stored: object = made.body;
      const at = `${path}/${object.metadata.name}`;
      for (const hole of pathsIn(stored)) {
        const given = without(stored, hole);
        judge('PUT', hole, await t.call('PUT', `${at}?dryRun=All`, given));
        judge('PUT status', hole, await t.call('PUT', `${at}/status?dryRun=All`, given));
      }
      assert.deepEqual(broken, []);
    });
});

it('an object that is accepted without a spec has an empty one', async () => {
  await using t = await createTestApi();
  const accepted: string[] = [];
  for (const [name, [path, fields]] of Object.entries(examples)) {
    if (!('spec' in fields)) continue;
    const { status, body } = await t.call('POST', `${path}?dryRun=All`, { metadata: { name: 'x' } });
    if (status !== 201) continue;
    accepted.push(name);
    assert.ok(isObject(body.spec), name);
  }
  assert.ok(accepted.includes('Lease') && accepted.includes('ResourceQuota'), accepted.join());
});

type Answer = Awaited<ReturnType<Awaited<ReturnType<typeof createTestApi>>['call']>>;
