/** The demo's drivers on the installed docker and kubectl. */
import type { Processes } from '#os/processes.ts';
import { inheritedEnvironment } from '../environment.ts';
import type { DockerDriver, Inspected, KubeDriver } from './driver.ts';

async function output(
  processes: Processes,
  file: string,
  args: string[],
  environment: Record<string, string>,
): Promise<string> {
  const done = await processes.run(file, args, { env: { ...inheritedEnvironment(), ...environment } });
  if (done.code !== 0)
    throw new Error(`${file} ${args.join(' ')} failed (${done.code}): ${done.stderr.trim() || done.stdout.trim()}`);
  return done.stdout;
}

export function realDocker(processes: Processes, socket: string): DockerDriver {
  // The classic builder is used where buildx is not installed; docker says so on standard error, which nobody sees
  // here.
  const docker = (...args: string[]): Promise<string> =>
    output(processes, 'docker', args, { DOCKER_HOST: `unix://${socket}`, DOCKER_BUILDKIT: '0' });
  return {
    name: 'docker',
    async build(directory, tags, buildArguments) {
      await docker(
        'build',
        '-q',
        ...tags.flatMap((tag) => ['-t', tag]),
        ...Object.entries(buildArguments).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
        directory,
      );
    },
    async push(tag) {
      await docker('push', '-q', tag);
    },
    async pullAgain(tag) {
      await docker('rmi', tag);
      await docker('pull', '-q', tag);
    },
    async run(name, image, command, options) {
      return (
        await docker(
          'run',
          '-d',
          '--name',
          name,
          ...(options.publish === undefined ? [] : ['-p', options.publish]),
          ...(options.restart === undefined ? [] : ['--restart', options.restart]),
          image,
          ...command,
        )
      ).trim();
    },
    async logs(name) {
      return docker('logs', name);
    },
    async inspect(name) {
      const [found]: Inspected[] = JSON.parse(await docker('inspect', name));
      if (found === undefined) throw new Error(`docker inspect ${name} says nothing`);
      return found;
    },
    async removeForce(names) {
      await docker('rm', '-f', ...names);
    },
  };
}

export function realKubectl(processes: Processes, kubeconfig: string): KubeDriver {
  const kubectl = (...args: string[]): Promise<string> =>
    output(processes, 'kubectl', args, { KUBECONFIG: kubeconfig });
  return {
    name: 'kubectl',
    async apply(paths) {
      await kubectl('apply', ...paths.flatMap((path) => ['-f', path]));
    },
    async setImage(namespace, deployment, container, image) {
      await kubectl('-n', namespace, 'set', 'image', `deployment/${deployment}`, `${container}=${image}`);
    },
    async rolloutStatus(namespace, kindAndName, timeoutSeconds) {
      await kubectl('-n', namespace, 'rollout', 'status', kindAndName, `--timeout=${timeoutSeconds}s`);
    },
    async rolloutUndo(namespace, deployment) {
      await kubectl('-n', namespace, 'rollout', 'undo', `deployment/${deployment}`);
    },
    async scale(namespace, deployment, replicas) {
      await kubectl('-n', namespace, 'scale', `deployment/${deployment}`, `--replicas=${replicas}`);
    },
    async deletePod(namespace, name) {
      await kubectl('-n', namespace, 'delete', 'pod', name, '--wait=false');
    },
    async exec(namespace, pod, command) {
      return kubectl('-n', namespace, 'exec', pod, '--', ...command);
    },
  };
}
