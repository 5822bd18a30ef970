/**
 * The names of a cluster, answered from Services, EndpointSlices and Pods. Pure: a question and the lookups it needs,
 * to an answer.
 * Source: Kubernetes DNS-Based Service Discovery, version 1.1.0 (sections 2.2 to 2.4).
 */
import type { Service } from '#api/core.v1.ts';
import type { EndpointPort, EndpointSlice } from '#api/discovery.v1.ts';
import { ipOfReverseName, isIpv4 } from '#base/ip.ts';
import { dnsTtlSeconds } from './limits.ts';

export interface ClusterObjects {
  service(namespace: string, name: string): Service | undefined;
  slices(namespace: string, service: string): Iterable<EndpointSlice>;
  namespaceExists(name: string): boolean;
  /** Services by cluster address, and headless endpoints by address, for reverse questions. */
  nameOfAddress(ip: string): string | undefined;
}

export interface DnsRecord {
  name: string;
  type: string;
  ttl?: number;
  data: unknown;
}
export interface ClusterAnswer {
  code: 'NOERROR' | 'NXDOMAIN';
  answers: DnsRecord[];
  additionals: DnsRecord[];
  /** A name outside the cluster to be asked of the upstream servers and added (ExternalName). */
  follow?: string;
}

const nothing: ClusterAnswer = { code: 'NOERROR', answers: [], additionals: [] };
const unknown: ClusterAnswer = { code: 'NXDOMAIN', answers: [], additionals: [] };

interface HeadlessEndpoint {
  ip: string;
  hostname: string;
  ports: EndpointPort[];
}

/** `10.244.0.7` as `10-244-0-7`: the name of an endpoint without a hostname. */
export function dashed(ip: string): string {
  return ip.replaceAll('.', '-').replaceAll(':', '-');
}

function isHeadless(service: Service): boolean {
  return service.spec.clusterIP === 'None';
}

function headlessEndpoints(service: Service, objects: ClusterObjects): HeadlessEndpoint[] {
  const publish = service.spec.publishNotReadyAddresses === true;
  const out: HeadlessEndpoint[] = [];
  for (const slice of objects.slices(service.metadata.namespace, service.metadata.name)) {
    if (slice.addressType !== 'IPv4') continue;
    for (const endpoint of slice.endpoints ?? []) {
      if (!publish && endpoint.conditions?.ready === false) continue;
      for (const ip of endpoint.addresses ?? [])
        out.push({ ip, hostname: endpoint.hostname ?? dashed(ip), ports: slice.ports ?? [] });
    }
  }
  return out;
}

function addressRecords(name: string, ips: string[], type: string): DnsRecord[] {
  return type !== 'A' && type !== 'ANY' ? [] : ips.map((ip) => ({ name, type: 'A', ttl: dnsTtlSeconds, data: ip }));
}

/** Answers a question below the cluster domain, or a reverse one; undefined when the name is not the cluster's. */
export function answerClusterName(
  name: string,
  type: string,
  domain: string,
  objects: ClusterObjects,
): ClusterAnswer | undefined {
  const lower = name.toLowerCase().replace(/\.$/, '');
  const reversed = ipOfReverseName(lower);
  if (reversed !== undefined) return answerReverse(name, reversed, type, objects);
  if (lower !== domain && !lower.endsWith(`.${domain}`)) return undefined;
  const labels = lower === domain ? [] : lower.slice(0, -domain.length - 1).split('.');
  if (labels.length === 0) return nothing;
  if (labels.length === 1 && labels[0] === 'dns-version')
    return type === 'TXT' ? { ...nothing, answers: [{ name, type: 'TXT', ttl: 28_800, data: '1.1.0' }] } : nothing;
  const kind = labels.at(-1);
  if (kind === 'pod') return answerPod(name, type, labels, objects);
  if (kind !== 'svc') return unknown;
  if (labels.length === 1) return nothing;
  const namespace = labels.at(-2)!;
  if (labels.length === 2) return objects.namespaceExists(namespace) ? nothing : unknown;
  const service = objects.service(namespace, labels.at(-3)!);
  if (service === undefined) return unknown;
  return answerService({ name, type }, labels.slice(0, -3), service, { domain, objects });
}

