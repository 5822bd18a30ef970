/** Cases that a later part mends; each says which. */
import type { FoundCase } from './case.ts';

const waits = (id: string, behaviour: string, what: string): FoundCase => ({ id, behaviour, waits: what });

export const cases: FoundCase[] = [
  waits('H13', 'docker build with buildx installed builds here', "BuildKit's gRPC"),
  waits('K18', 'a webhook is called where its matchConditions say so', 'CEL'),
  waits('K29', 'an APIService with a Service behind it is served', 'aggregation'),
  waits('K30', 'the ConfigMap extension-apiserver-authentication is there', 'aggregation'),
  waits('K31', "the kubelet's port takes bearer tokens and has all its metrics", 'conformance'),
  waits(
    'K38',
    'kubectl explain describes built-in fields',
    'conformance: descriptions come from a package that ships them',
  ),
  waits(
    'B5',
    'a Pod that is deleted while its image is pulled or its hook runs is stopped at once',
    'one kubelet for nodes and simulation',
  ),
  waits('B8', 'nodes report and evict under pressure of memory', 'one kubelet for nodes and simulation'),
  waits('B9', "a probe's own grace period counts, also in a simulation", 'one kubelet for nodes and simulation'),
  waits(
    'B12',
    'the network part of a node reads no Secrets that it does not need, and node processes no keys of the cluster',
    'machines that join',
  ),
  waits('B13', 'caches of RBAC and definitions are informers', 'live views'),
];
