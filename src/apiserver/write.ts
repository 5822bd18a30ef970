/** create, update and patch as requests. */
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import { apiVersionOf } from '#base/objects.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import { jsonPatch, mergePatch } from '#base/patch.ts';
import { strategicMergePatch } from '#schema/strategic-merge.ts';
import { applyObject } from './apply.ts';
import type { RequestContext } from './context.ts';
import { checkDecoded, decodeObject, parseBody } from './decode.ts';
import { answerObject, answerStored, viewAs } from './respond.ts';
import { createObject, isDryRun, updateObject } from './write-path.ts';
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

/**
 * What a subresource may change; the rest of what was sent is ignored. Through the status of a custom object metadata
 * stays as it is, as upstream decides.
 */
function mergeSubresource(subresource: string, current: KubeObject, wanted: KubeObject, custom = false): KubeObject {
  if (subresource === '') return wanted;
  if (subresource === 'finalize') {
    const { resourceVersion: _held, ...metadata } = current.metadata;
    const { resourceVersion } = wanted.metadata;
    return {
      ...current,
      metadata: { ...metadata, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
      spec: { ...current.spec, finalizers: wanted.spec?.finalizers ?? [] },
    };
  }
  const meta: Json = { ...current.metadata };
  if (wanted.metadata.resourceVersion === undefined) delete meta.resourceVersion;
  else meta.resourceVersion = wanted.metadata.resourceVersion;
  const fields =
    custom && subresource === 'status'
      ? (['managedFields'] as const)
      : (['labels', 'annotations', 'finalizers', 'ownerReferences', 'managedFields'] as const);
  for (const field of fields) if (wanted.metadata[field] !== undefined) meta[field] = wanted.metadata[field];
  if (wanted.metadata.uid !== undefined) meta.uid = wanted.metadata.uid;
  const out: Json = { ...current, metadata: meta };
  if (subresource === 'status' || subresource === 'approval') {
    if (wanted.status === undefined) delete out.status;
    else out.status = wanted.status;
  } else if (subresource === 'ephemeralcontainers')
    out.spec = { ...current.spec, ephemeralContainers: wanted.spec?.ephemeralContainers ?? [] };
  else if (subresource === 'resize') out.spec = resizeSpec(current.spec, wanted.spec);
  return out;
}

function resizeSpec(current: Json, wanted: Json): Json {
  const apply = (list: Json[] | undefined, from: Json[] | undefined): Json =>
    list?.map((c) => {
      const other = (from ?? []).find((w) => w.name === c.name);
      return other === undefined
        ? c
        : {
            ...c,
            resources: other.resources ?? {},
            ...(other.resizePolicy === undefined ? {} : { resizePolicy: other.resizePolicy }),
          };
    });
  return {
    ...current,
    containers: apply(current.containers, wanted?.containers),
    ...(current.initContainers === undefined
      ? {}
      : { initContainers: apply(current.initContainers, wanted?.initContainers) }),
  };
}

export async function handleUpdate(context: RequestContext, extra: UpdateOptions = {}): Promise<ApiResponse> {
  const { info, kind } = context;
  const decode = (): KubeObject => {
    const decoded = decodeObject(context);
    if (decoded.metadata.name === undefined || decoded.metadata.name === '') decoded.metadata.name = info.name;
    if (decoded.metadata.name !== info.name)
      throw new ApiError(
        'BadRequest',
        `the name of the object (${decoded.metadata.name}) does not match the name on the URL (${info.name})`,
      );
    context.warnings = [...new Set(context.warnings)];
    return decoded;
  };
  // The first attempt has what was sent, which it changes; another one decodes again.
  let first: KubeObject | undefined = decode();
  const written = await updateObject(
    context,
    info.name,
    (current) => {
      const decoded = first ?? decode();
      first = undefined;
      return mergeSubresource(info.subresource, current, decoded, kind.custom === true);
    },
    { subresource: info.subresource, sharesCurrent: kind.custom !== true, ...extra },
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
  const type = (request.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase();
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
      const changed = applyPatchType(type, current, patch, context) as KubeObject;
      if (typeof changed !== 'object' || changed === null || Array.isArray(changed))
        throw new ApiError('BadRequest', 'patch does not produce an object');
      if (changed.kind !== kind.kind || changed.apiVersion !== apiVersionOf(kind))
        throw new ApiError(
          'BadRequest',
          `patch may not change apiVersion or kind (${String(changed.apiVersion)}, ${String(changed.kind)})`,
        );
      const named =
        typeof patch === 'object' && patch !== null && !Array.isArray(patch)
          ? patch.metadata?.resourceVersion
          : undefined;
      checkDecoded(context, changed, kind.type, kind, duplicates);
      changed.metadata ??= {};
      const merged = mergeSubresource(info.subresource, current, changed, kind.custom === true);
      // a patch names a version only where it says so; the version that came with the current object is no precondition
      if (
        named === undefined &&
        (!Array.isArray(patch) || !patch.some((o: Json) => o.path === '/metadata/resourceVersion'))
      )
        delete merged.metadata.resourceVersion;
      context.warnings = [...new Set(context.warnings)];
      return merged;
    },
    { subresource: info.subresource, ...extra },
  );
  return answerWritten(context, written);
}

export function applyPatchType(type: string, current: Json, patch: Json, context: RequestContext): Json {
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

function checkPatchObject(patch: Json): void {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch))
    throw new ApiError(
      'BadRequest',
      `error decoding patch: json: cannot unmarshal ${Array.isArray(patch) ? 'array' : typeof patch} into Go value of type map[string]interface {}`,
    );
}
