/**
 * Whether the request may go on: system:masters, then the authorizers of the configuration, which are the Node
 * authorizer and RBAC where nothing else is said. What none allows is forbidden.
 */
import { ApiError } from '#base/errors.ts';
import type { AuditRecord } from '../audit/auditor.ts';
import type { Server } from '../context.ts';
import type { RequestInfo } from '../request-info.ts';
import type { UserInfo } from '#base/api-request.ts';
import { resourceNameOf } from '#base/objects.ts';
import type { Authorizer } from './authorizers.ts';
import { allowedByIngress, allowedByNode } from './node.ts';
import { allowedByRbac, describeGrant } from './rbac.ts';
import type { Attributes } from './attributes.ts';

function attributesOf(user: UserInfo, info: RequestInfo): Attributes {
  return {
    user,
    verb: info.verb,
    isResource: info.isResource,
    group: info.group,
    version: info.version,
    resource: info.resource,
    subresource: info.subresource,
    namespace: info.resource === 'namespaces' ? info.name : info.namespace,
    name: info.name === '' ? info.selectedName : info.name,
    selectedNode: info.selectedNode,
    path: info.path,
  };
}

/** What the authorizers say, the first that says anything; the reason is made for whoever asks. */
export interface Decision {
  allowed: boolean;
  /** Whoever says so is the last that is asked. */
  denied?: boolean;
  reason(): string;
}

const noReason = (): string => '';
const allowedSilently: Decision = { allowed: true, reason: noReason };
const noOpinion: Decision = { allowed: false, reason: noReason };

export async function decide(server: Server, attributes: Attributes): Promise<Decision> {
  if (attributes.user.groups.includes('system:masters')) return allowedSilently;
  const { authorizers } = server;
  if (authorizers === undefined) return (await askNode(server, attributes)) ?? askRbac(server, attributes);
  const reasons: string[] = [];
  for (const authorizer of authorizers.list) {
    const decision = await ask(server, authorizer, attributes);
    if (decision === undefined) continue;
    if (decision.allowed || decision.denied === true) return decision;
    const reason = decision.reason();
    if (reason !== '') reasons.push(reason);
  }
  return reasons.length === 0 ? noOpinion : { allowed: false, reason: () => reasons.join('\n') };
}

async function askNode(server: Server, attributes: Attributes): Promise<Decision | undefined> {
  const isAllowed = (await allowedByNode(server, attributes)) || (await allowedByIngress(server, attributes));
  return isAllowed ? allowedSilently : undefined;
}

async function askRbac(server: Server, attributes: Attributes): Promise<Decision> {
  const binding = await allowedByRbac(server, attributes);
  return binding === undefined ? noOpinion : { allowed: true, reason: () => describeGrant(binding, attributes.user) };
}

async function ask(server: Server, authorizer: Authorizer, attributes: Attributes): Promise<Decision | undefined> {
  switch (authorizer.mode) {
    case 'Node':
      return askNode(server, attributes);
    case 'RBAC':
      return askRbac(server, attributes);
    case 'AlwaysAllow':
      return allowedSilently;
    case 'AlwaysDeny':
      return { allowed: false, reason: () => 'Everything is forbidden.' };
    case 'Webhook': {
      const { decision, reason } = await authorizer.webhook.decide(attributes);
      return { allowed: decision === 'allow', denied: decision === 'deny', reason: () => reason };
    }
  }
}

export async function isAllowed(server: Server, attributes: Attributes): Promise<boolean> {
  return (await decide(server, attributes)).allowed;
}

export function forbidden(a: Attributes, why = ''): ApiError {
  if (!a.isResource)
    return new ApiError(
      'Forbidden',
      `forbidden: User ${JSON.stringify(a.user.name)} cannot ${a.verb} path ${JSON.stringify(a.path)}${why === '' ? '' : `: ${why}`}`,
    );
  const resource = a.subresource === '' ? a.resource : `${a.resource}/${a.subresource}`;
  const qualified = resourceNameOf(a);
  const scope = a.namespace === '' ? 'at the cluster scope' : `in the namespace ${JSON.stringify(a.namespace)}`;
  const named = a.name === '' ? `${qualified} is forbidden` : `${qualified} ${JSON.stringify(a.name)} is forbidden`;
  return new ApiError(
    'Forbidden',
    `${named}: User ${JSON.stringify(a.user.name)} cannot ${a.verb} resource ${JSON.stringify(resource)} in API group ${JSON.stringify(a.group)} ${scope}${why === '' ? '' : `: ${why}`}`,
    { ...(a.name === '' ? {} : { name: a.name }), ...(a.group === '' ? {} : { group: a.group }), kind: a.resource },
  );
}

/** Throws Forbidden. */
export async function authorize(
  server: Server,
  user: UserInfo,
  info: RequestInfo,
  audit: AuditRecord | undefined,
): Promise<void> {
  const attributes = attributesOf(user, info);
  const decision = await decide(server, attributes);
  audit?.annotate('authorization.k8s.io/decision', decision.allowed ? 'allow' : 'forbid');
  audit?.annotate('authorization.k8s.io/reason', decision.reason());
  if (!decision.allowed) throw forbidden(attributes, decision.reason());
}
