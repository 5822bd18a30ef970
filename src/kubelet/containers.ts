/** The containers of a Pod, of whatever sort. */
import type { Container, EphemeralContainer, ImageVolumeSource, Pod } from '#api/core.v1.ts';

export type AnyContainer = Container | EphemeralContainer;

/** Init containers and main ones, in the order in which they start. */
export function startedContainers({ spec }: Pick<Pod, 'spec'>): Container[] {
  return spec.initContainers === undefined ? spec.containers : [...spec.initContainers, ...spec.containers];
}

export function allContainers(pod: Pick<Pod, 'spec'>): AnyContainer[] {
  const { ephemeralContainers } = pod.spec;
  const started = startedContainers(pod);
  return ephemeralContainers === undefined ? started : [...started, ...ephemeralContainers];
}

export function containerNamed(pod: Pick<Pod, 'spec'>, name: string): AnyContainer | undefined {
  const of = <C extends AnyContainer>(list: C[] | undefined): C | undefined => list?.find((each) => each.name === name);
  const { containers, initContainers, ephemeralContainers } = pod.spec;
  return of(containers) ?? of(initContainers) ?? of(ephemeralContainers);
}

/** The image that a volume shows; undefined where it is a volume of another kind. */
export function imageVolume({ spec }: Pick<Pod, 'spec'>, volume: string): ImageVolumeSource | undefined {
  return spec.volumes?.find(({ name }) => name === volume)?.image;
}
