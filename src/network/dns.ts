/**
 * The cluster's DNS server on this node: UDP and TCP on the cluster DNS address, which is an address of the node's own dummy link, so that no
 * translation stands between a Pod and its answer. Names of the cluster are answered from informers; all others are forwarded to the
 * node's upstream servers as the raw bytes they are, and kept as long as their TTL says. Source: RFC 1035; RFC 6891 for message sizes.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { connect, createServer, type Server } from 'node:net';
import dnsPacket from 'dns-packet';
import type { Json, KubeObject } from '#base/objects.ts';
import type { InformerFactory } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import type { Clock } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import { answerClusterName, dashed, type ClusterAnswer, type ClusterObjects } from './dns-records.ts';
import { dnsForwardPendingMax, dnsForwardTimeoutMs, dnsTcpConnectionsMax, dnsTcpIdleMs, dnsTtlSeconds, dnsUdpBytesMax } from './limits.ts';

export interface DnsOptions {
  informers: InformerFactory;
  clock: Clock;
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

const flagAuthoritative = 0x0400;
const flagRecursionDesired = 0x0100;
const flagRecursionAvailable = 0x0080;
const flagTruncated = 0x0200;
const codes: Record<string, number> = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 };

const labelService = 'kubernetes.io/service-name';

function clusterObjects(informers: InformerFactory, domain: string): { objects: ClusterObjects; synced: Promise<void> } {
  const services = informers.informer(kinds.Service).addIndex('clusterIp', (service: KubeObject) => service.spec.clusterIPs ?? service.spec.clusterIP);
  const slices = informers.informer(kinds.EndpointSlice)
    .addIndex('service', (slice: KubeObject) => `${slice.metadata.namespace}/${slice.metadata.labels?.[labelService] ?? ''}`)
    .addIndex('address', (slice: KubeObject) => (slice.endpoints ?? []).flatMap((endpoint: Json) => endpoint.addresses ?? []));
  const namespaces = informers.informer(kinds.Namespace);
  const objects: ClusterObjects = {
    service: (namespace, name) => services.get(`${namespace}/${name}`),
    slices: (namespace, service) => slices.by('service', `${namespace}/${service}`),
    namespaceExists: (name) => namespaces.get(name) !== undefined,
    nameOfAddress(ip) {
      for (const service of services.by('clusterIp', ip)) return `${service.metadata.name}.${service.metadata.namespace}.svc.${domain}`;
      for (const slice of slices.by('address', ip)) {
        const name = slice.metadata.labels?.[labelService];
        const service = services.get(`${slice.metadata.namespace}/${name}`);
        if (service?.spec.clusterIP !== 'None') continue;
        const endpoint = (slice.endpoints ?? []).find((entry: Json) => entry.addresses?.includes(ip));
        return `${endpoint?.hostname ?? dashed(ip)}.${name}.${slice.metadata.namespace}.svc.${domain}`;
      }
      return undefined;
    },
  };
  return { objects, synced: Promise.all([services.synced, slices.synced, namespaces.synced]).then(() => {}) };
}

interface Question { id: number; flags: number; name: string; type: string; udpBytesMax: number }

function parseQuestion(message: Buffer): Question | undefined {
  const packet = dnsPacket.decode(message) as Json;
  const question = packet.questions?.[0];
  if (packet.type !== 'query' || question === undefined) return undefined;
  const edns = (packet.additionals ?? []).find((record: Json) => record.type === 'OPT');
  return { id: packet.id, flags: packet.flags, name: question.name, type: question.type, udpBytesMax: Math.min(dnsUdpBytesMax, Math.max(512, edns?.udpPayloadSize ?? 512)) };
}

export async function runDns(options: DnsOptions): Promise<DnsServer> {
  const { clock, log, domain } = options;
  const { objects, synced } = clusterObjects(options.informers, domain);
  const forwarder = createForwarder(options.upstreams, clock);
  let ready = false;

  const soa: Json = { name: domain, type: 'SOA', ttl: dnsTtlSeconds, data: { mname: `ns.dns.${domain}`, rname: `hostmaster.${domain}`, serial: 1, refresh: 7200, retry: 1800, expire: 86_400, minimum: dnsTtlSeconds } };
  const encode = (question: Question, answer: ClusterAnswer, code: string): Buffer => dnsPacket.encode({
    type: 'response', id: question.id, flags: flagAuthoritative | flagRecursionAvailable | (question.flags & flagRecursionDesired) | codes[code]!,
    questions: [{ name: question.name, type: question.type, class: 'IN' } as Json], answers: answer.answers as Json[], additionals: answer.additionals as Json[],
    authorities: answer.answers.length === 0 ? [soa] : [],
  } as Json);

  const resolve = async (message: Buffer): Promise<{ bytes: Buffer; limit: number }> => {
    const question = parseQuestion(message);
    if (question === undefined) return { bytes: failure(message, 'NOTIMP'), limit: 512 };
    if (!ready) await synced;
    const answer = answerClusterName(question.name, question.type, domain, objects);
    if (answer === undefined) return { bytes: await forwarder.ask(message, question.udpBytesMax), limit: question.udpBytesMax };
    if (answer.follow !== undefined && question.type !== 'CNAME') await addFollowed(answer, question.type);
    return { bytes: encode(question, answer, answer.code), limit: question.udpBytesMax };
  };
  /** ExternalName: adds the addresses of the name it points at, from the cluster or from upstream. */
  const addFollowed = async (answer: ClusterAnswer, type: string): Promise<void> => {
    const own = answerClusterName(answer.follow!, type, domain, objects);
    if (own !== undefined) { answer.answers.push(...own.answers); return; }
    const query = dnsPacket.encode({ type: 'query', id: 1, flags: flagRecursionDesired, questions: [{ name: answer.follow!, type: type as 'A' }] });
    const reply = dnsPacket.decode(await forwarder.ask(query, dnsUdpBytesMax)) as Json;
    answer.answers.push(...(reply.answers ?? []));
  };
  const answerSafely = async (message: Buffer): Promise<{ bytes: Buffer; limit: number }> => {
    try {
      return await resolve(message);
    } catch (error) {
      log.debug('question failed', { error: (error as Error).message });
      return { bytes: failure(message, 'SERVFAIL'), limit: 512 };
    }
  };

  const port = options.port ?? 53;
  const sockets: (Socket | Server)[] = [];
  for (const address of options.addresses) {
    sockets.push(await listenUdp(address, port, async (message, reply) => {
      const { bytes, limit } = await answerSafely(message);
      reply(bytes.length > limit ? truncated(bytes) : bytes);
    }));
    sockets.push(await listenTcp(address, port, clock, async (message) => (await answerSafely(message)).bytes));
  }
  const readyPromise = synced.then(() => { ready = true; });
  return {
    ready: readyPromise,
    async [Symbol.asyncDispose]() {
      forwarder.close();
      await Promise.all(sockets.map((socket) => new Promise<void>((done) => { socket.close(() => done()); })));
    },
  };
}

