/** The host part of a create request. */
import type { BodyOf, hostShape } from './shapes.ts';

export type HostConfigBody = BodyOf<typeof hostShape>;
