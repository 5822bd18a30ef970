/** Cases that a later part mends; each says which. */
import type { FoundCase } from './case.ts';

const waits = (id: string, behaviour: string, what: string): FoundCase => ({ id, behaviour, waits: what });

export const cases: FoundCase[] = [
  waits('K18', 'a webhook is called where its matchConditions say so', 'CEL'),
  waits('K29', 'an APIService with a Service behind it is served', 'aggregation'),
  waits('K30', 'the ConfigMap extension-apiserver-authentication is there', 'aggregation'),
  waits('K31', "the kubelet's port takes bearer tokens and has all its metrics", 'conformance'),
  waits(
    'K38',
    'kubectl explain describes built-in fields',
    'conformance: descriptions come from a package that ships them',
  ),
];
