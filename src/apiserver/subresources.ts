/** Subresources: each name has its own small handler, listed at the end. */
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import type { Json, KubeObject, KubeStatus } from '#base/objects.ts';
import { typeOf } from '#schema/types.ts';
import { validateEphemeralContainers, validatePodSpec } from '#schema/validate-pod.ts';
import { qosClassOf } from '#schema/qos.ts';
import { issuerOf } from './authn/authenticate.ts';
import { nodeNameOf } from './authz/node.ts';
import type { RequestContext } from './context.ts';
import { checkDecoded, decodeObject, decodeProtobuf, isProtobuf, parseBody } from './decode.ts';
import { deleteObject } from './delete.ts';
import { handleConnect } from './connect.ts';
import { admitEviction, markDisrupted } from './eviction-api.ts';
import { tokenSecondsMin } from './limits.ts';
import { storageKey } from './stored-objects.ts';
import { getStored, handleGet } from './read.ts';
import { answerObject, answerStatus, viewAs } from './respond.ts';
import { handlePatch, handleUpdate, applyPatchType } from './write.ts';
import { isDryRun, updateObject } from './write-path.ts';
import { conflict, forbiddenBy } from './object-errors.ts';
import type { UpdateOptions } from './write-path.ts';
import { formatLabelSelector, selectorOf, selectorOfMap } from '#base/selectors.ts';
import { timestamp } from '#base/timestamp.ts';

type Handler = (context: RequestContext) => Promise<ApiResponse>;

function success(): KubeStatus {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 };
}

/** get, update and patch of a part of the object. */
const part =
  (options: UpdateOptions = {}): Handler =>
  (context) => {
    const { verb } = context.info;
    if (verb === 'get') return handleGet(context);
    if (verb === 'update') return handleUpdate(context, options);
    if (verb === 'patch') return handlePatch(context, options);
    throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource', {});
  };

const resize: UpdateOptions = {
  validate(pod, old, errors) {
    validatePodSpec(pod.spec, 'spec', errors);
    if (qosClassOf(pod.spec) !== (old.status?.qosClass ?? qosClassOf(old.spec)))
      errors.invalid('metadata', pod.metadata.name, 'Pod QOS Class may not change as a result of resizing');
  },
};

/** Binds a Pod to a node: `pods/binding`, and `bindings`. */
export async function bindPod(context: RequestContext, binding: KubeObject, podName: string): Promise<ApiResponse> {
  const { server, info } = context;
  const pods = server.kinds.find('', 'v1', 'pods')!;
  const node = binding.target?.name as string | undefined;
  if (!node)
    throw new ApiError('Invalid', `Binding "${podName}" is invalid: target.name: Required value`, {
      name: podName,
      kind: 'Binding',
      causes: [{ reason: 'FieldValueRequired', message: 'Required value', field: 'target.name' }],
    });
  if (binding.target.kind !== undefined && binding.target.kind !== '' && binding.target.kind !== 'Node')
    throw new ApiError(
      'Invalid',
      `Binding "${podName}" is invalid: target.kind: Unsupported value: ${JSON.stringify(binding.target.kind)}: supported values: "Node", "<empty>"`,
    );
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
      const conditions: Json[] = (pod.status?.conditions ?? []).filter((c: Json) => c.type !== 'PodScheduled');
      return {
        ...pod,
        metadata: Object.keys(annotations).length === 0 ? metadata : { ...metadata, annotations },
        spec: { ...pod.spec, nodeName: node },
        status: {
          ...pod.status,
          conditions: [
            ...conditions,
            {
              type: 'PodScheduled',
              status: 'True',
              lastProbeTime: null,
              lastTransitionTime: timestamp(server.clock.now()),
            },
          ],
        },
      };
    },
    {
      subresource: 'binding',
      sharesCurrent: true,
      ...(binding.metadata.uid === undefined ? {} : { uid: binding.metadata.uid }),
      validate: () => undefined,
    },
  );
  return answerStatus(context, success(), 201);
}

async function handleBinding(context: RequestContext): Promise<ApiResponse> {
  const bindings = context.server.kinds.find('', 'v1', 'bindings')!;
  const binding = decodeObject(context, bindings);
  return bindPod(context, binding, context.info.name);
}

