/** The mutating plug-ins that are on by default in a cluster. */
import { ApiError } from '#base/errors.ts';
import type { PodSpec } from '#api/core.v1.ts';
import type { PriorityClass } from '#api/scheduling.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import type { RequestContext } from '../context.ts';
import { forbiddenBy } from '../object-errors.ts';
import { mainContainers, type AdmissionAttributes } from './attributes.ts';

const isKind = (context: RequestContext, group: string, resource: string): boolean =>
  context.kind.storage.group === group && context.kind.storage.resource === resource;
const immortal = new Set(['default', 'kube-system', 'kube-public']);

export async function admitNamespaceLifecycle(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { kind, info } = context;
  if (attributes.operation === 'DELETE') {
    if (isKind(context, '', 'namespaces') && immortal.has(info.name))
      throw forbiddenBy(context, info.name, 'this namespace may not be deleted');
    return;
  }
  if (!kind.namespaced || attributes.operation !== 'CREATE') return;
  const namespace = (await context.server.live.namespaces.current()).get('', info.namespace);
  if (namespace === undefined)
    throw new ApiError('NotFound', `namespaces ${JSON.stringify(info.namespace)} not found`, {
      name: info.namespace,
      kind: 'namespaces',
    });
  if (namespace.status?.phase === 'Terminating' || namespace.metadata.deletionTimestamp !== undefined) {
    const name = attributes.object.metadata.name ?? '';
    const error = forbiddenBy(
      context,
      name,
      `unable to create new content in namespace ${info.namespace} because it is being terminated`,
    );
    throw new ApiError('Forbidden', error.message, {
      ...error.details,
      causes: [
        {
          reason: 'NamespaceTerminating',
          message: `namespace ${info.namespace} is being terminated`,
          field: 'metadata.namespace',
        },
      ],
    });
  }
}

const tokenPath = '/var/run/secrets/kubernetes.io/serviceaccount';
const randomLetters = 'bcdfghjklmnpqrstvwxz2456789';

/** Sets the ServiceAccount and mounts its token. */
export async function admitServiceAccount(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const pod = attributes.object;
  if (!isOf(kinds.Pod, pod) || attributes.operation !== 'CREATE' || attributes.subresource !== '') return;
  const { spec } = pod;
  if (pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) return;
  spec.serviceAccountName ||= 'default';
  spec.serviceAccount = spec.serviceAccountName;
  const { namespace } = pod.metadata;
  const account = (await context.server.live.serviceAccounts.current()).get(namespace, spec.serviceAccountName);
  if (account === undefined)
    throw forbiddenBy(
      context,
      pod.metadata.name ?? '',
      `error looking up service account ${namespace}/${spec.serviceAccountName}: serviceaccount ${JSON.stringify(spec.serviceAccountName)} not found`,
    );
  const { imagePullSecrets = [] } = account;
  if ((spec.imagePullSecrets ?? []).length === 0 && imagePullSecrets.length > 0)
    spec.imagePullSecrets = structuredClone(imagePullSecrets);
  if ((spec.automountServiceAccountToken ?? account.automountServiceAccountToken) === false) return;
  mountToken(context, spec);
}

