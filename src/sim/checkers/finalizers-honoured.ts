/**
 * Finalizers are honoured (Kubernetes documentation, "Finalizers"; API reference, ObjectMeta).
 *
 * - Nothing leaves the store while it has a finalizer, but by the write that somebody sent to take the last ones off,
 *   or by a deletion whose
 *   propagation policy takes the place of the collector's own (`orphan`, `foregroundDeletion`).
 * - What is being deleted stays so, is not put off, and gets no new finalizer but the collector's.
 *
 * A Namespace has finalizers of its own, in its specification, which only `finalize` takes off.
 */
import { isOf, type KubeObject } from '#base/objects.ts';
import { fieldOf, itemsOf, textOf } from '#base/unknown.ts';
import { kinds } from '#base/kinds.ts';
import type { TransportRequest } from '#client/transport.ts';
import type { Checker } from '../world.ts';

const collectorFinalizers: readonly string[] = ['orphan', 'foregroundDeletion'];
/** What was sent may arrive this much later. */
const onItsWayMs = 60_000;

/** `/registry/apps/deployments/default/web` of a request's path; a collection's key is a prefix of its objects'. */
function keyOfPath(path: string): string {
  const [, root, ...rest] = path.split('/');
  const group = root === 'apis' ? `${rest.shift()}/` : '';
  const [, ...parts] = rest;
  const isScoped = parts[0] === 'namespaces' && parts.length > 2 && !['status', 'finalize'].includes(parts[2] ?? '');
  const [resource, name] = isScoped ? parts.slice(2) : parts;
  return [
    '/registry',
    `${group}${resource}`,
    ...(isScoped ? [parts[1]] : []),
    ...(name === undefined ? [] : [name]),
  ].join('/');
}

const specPrefix = 'spec ';

/** Of an object, with those of a Namespace's specification. */
function finalizersOf(object: KubeObject): string[] {
  const ofSpec = isOf(kinds.Namespace, object) ? (object.spec.finalizers ?? []) : [];
  return [...(object.metadata.finalizers ?? []), ...ofSpec.map((finalizer) => `${specPrefix}${finalizer}`)];
}

/** Whether a request takes this finalizer off. */
function takesOff({ method, path, body, contentType = '', query }: TransportRequest, finalizer: string): boolean {
  if (finalizer.startsWith(specPrefix))
    return (
      method === 'PUT' &&
      path.endsWith('/finalize') &&
      !itemsOf(fieldOf(body, 'spec', 'finalizers')).includes(finalizer.slice(specPrefix.length))
    );
  if (method === 'DELETE')
    return (
      collectorFinalizers.includes(finalizer) &&
      (fieldOf(body, 'propagationPolicy') ??
        query?.get('propagationPolicy') ??
        fieldOf(body, 'orphanDependents') ??
        undefined) !== undefined
    );
  if (method === 'PUT') return !itemsOf(fieldOf(body, 'metadata', 'finalizers')).includes(finalizer);
  if (method !== 'PATCH') return false;
  if (contentType.startsWith('application/json-patch'))
    return itemsOf(body).some((step) => textOf(step, 'path')?.startsWith('/metadata/finalizers') === true);
  const [finalizers, deleted] = [
    fieldOf(body, 'metadata', 'finalizers'),
    itemsOf(fieldOf(body, 'metadata', '$deleteFromPrimitiveList/finalizers')),
  ];
  return deleted.includes(finalizer) || (finalizers !== undefined && !itemsOf(finalizers).includes(finalizer));
}

export function finalizersHonoured(): Checker {
  const name = 'finalizers-honoured';
  /** By key: finalizers that somebody asked to take off, and when last. */
  const asked = new Map<string, Map<string, number>>();
  const wasAsked = (key: string, finalizer: string, atMs: number): boolean =>
    [key, key.slice(0, key.lastIndexOf('/'))].some(
      (of) => atMs - (asked.get(of)?.get(finalizer) ?? -Infinity) <= onItsWayMs,
    );
  const judgeMarked = (key: string, object: KubeObject, previous: KubeObject): string | undefined => {
    const [now, before] = [object.metadata, previous.metadata];
    if (now.deletionTimestamp === undefined) return `${key} was being deleted and is not any more`;
    if (Date.parse(now.deletionTimestamp) > Date.parse(before.deletionTimestamp ?? now.deletionTimestamp))
      return `the deletion of ${key} was put off from ${before.deletionTimestamp} to ${now.deletionTimestamp}`;
    const added = (now.finalizers ?? []).filter(
      (finalizer) => !collectorFinalizers.includes(finalizer) && !(before.finalizers ?? []).includes(finalizer),
    );
    return added.length > 0 ? `${key} is being deleted and got finalizer ${added.join(', ')}` : undefined;
  };
  return {
    name,
    onRequest(_part, request, world) {
      if (!['PUT', 'PATCH', 'DELETE'].includes(request.method)) return;
      const key = keyOfPath(request.path);
      const held = world.objects.get(key);
      const candidates = new Set([...collectorFinalizers, ...(held === undefined ? [] : finalizersOf(held))]);
      for (const finalizer of candidates) {
        if (!takesOff(request, finalizer)) continue;
        let times = asked.get(key);
        if (times === undefined) asked.set(key, (times = new Map()));
        times.set(finalizer, world.cluster.now);
      }
    },
    onCommit({ key, object, previous, atMs }, world) {
      if (object !== undefined) {
        const problem =
          previous?.metadata.deletionTimestamp !== undefined && previous.metadata.uid === object.metadata.uid
            ? judgeMarked(key, object, previous)
            : undefined;
        if (problem !== undefined) world.report(name, problem);
        return;
      }
      const left = (previous === undefined ? [] : finalizersOf(previous)).filter(
        (finalizer) => !wasAsked(key, finalizer, atMs),
      );
      if (left.length > 0) world.report(name, `${key} was removed with finalizers ${left.join(', ')}`);
      asked.delete(key);
    },
  };
}
