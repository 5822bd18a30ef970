/**
 * `BuildRunner` on the engine's containers: each RUN is a container of owner `build`, created, attached, started,
 * waited for and removed.
 */
import { Writable } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import type { ContainerSpec, Containers, NetworkMode } from '#engine/engine.ts';
import { Gate } from '#base/gate.ts';
import { whenSettled } from '#base/promises.ts';
import { stepsInParallelMax } from './limits.ts';
import type { BuildRunner, RunRequest } from './runner.ts';

export interface ContainerRunnerOptions {
  containers: Containers;
  /** Extra fields of the specification that connect a container to a docker network by name. */
  onNetwork?: (name: string) => Partial<ContainerSpec>;
}

function networkOf(name: string): NetworkMode {
  if (name === 'host') return { type: 'host' };
  if (name === 'none') return { type: 'none' };
  if (name.startsWith('container:')) return { type: 'container', containerId: name.slice('container:'.length) };
  return { type: 'networks' };
}

function toSpec(request: RunRequest, options: ContainerRunnerOptions): ContainerSpec {
  const isBridge = !['host', 'none'].includes(request.network) && !request.network.startsWith('container:');
  return {
    id: request.id,
    name: `build-${request.id.slice(0, 12)}`,
    owner: 'build',
    image: request.imageId,
    imageId: request.imageId,
    entrypoint: [],
    command: request.command,
    env: request.env,
    workingDir: request.workingDir,
    user: request.user,
    tty: false,
    openStdin: request.io !== undefined,
    stdinOnce: request.io !== undefined,
    labels: {},
    // Whoever builds has its output; a log of it would be read by nobody.
    logPath: 'none',
    network: networkOf(request.network),
    mounts: request.mounts.map((mount) => ({
      type: mount.type,
      source: mount.source,
      target: mount.target,
      readOnly: mount.readOnly,
      ...(mount.sizeBytes === undefined ? {} : { tmpfsSizeBytes: mount.sizeBytes }),
    })),
    resources: request.resources ?? {},
    ...(request.cgroupParent === undefined ? {} : { cgroupParent: request.cgroupParent }),
    security: {},
    ...(request.shmSizeBytes ? { shmSizeBytes: request.shmSizeBytes } : {}),
    ...(request.hostname === '' ? {} : { hostname: request.hostname }),
    ...(request.extraHosts.length > 0 ? { extraHosts: request.extraHosts } : {}),
    ...(isBridge
      ? options.onNetwork?.(request.network === 'default' || request.network === '' ? 'bridge' : request.network)
      : {}),
  };
}

export function createContainerRunner(options: ContainerRunnerOptions): BuildRunner {
  const { containers } = options;
  const gate = new Gate(stepsInParallelMax);
  const remove = async (id: string): Promise<void> => {
    try {
      await containers.remove(id, { force: true, volumes: true });
    } catch (error) {
      if (!(error instanceof ApiError && error.reason === 'NotFound')) throw error;
    }
  };
  return {
    run: (request) =>
      gate.run(async () => {
        request.signal.throwIfAborted();
        const { id } = request;
        await containers.create(toSpec(request, options));
        const sink = new Writable({
          write: (chunk: Uint8Array, _encoding, done) => {
            request.onOutput(chunk);
            done();
          },
        });
        // Attached before the start, so that the first line is not lost; it ends with the container.
        const attached = whenSettled(
          containers.attach(id, { stdout: sink, ...request.io, stderr: sink }, request.signal),
        );
        const stop = (): void => {
          // It has ended.
          containers.kill(id, 'SIGKILL').catch(() => {});
        };
        request.signal.addEventListener('abort', stop, { once: true });
        try {
          await containers.start(id);
          if (request.signal.aborted) stop();
          const exitCode = await containers.wait(id);
          await attached;
          return { exitCode };
        } finally {
          request.signal.removeEventListener('abort', stop);
        }
      }),
    remove,
    async removeStale() {
      await Promise.all(containers.list({ owner: 'build' }).map((status) => remove(status.id)));
    },
  };
}
