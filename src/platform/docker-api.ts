/** The Docker API of a node, put together from the engine's resources, images, builds and the registry's sides. */
import { ApiError } from '#base/errors.ts';
import { createBuilder } from '#build/builder.ts';
import { createContainerRunner } from '#build/runner-containers.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import { authRoutes } from '#docker/auth.ts';
import { buildRoutes } from '#docker/build.ts';
import { openBuildkitDoors } from '#docker/buildkit.ts';
import { commitRoutes } from '#docker/commit.ts';
import type { DockerParts } from '#docker/context.ts';
import { distributionRoutes } from '#docker/distribution.ts';
import { imageRoutes } from '#docker/images.ts';
import { engineRoutes } from '#docker/routes.ts';
import type { Route } from '#docker/route.ts';
import { createDockerServer } from '#docker/server.ts';
import { systemDfRoutes } from '#docker/system-df.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import type { ImageStore } from '#engine/images.ts';
import type { Logger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createMounts } from '#os/mount.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { Access } from '#registry/access.ts';
import { tiphysVersion } from './version.ts';

export interface DockerApiParts {
  engine: DockerEngine;
  images: ImageStore;
  content: Content;
  records: ImageRecords;
  snapshots: BuildSnapshots;
  access: Access;
  socketPath: string;
  dataDir: string;
  log: Logger;
  registryDomains: string[];
}

/** Proxies that the host uses and builds are to use too; they do not stay in the image. */
function hostProxies(): string[] {
  return Object.entries(process.env)
    .filter(([name, value]) => /^(https?|no|ftp|all)_proxy$/i.test(name) && value !== undefined && value !== '')
    .map(([name, value]) => `${name}=${value}`);
}

export async function startDockerApi(parts: DockerApiParts): Promise<AsyncDisposable> {
  const { engine, images, content, records, snapshots, access } = parts;
  const runner = createContainerRunner({
    containers: engine.containers,
    onNetwork: (name) => ({ networks: [{ network: name, aliases: [] }] }),
  });
  const builder = createBuilder({
    content,
    records,
    images,
    snapshots,
    runner,
    mounts: createMounts(),
    processes: linuxProcesses,
    clock: realClock,
    random: realRandom,
    hostEnvironment: { proxies: hostProxies() },
  });
  await builder.recover();
  const counts = (imageId: string): number =>
    engine.containers.list().filter((container) => container.imageId === imageId).length;
  const docker: DockerParts = {
    engine,
    clock: realClock,
    random: realRandom,
    platform: { version: tiphysVersion(), dataDir: parts.dataDir, registries: parts.registryDomains },
    builderVersion: '2',
  };
  const buildkit = openBuildkitDoors({ builder, clock: realClock, version: tiphysVersion() });
  const server = await createDockerServer({
    serveHttp2: buildkit.serveHttp2,
    socketPath: parts.socketPath,
    log: parts.log,
    serverVersion: tiphysVersion(),
    routes: [
      ...engineRoutes(docker),
      ...imageRoutes({ images, countContainers: counts }),
      ...distributionRoutes(images),
      ...authRoutes({ images, registry: { access, domains: parts.registryDomains } }),
      ...systemDfRoutes(docker, images, builder),
      ...buildRoutes({ builder, images }),
      ...buildkit.routes,
      ...commitRoutes(docker, images),
      registryUserRoute(access),
    ],
  });
  return { [Symbol.asyncDispose]: () => server.close() };
}

/**
 * Users of the registry are made by root, through the engine's socket; only a salted hash of the password is kept. The
 * first is an administrator.
 */
function registryUserRoute(access: Access): Route {
  return {
    method: 'POST',
    path: '/tiphys/registry-users',
    async handle(context) {
      const { name, password, administrator } = (await context.json()) as {
        name?: unknown;
        password?: unknown;
        administrator?: unknown;
      };
      if (typeof name !== 'string' || !/^[a-z0-9][a-z0-9._-]{0,63}$/.test(name))
        throw new ApiError(
          'BadRequest',
          "a user's name has 1 to 64 of a-z, 0-9, dot, dash and underscore, and begins with a letter or digit",
        );
      if (typeof password !== 'string' || password.length < 8)
        throw new ApiError('BadRequest', 'a password has at least 8 characters');
      if (administrator !== undefined && typeof administrator !== 'boolean')
        throw new ApiError('BadRequest', 'administrator is true or false');
      const { isAdministrator } = await access.setUser(name, password, true, administrator);
      return { name, administrator: isAdministrator };
    },
  };
}
