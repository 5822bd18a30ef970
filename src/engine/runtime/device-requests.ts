/**
 * `DeviceRequests` of a container (`--device vendor.com/class=name`, `--gpus`): the devices' edits go into the OCI
 * configuration. Graphics processors are the CDI devices of the kinds that their vendors use.
 *
 * Source: moby 28 and 29, daemon/cdi.go, devices_nvidia_linux.go; CDI 1.0, pkg/cdi/container-edits.go.
 */
import { statSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { fieldOf, isObject, itemsOf, textOf, textsOf, type JsonObject } from '#base/unknown.ts';
import { deviceParts } from '#os/special-files.ts';
import { readCdiDevices, type CdiDevice } from '../cdi-devices.ts';
import type { DeviceRequest } from '../engine.ts';

const gpuKinds = ['nvidia.com/gpu', 'amd.com/gpu'];
const gpuCapabilities = new Set('gpu nvidia amd compute compat32 graphics utility video display'.split(' '));

/** Changes the configuration. `directories`: none where CDI is turned off. Errors are dockerd's. */
export function applyDeviceRequests(
  configuration: JsonObject,
  requests: readonly DeviceRequest[],
  directories: readonly string[],
): void {
  if (requests.length === 0) return;
  const { devices } = readCdiDevices(directories);
  for (const request of requests) {
    const names = namesOf(request, directories.length > 0, devices);
    const missing = names.filter((name) => !devices.has(name));
    if (missing.length > 0)
      throw new ApiError(
        'InternalError',
        `CDI device injection failed: unresolvable CDI devices ${missing.join(', ')}`,
      );
    inject(
      configuration,
      names.flatMap((name) => devices.get(name) ?? []),
    );
  }
}

function namesOf(request: DeviceRequest, hasCdi: boolean, devices: ReadonlyMap<string, CdiDevice>): readonly string[] {
  const { driver, count, ids, capabilities } = request;
  if (driver === 'cdi' && hasCdi) {
    if (count !== 0) throw new ApiError('BadRequest', 'unexpected count in CDI device request');
    if (Object.keys(request.options).length > 0)
      throw new ApiError('BadRequest', 'unexpected options in CDI device request');
    return ids;
  }
  const kind = gpuKinds.find((each) => [...devices.keys()].some((name) => name.startsWith(`${each}=`)));
  const isGpu =
    ['nvidia', 'nvidia.cdi', 'amd', 'amd.cdi'].includes(driver) || (driver === '' && asksForGpu(capabilities));
  if (kind === undefined || !isGpu)
    throw new ApiError(
      'InternalError',
      `could not select device driver "${driver}" with capabilities: [${capabilities.map((all) => `[${all.join(' ')}]`).join(' ')}]`,
    );
  if (count !== 0 && ids.length > 0)
    throw new ApiError('BadRequest', 'cannot set both Count and DeviceIDs on device request');
  const wanted = count < 0 ? ['all'] : count > 0 ? Array.from({ length: count }, (_, index) => String(index)) : ids;
  return wanted.map((id) => (id.includes('=') ? id : `${kind}=${id}`));
}

/** One of the lists, of which all must be had. */
function asksForGpu(capabilities: readonly string[][]): boolean {
  return capabilities.some((all) => all.includes('gpu') && all.every((one) => gpuCapabilities.has(one)));
}

function inject(configuration: JsonObject, devices: readonly CdiDevice[]): void {
  const files = new Set<string>();
  for (const { edits, file } of devices) {
    if (!files.has(file.path)) applyEdits(configuration, file.edits);
    files.add(file.path);
    applyEdits(configuration, edits);
  }
}

/** The member, which is made where it is missing. */
function memberOf(holder: JsonObject, key: string): JsonObject {
  const found = holder[key];
  if (isObject(found)) return found;
  const made: JsonObject = {};
  holder[key] = made;
  return made;
}

function append(
  holder: JsonObject,
  key: string,
  items: readonly unknown[],
  replaces: (item: unknown) => boolean,
): void {
  holder[key] = [...itemsOf(holder[key]).filter((item) => !replaces(item)), ...items];
}

function applyEdits(configuration: JsonObject, edits: JsonObject): void {
  const process = memberOf(configuration, 'process');
  for (const entry of textsOf(edits['env'])) {
    const name = `${entry.split('=', 1)[0] ?? ''}=`;
    append(process, 'env', [entry], (other) => typeof other === 'string' && other.startsWith(name));
  }
  for (const node of itemsOf(edits['deviceNodes'])) applyDeviceNode(configuration, node);
  for (const mount of itemsOf(edits['mounts'])) {
    const destination = textOf(mount, 'containerPath') ?? '';
    const made = {
      destination,
      source: textOf(mount, 'hostPath') ?? '',
      type: textOf(mount, 'type') ?? 'bind',
      options: textsOf(fieldOf(mount, 'options')),
    };
    append(configuration, 'mounts', [made], (other) => textOf(other, 'destination') === destination);
  }
  for (const hook of itemsOf(edits['hooks'])) {
    if (!isObject(hook)) continue;
    const { hookName, ...rest } = hook;
    append(memberOf(configuration, 'hooks'), String(hookName), [rest], () => false);
  }
  const gids = itemsOf(edits['additionalGids']).filter((gid) => typeof gid === 'number' && gid > 0);
  if (gids.length > 0) append(memberOf(process, 'user'), 'additionalGids', gids, (gid) => gids.includes(gid));
}

/** What the file does not say of a device is what the host's node says. */
function applyDeviceNode(configuration: JsonObject, node: unknown): void {
  const path = textOf(node, 'path') ?? '';
  const hostPath = textOf(node, 'hostPath') ?? path;
  const said = (key: string): number | undefined => {
    const value = fieldOf(node, key);
    return typeof value === 'number' ? value : undefined;
  };
  const host = describeHostDevice(hostPath);
  const [type, major, minor] = [
    textOf(node, 'type') ?? host?.type,
    said('major') ?? host?.major,
    said('minor') ?? host?.minor,
  ];
  if (type === undefined || (type !== 'p' && (major === undefined || minor === undefined)))
    throw new ApiError(
      'InternalError',
      `CDI device injection failed: failed to stat CDI host device ${JSON.stringify(hostPath)}: no such file or directory`,
    );
  const user = fieldOf(configuration, 'process', 'user');
  // The container's own user may use it, whoever that is.
  const [uid, gid] = [said('uid') ?? fieldOf(user, 'uid') ?? 0, said('gid') ?? fieldOf(user, 'gid') ?? 0];
  const linux = memberOf(configuration, 'linux');
  const fileMode = said('fileMode') ?? host?.fileMode;
  const device = { path, type, major, minor, ...(fileMode === undefined ? {} : { fileMode }), uid, gid };
  append(linux, 'devices', [device], (other) => textOf(other, 'path') === path);
  if (type !== 'b' && type !== 'c') return;
  const access = textOf(node, 'permissions') ?? 'rwm';
  append(memberOf(linux, 'resources'), 'devices', [{ allow: true, type, major, minor, access }], () => false);
}

function describeHostDevice(
  path: string,
): { type: string; major: number; minor: number; fileMode: number } | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  const type = stat.isBlockDevice() ? 'b' : stat.isCharacterDevice() ? 'c' : stat.isFIFO() ? 'p' : undefined;
  return type === undefined ? undefined : { type, ...deviceParts(stat.rdev), fileMode: stat.mode & 0o777 };
}