/** A copy of the question with an error code. */
function failure(message: Buffer, code: string): Buffer {
  if (message.length < 12) return Buffer.alloc(0);
  const reply = Buffer.from(message);
  reply.writeUInt16BE((message.readUInt16BE(2) & flagRecursionDesired) | 0x8000 | flagRecursionAvailable | codes[code]!, 2);
  reply.writeUInt16BE(0, 6); reply.writeUInt16BE(0, 8);
  return reply;
}

/** Only header and question, with the bit that sends the asker to TCP. */
function truncated(bytes: Buffer): Buffer {
  let at = 12;
  while (at < bytes.length && bytes[at] !== 0) at += bytes[at]! + 1;
  const short = Buffer.from(bytes.subarray(0, at + 5));
  short.writeUInt16BE(short.readUInt16BE(2) | flagTruncated, 2);
  for (const offset of [6, 8, 10]) short.writeUInt16BE(0, offset);
  return short;
}

function listenUdp(address: string, port: number, onMessage: (message: Buffer, reply: (bytes: Buffer) => void) => void): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', reuseAddr: true, recvBufferSize: 1024 * 1024 });
  socket.on('message', (message: Buffer, from: RemoteInfo) => onMessage(message, (bytes) => { if (bytes.length > 0) socket.send(bytes, from.port, from.address, () => {}); }));
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(port, address, () => { socket.off('error', reject); socket.on('error', () => {}); resolve(socket); });
  });
}

