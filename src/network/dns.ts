/**
 * The cluster's DNS server on this node: UDP and TCP on the cluster DNS address, which is an address of the node's own
 * dummy link, so that no translation stands between a Pod and its answer. Names of the cluster are answered from
 * informers; all others are forwarded to the node's upstream servers as the raw bytes they are (net/dns-forwarder.ts).
 * Messages and their sizes:
 * net/dns-message.ts.
 */
import dnsPacket from 'dns-packet';
import { messageOf } from '#base/thrown.ts';
import type { InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { createDnsForwarder } from '#net/dns-forwarder.ts';
import { dnsFailure, dnsFlag, encodeDnsAnswer, parseDnsQuery, type DnsQuestion } from '#net/dns-message.ts';
import { dnsTcpBytesMax, listenDns } from '#net/dns-server.ts';
import { dnsUdpBytesMax } from '#net/limits.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import { answerClusterName, dashed, type ClusterAnswer, type ClusterObjects } from './dns-records.ts';
import { dnsTtlSeconds } from './limits.ts';

export interface DnsOptions {
  informers: InformerFactory;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Addresses to listen on, port 53. */
  addresses: string[];
  port?: number;
  domain: string;
  /** Upstream servers, read from the node's resolv.conf. */
  upstreams: string[];
}

export interface DnsServer extends AsyncDisposable {
  /** Resolves when names of the cluster can be answered. */
  ready: Promise<void>;
}

const labelService = 'kubernetes.io/service-name';

function clusterObjects(
  informers: InformerFactory,
  domain: string,
): { objects: ClusterObjects; synced: Promise<void> } {
  const services = informers
    .informer(kinds.Service)
    .addIndex('clusterIp', (service) => service.spec.clusterIPs ?? service.spec.clusterIP);
  const slices = informers
    .informer(kinds.EndpointSlice)
    .addIndex('service', (slice) => `${slice.metadata.namespace}/${slice.metadata.labels?.[labelService] ?? ''}`)
    .addIndex('address', (slice) => (slice.endpoints ?? []).flatMap((endpoint) => endpoint.addresses));
  const namespaces = informers.informer(kinds.Namespace);
  const objects: ClusterObjects = {
    service: (namespace, name) => services.get(`${namespace}/${name}`),
    slices: (namespace, service) => slices.by('service', `${namespace}/${service}`),
    namespaceExists: (name) => namespaces.get(name) !== undefined,
    nameOfAddress(ip) {
      for (const service of services.by('clusterIp', ip))
        return `${service.metadata.name}.${service.metadata.namespace}.svc.${domain}`;
      for (const slice of slices.by('address', ip)) {
        const name = slice.metadata.labels?.[labelService];
        const service = services.get(`${slice.metadata.namespace}/${name}`);
        if (service?.spec.clusterIP !== 'None') continue;
        const endpoint = (slice.endpoints ?? []).find((entry) => entry.addresses.includes(ip));
        return `${endpoint?.hostname ?? dashed(ip)}.${name}.${slice.metadata.namespace}.svc.${domain}`;
      }
      return undefined;
    },
  };
  return { objects, synced: Promise.all([services.synced, slices.synced, namespaces.synced]).then(() => {}) };
}

export async function runDns(options: DnsOptions): Promise<DnsServer> {
  const { clock, log, domain, upstreams } = options;
  const { objects, synced } = clusterObjects(options.informers, domain);
  const forwarder = createDnsForwarder({ clock, random: options.random });
  let ready = false;
  const soa = {
    name: domain,
    type: 'SOA',
    ttl: dnsTtlSeconds,
    data: {
      mname: `ns.dns.${domain}`,
      rname: `hostmaster.${domain}`,
      serial: 1,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: dnsTtlSeconds,
    },
  };

  const resolve = async (message: Buffer, question: DnsQuestion, limit: number, client: string): Promise<Buffer> => {
    if (!ready) await synced;
    const answer = answerClusterName(question.name, question.type, domain, objects);
    if (answer === undefined)
      return upstreams.length === 0
        ? dnsFailure(message, 'NXDOMAIN')
        : forwarder.ask(message, upstreams, limit, client);
    if (answer.follow !== undefined && question.type !== 'CNAME') await addFollowed(answer, question.type, client);
    return encodeDnsAnswer(
      question,
      {
        ...answer,
        flags: dnsFlag.authoritative | dnsFlag.recursionAvailable,
        authorities: answer.answers.length === 0 ? [soa] : [],
      },
      limit,
    );
  };
  /** ExternalName: adds the addresses of the name it points at, from the cluster or from upstream. */
  const addFollowed = async (answer: ClusterAnswer, type: string, client: string): Promise<void> => {
    const own = answerClusterName(answer.follow!, type, domain, objects);
    if (own !== undefined) {
      answer.answers.push(...own.answers);
      return;
    }
    if (upstreams.length === 0 || type.startsWith('TYPE')) return;
    const query = dnsPacket.encode({
      type: 'query',
      id: 0,
      flags: dnsFlag.recursionDesired,
      questions: [{ name: answer.follow!, type: type as 'A' }],
    });
    const { answers = [] } = dnsPacket.decode(await forwarder.ask(query, upstreams, dnsUdpBytesMax, client));
    for (const record of answers)
      if ('data' in record && (record.type === type || record.type === 'CNAME')) {
        const { name, type: kind, ttl = dnsTtlSeconds, data } = record;
        answer.answers.push({ name, type: kind, ttl, data });
      }
  };
  const answerSafely = async (
    message: Buffer,
    from: { address: string; transport: 'udp' | 'tcp' },
  ): Promise<Buffer | undefined> => {
    const question = parseDnsQuery(message);
    if (question === undefined) return undefined;
    if (typeof question === 'string') return dnsFailure(message, question);
    try {
      return await resolve(
        message,
        question,
        from.transport === 'tcp' ? dnsTcpBytesMax : question.udpBytesMax,
        from.address,
      );
    } catch (error) {
      log.debug('question failed', { error: messageOf(error) });
      return dnsFailure(message, 'SERVFAIL');
    }
  };

  const listeners = options.addresses.map((address) =>
    listenDns({ address, port: options.port ?? 53 }, clock, answerSafely),
  );
  const close = async (): Promise<void> => {
    await Promise.all(listeners.map((listener) => listener.close()));
  };
  try {
    await Promise.all(listeners.map((listener) => listener.ready));
  } catch (error) {
    await close();
    throw error;
  }
  return {
    ready: synced.then(() => {
      ready = true;
    }),
    [Symbol.asyncDispose]: close,
  };
}

/** Name servers of a resolv.conf text. */
export function upstreamsOf(resolvConf: string): string[] {
  return resolvConf
    .split('\n')
    .map((line) => /^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+|[0-9a-fA-F:]*:[0-9a-fA-F:]+)(%\S+)?\s*$/.exec(line))
    .flatMap((match) => (match === null ? [] : [`${match[1]}${match[2] ?? ''}`]));
}
