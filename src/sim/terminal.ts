/**
 * What the kernel does between a terminal and a program that reads lines from it: echo, line editing, `\n` shown as
 * `\r\n`, Ctrl-D for the end of
 * the input and Ctrl-C for an interrupt (termios(3): ICANON, ECHO, ECHOE, ICRNL, ONLCR, ISIG). Pure.
 */
const endOfInput = '\x04';
const interrupt = '\x03';
const eraseKeys = new Set(['\x7f', '\b']);

export interface TerminalHost {
  /** To whoever watches the terminal. */
  show(text: string): void;
  /** A line that was typed, with its newline; without one at the end of the input. */
  line(text: string): void;
  /** Ctrl-D on an empty line. */
  end(): void;
  interrupt(): void;
}

/** As the terminal shows what a program writes. */
export function cooked(text: string): string {
  return text.replaceAll('\n', '\r\n');
}

export class Terminal {
  readonly #host: TerminalHost;
  #line: string[] = [];

  constructor(host: TerminalHost) {
    this.#host = host;
  }

  /** Keys as they arrive. */
  type(keys: string): void {
    for (const key of keys) this.#press(key);
  }

  #press(key: string): void {
    if (key === interrupt) {
      this.#line = [];
      this.#host.show('^C');
      this.#host.interrupt();
      return;
    }
    if (key === endOfInput) {
      if (this.#line.length === 0) this.#host.end();
      else this.#host.line(this.#line.join(''));
      this.#line = [];
      return;
    }
    if (eraseKeys.has(key)) {
      if (this.#line.pop() !== undefined) this.#host.show('\b \b');
      return;
    }
    const typed = key === '\r' ? '\n' : key;
    this.#line.push(typed);
    this.#host.show(cooked(typed));
    if (typed !== '\n') return;
    const text = this.#line.join('');
    this.#line = [];
    this.#host.line(text);
  }
}
