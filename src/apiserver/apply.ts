/**
 * Server-side apply (Kubernetes, "Server-Side Apply"): the configuration that a manager applied is merged into the live
 * object; what it applied before and no longer does goes, unless somebody else has it; what somebody else has and this
 * would change is a conflict, unless forced.
 */
import { ApiError, isReason } from '#base/errors.ts';
import { copyJson, scanJson } from '#base/json.ts';
import { apiVersionOf, isKubeObject, resourceNameOf } from '#base/objects.ts';
import type { KubeObject, OpenObject, StatusCause } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import { fieldOf, isObject, type JsonObject } from '#base/unknown.ts';
import { checkObject, noteSentEmpty } from '#schema/check.ts';
import {
  compareFields,
  fieldsOf,
  findListProblem,
  intersectionOf,
  isEmptySet,
  mergeApplied,
  pathsOfSet,
  pruneFields,
  removeBelow,
  unionOf,
} from '#schema/field-sets.ts';
import type { FieldSet } from '#schema/field-sets.ts';
import type { RequestContext } from './context.ts';
import { fieldValidation, parseYaml } from './decode.ts';
import type { ParsedBody } from './decode.ts';
import { applyRetriesMax } from './limits.ts';
import { nameMissing, unreadableVersion } from './object-errors.ts';
import { readManagers, stripSystem, writeManagers } from './managed-fields.ts';
import type { Manager } from './managed-fields.ts';
import { createObject, updateObject } from './write-path.ts';
import type { UpdateOptions, Written } from './write-path.ts';

/**
 * YAML, of which JSON is a part: most clients send that, and its reader is ten times as fast. It names no lines, which
 * doubled keys need.
 */