/** `pods/eviction` (Kubernetes, "API-initiated Eviction"): a delete that disruption budgets may refuse. */
async function handleEviction(context: RequestContext): Promise<ApiResponse> {
  const { server, info } = context;
  const type = typeOf('policy.v1/Eviction');
  const eviction = isProtobuf(context)
    ? decodeProtobuf(context, { type, kind: 'Eviction' })
    : (parseBody(context).value ?? {});
  checkDecoded(context, eviction, type, { group: 'policy', version: 'v1', kind: 'Eviction' }, []);
  for (const flag of eviction.deleteOptions?.dryRun ?? []) context.request.query.append('dryRun', flag);
  const pod = server.objects.view(await getStored(context));
  const options: Json = eviction.deleteOptions ?? {};
  const asked = options.preconditions;
  if (asked?.uid !== undefined && asked.uid !== pod.metadata.uid)
    throw conflict(
      context.kind,
      info.name,
      `Precondition failed: UID in precondition: ${asked.uid}, UID in object meta: ${pod.metadata.uid}`,
    );
  if (asked?.resourceVersion !== undefined && asked.resourceVersion !== pod.metadata.resourceVersion)
    throw conflict(context.kind, info.name);
  await admitEviction(context, pod);
  if (isDryRun(context)) {
    await deleteObject(context, info.namespace, info.name, options);
    return answerStatus(context, success(), 201);
  }
  // The Pod that was let go is the one that goes, in whatever version; another one of its name is not.
  await markDisrupted(context, info.name);
  await deleteObject(context, info.namespace, info.name, { ...options, preconditions: { uid: pod.metadata.uid! } });
  return answerStatus(context, success(), 201);
}

const tokenSecondsDefault = 3600;
const tokenSecondsLimit = 2 ** 32;

/** `serviceaccounts/token` (TokenRequest). */
async function handleToken(context: RequestContext): Promise<ApiResponse> {
  const { server, info, user } = context;
  const kind = {
    group: 'authentication.k8s.io',
    version: 'v1',
    kind: 'TokenRequest',
    get type() {
      return typeOf('authentication.v1/TokenRequest');
    },
  };
  const account = server.objects.view(await getStored(context));
  const request = decodeObject(context, kind);
  const spec: Json = request.spec ?? {};
  const seconds = spec.expirationSeconds ?? tokenSecondsDefault;
  if (seconds < tokenSecondsMin)
    throw new ApiError(
      'Invalid',
      `TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: ${seconds}: may not specify a duration less than 10 minutes`,
      {
        group: 'authentication.k8s.io',
        kind: 'TokenRequest',
        causes: [
          {
            reason: 'FieldValueInvalid',
            message: `Invalid value: ${seconds}: may not specify a duration less than 10 minutes`,
            field: 'spec.expirationSeconds',
          },
        ],
      },
    );
  if (seconds > tokenSecondsLimit)
    throw new ApiError(
      'Invalid',
      `TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: ${seconds}: may not specify a duration larger than 2^32 seconds`,
      { group: 'authentication.k8s.io', kind: 'TokenRequest' },
    );
  const audiences: string[] = (spec.audiences ?? []).length > 0 ? spec.audiences : [issuerOf(server)];
  const bound = await boundObjects(context, spec.boundObjectRef);
  if (nodeNameOf(user) !== undefined && bound.pod === undefined)
    throw forbiddenBy(context, info.name, `node requested token not bound to a pod`);
  const now = Math.floor(server.clock.now() / 1000);
  const token = server.tokens.sign({
    iss: issuerOf(server),
    aud: audiences,
    sub: `system:serviceaccount:${info.namespace}:${info.name}`,
    iat: now,
    nbf: now,
    exp: now + seconds,
    jti: server.random.uuid(),
    'kubernetes.io': {
      namespace: info.namespace,
      serviceaccount: { name: info.name, uid: account.metadata.uid },
      ...bound,
    },
  });
  return answerObject(
    context,
    {
      ...request,
      metadata: { name: info.name, namespace: info.namespace, creationTimestamp: timestamp(server.clock.now()) },
      spec: { ...spec, audiences, expirationSeconds: seconds },
      status: { token, expirationTimestamp: timestamp((now + seconds) * 1000) },
    },
    201,
    null,
  );
}

