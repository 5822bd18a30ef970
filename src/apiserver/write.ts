/** create, update and patch as requests. */
import type { Container, Namespace, Pod, PodSpec } from '#api/core.v1.ts';
import type { Draft, Manifest } from '#api/manifest.ts';
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import { kinds } from '#base/kinds.ts';
import { apiVersionOf, isOf } from '#base/objects.ts';
import type { KubeObject, OpenObject } from '#base/objects.ts';
import { jsonPatch, mergePatch } from '#base/patch.ts';
import { fieldOf, isObject, itemsOf } from '#base/unknown.ts';
import { strategicMergePatch } from '#schema/strategic-merge.ts';
import { applyObject } from './apply.ts';
import type { RequestContext } from './context.ts';
import { checkDraft, contentTypeOf, decodeObject, parseBody } from './decode.ts';
import { labelAs } from '#schema/defaults.ts';
import { metadataFields } from '#schema/kind.ts';
import { keepField, takeField } from './metadata-fields.ts';
import { answerObject, answerStored, viewAs } from './respond.ts';
import { nameMissing, versionMissing } from './object-errors.ts';
import { createObject, isDryRun, unversioned, updateObject } from './write-path.ts';
import type { UpdateOptions, Written } from './write-path.ts';

function answerWritten(context: RequestContext, written: Written): ApiResponse {
  const status = written.created ? 201 : 200;
  if (isDryRun(context)) {
    const object = viewAs(context, context.kind, written.stored);
    return answerObject(
      context,
      written.created ? { ...object, metadata: withoutVersion(object.metadata) } : object,
      status,
    );
  }
  return answerStored(context, written.stored, status);
}

function withoutVersion(meta: KubeObject['metadata']): KubeObject['metadata'] {
  const { resourceVersion: _r, ...rest } = meta;
  return rest;
}

export async function handleCreate(context: RequestContext): Promise<ApiResponse> {
  return answerWritten(context, await createObject(context, () => decodeObject(context)));
}

/** What a subresource may change; the rest of what was sent is ignored. */
function mergeSubresource({ info, kind }: RequestContext, current: KubeObject, wanted: KubeObject): KubeObject {
  const { subresource } = info;
  if (subresource === '') return wanted;
  if (subresource === 'finalize') return mergeFinalizers(current, wanted);
  labelAs(wanted, kind.templateLabels?.(wanted));
  const metadata = { ...current.metadata };
  keepField(metadata, wanted.metadata, 'resourceVersion');
  for (const field of ['managedFields', 'uid'] as const) takeField(metadata, wanted.metadata, field);
  for (const field of metadataFields)
    if (!kind.statusKeeps.includes(field)) keepField(metadata, wanted.metadata, field);
  if (subresource === 'status' || subresource === 'approval') {
    const merged: OpenObject = { ...current, metadata };
    if ('status' in wanted && wanted.status !== undefined) merged.status = wanted.status;
    else delete merged.status;
    return merged;
  }
  if (!isOf(kinds.Pod, current) || !isOf(kinds.Pod, wanted)) return { ...current, metadata };
  // What was sent is not validated yet: its specification may lack.
  const sent: Draft<Pod> = wanted;
  kind.defaults?.(sent);
  const merged: KubeObject & { spec: Draft<PodSpec> } = {
    ...current,
    metadata,
    spec: mergePodSpec(subresource, current.spec, sent.spec ?? {}),
  };
  return merged;
}

/** `namespaces/finalize`: finalizers of the specification, and nothing else. */
function mergeFinalizers(current: KubeObject, wanted: KubeObject): KubeObject {
  const { resourceVersion: _held, ...metadata } = current.metadata;
  const { resourceVersion } = wanted.metadata;
  const version = resourceVersion === undefined ? {} : { resourceVersion };
  if (!isOf(kinds.Namespace, current) || !isOf(kinds.Namespace, wanted)) return current;
  const merged: Manifest<Namespace> = {
    ...current,
    metadata: { ...metadata, ...version },
    spec: { ...current.spec, finalizers: wanted.spec?.finalizers ?? [] },
  };
  return merged;
}

function mergePodSpec(subresource: string, current: PodSpec, wanted: Draft<PodSpec>): Draft<PodSpec> {
  if (subresource === 'ephemeralcontainers')
    return { ...current, ephemeralContainers: wanted.ephemeralContainers ?? [] };
  return subresource === 'resize' ? resizeSpec(current, wanted) : current;
}

