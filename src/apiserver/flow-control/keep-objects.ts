/**
 * The default FlowSchemas and PriorityLevelConfigurations, kept whole (Kubernetes, "API Priority and Fairness",
 * "Maintenance of the mandatory and suggested configuration objects"): mandatory ones always, suggested ones while the
 * annotation `apf.kubernetes.io/autoupdate-spec` says so, or nobody has changed them.
 */
import type { FlowSchema, PriorityLevelConfiguration } from '#api/flowcontrol.v1.ts';
import { copyJson } from '#base/json.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import {
  autoUpdateSpec,
  mandatoryFlowSchemas,
  mandatoryPriorityLevels,
  suggestedFlowSchemas,
  suggestedPriorityLevels,
} from '#schema/flow-control-objects.ts';
import { sameJson } from '#schema/validate-values.ts';
import type { Server } from '../context.ts';
import { deleteObject } from '../delete.ts';
import { internalContext } from '../internal.ts';
import { lookUp } from '../lookup.ts';
import type { LiveEntry } from '../live-kind.ts';
import { createObject, unversioned, updateObject } from '../write-path.ts';

type Kept = FlowSchema | PriorityLevelConfiguration;
type Default = KubeObject & { metadata: { name: string }; spec: object };

export async function keepFlowControlObjects(server: Server): Promise<void> {
  const { PriorityLevelConfiguration: level, FlowSchema: schema } = kinds;
  await Promise.all([
    ...suggestedPriorityLevels.map((each) => keep(server, level, each, false)),
    ...mandatoryPriorityLevels.map((each) => keep(server, level, each, true)),
    ...suggestedFlowSchemas.map((each) => keep(server, schema, each, false)),
    ...mandatoryFlowSchemas.map((each) => keep(server, schema, each, true)),
  ]);
  const { live } = server;
  const levels = [...suggestedPriorityLevels, ...mandatoryPriorityLevels];
  await dropOthers(server, level, (await live.priorityLevels.current()).in(), levels);
  const schemas = [...suggestedFlowSchemas, ...mandatoryFlowSchemas];
  await dropOthers(server, schema, (await live.flowSchemas.current()).in(), schemas);
}

/** What the annotation says; undefined where it says nothing. */
function annotated({ metadata }: KubeObject): boolean | undefined {
  const value = metadata.annotations?.[autoUpdateSpec] ?? '';
  if (/^(1|t|T|TRUE|true|True)$/.test(value)) return true;
  return /^(0|f|F|FALSE|false|False)$/.test(value) ? false : undefined;
}

async function keep<T extends Kept>(
  server: Server,
  ref: KindRef<T>,
  wanted: Default,
  isMandatory: boolean,
): Promise<void> {
  const { name } = wanted.metadata;
  const found = await lookUp(server, ref, name);
  const kind = server.kinds.builtIn(ref);
  if (found === undefined) {
    try {
      await createObject(internalContext(server, kind, {}), () => copyJson(wanted));
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error; // another API server was first
    }
    return;
  }
  const updates = isMandatory || (annotated(found) ?? found.metadata.generation === 1);
  // Of `exempt`, the shares are the administrator's.
  const isSame = found.kind === 'PriorityLevelConfiguration' && name === 'exempt' && found.spec.type === 'Exempt';
  const differs = updates && !isSame && !sameJson(withoutDefaults(found.spec), withoutDefaults(wanted.spec));
  if (!differs && annotated(found) === updates) return;
  await updateObject(internalContext(server, kind, { verb: 'update', name }), name, (current) => {
    const annotations = { ...current.metadata.annotations, [autoUpdateSpec]: String(updates) };
    const changed = { ...current, metadata: { ...current.metadata, annotations } };
    return unversioned(differs ? { ...changed, spec: copyJson(wanted.spec) } : changed);
  });
}

/** Written where it is false by some clients, and left out by others. */
function withoutDefaults(spec: object): unknown {
  return JSON.parse(JSON.stringify(spec, (_key, value: unknown) => (value === false ? undefined : value)));
}

/** Objects that were a default once, and that nobody has taken over. */
async function dropOthers<T extends Kept>(
  server: Server,
  ref: KindRef<T>,
  entries: readonly LiveEntry<T>[],
  defaults: readonly Default[],
): Promise<void> {
  for (const { object } of entries) {
    const { name } = object.metadata;
    if (annotated(object) !== true || defaults.some((each) => each.metadata.name === name)) continue;
    try {
      await deleteObject(internalContext(server, server.kinds.builtIn(ref), { verb: 'delete', name }), '', name, {});
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error; // it is gone
    }
  }
}
