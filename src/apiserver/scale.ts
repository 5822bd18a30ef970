/**
 * `…/scale` (Kubernetes, "Scale subresource"): the replicas of whatever has some, read and written at the paths that
 * its kind names.
 */
import type { Scale } from '#api/autoscaling.v1.ts';
import type { ObjectMeta } from '#api/meta.v1.ts';
import type { ApiResponse } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import { formatLabelSelector, selectorOf, selectorOfMap } from '#base/selectors.ts';
import { fieldOf, isObject, textOf } from '#base/unknown.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { StoredValue } from '#store/store.ts';
import type { RequestContext } from './context.ts';
import { bodyKind, contentTypeOf, decodeAs, parseBody } from './decode.ts';
import { takeField } from './metadata-fields.ts';
import { getStored } from './read.ts';
import { answerObject, viewAs } from './respond.ts';
import { applyPatchType } from './write.ts';
import { updateObject } from './write-path.ts';

const scaleKind = bodyKind<Scale>('autoscaling/v1', 'Scale', 'autoscaling.v1/Scale');

type Paths = NonNullable<KindRecord['scale']>;

const namesOf = (path: string): string[] => path.replace(/^\./, '').split('.');

/** Sets what lies at a path; objects on the way that are not there are made. */
function writePath(object: KubeObject, path: string, value: number): void {
  let at: unknown = object;
  const names = namesOf(path);
  names.forEach((name, i) => {
    if (!isObject(at))
      throw new ApiError('Invalid', `${path} cannot be set: ${names.slice(0, i).join('.')} is no object`);
    if (i === names.length - 1) at[name] = value;
    else at = at[name] ??= {};
  });
}

/** What the replicas are selected by, as text. */
function selectorText(object: KubeObject, paths: Paths): string | undefined {
  if (isOf(kinds.ReplicationController, object)) {
    const selector = object.spec?.selector;
    return selector === undefined ? undefined : formatLabelSelector(selectorOfMap(selector));
  }
  if (isOf(kinds.Deployment, object) || isOf(kinds.ReplicaSet, object) || isOf(kinds.StatefulSet, object))
    return formatLabelSelector(selectorOf(object.spec.selector) ?? []);
  return textOf(object, ...namesOf(paths.selectorPath));
}

function numberAt(object: KubeObject, path: string): number {
  const value = fieldOf(object, ...namesOf(path));
  return typeof value === 'number' ? value : 0;
}

function scaleOf(object: KubeObject, paths: Paths): Scale {
  const metadata: ObjectMeta = {};
  for (const field of ['name', 'namespace', 'uid', 'resourceVersion', 'creationTimestamp'] as const)
    takeField(metadata, object.metadata, field);
  const selector = selectorText(object, paths);
  const wanted = numberAt(object, paths.specPath);
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata,
    spec: wanted === 0 ? {} : { replicas: wanted },
    status: { replicas: numberAt(object, paths.statusPath), ...(selector === undefined ? {} : { selector }) },
  };
}

/** The replicas that a Scale asks for. Throws Invalid. */
function wantedReplicas(scale: unknown, name: string): number {
  const replicas = fieldOf(scale, 'spec', 'replicas') ?? 0;
  if (typeof replicas === 'number' && Number.isInteger(replicas) && replicas >= 0) return replicas;
  const message = `Invalid value: ${JSON.stringify(replicas)}: must be greater than or equal to 0`;
  throw new ApiError('Invalid', `Scale.autoscaling ${JSON.stringify(name)} is invalid: spec.replicas: ${message}`, {
    name,
    group: 'autoscaling',
    kind: 'Scale',
    causes: [{ reason: 'FieldValueInvalid', message, field: 'spec.replicas' }],
  });
}

export async function handleScale(context: RequestContext): Promise<ApiResponse> {
  const { info, kind } = context;
  const paths = kind.scale;
  if (paths === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  const answer = (stored: StoredValue): ApiResponse =>
    answerObject(context, scaleOf(viewAs(context, kind, stored), paths), 200, null);
  if (info.verb === 'get') return answer(await getStored(context));
  const type = contentTypeOf(context.request);
  const patch = info.verb === 'patch' ? parseBody(context, [type]).value : undefined;
  const sent = info.verb === 'update' ? decodeAs(context, scaleKind) : undefined;
  const patchType = type === 'application/json-patch+json' ? type : 'application/merge-patch+json';
  const written = await updateObject(
    context,
    info.name,
    (current) => {
      const scale = sent ?? applyPatchType(patchType, scaleOf(current, paths), patch, context);
      writePath(current, paths.specPath, wantedReplicas(scale, info.name));
      const version = textOf(sent ?? patch, 'metadata', 'resourceVersion');
      if (version === undefined || version === '') delete current.metadata.resourceVersion;
      else current.metadata.resourceVersion = version;
      return current;
    },
    { subresource: 'scale' },
  );
  return answer(written.stored);
}
