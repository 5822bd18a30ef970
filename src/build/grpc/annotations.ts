/**
 * Annotations that a client gives to an exporter: of manifests, of the index, and of the descriptors that name them,
 * for all platforms or for one.
 *
 * Source: BuildKit, "Image annotations": `annotation-TYPE[PLATFORM].KEY=VALUE`, without type and platform for the
 * manifests of all.
 */
import { formatPlatform, parsePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';

const annotation =
  /^annotation(?:-(?<type>manifest|index|manifest-descriptor|index-descriptor))?(?:\[(?<platform>[^\]]*)\])?\.(?<key>.+)$/;

export type AnnotatedType = 'manifest' | 'index' | 'manifest-descriptor' | 'index-descriptor';

interface Annotation {
  type: AnnotatedType;
  /** undefined: all. */
  platform: string | undefined;
  key: string;
  value: string;
}

const typeOf: Readonly<Record<string, AnnotatedType>> = {
  manifest: 'manifest',
  index: 'index',
  'manifest-descriptor': 'manifest-descriptor',
  'index-descriptor': 'index-descriptor',
};

export class Annotations {
  readonly #all: readonly Annotation[];

  constructor(attributes: Readonly<Record<string, string>>) {
    this.#all = Object.entries(attributes).flatMap(([name, value]) => {
      const { type, platform, key } = annotation.exec(name)?.groups ?? {};
      if (key === undefined) return [];
      return [
        {
          type: typeOf[type ?? 'manifest'] ?? 'manifest',
          platform: platform === undefined ? undefined : formatPlatform(parsePlatform(platform)),
          key,
          value,
        },
      ];
    });
  }

  static isOne(attribute: string): boolean {
    return annotation.test(attribute);
  }

  get isEmpty(): boolean {
    return this.#all.length === 0;
  }

  has(type: AnnotatedType): boolean {
    return this.#all.some((each) => each.type === type);
  }

  /** Platforms that annotations name, as text. */
  get platforms(): string[] {
    return this.#all.flatMap(({ platform }) => (platform === undefined ? [] : [platform]));
  }

  /** As a field of a manifest, an index or a descriptor: `{}` where there are none. */
  of(type: AnnotatedType, platform?: Platform): { annotations?: Record<string, string> } {
    const wanted = platform === undefined ? undefined : formatPlatform(platform);
    const found = this.#all.filter(
      (each) => each.type === type && (each.platform === undefined || each.platform === wanted),
    );
    if (found.length === 0) return {};
    // What is said for one platform counts for it more than what is said for all.
    const ordered = [
      ...found.filter((each) => each.platform === undefined),
      ...found.filter((each) => each.platform !== undefined),
    ];
    return { annotations: Object.fromEntries(ordered.map(({ key, value }) => [key, value])) };
  }
}
