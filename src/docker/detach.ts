/**
 * The keys that end an attachment without ending the container: `ctrl-p,ctrl-q`, or what the client asks for
 * (`detachKeys`).
 */
import { Transform } from 'node:stream';
import type { Readable } from 'node:stream';
import { ApiError } from '#base/errors.ts';

const byDefault = 'ctrl-p,ctrl-q';
const controls: Record<string, number> = { '@': 0, '[': 27, '\\': 28, ']': 29, '^': 30, _: 31 };

export function parseDetachKeys(text: string): Buffer {
  return Buffer.from(
    (text === '' ? byDefault : text).split(',').map((key) => {
      if (key.length === 1) return key.charCodeAt(0);
      const name = /^ctrl-(.)$/.exec(key)?.[1];
      const code = name === undefined ? undefined : /[a-z]/.test(name) ? name.charCodeAt(0) - 96 : controls[name];
      if (code === undefined) throw new ApiError('BadRequest', `Invalid detach keys (${text}) provided`);
      return code;
    }),
  );
}

/**
 * Hands on what is typed; keys that could be the beginning of the sequence are held back until it is clear. Calls
 * `onDetach` once.
 */
export function watchDetachKeys(input: Readable, keys: Buffer, onDetach: () => void): Readable {
  let matched = 0;
  const out = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const pass: number[] = [];
      for (const byte of chunk) {
        if (byte === keys[matched]) {
          if (++matched < keys.length) continue;
          matched = 0;
          if (pass.length > 0) this.push(Buffer.from(pass));
          onDetach();
          done();
          return;
        }
        if (matched > 0) {
          pass.push(...keys.subarray(0, matched));
          matched = 0;
        }
        if (byte === keys[0] && keys.length > 1) matched = 1;
        else pass.push(byte);
      }
      done(null, pass.length > 0 ? Buffer.from(pass) : undefined);
    },
  });
  input.on('error', () => out.destroy());
  return input.pipe(out);
}
