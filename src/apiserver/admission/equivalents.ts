/**
 * Webhooks and policies that match equivalents (`matchPolicy`) see a request as one of another version of its resource:
 * of the first version that their rules name. What they change comes back in the version that was asked for.
 * Rules: Kubernetes documentation, "Dynamic Admission Control / Matching requests: matchPolicy".
 */
import { apiVersionOf, type KubeObject } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { RequestContext } from '../context.ts';
import type { AdmissionAttributes } from './attributes.ts';

/** The kinds as which a request may be seen, that of the request first. */
export function versionsOf({ kind, server }: RequestContext, matchPolicy: string | undefined): readonly KindRecord[] {
  if (matchPolicy === 'Exact') return [kind];
  return [kind, ...server.kinds.keptWith(kind).filter((other) => other !== kind)];
}

export interface Seen {
  context: RequestContext;
  attributes: AdmissionAttributes;
  /** What was made of the object becomes the request's. */
  settle(): Promise<void>;
}

/** Rejects with InternalError where the object cannot be converted. */
export async function seenAs(
  context: RequestContext,
  attributes: AdmissionAttributes,
  kind: KindRecord,
): Promise<Seen> {
  const settled = async (): Promise<void> => {};
  if (kind === context.kind) return { context, attributes, settle: settled };
  const seen = { ...context, kind, requested: context.kind };
  const { conversion } = kind;
  // Attributes have the object as it is stored, which each version shows in its way.
  if (conversion === undefined) return { context: seen, attributes, settle: settled };
  const convert = async (object: KubeObject, to: KindRecord): Promise<KubeObject> =>
    (await conversion.convert([object], apiVersionOf(to)))[0] ?? object;
  const { object, old } = attributes;
  const own = {
    ...attributes,
    object: await convert(object, kind),
    old: old === undefined ? undefined : await convert(old, kind),
  };
  const before = own.object;
  return {
    context: seen,
    attributes: own,
    async settle() {
      if (own.object !== before) attributes.object = await convert(own.object, context.kind);
    },
  };
}
