/**
 * A simulated node's files for its Pods: there are none. Volumes need the ConfigMaps and Secrets that they are made of
 * (`references.ts`), a container what its script says cannot be made, and a run leaves its script's last words.
 */
import { ApiError } from '#base/errors.ts';
import type { ContainerFiles, MountedVolumes, PodFiles, PodStorage } from '#kubelet/doors.ts';
import type { References } from './references.ts';
import { volumeNeeds } from './references.ts';
import type { SimEngine } from './sim-engine.ts';

const nothingStored: PodStorage = {
  volumes: new Map(),
  claims: new Map(),
  logs: new Map(),
  others: { bytes: 0, inodes: 0 },
};
const noVolumes: MountedVolumes = new Map();
const noFiles: ContainerFiles = Object.freeze({ mounts: [], etcFiles: {}, logPath: '', seccomp: 'default' });

export function createSimFiles(engine: SimEngine, references: References): PodFiles {
  return {
    async open() {},
    async mountVolumes(pod) {
      if (pod.spec.volumes === undefined) return noVolumes;
      const needs = volumeNeeds(pod);
      if (references.areKnown(pod, needs)) return noVolumes;
      const problem = await references.volumeProblem(pod, needs);
      if (problem !== undefined) throw new ApiError('InternalError', problem);
      return noVolumes;
    },
    objectsFor(pod) {
      const held = engine.pods.get(pod.metadata.uid);
      const isAgain = held?.hasAsked === true;
      if (held !== undefined) held.hasAsked = true;
      return references.objects(isAgain);
    },
    async prepareContainer({ pod, container, restartCount }) {
      const held = engine.pods.get(pod.metadata.uid);
      if (held === undefined) return noFiles;
      const context = { ...held.context(container.name), attempt: restartCount };
      const { cannotCreate } = held.machine.scripts.of(context);
      if (cannotCreate !== undefined) throw new ApiError('BadRequest', cannotCreate);
      return noFiles;
    },
    async readTerminationMessage(uid, name, restartCount) {
      const held = engine.pods.get(uid);
      return held?.containers.find((run) => run.name === name && run.attempt === restartCount)?.message ?? '';
    },
    storage: async () => nothingStored,
    async removePod({ metadata }) {
      engine.forget(metadata.uid);
    },
    podsWithFiles: async () => [...engine.pods.keys()],
    onChange() {},
    close() {},
  };
}
