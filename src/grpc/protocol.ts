/**
 * The messages and services of a protocol, to and from bytes: names, numbers and types in a JSON file that a
 * generator made of the published definitions. Names of fields are the protocol's; 64-bit integers are numbers; what
 * is absent has its type's zero.
 */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type protobuf from 'protobufjs';
import type { Message } from './fields.ts';

/** Loaded when the first message is made: it takes nine megabytes, and many processes never make one. */
const load = createRequire(import.meta.url);

function library(): typeof protobuf {
  return load('protobufjs');
}

/** Names of the messages of a method. */
export interface MethodTypes {
  request: string;
  response: string;
}

export class Protocol {
  readonly #path: string;
  #root: protobuf.Root | undefined;
  readonly #types = new Map<string, protobuf.Type>();
  readonly #methods = new Map<string, MethodTypes>();

  constructor(path: string) {
    this.#path = path;
  }

  #loaded(): protobuf.Root {
    return (this.#root ??= library().Root.fromJSON(JSON.parse(readFileSync(this.#path, 'utf8'))));
  }

  #typeOf(name: string): protobuf.Type {
    let found = this.#types.get(name);
    if (found === undefined) this.#types.set(name, (found = this.#loaded().lookupType(name)));
    return found;
  }

  /** Request and response types of a method, `/moby.buildkit.v1.Control/Solve`; undefined when there is none. */
  methodOf(path: string): MethodTypes | undefined {
    const known = this.#methods.get(path) ?? this.#findMethod(path);
    // Only methods that there are: anybody may ask for others.
    if (known !== undefined) this.#methods.set(path, known);
    return known;
  }

  #findMethod(path: string): MethodTypes | undefined {
    const [, service = '', name = ''] = path.split('/');
    const found = this.#loaded().lookup(service);
    if (!(found instanceof library().Service)) return undefined;
    const method = found.methods[name];
    if (method === undefined) return undefined;
    method.resolve();
    const { resolvedRequestType: request, resolvedResponseType: response } = method;
    return request === null || response === null
      ? undefined
      : { request: request.fullName, response: response.fullName };
  }

  encode(type: string, message: Message): Uint8Array {
    const found = this.#typeOf(type);
    return found.encode(found.fromObject(message)).finish();
  }

  /** Throws BadRequest for what is no such message. */
  decode(type: string, bytes: Uint8Array): Message {
    const found = this.#typeOf(type);
    try {
      return found.toObject(found.decode(bytes), { longs: Number, defaults: true, bytes: Buffer });
    } catch (error) {
      // The decoder knows many ways to say it; a deep one ends the stack.
      throw new ApiError('BadRequest', `invalid ${type} message: ${messageOf(error)}`);
    }
  }
}