async function boundObjects(context: RequestContext, reference: Json): Promise<Json> {
  if (!reference) return {};
  const { server, info } = context;
  const resource = ({ Pod: 'pods', Secret: 'secrets', Node: 'nodes' } as Record<string, string>)[reference.kind];
  if (resource === undefined)
    throw new ApiError(
      'BadRequest',
      `cannot bind token for serviceaccount to object of type /v1, Kind=${reference.kind}`,
    );
  const kind = server.kinds.find('', 'v1', resource)!;
  const stored = await server.store.get(storageKey(kind, kind.namespaced ? info.namespace : '', reference.name));
  if (stored === undefined)
    throw new ApiError('NotFound', `${resource} ${JSON.stringify(reference.name)} not found`, {
      name: reference.name,
      kind: resource,
    });
  const object = server.objects.view(stored);
  if (reference.uid && reference.uid !== object.metadata.uid)
    throw new ApiError(
      'Conflict',
      `the UID in the bound object reference (${reference.uid}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
  if (resource === 'pods' && (object.spec?.serviceAccountName ?? 'default') !== info.name)
    throw new ApiError(
      'BadRequest',
      `cannot bind token for serviceaccount ${JSON.stringify(info.name)} to pod running with different serviceaccount name.`,
    );
  const bound: Json = { [reference.kind.toLowerCase()]: { name: reference.name, uid: object.metadata.uid } };
  if (resource === 'pods' && object.spec?.nodeName) {
    const node = await server.store.get(`/registry/nodes/${object.spec.nodeName}`);
    bound.node = {
      name: object.spec.nodeName,
      ...(node === undefined ? {} : { uid: server.objects.view(node).metadata.uid }),
    };
  }
  return bound;
}

function readPath(object: Json, path: string): Json {
  let at = object;
  for (const name of path.replace(/^\./, '').split('.')) {
    at = at?.[name];
    if (at === undefined) return undefined;
  }
  return at;
}

function writePath(object: Json, path: string, value: unknown): void {
  const names = path.replace(/^\./, '').split('.');
  let at = object;
  for (const name of names.slice(0, -1)) at = at[name] ??= {};
  at[names.at(-1)!] = value;
}

function scaleOf(context: RequestContext, object: KubeObject): KubeObject {
  const paths = context.kind.scale!;
  const selector = readPath(object, paths.selectorPath);
  const text =
    selector === undefined
      ? undefined
      : typeof selector === 'string'
        ? selector
        : formatLabelSelector(
            context.kind.resource === 'replicationcontrollers' ? selectorOfMap(selector) : (selectorOf(selector) ?? []),
          );
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const metadata = { name, namespace, uid, resourceVersion, creationTimestamp } as KubeObject['metadata'];
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata,
    spec: { ...(readPath(object, paths.specPath) ? { replicas: readPath(object, paths.specPath) } : {}) },
    status: { replicas: readPath(object, paths.statusPath) ?? 0, ...(text === undefined ? {} : { selector: text }) },
  };
}

async function handleScale(context: RequestContext): Promise<ApiResponse> {
  const { info, kind } = context;
  const paths = kind.scale;
  if (paths === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  if (info.verb === 'get')
    return answerObject(context, scaleOf(context, viewAs(context, kind, await getStored(context))), 200, null);
  const scaleKind = {
    group: 'autoscaling',
    version: 'v1',
    kind: 'Scale',
    get type() {
      return typeOf('autoscaling.v1/Scale');
    },
  };
  const type = (context.request.headers['content-type'] ?? '').split(';')[0]!;
  const patch = info.verb === 'patch' ? parseBody(context, [type]).value : undefined;
  const sent = info.verb === 'update' ? decodeObject(context, scaleKind) : undefined;
  const written = await updateObject(
    context,
    info.name,
    (current) => {
      const scale =
        sent ??
        ((type === 'application/json-patch+json'
          ? applyPatchType(type, scaleOf(context, current), patch, context)
          : applyPatchType('application/merge-patch+json', scaleOf(context, current), patch, context)) as KubeObject);
      const replicas = scale.spec?.replicas ?? 0;
      if (!Number.isInteger(replicas) || replicas < 0)
        throw new ApiError(
          'Invalid',
          `Scale.autoscaling ${JSON.stringify(info.name)} is invalid: spec.replicas: Invalid value: ${JSON.stringify(replicas)}: must be greater than or equal to 0`,
          {
            name: info.name,
            group: 'autoscaling',
            kind: 'Scale',
            causes: [
              {
                reason: 'FieldValueInvalid',
                message: `Invalid value: ${replicas}: must be greater than or equal to 0`,
                field: 'spec.replicas',
              },
            ],
          },
        );
      writePath(current, paths.specPath, replicas);
      const asked = sent === undefined ? patch?.metadata?.resourceVersion : sent.metadata.resourceVersion;
      if (asked === undefined || asked === '') delete current.metadata.resourceVersion;
      else current.metadata.resourceVersion = asked;
      return current;
    },
    { subresource: 'scale' },
  );
  return answerObject(context, scaleOf(context, viewAs(context, kind, written.stored)), 200, null);
}

const handlers: Record<string, Handler> = {
  status: part(),
  approval: part(),
  finalize: part({ validate: () => undefined }),
  ephemeralcontainers: part({ validate: validateEphemeralContainers }),
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
