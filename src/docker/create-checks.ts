/**
 * What docker refuses before a container is made, in its words, and what an image gives to a request. The rest of the
 * body is create-request.ts'.
 */
import { isIp } from '#base/ip.ts';
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform, parsePlatform, platformFit } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import type { ImageConfig } from '#engine/engine.ts';
import { checkLogOptions } from '#engine/log-drivers/options.ts';
import { parseSignal } from '#engine/signals.ts';
import type { Given, HostConfigBody } from './create-body.ts';
import { anyHost } from './host-facts.ts';
import type { HostFacts } from './host-facts.ts';

export function checkHostConfig(host: HostConfigBody, facts: HostFacts = anyHost): void {
  checkLog(host['LogConfig'] ?? {});
  checkNames(host);
  const runtime = String(host['Runtime'] ?? '');
  if (runtime !== '' && !facts.hasRuntime(runtime))
    throw new ApiError('BadRequest', `unknown or invalid runtime name: ${runtime}`);
  checkProcessors(host, facts);
  const uts = String(host['UTSMode'] ?? '');
  if (uts !== '' && uts !== 'host') throw new ApiError('BadRequest', `invalid UTS mode: ${uts}`);
  const oneOf = (key: string, what: string, ...allowed: string[]): void => {
    const value = String(host[key] ?? '');
    if (value !== '' && !allowed.includes(value)) throw new ApiError('BadRequest', `invalid ${what}: ${value}`);
  };
  oneOf('UsernsMode', 'user namespace mode', 'host');
  if (facts.hasUserMapping && host['UsernsMode'] !== 'host') checkMapped(host);
  oneOf('CgroupnsMode', 'cgroup namespace mode', 'host', 'private');
  oneOf('Isolation', 'isolation: it is of Windows, on Linux there is only the default', 'default');
  oneOf('Cgroup', "cgroup: a container cannot share another's");
  if (Number(host['ShmSize'] ?? 0) < 0) throw new ApiError('BadRequest', 'SHM size can not be less than 0');
  const storage = Object.keys(host['StorageOpt'] ?? {});
  const unknown = storage.find((key) => key.toLowerCase() !== 'size');
  if (unknown !== undefined) throw new ApiError('BadRequest', `unknown option ${unknown}`);
  if (storage.length > 0)
    throw new ApiError('BadRequest', "--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
}

/** What cannot be had where root of the container is not root of the host; the words are dockerd's. */
function checkMapped(host: HostConfigBody): void {
  if (host['Privileged'] === true)
    throw new ApiError(
      'BadRequest',
      'privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode',
    );
  if (host.NetworkMode === 'host')
    throw new ApiError('BadRequest', "cannot share the host's network namespace when user namespaces are enabled");
  if (host.PidMode === 'host')
    throw new ApiError('BadRequest', 'cannot share the host PID namespace when user namespaces are enabled');
}

/** Whose host name is the machine's cannot have one of its own. */
export function checkHostname(hostname: string | null | undefined, host: HostConfigBody): void {
  if (host['UTSMode'] === 'host' && (hostname ?? '') !== '')
    throw new ApiError('BadRequest', 'conflicting options: hostname and the UTS mode');
}

/** Words that become lines of the container's hosts and resolv.conf. */
function checkNames(host: HostConfigBody): void {
  for (const entry of host['ExtraHosts'] ?? []) {
    const at = entry.search(/[:=]/);
    if (at <= 0 || at === entry.length - 1 || /\s/.test(entry))
      throw new ApiError('BadRequest', `bad format for add-host: ${JSON.stringify(entry)}`);
    const address = entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1');
    if (address !== 'host-gateway' && !isIp(address))
      throw new ApiError('BadRequest', `invalid IP address in add-host: ${JSON.stringify(entry.slice(at + 1))}`);
  }
  for (const address of host['Dns'] ?? [])
    if (!isIp(address)) throw new ApiError('BadRequest', `bad nameserver address: ${JSON.stringify(address)}`);
  for (const key of ['DnsSearch', 'DnsOptions'])
    for (const word of (host[key] ?? []) as string[])
      if (/[\s\0]/.test(word))
        throw new ApiError('BadRequest', `invalid ${key} ${JSON.stringify(word)}: it must be one word`);
  if (Object.hasOwn(host['Annotations'] ?? {}, ''))
    throw new ApiError('BadRequest', 'invalid Annotations: the empty string is not permitted as an annotation key');
}

/** Of an update, whose body is the limits alone. */
export function checkUpdate(body: HostConfigBody, facts: HostFacts): void {
  checkProcessors(body, facts);
  for (const key of ['CgroupParent', 'DeviceRequests', 'Init'])
    if (body[key] !== undefined && body[key] !== null && body[key] !== '' && (body[key] as unknown[]).length !== 0)
      facts.warn(`${key} of a container that is there cannot be changed. It is discarded.`);
}

function checkProcessors(host: HostConfigBody, facts: HostFacts): void {
  const nano = Number(host['NanoCpus'] ?? 0);
  const most = facts.processors;
  if (nano < 0 || nano > most * 1e9)
    throw new ApiError(
      'BadRequest',
      `range of CPUs is from 0.01 to ${most}.00, as there are only ${most} CPUs available`,
    );
}

/** As docker has it, an unknown driver is told by another code than its options. */
function checkLog({ Type: type, Config: options }: Given<{ Type: string; Config: Record<string, string> }>): void {
  try {
    checkLogOptions(type || 'json-file', options ?? {});
  } catch (error) {
    if (!(error instanceof ApiError) || !/no log driver named/.test(error.message)) throw error;
    throw new ApiError('InternalError', `failed to initialize logging driver: ${error.message}`);
  }
}

export function checkStopSignal(signal: unknown): void {
  if (typeof signal === 'string' && signal !== '') parseSignal(signal);
}

type HealthBody = NonNullable<ImageConfig['healthcheck']>;

/**
 * The image's check, with what the request says in its place; a request without a test of its own only changes times.
 */
export function mergeHealthCheck(
  asked: Given<HealthBody> | null | undefined,
  image: HealthBody | undefined,
): HealthBody | undefined {
  if (asked === undefined || asked === null) return image;
  const said = Object.entries(asked).filter(([, value]) => value !== null);
  if ((asked.Test ?? []).length > 0 && image === undefined) return Object.fromEntries(said);
  const given = Object.fromEntries(
    said.filter(([, value]) => value !== 0 && !(Array.isArray(value) && value.length === 0)),
  );
  return { ...image, ...given };
}

/** Times may be left out, but below a millisecond they are a mistake. */
export function checkHealthTimes(health: HealthBody | undefined): void {
  const names = {
    Interval: 'Interval',
    Timeout: 'Timeout',
    StartPeriod: 'StartPeriod',
    StartInterval: 'StartInterval',
  } as const;
  for (const key of Object.keys(names) as (keyof typeof names)[]) {
    const value = health?.[key] ?? 0;
    if (value !== 0 && value < 1_000_000)
      throw new ApiError('BadRequest', `${key} in Healthcheck cannot be less than 1ms`);
  }
  if ((health?.Retries ?? 0) < 0) throw new ApiError('BadRequest', 'Retries in Healthcheck cannot be negative');
}

/** `own`: what the image is made for. */
export function checkPlatform(asked: string | null, reference: string, own: Platform = hostPlatform()): void {
  if (asked === null || asked === '') return;
  if (platformFit(parsePlatform(asked), own) === 0)
    throw new ApiError(
      'NotFound',
      `image with reference ${reference} was found but its platform (${formatPlatform(own)}) does not match the specified platform (${asked})`,
    );
}

/** What docker says where the image is made for another machine and nobody asked for that. */
export function platformWarnings(asked: string | null, own: Platform = hostPlatform()): string[] {
  if ((asked !== null && asked !== '') || platformFit(hostPlatform(), own) > 0) return [];
  return [
    `The requested image's platform (${formatPlatform(own)}) does not match the detected host platform (${formatPlatform(hostPlatform())}) and no specific platform was requested`,
  ];
}
