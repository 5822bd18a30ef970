/**
 * Resources of a Pod as a whole: what its containers take together, and what follows for what the Pod does not say
 * (Kubernetes, "Assign Pod-level CPU and memory resources").
 */
import type { Container, PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { addQuantities, compareQuantities, formatQuantity, isQuantity, parseQuantity } from '#base/quantity.ts';
import type { Quantity } from '#base/quantity.ts';
import { isOvercommitted } from './resource-names.ts';

type Amounts = Map<string, Quantity>;
type Part = 'limits' | 'requests';

const isHugePages = (name: string): boolean => name.startsWith('hugepages-');
/** Whether a Pod as a whole can have it. */
export const isPodResource = (name: string): boolean => name === 'cpu' || name === 'memory' || isHugePages(name);

function amountsOf({ resources }: Draft<Container>, part: Part): Amounts {
  const amounts: Amounts = new Map();
  for (const [name, value] of Object.entries(resources?.[part] ?? {}))
    if (isQuantity(value)) amounts.set(name, parseQuantity(value));
  return amounts;
}

function add(to: Amounts, more: Amounts): void {
  for (const [name, amount] of more) {
    const before = to.get(name);
    to.set(name, before === undefined ? amount : addQuantities(before, amount));
  }
}

function raise(to: Amounts, other: Amounts): void {
  for (const [name, amount] of other) {
    const before = to.get(name);
    if (before === undefined || compareQuantities(amount, before) > 0) to.set(name, amount);
  }
}

/** What a Pod's containers take: those that run at once together, and no less than each that runs before. */
export function sumOfContainers({ containers, initContainers }: Draft<PodSpec>, part: Part): Amounts {
  const [sum, sideCars, before]: [Amounts, Amounts, Amounts] = [new Map(), new Map(), new Map()];
  for (const container of containers ?? []) add(sum, amountsOf(container, part));
  for (const container of initContainers ?? []) {
    const own = amountsOf(container, part);
    if (container.restartPolicy === 'Always') {
      add(sum, own);
      add(sideCars, own);
      raise(before, sideCars);
    } else {
      add(own, sideCars);
      raise(before, own);
    }
  }
  raise(sum, before);
  return sum;
}

/** Fills what a Pod that says something of itself as a whole leaves open. Its containers have their defaults. */
export function defaultPodResources(spec: Draft<PodSpec>): void {
  const { resources } = spec;
  if (!resources) return;
  const { limits = {}, requests = {} } = resources;
  if (Object.keys(limits).length + Object.keys(requests).length === 0) return;
  const fill = (list: Record<string, string>, name: string, amount: Quantity | string): void => {
    list[name] ??= typeof amount === 'string' ? amount : formatQuantity(amount);
  };
  const mostOfContainers = sumOfContainers(spec, 'limits');
  for (const [name, amount] of mostOfContainers)
    if (isHugePages(name) && requests[name] === undefined) fill(limits, name, amount);
  for (const [name, amount] of sumOfContainers(spec, 'requests'))
    if (isPodResource(name) && isOvercommitted(name)) fill(requests, name, amount);
  for (const [name, limit] of Object.entries(limits)) if (isPodResource(name)) fill(requests, name, limit);
  const all = [...(spec.containers ?? []), ...(spec.initContainers ?? [])];
  for (const [name, request] of Object.entries(requests)) {
    const most = mostOfContainers.get(name);
    const areLimited = all.every((container) => container.resources?.limits?.[name] !== undefined);
    if (!isPodResource(name) || !areLimited || most === undefined || !isQuantity(request)) continue;
    fill(limits, name, compareQuantities(request, most) > 0 ? request : most);
  }
  if (Object.keys(limits).length > 0) resources.limits = limits;
  if (Object.keys(requests).length > 0) resources.requests = requests;
}
