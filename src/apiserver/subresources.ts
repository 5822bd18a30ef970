/** Subresources: each name has its own small handler, listed at the end. */
import type { Binding, Pod, PodCondition } from '#api/core.v1.ts';
import type { Draft, Manifest } from '#api/manifest.ts';
import type { Eviction } from '#api/policy.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import { kinds } from '#base/kinds.ts';
import type { KubeObject, KubeStatus } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import { validatePodSpec } from '#schema/validate-pod.ts';
import { validateEphemeralUpdate, validateResize } from '#schema/validate-pod-update.ts';
import { validateRequestPart } from '#schema/validate-signing-request.ts';
import { qosClassOf } from '#schema/qos.ts';
import type { RequestContext } from './context.ts';
import { bodyKind, decodeAs, decodeOptions } from './decode.ts';
import { deleteObject } from './delete.ts';
import { handleConnect } from './connect.ts';
import { admitEviction, markDisrupted } from './eviction-api.ts';
import { getStored, handleGet } from './read.ts';
import { answerStatus, viewAs } from './respond.ts';
import { handleScale } from './scale.ts';
import { handleToken } from './token-request.ts';
import { handlePatch, handleUpdate } from './write.ts';
import { isDryRun, updateObject } from './write-path.ts';
import { conflict } from './object-errors.ts';
import type { UpdateOptions } from './write-path.ts';

type Handler = (context: RequestContext) => Promise<ApiResponse>;

function success(): KubeStatus {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 };
}

/** get, update and patch of a part of the object. */
const part =
  <T extends KubeObject>(options: UpdateOptions<T> = {}): Handler =>
  (context) => {
    const { verb } = context.info;
    if (verb === 'get') return handleGet(context);
    if (verb === 'update') return handleUpdate(context, options);
    if (verb === 'patch') return handlePatch(context, options);
    throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource', {});
  };

const resize: UpdateOptions<Pod> = {
  validate({ spec = {}, metadata }, old, errors) {
    validatePodSpec(spec, 'spec', errors);
    if (old.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined)
      errors.forbidden('', 'static pods cannot be resized');
    if (qosClassOf(spec) !== (old.status?.qosClass ?? qosClassOf(old.spec)))
      errors.invalid('spec', metadata?.name, 'Pod QOS Class may not change as a result of resizing');
    validateResize(spec, old.spec, errors);
  },
};

/** The node that a binding names. Throws Invalid. */
function boundNode(binding: Draft<Binding>, podName: string): string {
  const { name, kind = '' } = binding.target ?? {};
  if (!name)
    throw new ApiError('Invalid', `Binding "${podName}" is invalid: target.name: Required value`, {
      name: podName,
      kind: 'Binding',
      causes: [{ reason: 'FieldValueRequired', message: 'Required value', field: 'target.name' }],
    });
  if (kind !== '' && kind !== 'Node')
    throw new ApiError(
      'Invalid',
      `Binding "${podName}" is invalid: target.kind: Unsupported value: ${JSON.stringify(kind)}: supported values: "Node", "<empty>"`,
    );
  return name;
}

/** Binds a Pod to a node: `pods/binding`, and `bindings`. */
export async function bindPod(
  context: RequestContext,
  binding: Draft<Binding> & KubeObject,
  podName: string,
): Promise<ApiResponse> {
  const { server, info } = context;
  const pods = server.kinds.builtIn(kinds.Pod);
  const nodeName = boundNode(binding, podName);
  await updateObject(
    { ...context, kind: pods, info: { ...info, resource: 'pods', name: podName, subresource: 'binding' } },
    podName,
    (pod) => {
      if (pod.metadata.deletionTimestamp !== undefined)
        throw conflict(pods, podName, `pod ${podName} is being deleted, cannot be assigned to a host`);
      if (pod.spec.nodeName)
        throw conflict(
          pods,
          podName,
          `pod ${podName} is already assigned to node ${JSON.stringify(pod.spec.nodeName)}`,
        );
      if ((pod.spec.schedulingGates ?? []).length > 0)
        throw conflict(pods, podName, `pod ${podName} has non-empty .spec.schedulingGates`);
      const { resourceVersion: _r, annotations: held, ...metadata } = pod.metadata;
      const annotations = { ...held, ...binding.metadata.annotations };
      const conditions = (pod.status?.conditions ?? []).filter(({ type }) => type !== 'PodScheduled');
      const scheduled: PodCondition = {
        type: 'PodScheduled',
        status: 'True',
        lastProbeTime: null,
        lastTransitionTime: timestamp(server.clock.now()),
      };
      const bound: Manifest<Pod> = {
        ...pod,
        metadata: Object.keys(annotations).length === 0 ? metadata : { ...metadata, annotations },
        spec: { ...pod.spec, nodeName },
        status: { ...pod.status, conditions: [...conditions, scheduled] },
      };
      return bound;
    },
    {
      subresource: 'binding',
      sharesCurrent: true,
      keepsGeneration: true,
      ...(binding.metadata.uid === undefined ? {} : { uid: binding.metadata.uid }),
      validate: () => undefined,
    },
  );
  return answerStatus(context, success(), 201);
}

const bindingKind = bodyKind<Binding>('v1', 'Binding', 'core.v1/Binding');

async function handleBinding(context: RequestContext): Promise<ApiResponse> {
  return bindPod(context, decodeAs(context, bindingKind), context.info.name);
}

const evictionKind = bodyKind<Eviction>('policy/v1', 'Eviction', 'policy.v1/Eviction');

/** `pods/eviction` (Kubernetes, "API-initiated Eviction"): a delete that disruption budgets may refuse. */
async function handleEviction(context: RequestContext): Promise<ApiResponse> {
  const { server, info } = context;
  const kind = server.kinds.builtIn(kinds.Pod);
  const { deleteOptions: options = {} } = decodeOptions(context, evictionKind);
  for (const flag of options.dryRun ?? []) context.request.query.append('dryRun', flag);
  const pod = viewAs(context, kind, await getStored(context));
  const { uid, resourceVersion } = options.preconditions ?? {};
  if (uid !== undefined && uid !== pod.metadata.uid)
    throw conflict(
      context.kind,
      info.name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${pod.metadata.uid}`,
    );
  if (resourceVersion !== undefined && resourceVersion !== pod.metadata.resourceVersion)
    throw conflict(context.kind, info.name);
  await admitEviction(context, pod);
  if (isDryRun(context)) {
    await deleteObject(context, info.namespace, info.name, options);
    return answerStatus(context, success(), 201);
  }
  // The Pod that was let go is the one that goes, in whatever version; another one of its name is not.
  await markDisrupted({ ...context, kind }, info.name);
  await deleteObject(context, info.namespace, info.name, { ...options, preconditions: { uid: pod.metadata.uid } });
  return answerStatus(context, success(), 201);
}

const handlers: Readonly<Record<string, Handler>> = {
  status: part(),
  approval: part({ validate: validateRequestPart('approval') }),
  finalize: part({ validate: () => undefined }),
  ephemeralcontainers: part({ validate: validateEphemeralUpdate }),
  resize: part(resize),
  scale: handleScale,
  binding: handleBinding,
  eviction: handleEviction,
  token: handleToken,
  exec: handleConnect,
  attach: handleConnect,
  portforward: handleConnect,
  log: handleConnect,
  proxy: handleConnect,
};

export async function handleSubresource(context: RequestContext): Promise<ApiResponse> {
  const handler = handlers[context.info.subresource];
  if (handler === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  return handler(context);
}
