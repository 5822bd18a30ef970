/**
 * ControllerRevisions: the kept Pod templates of a StatefulSet or DaemonSet, numbered, named by hash, as `kubectl
 * rollout history` and
 * `undo` read them. A template that comes back takes its old revision with a new number.
 */
import type { ControllerRevision, DaemonSet, StatefulSet } from '#api/apps.v1.ts';
import type { PodTemplateSpec } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { isReason } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { fieldOf, isObject } from '#base/unknown.ts';
import { type Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { canonicalJson, isEqual, safeHash, withSortedKeys } from './equality.ts';
import { byAge } from './pods.ts';
import { type ControllerContext, deleteIfPresent, forEachBounded, ownedBy } from './runtime.ts';

export const revisionHashLabel = 'controller-revision-hash';

export interface RevisionPlan {
  /** The revision of the present template, when it is there. */
  update: ControllerRevision | undefined;
  create?: Manifest<ControllerRevision>;
  /** An older revision whose template is the present one again. */
  renumber?: { revision: ControllerRevision; number: number };
}

/** Clients compare the bytes with what they make of the owner themselves: Go writes the keys of a map in order. */
const templatePatch = (template: PodTemplateSpec): unknown =>
  withSortedKeys({ spec: { template: { ...template, $patch: 'replace' } } });
const numberOf = (revision: ControllerRevision): number => revision.revision ?? 0;

/** What the controllers themselves put into a revision: the server keeps it and does not look into it. */
function isTemplatePatch(data: unknown): data is { spec: { template: PodTemplateSpec & { $patch?: string } } } {
  return isObject(fieldOf(data, 'spec', 'template', 'spec'));
}

/** The template that a revision holds; undefined where it holds something else. */
export function templateOfRevision(revision: ControllerRevision): PodTemplateSpec | undefined {
  if (!isTemplatePatch(revision.data)) return undefined;
  const { $patch: _patch, ...template } = revision.data.spec.template;
  return template;
}

export function planRevisions(
  owner: StatefulSet | DaemonSet,
  revisions: readonly ControllerRevision[],
  collisions: number,
): RevisionPlan {
  const { template } = owner.spec;
  const latest = Math.max(0, ...revisions.map(numberOf));
  const same = revisions
    .filter((revision) => isEqual(templateOfRevision(revision), template))
    .toSorted((a, b) => numberOf(a) - numberOf(b))
    .at(-1);
  if (same !== undefined)
    return numberOf(same) === latest
      ? { update: same }
      : { update: same, renumber: { revision: same, number: latest + 1 } };
  const hash = safeHash(canonicalJson(template) + (collisions === 0 ? '' : String(collisions)));
  const create: Manifest<ControllerRevision> = {
    apiVersion: 'apps/v1',
    kind: 'ControllerRevision',
    metadata: {
      name: `${owner.metadata.name}-${hash}`,
      namespace: owner.metadata.namespace,
      labels: { ...template.metadata?.labels, [revisionHashLabel]: hash },
      ...(owner.metadata.annotations === undefined
        ? {}
        : {
            annotations: Object.fromEntries(
              Object.entries(owner.metadata.annotations).filter(
                ([key]) => key !== 'kubectl.kubernetes.io/last-applied-configuration',
              ),
            ),
          }),
      ownerReferences: [ownedBy(owner)],
    },
    data: templatePatch(template),
    revision: latest + 1,
  };
  return { update: undefined, create };
}

/** Carries the plan out; undefined where a name was taken by another and `collisions` must grow. */
export async function applyRevisions(
  context: ControllerContext,
  plan: RevisionPlan,
): Promise<ControllerRevision | undefined> {
  const { client } = context;
  if (plan.create !== undefined) {
    try {
      return await client.create(kinds.ControllerRevision, plan.create);
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
      const held = await client.get(
        kinds.ControllerRevision,
        plan.create.metadata.name!,
        plan.create.metadata.namespace,
      );
      return isEqual(held.data, plan.create.data) &&
        held.metadata.ownerReferences?.[0]?.uid === plan.create.metadata.ownerReferences?.[0]?.uid
        ? held
        : undefined;
    }
  }
  if (plan.renumber !== undefined) {
    const { revision, number } = plan.renumber;
    return client.patch(kinds.ControllerRevision, revision.metadata, {
      merge: { metadata: { resourceVersion: revision.metadata.resourceVersion }, revision: number },
    });
  }
  return plan.update;
}

/** Deletes the oldest revisions that no Pod and no status names, beyond the limit. */
export async function truncateHistory(
  context: ControllerContext,
  revisions: readonly ControllerRevision[],
  live: ReadonlySet<string>,
  limit: number,
): Promise<void> {
  const spare = revisions
    .filter(
      (revision) => !live.has(revision.metadata.name) && !live.has(revision.metadata.labels?.[revisionHashLabel] ?? ''),
    )
    .toSorted((a, b) => numberOf(a) - numberOf(b) || byAge(a, b));
  await forEachBounded(spare.slice(0, Math.max(0, spare.length - limit)), (revision) =>
    deleteIfPresent(context, kinds.ControllerRevision, revision),
  );
}

export function revisionsOf(informer: Informer<ControllerRevision>, owner: KubeObject): ControllerRevision[] {
  return [...informer.by('controller', owner.metadata.uid!)].toSorted((a, b) => numberOf(a) - numberOf(b));
}
