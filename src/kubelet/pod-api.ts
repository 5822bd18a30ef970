/** What the workers of a node's Pods ask of and tell the API server. */
import { isReason } from '#base/errors.ts';
import { referenceTo } from '#client/events.ts';
import { kinds } from '#base/kinds.ts';
import type { KubeletOptions, PodApi } from './doors.ts';
import { persist } from './persist.ts';
import { checkRuntimeClass } from './runtime-class.ts';

export function createPodApi(options: Pick<KubeletOptions, 'client' | 'services' | 'recorder' | 'clock'>): PodApi {
  const { client, services, recorder, clock } = options;
  return {
    services: () => services.list(),
    tell({ pod, container }, type, reason, message) {
      if (recorder === undefined) return;
      const init = (pod.spec.initContainers ?? []).some((entry) => entry.name === container);
      const path = container === undefined ? undefined : `spec.${init ? 'initContainers' : 'containers'}{${container}}`;
      recorder.event(referenceTo(pod, path), type, reason, message);
    },
    checkRuntimeClass: (pod) => checkRuntimeClass(pod, client),
    updateStatus(pod, status) {
      // An update of the status takes labels and finalizers as they are sent; who manages what stays when it is not.
      const { managedFields: _m, ...metadata } = pod.metadata;
      return client.update(kinds.Pod, { apiVersion: 'v1', kind: 'Pod', metadata, status }, { subresource: 'status' });
    },
    async read({ metadata }) {
      try {
        const found = await client.get(kinds.Pod, metadata.name, metadata.namespace);
        return found.metadata.uid === metadata.uid ? found : undefined;
      } catch (error) {
        if (isReason(error, 'NotFound')) return undefined;
        throw error;
      }
    },
    async confirmDeleted({ metadata }, signal) {
      try {
        await persist({ clock, signal }, () =>
          client.delete(kinds.Pod, metadata.name, metadata.namespace, {
            gracePeriodSeconds: 0,
            preconditions: { uid: metadata.uid },
          }),
        );
      } catch (error) {
        if (!isReason(error, 'NotFound', 'Conflict')) throw error;
      }
    },
  };
}