function listenTcp(address: string, port: number, clock: Clock, answer: (message: Buffer) => Promise<Buffer>): Promise<Server> {
  const server = createServer((socket) => {
    let buffer: Buffer = Buffer.alloc(0);
    let timer = clock.setTimer(dnsTcpIdleMs, () => socket.destroy(), { background: true });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => timer.cancel());
    socket.on('data', (chunk: Buffer) => {
      timer.cancel();
      timer = clock.setTimer(dnsTcpIdleMs, () => socket.destroy(), { background: true });
      buffer = Buffer.concat([buffer, chunk]);
      while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
        const message = Buffer.from(buffer.subarray(2, 2 + buffer.readUInt16BE(0)));
        buffer = buffer.subarray(2 + message.length);
        void answer(message).then((bytes) => { const head = Buffer.alloc(2); head.writeUInt16BE(bytes.length); if (socket.writable) socket.write(Buffer.concat([head, bytes])); });
      }
    });
  });
  server.maxConnections = dnsTcpConnectionsMax;
  return new Promise((resolve, reject) => { server.once('error', reject); server.listen(port, address, () => { server.off('error', reject); server.on('error', () => {}); resolve(server); }); });
}

interface Forwarder { ask(message: Buffer, udpBytesMax: number): Promise<Buffer>; close(): void }

/** Sends questions on as they are, with a number of our own, to one upstream after the other; a truncated answer is asked for again by TCP. */
function createForwarder(upstreams: string[], clock: Clock): Forwarder {
  const pending = new Map<number, (reply: Buffer) => void>();
  let socket: Socket | undefined;
  let nextId = 1;
  const open = (): Socket => {
    if (socket !== undefined) return socket;
    socket = createSocket('udp4');
    socket.on('message', (reply: Buffer) => { if (reply.length >= 12) pending.get(reply.readUInt16BE(0))?.(reply); });
    socket.on('error', () => {});
    socket.unref();
    return socket;
  };
  const askOne = (server: string, message: Buffer): Promise<Buffer | undefined> => {
    if (pending.size >= dnsForwardPendingMax) return Promise.resolve(undefined);
    const original = message.readUInt16BE(0);
    do { nextId = (nextId + 1) & 0xffff; } while (pending.has(nextId));
    const id = nextId;
    const copy = Buffer.from(message);
    copy.writeUInt16BE(id, 0);
    return new Promise((resolve) => {
      const finish = (reply: Buffer | undefined): void => { timer.cancel(); pending.delete(id); if (reply !== undefined) { reply = Buffer.from(reply); reply.writeUInt16BE(original, 0); } resolve(reply); };
      const timer = clock.setTimer(dnsForwardTimeoutMs, () => finish(undefined), { background: true });
      pending.set(id, finish);
      open().send(copy, 53, server, (error) => { if (error !== null) finish(undefined); });
    });
  };
  return {
    async ask(message, udpBytesMax) {
      for (const server of upstreams) {
        const reply = await askOne(server, message);
        if (reply === undefined) continue;
        const cut = (reply.readUInt16BE(2) & flagTruncated) !== 0;
        return cut && udpBytesMax > 512 ? await askTcp(server, message, clock) ?? reply : reply;
      }
      return failure(message, upstreams.length === 0 ? 'NXDOMAIN' : 'SERVFAIL');
    },
    close() { socket?.close(); },
  };
}

function askTcp(server: string, message: Buffer, clock: Clock): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const socket = connect(53, server);
    let buffer: Buffer = Buffer.alloc(0);
    const finish = (reply: Buffer | undefined): void => { timer.cancel(); socket.destroy(); resolve(reply); };
    const timer = clock.setTimer(dnsForwardTimeoutMs, () => finish(undefined), { background: true });
    socket.on('error', () => finish(undefined));
    socket.on('connect', () => { const head = Buffer.alloc(2); head.writeUInt16BE(message.length); socket.write(Buffer.concat([head, message])); });
    socket.on('data', (chunk: Buffer) => { buffer = Buffer.concat([buffer, chunk]); if (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) finish(buffer.subarray(2, 2 + buffer.readUInt16BE(0))); });
    socket.on('close', () => finish(undefined));
  });
}

/** Name servers of a resolv.conf text. */
export function upstreamsOf(resolvConf: string): string[] {
  return resolvConf.split('\n').map((line) => /^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)/.exec(line)?.[1]).filter((ip) => ip !== undefined);
}
