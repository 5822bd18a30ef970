/**
 * `create`: checks the request, makes volumes and the record. No process, no mount stays. Half-made things go with the
 * undo stack.
 */
import { mkdirSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { readIfExists, removeTree } from '#os/files.ts';
import { Container, eventAttributes } from './container.ts';
import { containerDirectory, recordFormat } from './container-record.ts';
import type { ContainerRecord } from './container-record.ts';
import type { EngineContext } from './context.ts';
import type { ContainerSpec, Mount } from './engine.ts';
import { leaseImages, releaseImages, resolveImages } from './image-mounts.ts';
import type { Networks } from './networks.ts';
import { followOwnRoot } from './propagation.ts';
import { attachedNetwork } from './network-endpoint.ts';
import { planCapabilities } from './runtime/capabilities.ts';
import { resolveInRoot } from './runtime/root-path.ts';
import { checkResources, checkSpecTexts } from './spec-checks.ts';
import type { Volumes } from './volumes.ts';

export interface CreateParts {
  context: EngineContext;
  networks: Networks;
  volumes: Volumes;
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

// walk docker-run 3/7: the record is checked, given volumes and networks, and written; nothing runs yet.
/** The name is already reserved by the caller, who keeps the `pins` of its volumes until the container is known. */
export async function createContainer(
  parts: CreateParts,
  wanted: ContainerSpec,
  pins: DisposableStack,
): Promise<Container> {
  const { context, volumes } = parts;
  const image = context.images.find(wanted.imageId) ?? context.images.find(wanted.image);
  if (image === undefined) throw new ApiError('NotFound', `No such image: ${wanted.image}`);
  const id = wanted.id ?? Buffer.from(context.random.bytes(32)).toString('hex');
  validate(context, wanted);
  const process = planProcess(wanted, image.config);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => removeTree(containerDirectory(context.directories.data, id)));
  mkdirSync(containerDirectory(context.directories.data, id), { recursive: true, mode: 0o710 });
  const anonymousVolumes: string[] = [];
  undo.defer(async () => {
    for (const name of anonymousVolumes) await volumes.remove(name);
  });
  undo.defer(() => pins.dispose());
  const mounts = await resolveVolumes(
    volumes,
    { wanted: wanted.mounts, declared: image.config.volumes },
    anonymousVolumes,
    pins,
  );
  const spec: ContainerSpec = {
    ...wanted,
    id,
    imageId: image.id,
    mounts: followRoot(context, wanted, resolveImages(context, mounts)),
  };
  if (mounts.some((mount) => mount.type === 'volume' && mount.populate === true))
    await populateVolumes(context, volumes, id, spec);
  const record: ContainerRecord = {
    format: recordFormat,
    id,
    spec,
    state: 'created',
    createdAtMs: context.clock.now(),
    startedAtMs: 0,
    finishedAtMs: 0,
    exitCode: undefined,
    oomKilled: false,
    error: '',
    restartCount: 0,
    stoppedByUser: false,
    anonymousVolumes,
    networks: planNetworks(parts.networks, spec),
    path: process[0]!,
    args: process.slice(1),
  };
  undo.defer(() => releaseImages(context, id, spec.owner));
  await leaseImages(context, id, spec);
  const container = new Container(record);
  container.save(context);
  undo.move();
  context.events.emit({
    type: 'container',
    action: 'create',
    id,
    attributes: eventAttributes(container),
    owner: spec.owner,
  });
  return container;
}

/** A Pod's volumes are where the kubelet put them. */
function followRoot({ directories }: EngineContext, { owner }: ContainerSpec, mounts: Mount[]): Mount[] {
  if (owner !== 'docker') return mounts;
  return followOwnRoot(mounts, directories.data, () => readIfExists('/proc/self/mountinfo') ?? '');
}

/** Entrypoint and command by docker's rule: a new entrypoint that says something drops the image's command. */
function planProcess(spec: ContainerSpec, config: { entrypoint: string[]; command: string[] }): string[] {
  const entrypoint = spec.entrypoint ?? config.entrypoint;
  const command = spec.command ?? ((spec.entrypoint ?? []).length === 0 ? config.command : []);
  const process = [...entrypoint, ...command];
  if (process.length === 0) throw new ApiError('BadRequest', 'no command specified');
  return process;
}

function validate(context: EngineContext, spec: ContainerSpec): void {
  if (spec.owner === 'docker' && !namePattern.test(spec.name))
    throw new ApiError(
      'BadRequest',
      `Invalid container name (${spec.name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    );
  planCapabilities({
    privileged: spec.security.privileged === true,
    add: spec.security.capAdd ?? [],
    drop: spec.security.capDrop ?? [],
    available: context.hostLimits.capabilities,
  });
  context.hostLimits.planRlimits(spec.resources.ulimits);
  checkResources(spec.resources);
  checkSpecTexts(spec);
  if (spec.workingDir !== undefined && spec.workingDir !== '' && !spec.workingDir.startsWith('/'))
    throw new ApiError(
      'BadRequest',
      `the working directory '${spec.workingDir}' is invalid, it needs to be an absolute path`,
    );
  const targets = new Set<string>();
  for (const mount of spec.mounts) {
    if (!mount.target.startsWith('/'))
      throw new ApiError(
        'BadRequest',
        `invalid mount config for type "${mount.type}": invalid mount path: '${mount.target}' mount path must be absolute`,
      );
    if (targets.has(mount.target)) throw new ApiError('BadRequest', `Duplicate mount point: ${mount.target}`);
    targets.add(mount.target);
  }
}

interface WantedVolumes {
  wanted: Mount[];
  declared: string[];
}

/** Names for nameless volumes, and volumes that the image declares and nobody mounted. */
async function resolveVolumes(
  volumes: Volumes,
  { wanted, declared }: WantedVolumes,
  anonymous: string[],
  pins: DisposableStack,
): Promise<Mount[]> {
  const taken = new Set(wanted.map((mount) => mount.target.replace(/\/+$/, '')));
  const all: Mount[] = [
    ...wanted,
    ...declared
      .filter((path) => !taken.has(path.replace(/\/+$/, '')))
      .map((target) => ({ type: 'volume' as const, source: '', target, readOnly: false, populate: true })),
  ];
  const out: Mount[] = [];
  for (const mount of all) {
    if (mount.type !== 'volume') {
      out.push(mount);
      continue;
    }
    const record = await volumes.createPinned({ name: mount.source, ...mount.volume }, pins);
    if (mount.source === '') anonymous.push(record.name);
    out.push({ ...mount, source: record.name });
  }
  return out;
}

async function populateVolumes(
  context: EngineContext,
  volumes: Volumes,
  id: string,
  spec: ContainerSpec,
): Promise<void> {
  const { root } = await context.snapshots.mountContainerRoot(
    id,
    spec.imageId,
    spec.hostUsers === true ? undefined : context.userMapping?.view,
  );
  try {
    for (const mount of spec.mounts)
      if (mount.type === 'volume' && mount.populate === true)
        await volumes.populate(mount.source, resolveInRoot(root, mount.target), id);
  } finally {
    await context.snapshots.unmountContainerRoot(id);
  }
}

function planNetworks(networks: Networks, spec: ContainerSpec): ContainerRecord['networks'] {
  if (spec.network.type !== 'networks') return [];
  const wanted = spec.networks ?? [{ network: 'bridge', aliases: [] }];
  return wanted.map((attachment) => {
    // As in docker a network may be missing until the start.
    const network = networks.findIfAny(attachment.network);
    return attachedNetwork(network?.id ?? attachment.network, attachment);
  });
}