function resizeSpec(current: PodSpec, wanted: Draft<PodSpec>): Draft<PodSpec> {
  const apply = (list: readonly Container[], from: readonly Draft<Container>[] = []): Draft<Container>[] =>
    list.map((container) => {
      const other = from.find(({ name }) => name === container.name);
      if (other === undefined) return container;
      return { ...container, resources: other.resources ?? {} };
    });
  return {
    ...current,
    containers: apply(current.containers, wanted.containers),
    ...(current.initContainers === undefined
      ? {}
      : { initContainers: apply(current.initContainers, wanted.initContainers) }),
  };
}

export async function handleUpdate(context: RequestContext, extra: UpdateOptions = {}): Promise<ApiResponse> {
  const { info, kind } = context;
  const decode = (): KubeObject => {
    const decoded = decodeObject(context);
    if (!decoded.metadata.name) throw nameMissing(info.name);
    if (decoded.metadata.name !== info.name)
      throw new ApiError(
        'BadRequest',
        `the name of the object (${decoded.metadata.name}) does not match the name on the URL (${info.name})`,
      );
    context.warnings = [...new Set(context.warnings)];
    return decoded;
  };
  const createWhenMissing =
    kind.createsOnUpdate && info.subresource === ''
      ? { createWhenMissing: () => createObject(context, () => unversioned(decode())) }
      : {};
  // The first attempt has what was sent, which it changes; another one decodes again.
  let first: KubeObject | undefined = decode();
  const written = await updateObject(
    context,
    info.name,
    (current) => {
      const decoded = first ?? decode();
      first = undefined;
      if (kind.needsVersion && !decoded.metadata.resourceVersion) throw versionMissing(kind, info.name);
      return mergeSubresource(context, current, decoded);
    },
    { subresource: info.subresource, sharesCurrent: kind.custom !== true, ...createWhenMissing, ...extra },
  );
  return answerWritten(context, written);
}

const patchTypes = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
  'application/apply-patch+yaml',
  'application/apply-patch+cbor',
] as const;

// walk kubectl-apply 3/8: the patch is applied to what is stored, or a create follows where nothing is.
export async function handlePatch(context: RequestContext, extra: UpdateOptions = {}): Promise<ApiResponse> {
  const { request, kind, info } = context;
  const type = contentTypeOf(request);
  const allowed: readonly string[] =
    kind.custom === true ? patchTypes.filter((t) => !t.includes('strategic')) : patchTypes;
  if (!allowed.includes(type))
    throw new ApiError(
      'UnsupportedMediaType',
      `the body of the request was in an unknown format - accepted media types include: ${allowed.slice(0, -1).join(', ')}`,
    );
  if (type === 'application/apply-patch+yaml') return answerWritten(context, await applyObject(context, extra));
  const { value: patch, duplicates } = parseBody(context, [type]);
  const written = await updateObject(
    context,
    info.name,
    (current) => {
      const changed = applyPatchType(type, current, patch, context);
      if (!isObject(changed)) throw new ApiError('BadRequest', 'patch does not produce an object');
      if (changed.kind !== kind.kind || changed.apiVersion !== apiVersionOf(kind))
        throw new ApiError(
          'BadRequest',
          `patch may not change apiVersion or kind (${String(changed.apiVersion)}, ${String(changed.kind)})`,
        );
      const merged = mergeSubresource(context, current, checkDraft(context, changed, kind, { duplicates }));
      // a patch names a version only where it says so; the version that came with the current object is no precondition
      if (!namesVersion(patch)) delete merged.metadata.resourceVersion;
      context.warnings = [...new Set(context.warnings)];
      return merged;
    },
    { subresource: info.subresource, ...extra },
  );
  return answerWritten(context, written);
}

/** Whether a patch, in any of its forms, says of what version it is. */
function namesVersion(patch: unknown): boolean {
  return (
    fieldOf(patch, 'metadata', 'resourceVersion') !== undefined ||
    itemsOf(patch).some((operation) => fieldOf(operation, 'path') === '/metadata/resourceVersion')
  );
}

export function applyPatchType(type: string, current: unknown, patch: unknown, context: RequestContext): unknown {
  switch (type) {
    case 'application/json-patch+json':
      return jsonPatch(current, patch);
    case 'application/merge-patch+json':
      checkPatchObject(patch);
      return mergePatch(current, patch);
    default:
      checkPatchObject(patch);
      return strategicMergePatch(current, patch, context.kind.type);
  }
}

function checkPatchObject(patch: unknown): void {
  if (!isObject(patch))
    throw new ApiError(
      'BadRequest',
      `error decoding patch: json: cannot unmarshal ${Array.isArray(patch) ? 'array' : typeof patch} into Go value of type map[string]interface {}`,
    );
}
