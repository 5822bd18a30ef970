/**
 * Cluster addresses and IP families of a Service: validation of the three fields that hang together, and what follows
 * for what the writer leaves open (Kubernetes, "IPv4/IPv6 dual-stack"). The cluster gives out addresses of one family.
 */
import type { Service, ServiceSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { familyOf } from '#base/ip.ts';
import type { IpFamily } from '#base/ip.ts';
import type { FieldErrors } from './field-errors.ts';
import { ipProblem } from './ip-fields.ts';
import { sameJson } from './validate-values.ts';

const families: readonly string[] = ['IPv4', 'IPv6'];
const familyPolicies = ['PreferDualStack', 'RequireDualStack', 'SingleStack'];
const at = { addresses: 'spec.clusterIPs', families: 'spec.ipFamilies', policy: 'spec.ipFamilyPolicy' } as const;

export const needsAddress = (spec: Draft<ServiceSpec>): boolean => spec.type !== 'ExternalName';

/** Without an address of its own: its name stands for its Pods. */
export const isHeadless = ({ clusterIPs }: Draft<ServiceSpec>): boolean =>
  clusterIPs?.length === 1 && clusterIPs[0] === 'None';

/** What the server gave and the writer does not know of stays, while it is needed. */
export function keepAddresses(now: Draft<ServiceSpec>, was: ServiceSpec): void {
  if (!needsAddress(now) || !needsAddress(was)) return;
  if (!now.clusterIP && was.clusterIP !== undefined) now.clusterIP = was.clusterIP;
  if ((now.clusterIPs ?? []).length === 0 && was.clusterIPs !== undefined) now.clusterIPs = [...was.clusterIPs];
}

/** A writer who knows only the older field of one address means the list, too. */
export function alignAddresses(spec: Draft<ServiceSpec>, was: ServiceSpec | undefined): void {
  const { clusterIP = '' } = spec;
  const before = was?.clusterIP ?? '';
  const lacksList = (spec.clusterIPs ?? []).length === 0;
  if (was === undefined) {
    if (clusterIP !== '' && lacksList) spec.clusterIPs = [clusterIP];
    return;
  }
  if (lacksList && (was.clusterIPs ?? []).length > 0 && clusterIP === before)
    spec.clusterIPs = [...(was.clusterIPs ?? [])];
  if (clusterIP === before || !sameJson(spec.clusterIPs, was.clusterIPs)) return;
  if (before !== '' && clusterIP === '') delete spec.clusterIPs;
  else spec.clusterIPs = [clusterIP];
}

/** The three fields on their own; addresses that `old` has stay, whatever was allowed when they came. */
export function validateAddresses(
  spec: Draft<ServiceSpec>,
  old: Draft<ServiceSpec> | undefined,
  errors: FieldErrors,
): void {
  if (!needsAddress(spec)) return;
  const { clusterIP = '', clusterIPs: addresses = [], ipFamilyPolicy: policy } = spec;
  if (clusterIP !== '' && addresses.length === 0) errors.required(at.addresses);
  else if (clusterIP !== '' && addresses[0] !== clusterIP)
    errors.invalid(at.addresses, addresses, 'first value must match `clusterIP`');
  else if (clusterIP === '' && addresses.length > 0)
    errors.invalid(at.addresses, addresses, 'must be empty when `clusterIP` is not specified');
  (spec.ipFamilies ?? []).forEach((family, i, all) => {
    if (!families.includes(family)) errors.unsupported(`${at.families}[${i}]`, family, families);
    if (all.indexOf(family) !== i) errors.duplicate(`${at.families}[${i}]`, family);
  });
  if (typeof policy === 'string' && !familyPolicies.includes(policy))
    errors.unsupported(at.policy, policy, familyPolicies);
  const isWrong = validateEachAddress(addresses, old?.clusterIPs ?? [], errors);
  if (addresses.length > 2) errors.invalid(at.addresses, addresses, 'may only hold up to 2 values');
  if (isWrong) return;
  const kinds = new Set(addresses.map(familyOf));
  if (addresses.length > 1 && (addresses.length > 2 || kinds.size !== 2))
    errors.invalid(at.addresses, addresses, 'may specify no more than one IP for each IP family');
  if (!isHeadless(spec)) matchFamilies(spec, errors);
}

function validateEachAddress(addresses: readonly string[], known: readonly string[], errors: FieldErrors): boolean {
  let isWrong = false;
  addresses.forEach((address, i) => {
    const isNone = i === 0 && address === 'None';
    if (isNone && addresses.length > 1)
      errors.invalid(at.addresses, addresses, "'None' must be the first and only value");
    const problem = isNone || known.includes(address) ? '' : ipProblem(address);
    if (problem !== '') errors.invalid(`${at.addresses}[${i}]`, address, problem);
    isWrong ||= problem !== '' || (isNone && addresses.length > 1);
  });
  return isWrong;
}

function matchFamilies({ clusterIPs, ipFamilies }: Draft<ServiceSpec>, errors: FieldErrors): void {
  (clusterIPs ?? []).forEach((address, i) => {
    const wanted = ipFamilies?.[i];
    if (wanted !== undefined && families.includes(wanted) && familyOf(address) !== wanted)
      errors.invalid(
        `${at.addresses}[${i}]`,
        address,
        `expected an ${wanted} value as indicated by \`ipFamilies[${i}]\``,
      );
  });
}

/** Whether nothing asks for another number of addresses: such a Service stays as it is when the cluster changes. */
function isLeftAlone(spec: Draft<ServiceSpec>, old: ServiceSpec | undefined): boolean {
  const prefers = 'PreferDualStack';
  return (
    old !== undefined &&
    old.type === spec.type &&
    spec.ipFamilyPolicy === prefers &&
    (old.ipFamilyPolicy ?? prefers) === prefers &&
    sameJson(old.clusterIPs, spec.clusterIPs) &&
    sameJson(old.ipFamilies, spec.ipFamilies)
  );
}

/**
 * Fills families and their policy, of a cluster that gives out addresses of `family`. With errors nothing is filled
 * further; they are all there is to say of the write.
 */
export function settleFamilies(
  { spec = {} }: Draft<Service>,
  old: Service | undefined,
  family: IpFamily,
  errors: FieldErrors,
): void {
  const isManual = spec.clusterIP === 'None' && Object.keys(spec.selector ?? {}).length === 0;
  if (!needsAddress(spec) || isLeftAlone(spec, old?.spec)) return;
  spec.ipFamilyPolicy ??= old?.spec.ipFamilyPolicy ?? (isManual ? 'RequireDualStack' : 'SingleStack');
  validateAddresses(spec, old?.spec, errors);
  if (errors.any) return;
  settleNumber(spec, old?.spec, errors);
  inferFamilies(spec, family, errors);
  if (errors.any) return;
  if (isManual) {
    // Whoever writes the endpoints himself may have some of both families.
    const list = (spec.ipFamilies ??= [family]);
    if (list.length === 0) list.push(family);
    if (list.length === 1 && spec.ipFamilyPolicy !== 'SingleStack') list.push(list[0] === 'IPv4' ? 'IPv6' : 'IPv4');
    return;
  }
  if (spec.ipFamilyPolicy === 'RequireDualStack')
    errors.invalid(at.policy, spec.ipFamilyPolicy, 'this cluster is not configured for dual-stack services');
  (spec.ipFamilies ?? []).forEach((one, i) => {
    if (one !== family) errors.invalid(`${at.families}[${i}]`, one, 'not configured on this cluster');
  });
  if (!errors.any && (spec.ipFamilies ?? []).length === 0) spec.ipFamilies = [family];
}

/** One address or two, as the policy says. */
function settleNumber(spec: Draft<ServiceSpec>, old: ServiceSpec | undefined, errors: FieldErrors): void {
  const isSingle = spec.ipFamilyPolicy === 'SingleStack';
  for (const [field, what, many] of [
    ['clusterIPs', 'cluster IP', 'cluster IPs'],
    ['ipFamilies', 'IP family', 'IP families'],
  ] as const) {
    const [now, before] = [spec[field] ?? [], old?.[field] ?? []];
    if (old !== undefined && isSingle && sameJson(now, before) && now.length > 1) spec[field] = now.slice(0, 1);
    if (old !== undefined && !isSingle && now.length > 0 && now.length < before.length)
      errors.invalid(at.policy, spec.ipFamilyPolicy, `must be 'SingleStack' to release the secondary ${what}`);
    if (isSingle && (spec[field] ?? []).length === 2)
      errors.invalid(
        at.policy,
        spec.ipFamilyPolicy,
        `must be 'RequireDualStack' or 'PreferDualStack' when multiple ${many} are specified`,
      );
  }
}

/** Families that the writer does not name are those of his addresses. */
function inferFamilies(spec: Draft<ServiceSpec>, family: IpFamily, errors: FieldErrors): void {
  const addresses = spec.clusterIPs ?? [];
  if (addresses[0] === 'None') return;
  addresses.forEach((address, i) => {
    if (i < (spec.ipFamilies ?? []).length) return;
    const own = familyOf(address) ?? family;
    if (own === family) spec.ipFamilies = [...(spec.ipFamilies ?? []), own];
    else errors.invalid(`${at.addresses}[${i}]`, addresses, `${own} is not configured on this cluster`);
  });
}

/** The first address and family stay; a second may come and go. */
export function validateAddressUpdate(spec: Draft<ServiceSpec>, old: ServiceSpec, errors: FieldErrors): void {
  if (!needsAddress(spec) || !needsAddress(old)) return;
  const [isNow, isBefore] = [isHeadless(spec), isHeadless(old)];
  const { clusterIPs: addresses = [], ipFamilies: now = [] } = spec;
  const { clusterIPs: formerAddresses = [], ipFamilies: former = [] } = old;
  if (!isNow || !isBefore) {
    const count = Math.max(1, Math.min(addresses.length, formerAddresses.length));
    const same = addresses.length === formerAddresses.length ? count : 1;
    for (let i = 0; i < same && i < formerAddresses.length; i++)
      if (addresses[i] === undefined)
        errors.invalid(`${at.addresses}[0]`, spec.clusterIPs ?? null, 'primary clusterIP can not be unset');
      else if (addresses[i] !== formerAddresses[i])
        errors.invalid(`${at.addresses}[${i}]`, addresses, 'may not change once set');
    if (addresses.length === 1 && formerAddresses.length > 1 && spec.ipFamilyPolicy !== 'SingleStack')
      errors.invalid(
        at.policy,
        spec.ipFamilyPolicy ?? null,
        "must be set to 'SingleStack' when releasing the secondary clusterIP",
      );
  }
  if (isNow || isBefore) return;
  const isSame = now.length === former.length ? sameJson(now, former) : now[0] === former[0];
  if (!isSame && former.length > 0 && now.length > 0)
    errors.invalid(`${at.families}[0]`, now, 'may not change once set');
}