function mountToken(context: RequestContext, spec: PodSpec): void {
  const needing = mainContainers(spec).filter(
    ({ volumeMounts = [] }) => !volumeMounts.some(({ mountPath }) => mountPath === tokenPath),
  );
  if (needing.length === 0) return;
  let volume = spec.volumes?.find(({ name }) => String(name).startsWith('kube-api-access-'))?.name;
  if (volume === undefined) {
    volume = 'kube-api-access-';
    for (let i = 0; i < 5; i++)
      volume += randomLetters[Math.floor(context.server.random.float() * randomLetters.length)];
    (spec.volumes ??= []).push({
      name: volume,
      projected: {
        defaultMode: 0o644,
        sources: [
          { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
          { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
          {
            downwardAPI: {
              items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
            },
          },
        ],
      },
    });
  }
  for (const container of needing)
    (container.volumeMounts ??= []).push({ name: volume, readOnly: true, mountPath: tokenPath });
}

const notReady = { key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' };

/**
 * A new node takes Pods once its conditions are known: the node life cycle takes the taint away (TaintNodesByCondition
 * of the reference implementation).
 */
export function admitNodeTaint(
  _context: RequestContext,
  { object, operation, subresource }: AdmissionAttributes,
): void {
  if (!isOf(kinds.Node, object) || operation !== 'CREATE' || subresource !== '') return;
  const spec = (object.spec ??= {});
  const has = (spec.taints ?? []).some(({ key, effect }) => key === notReady.key && effect === notReady.effect);
  if (!has) spec.taints = [...(spec.taints ?? []), { ...notReady }];
}

const unreachable = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** Of updates, too: whoever replaces a Pod's tolerations need not repeat these. */
export function admitDefaultTolerations(context: RequestContext, attributes: AdmissionAttributes): void {
  const { object, operation } = attributes;
  if (!isOf(kinds.Pod, object) || attributes.subresource !== '') return;
  if (operation !== 'CREATE' && operation !== 'UPDATE') return;
  const { spec } = object;
  for (const key of unreachable) {
    const tolerated = (spec.tolerations ?? []).some(
      (t) => (t.key === key || (!t.key && t.operator === 'Exists')) && (!t.effect || t.effect === 'NoExecute'),
    );
    if (!tolerated)
      (spec.tolerations ??= []).push({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 });
  }
}

/** Who replaces a Pod need not know the number that its class gave it. */
function keepPriority(spec: PodSpec, old: KubeObject | undefined): void {
  if (old === undefined || !isOf(kinds.Pod, old)) return;
  const { priority, preemptionPolicy } = old.spec;
  if (priority !== undefined) spec.priority ??= priority;
  if (preemptionPolicy !== undefined) spec.preemptionPolicy ??= preemptionPolicy;
}

export async function admitPriority(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const pod = attributes.object;
  if (!isOf(kinds.Pod, pod) || attributes.subresource !== '') return;
  const { spec } = pod;
  if (attributes.operation === 'UPDATE') keepPriority(spec, attributes.old);
  if (attributes.operation !== 'CREATE') return;
  const classes = await context.server.live.priorityClasses.current();
  let found: PriorityClass | undefined;
  if (spec.priorityClassName) {
    found = classes.get('', spec.priorityClassName);
    if (found === undefined)
      throw forbiddenBy(
        context,
        pod.metadata.name ?? '',
        `no PriorityClass with name ${spec.priorityClassName} was found`,
      );
  } else {
    found = classes.in()[0];
    if (found !== undefined) spec.priorityClassName = found.metadata.name;
  }
  const value = found?.value ?? 0;
  if (typeof spec.priority === 'number' && spec.priority !== value)
    throw forbiddenBy(
      context,
      pod.metadata.name ?? '',
      `the integer value of priority (${spec.priority}) must not be provided in pod spec; priority admission controller computed ${value} from the given PriorityClass name`,
    );
  spec.priority = value;
  const preemption = found?.preemptionPolicy ?? 'PreemptLowerPriority';
  if (spec.preemptionPolicy && spec.preemptionPolicy !== preemption)
    throw forbiddenBy(
      context,
      pod.metadata.name ?? '',
      `the string value of PreemptionPolicy (${spec.preemptionPolicy}) must not be provided in pod spec; priority admission controller computed ${preemption} from the given PriorityClass name`,
    );
  spec.preemptionPolicy = preemption;
}

export async function admitDefaultStorageClass(
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<void> {
  const claim = attributes.object;
  if (!isOf(kinds.PersistentVolumeClaim, claim) || attributes.operation !== 'CREATE') return;
  if (
    claim.spec.storageClassName !== undefined ||
    claim.metadata.annotations?.['volume.beta.kubernetes.io/storage-class'] !== undefined
  )
    return;
  const found = (await context.server.live.storageClasses.current()).in();
  if (found !== undefined) claim.spec.storageClassName = found.metadata.name;
}

/**
 * Claims and volumes are made with the finalizer that keeps them while they are used (StorageObjectInUseProtection of
 * the reference implementation).
 */
export function admitStorageProtection(context: RequestContext, attributes: AdmissionAttributes): void {
  if (attributes.operation !== 'CREATE' || attributes.subresource !== '') return;
  const finalizer = isKind(context, '', 'persistentvolumeclaims')
    ? 'kubernetes.io/pvc-protection'
    : isKind(context, '', 'persistentvolumes')
      ? 'kubernetes.io/pv-protection'
      : isKind(context, 'storage.k8s.io', 'volumeattributesclasses')
        ? 'kubernetes.io/vac-protection'
        : '';
  if (finalizer === '') return;
  const { metadata } = attributes.object;
  if (!(metadata.finalizers ?? []).includes(finalizer))
    metadata.finalizers = [...(metadata.finalizers ?? []), finalizer];
}

/** Who asks for a certificate is what the server knows, not what the request says. */
export function admitCertificateRequester(context: RequestContext, attributes: AdmissionAttributes): void {
  const { object, operation } = attributes;
  if (!isOf(kinds.CertificateSigningRequest, object) || operation !== 'CREATE') return;
  const { user } = context;
  const { username: _u, uid: _i, groups: _g, extra: _e, ...spec } = object.spec;
  object.spec = {
    ...spec,
    username: user.name,
    ...(user.uid === undefined ? {} : { uid: user.uid }),
    groups: [...user.groups],
    ...(user.extra === undefined ? {} : { extra: structuredClone(user.extra) }),
  };
}
