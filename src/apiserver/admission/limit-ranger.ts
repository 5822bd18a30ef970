/**
 * LimitRanger (Kubernetes, "Limit Ranges"): defaults for containers without requests or limits, bounds for containers,
 * Pods and claims.
 */
import type { Container, LimitRangeItem, ResourceRequirements } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isOf } from '#base/objects.ts';
import { addQuantities, compareQuantities, formatQuantity, parseQuantity, zeroQuantity } from '#base/quantity.ts';
import type { Quantity } from '#base/quantity.ts';
import type { RequestContext } from '../context.ts';
import { mainContainers, type AdmissionAttributes } from './attributes.ts';
import { forbiddenBy } from '../object-errors.ts';

async function limitsOf(context: RequestContext, type: string): Promise<LimitRangeItem[]> {
  const limits = (await context.server.live.limitRanges.current()).in(context.info.namespace);
  return limits.filter((limit) => limit.type === type);
}

export async function admitLimitDefaults(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { object } = attributes;
  if (!isOf(kinds.Pod, object) || attributes.operation !== 'CREATE' || attributes.subresource !== '') return;
  const limits = await limitsOf(context, 'Container');
  if (limits.length === 0) return;
  for (const container of mainContainers(object.spec)) {
    const resources = (container.resources ??= {});
    for (const limit of limits) {
      // a limit that the Pod itself set is also its request; only then come the defaults
      for (const [name, value] of Object.entries(limit.default ?? {}))
        if (resources.limits?.[name] === undefined) (resources.limits ??= {})[name] = value;
      for (const [name, value] of Object.entries(limit.defaultRequest ?? {}))
        if (resources.requests?.[name] === undefined) (resources.requests ??= {})[name] = value;
    }
  }
}

/** What of a limit the resources of a container, a Pod or a claim do not keep. */
function boundProblems(limit: LimitRangeItem, { requests, limits }: ResourceRequirements): string[] {
  const problems: string[] = [];
  const what = limit.type;
  for (const [name, min] of Object.entries(limit.min ?? {})) {
    const request = requests?.[name];
    if (request === undefined) problems.push(`minimum ${name} usage per ${what} is ${min}.  No request is specified`);
    else if (compareQuantities(request, min) < 0)
      problems.push(`minimum ${name} usage per ${what} is ${min}, but request is ${request}`);
  }
  for (const [name, max] of Object.entries(limit.max ?? {})) {
    const asked = limits?.[name];
    if (asked === undefined) problems.push(`maximum ${name} usage per ${what} is ${max}.  No limit is specified`);
    else if (compareQuantities(asked, max) > 0)
      problems.push(`maximum ${name} usage per ${what} is ${max}, but limit is ${asked}`);
  }
  for (const [name, ratio] of Object.entries(limit.maxLimitRequestRatio ?? {})) {
    const request = requests?.[name];
    const asked = limits?.[name];
    if (request === undefined || asked === undefined) {
      problems.push(
        `${name} max limit to request ratio per ${what} is ${ratio}, but no ${request === undefined ? 'request' : 'limit'} is specified or ${request === undefined ? 'request' : 'limit'} is 0`,
      );
      continue;
    }
    const actual = Number(parseQuantity(asked).nano) / Number(parseQuantity(request).nano);
    if (actual > Number(parseQuantity(ratio).nano) / 1e9)
      problems.push(
        `${name} max limit to request ratio per ${what} is ${ratio}, but provided ratio is ${actual.toFixed(6)}`,
      );
  }
  return problems;
}

function sum(containers: readonly Container[], field: 'requests' | 'limits'): Record<string, string> {
  const total = new Map<string, Quantity>();
  for (const container of containers)
    for (const [name, value] of Object.entries(container.resources?.[field] ?? {}))
      total.set(name, addQuantities(total.get(name) ?? zeroQuantity(), parseQuantity(value)));
  return Object.fromEntries([...total].map(([name, q]) => [name, formatQuantity(q)]));
}

export async function admitLimitBounds(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const problems: string[] = [];
  const { object, operation, subresource } = attributes;
  if (subresource !== '') return;
  if (isOf(kinds.Pod, object) && operation === 'CREATE') {
    const { containers, initContainers = [] } = object.spec;
    for (const limit of await limitsOf(context, 'Container'))
      for (const { resources } of [...containers, ...initContainers])
        problems.push(...boundProblems(limit, resources ?? {}));
    for (const limit of await limitsOf(context, 'Pod'))
      problems.push(
        ...boundProblems(limit, { requests: sum(containers, 'requests'), limits: sum(containers, 'limits') }),
      );
  } else if (isOf(kinds.PersistentVolumeClaim, object) && operation !== 'DELETE') {
    const { requests } = object.spec.resources ?? {};
    const asked = requests === undefined ? {} : { requests, limits: requests };
    for (const limit of await limitsOf(context, 'PersistentVolumeClaim')) problems.push(...boundProblems(limit, asked));
  }
  if (problems.length === 0) return;
  const text = problems.join(', ');
  throw forbiddenBy(context, attributes.object.metadata.name ?? '', problems.length === 1 ? text : `[${text}]`);
}