function parseApplied(text: string): ParsedBody {
  if (/^\s*\{/.test(text) && scanJson(text).duplicates.length === 0) {
    try {
      return { value: JSON.parse(text), duplicates: [] };
    } catch {
      /* a flow mapping of YAML begins alike */
    }
  }
  return parseYaml(text);
}

/** As messages name an object that nobody has read yet: `namespace/name; group/version, Kind=kind`. */
function labelOf(value: JsonObject, name: string): string {
  const namespace = fieldOf(value, 'metadata', 'namespace');
  const version = String(value.apiVersion);
  return `(${typeof namespace === 'string' ? namespace : ''}/${name}; ${version.includes('/') ? version : `/${version}`}, Kind=${String(value.kind)})`;
}

function readConfiguration(context: RequestContext): KubeObject {
  const { request, kind, info } = context;
  const { value, duplicates } =
    request.object === undefined
      ? parseApplied(Buffer.from(request.body ?? new Uint8Array()).toString())
      : { value: copyJson(request.object), duplicates: [] };
  if (!isObject(value)) throw new ApiError('BadRequest', 'error decoding YAML: expected an object');
  if ((fieldOf(value, 'metadata', 'managedFields') ?? null) !== null)
    throw new ApiError('BadRequest', 'metadata.managedFields must be nil');
  const wanted = apiVersionOf(kind);
  value.apiVersion ??= wanted;
  value.kind ??= kind.kind;
  const label = labelOf(value, info.name);
  if (value.kind !== kind.kind || value.apiVersion !== wanted)
    throw new ApiError(
      'BadRequest',
      `failed to create typed patch object ${label}: the object's kind does not match the request's (${wanted}, Kind=${kind.kind})`,
    );
  // What is empty or null is somebody's, too: only a copy loses it.
  const result = checkObject(copyJson(value), kind.type, { applied: true });
  if (result.unknown.length > 0)
    throw new ApiError(
      'Unknown',
      `failed to create typed patch object ${label}: ${result.unknown.length === 1 ? `.${result.unknown[0]}: field not declared in schema` : `errors:\n${result.unknown.map((u) => `  .${u}: field not declared in schema`).join('\n')}`}`,
    );
  if (result.error !== undefined)
    throw new ApiError('Unknown', `failed to create typed patch object ${label}: ${result.error}`);
  const problem = kind.custom === true ? undefined : findListProblem(value, kind.type, true);
  if (problem !== undefined) throw new ApiError('Unknown', `failed to create typed patch object ${label}: ${problem}`);
  value.metadata ??= {};
  if (!isKubeObject(value)) throw new ApiError('BadRequest', 'error decoding YAML: metadata is no object');
  if ('name' in value.metadata && !value.metadata.name) throw nameMissing(info.name);
  if (value.metadata.name && value.metadata.name !== info.name)
    throw new ApiError(
      'BadRequest',
      `the name of the object (${value.metadata.name}) does not match the name on the URL (${info.name})`,
    );
  if (result.formError !== undefined)
    throw new ApiError('Unknown', `failed to convert new object ${label} to proper version: ${result.formError}`);
  reportDuplicates(context, duplicates);
  noteSentEmpty(value);
  return value;
}

function reportDuplicates(context: RequestContext, duplicates: readonly string[]): void {
  if (duplicates.length === 0) return;
  const problems = duplicates.map((problem) => `error converting YAML to JSON: ${problem}`);
  const mode = fieldValidation(context);
  if (mode === 'Strict') throw new ApiError('BadRequest', `error strict decoding patch: ${problems.join(', ')}`);
  if (mode === 'Warn') context.warnings.push(...problems);
}

function requireManager(context: RequestContext): string {
  const manager = context.request.query.get('fieldManager') ?? '';
  if (manager === '')
    throw new ApiError(
      'Invalid',
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
      {
        group: 'meta.k8s.io',
        kind: 'PatchOptions',
        causes: [
          {
            reason: 'FieldValueRequired',
            message: 'Required value: is required for apply patch',
            field: 'fieldManager',
          },
        ],
      },
    );
  return manager;
}

function conflictError(conflicts: readonly { manager: Manager; set: FieldSet }[]): ApiError {
  const causes: StatusCause[] = [];
  const lines: string[] = [];
  for (const { manager, set } of conflicts) {
    const who = `${JSON.stringify(manager.name)}${manager.subresource === '' ? '' : ` with subresource ${JSON.stringify(manager.subresource)}`} using ${manager.apiVersion}`;
    const paths = pathsOfSet(set);
    for (const path of paths)
      causes.push({ reason: 'FieldManagerConflict', message: `conflict with ${who}`, field: path });
    lines.push(
      paths.length === 1 ? `conflict with ${who}: ${paths[0]}` : `conflicts with ${who}:\n- ${paths.join('\n- ')}`,
    );
  }
  return new ApiError(
    'Conflict',
    `Apply failed with ${causes.length} conflict${causes.length === 1 ? '' : 's'}: ${lines.join('\n')}`,
    { causes },
  );
}

/** What a subresource's apply may own. */
function restrict(context: RequestContext, set: FieldSet): FieldSet {
  const { subresource } = context.info;
  const out: FieldSet = { self: false, children: new Map(set.children) };
  if (subresource === 'status') {
    for (const key of [...out.children.keys()])
      if (key !== 'f:status' && key !== 'f:metadata') out.children.delete(key);
  } else if (subresource === '') {
    if (context.kind.hasStatus) out.children.delete('f:status');
    for (const field of context.kind.unmanaged) out.children.delete(`f:${field}`);
  }
  return out;
}

/** A configuration, and who applies it. */
interface Applied {
  configuration: KubeObject;
  manager: string;
  /** Takes over what others have. */
  force: boolean;
}

function mergeInto(
  context: RequestContext,
  live: KubeObject,
  { configuration, manager: name, force }: Applied,
): KubeObject {
  const { kind, info } = context;
  const node = kind.type;
  const managers = readManagers(live.metadata.managedFields);
  const apiVersion = apiVersionOf(kind);
  const own = managers.find((m) => m.name === name && m.operation === 'Apply' && m.subresource === info.subresource);
  const others = managers.filter((m) => m !== own);
  const applied = restrict(context, stripSystem(fieldsOf(configuration, node)));
  const bare: KubeObject = { ...live, metadata: { ...live.metadata } };
  delete bare.metadata.managedFields;
  const { resourceVersion, ...configMeta } = configuration.metadata;
  const both = mergeApplied(bare, { ...configuration, metadata: configMeta }, node);
  const merged = copyJson(both);
  if (!isObject(both) || !isKubeObject(merged)) throw new Error('two objects merge into something else');
  const { changed } = compareFields(bare, both, node);
  const touched = stripSystem(changed);
  const conflicts = others
    .map((manager) => ({ manager, set: intersectionOf(manager.set, touched) }))
    .filter((c) => !isEmptySet(c.set));
  if (conflicts.length > 0 && !force) throw conflictError(conflicts);
  for (const { manager, set } of conflicts) manager.set = removeBelow(manager.set, set);
  if (own !== undefined) {
    const kept = others.reduce((set, m) => unionOf(set, m.set), applied);
    pruneFields(merged, node, own.set, kept);
  }
  // An apply that changes nothing of the object has no time of its own.
  const after = compareFields(bare, merged, node);
  const same = isEmptySet(touched) && isEmptySet(after.changed) && isEmptySet(after.removed);
  const entry: Manager = {
    name,
    operation: 'Apply',
    apiVersion,
    subresource: info.subresource,
    time: same ? (own?.time ?? '') : timestamp(context.server.clock.now()),
    set: applied,
  };
  writeManagers(merged, own === undefined ? [...managers, entry] : managers.map((m) => (m === own ? entry : m)));
  if (resourceVersion === undefined) delete merged.metadata.resourceVersion;
  else merged.metadata.resourceVersion = resourceVersion;
  checkObject(merged, node, { applied: true });
  return merged;
}

export async function applyObject(context: RequestContext, options: UpdateOptions): Promise<Written> {
  const { info, kind } = context;
  const name = requireManager(context);
  const configuration = readConfiguration(context);
  const force = context.request.query.get('force') === 'true';
  const create = async (): Promise<Written> => {
    if (info.subresource !== '')
      throw new ApiError('NotFound', `${resourceNameOf(kind)} ${JSON.stringify(info.name)} not found`, {
        name: info.name,
        kind: kind.resource,
      });
    const { name: named, resourceVersion: version } = configuration.metadata;
    if (version !== undefined && !/^\d*$/.test(version)) throw unreadableVersion(version);
    if (configuration.metadata.uid !== undefined && configuration.metadata.uid !== '')
      throw new ApiError(
        'Conflict',
        `uid mismatch: the provided object specified uid ${configuration.metadata.uid}, and no existing object was found`,
      );
    if (!named) throw nameMissing(info.name);
    const object = { ...configuration, metadata: { ...configuration.metadata } };
    const set = restrict(context, stripSystem(fieldsOf(configuration, kind.type)));
    writeManagers(object, [
      {
        name,
        operation: 'Apply',
        apiVersion: apiVersionOf(kind),
        subresource: '',
        time: timestamp(context.server.clock.now()),
        set,
      },
    ]);
    const make = (): KubeObject => {
      const fresh = copyJson(object);
      checkObject(fresh, kind.type, { applied: true });
      return fresh;
    };
    return createObject(context, make, { apply: true });
  };
  const update = (): Promise<Written> =>
    updateObject(
      context,
      info.name,
      (live) => {
        const merged = mergeInto(context, live, { configuration, manager: name, force });
        if (info.subresource !== 'status') {
          // A subresource that has a part of the specification takes it as it is taken everywhere.
          if (info.subresource !== '') kind.defaults?.(merged);
          return merged;
        }
        const { managedFields: _fields, resourceVersion: _version, ...metadata } = live.metadata;
        const { managedFields, resourceVersion } = merged.metadata;
        const written: OpenObject = {
          ...live,
          metadata: {
            ...metadata,
            ...(managedFields === undefined ? {} : { managedFields }),
            ...(resourceVersion === undefined ? {} : { resourceVersion }),
          },
          status: fieldOf(merged, 'status'),
        };
        return written;
      },
      { ...options, subresource: info.subresource, apply: true, createWhenMissing: create },
    );
  // An apply holds whether or not the object is there: who comes or goes meanwhile makes it start again.
  for (let attempt = 0; ; attempt++) {
    try {
      return await update();
    } catch (error) {
      if (attempt >= applyRetriesMax || !isReason(error, 'AlreadyExists') || error.details?.name !== info.name)
        throw error;
      context.warnings = [...new Set(context.warnings)];
    }
  }
}
