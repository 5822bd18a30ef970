/** Modes of files as chmod(1) takes them: octal digits, or changes such as `u+x,go-w`. Source: POSIX, chmod. */

const bitsOf: Readonly<Record<string, number>> = { u: 0o4700, g: 0o2070, o: 0o1007 };
const clause = /^([ugoa]*)((?:[-+=][rwxXst]*)+)$/;

export function isModeText(text: string): boolean {
  return text !== '' && text.split(',').every((part) => clause.test(part));
}

function permissionBits(letters: string, mode: number, isDirectory: boolean): number {
  let bits = 0;
  for (const letter of letters) {
    if (letter === 'r') bits |= 0o444;
    else if (letter === 'w') bits |= 0o222;
    else if (letter === 'x') bits |= 0o111;
    else if (letter === 'X') bits |= isDirectory || (mode & 0o111) !== 0 ? 0o111 : 0;
    else if (letter === 's') bits |= 0o6000;
    else if (letter === 't') bits |= 0o1000;
  }
  return bits;
}

/** The mode after the changes of a text for which `isModeText` holds. */
export function changeMode(mode: number, text: string, isDirectory: boolean): number {
  let out = mode;
  for (const part of text.split(',')) {
    const [, who = '', actions = ''] = clause.exec(part) ?? [];
    const isAll = who === '' || who.includes('a');
    const mask = isAll ? 0o7777 : [...who].reduce((sum, each) => sum | (bitsOf[each] ?? 0), 0);
    for (const [, operator, letters = ''] of actions.matchAll(/([-+=])([rwxXst]*)/g)) {
      const bits = permissionBits(letters, out, isDirectory) & mask;
      if (operator === '+') out |= bits;
      else if (operator === '-') out &= ~bits;
      else out = (out & ~(mask & 0o777)) | bits;
    }
  }
  return out;
}
