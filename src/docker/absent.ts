/**
 * Swarm mode, which this engine does not have: what dockerd answers where it is in no swarm. What would begin one is
 * refused in words.
 */
import { ApiError } from '#base/errors.ts';
import type { Route } from './route.ts';

const resources = ['services', 'nodes', 'tasks', 'secrets', 'configs'];

async function notManager(): Promise<never> {
  throw new ApiError(
    'ServiceUnavailable',
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
  );
}

async function refuse(what: string): Promise<never> {
  throw new ApiError('InternalError', `${what} not supported by this engine`, undefined, 501);
}

export function absentRoutes(): Route[] {
  const swarm: Route[] = resources.flatMap((name) => [
    { method: 'GET', path: `/${name}`, handle: notManager },
    { method: 'GET', path: `/${name}/{id}`, handle: notManager },
    { method: 'DELETE', path: `/${name}/{id}`, handle: notManager },
    { method: 'POST', path: `/${name}/create`, handle: notManager },
    { method: 'POST', path: `/${name}/{id}/update`, handle: notManager },
  ]);
  return [
    ...swarm,
    ...['/services/{id}/logs', '/tasks/{id}/logs', '/swarm', '/swarm/unlockkey'].map((path): Route => ({
      method: 'GET',
      path,
      handle: notManager,
    })),
    ...['/swarm/update', '/swarm/unlock'].map((path): Route => ({
      method: 'POST',
      path,
      handle: notManager,
    })),
    {
      method: 'POST',
      path: '/swarm/leave',
      handle: async () => {
        throw new ApiError('ServiceUnavailable', 'This node is not part of a swarm');
      },
    },
    {
      method: 'PUT',
      path: '/volumes/{name}',
      handle: async () => {
        throw new ApiError(
          'ServiceUnavailable',
          'volume update only valid for cluster volumes, but swarm is unavailable',
        );
      },
    },
    ...(['GET', 'POST', 'DELETE'] as const).map((method): Route => ({
      method,
      path: `/containers/{id}/checkpoints${method === 'DELETE' ? '/{checkpoint}' : ''}`,
      handle: () => refuse('checkpoints are'),
    })),
    ...['/swarm/init', '/swarm/join'].map((path): Route => ({
      method: 'POST',
      path,
      handle: () => refuse('swarm mode is'),
    })),
  ];
}