function answerPod(name: string, type: string, labels: string[], objects: ClusterObjects): ClusterAnswer {
  if (labels.length === 1) return nothing;
  if (labels.length === 2) return objects.namespaceExists(labels[0]!) ? nothing : unknown;
  const ip = labels[0]!.replaceAll('-', '.');
  if (labels.length !== 3 || !isIpv4(ip) || !objects.namespaceExists(labels[1]!)) return unknown;
  return { ...nothing, answers: addressRecords(name, [ip], type) };
}

interface Question {
  /** In the asker's own case. */
  name: string;
  type: string;
}

function answerService(
  question: Question,
  prefix: string[],
  service: Service,
  { domain, objects }: { domain: string; objects: ClusterObjects },
): ClusterAnswer {
  const { name, type } = question;
  if (service.spec.type === 'ExternalName') {
    if (prefix.length > 0) return unknown;
    const target = service.spec.externalName ?? '';
    return { ...nothing, answers: [{ name, type: 'CNAME', ttl: dnsTtlSeconds, data: target }], follow: target };
  }
  const base = `${service.metadata.name}.${service.metadata.namespace}.svc.${domain}`;
  const isWithoutAddress = isHeadless(service);
  const endpoints = isWithoutAddress ? headlessEndpoints(service, objects) : [];
  if (prefix.length === 0) {
    if (isWithoutAddress && endpoints.length === 0) return unknown;
    if (type === 'SRV') return srvAnswer(name, { base, service, endpoints }, () => true);
    const ips = isWithoutAddress
      ? [...new Set(endpoints.map((endpoint) => endpoint.ip))]
      : [service.spec.clusterIP ?? ''];
    return { ...nothing, answers: addressRecords(name, ips, type) };
  }
  if (prefix.length === 2 && prefix[0]!.startsWith('_') && prefix[1]!.startsWith('_')) {
    const [portName, protocol] = prefix.map((label) => label.slice(1));
    const answer = srvAnswer(
      name,
      { base, service, endpoints },
      (port) => (port.name ?? '').toLowerCase() === portName && (port.protocol ?? 'TCP').toLowerCase() === protocol,
    );
    if (answer.answers.length === 0) return unknown;
    return type === 'SRV' || type === 'ANY' ? answer : nothing;
  }
  if (prefix.length !== 1 || !isWithoutAddress) return unknown;
  const found = endpoints.filter((endpoint) => endpoint.hostname.toLowerCase() === prefix[0]);
  const ips = found.map((endpoint) => endpoint.ip);
  return found.length === 0 ? unknown : { ...nothing, answers: addressRecords(name, ips, type) };
}

/** A Service under its name in the cluster. */
interface NamedService {
  base: string;
  service: Service;
  /** Of one without an address of its own. */
  endpoints: HeadlessEndpoint[];
}

function srvAnswer(
  name: string,
  { base, service, endpoints }: NamedService,
  isWanted: (port: { name?: string; protocol?: string }) => boolean,
): ClusterAnswer {
  const answers: DnsRecord[] = [];
  const additionals: DnsRecord[] = [];
  const add = (target: string, port: number, ip: string): void => {
    answers.push({ name, type: 'SRV', ttl: dnsTtlSeconds, data: { target, port, priority: 0, weight: 100 } });
    additionals.push({ name: target, type: 'A', ttl: dnsTtlSeconds, data: ip });
  };
  if (!isHeadless(service))
    for (const port of (service.spec.ports ?? []).filter(isWanted)) add(base, port.port, service.spec.clusterIP ?? '');
  else
    for (const endpoint of endpoints)
      for (const port of endpoint.ports.filter(isWanted))
        add(`${endpoint.hostname}.${base}`, port.port ?? 0, endpoint.ip);
  return { code: 'NOERROR', answers, additionals };
}

function answerReverse(name: string, ip: string, type: string, objects: ClusterObjects): ClusterAnswer | undefined {
  const target = objects.nameOfAddress(ip);
  if (target === undefined) return undefined;
  return type === 'PTR' || type === 'ANY'
    ? { ...nothing, answers: [{ name, type: 'PTR', ttl: dnsTtlSeconds, data: target }] }
    : nothing;
}
