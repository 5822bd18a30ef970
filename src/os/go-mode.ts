/** Modes of files as Go has them, which docker's and BuildKit's clients read: type and special bits at the top. */
import type { Stats } from 'node:fs';

export const goMode = {
  directory: 2 ** 31,
  symlink: 2 ** 27,
  device: 2 ** 26,
  fifo: 2 ** 25,
  socket: 2 ** 24,
  setuid: 2 ** 23,
  setgid: 2 ** 22,
  character: 2 ** 21,
  sticky: 2 ** 20,
};

export function goModeOf(info: Stats): number {
  const type = info.isDirectory()
    ? goMode.directory
    : info.isSymbolicLink()
      ? goMode.symlink
      : info.isFIFO()
        ? goMode.fifo
        : info.isSocket()
          ? goMode.socket
          : info.isCharacterDevice()
            ? goMode.device + goMode.character
            : info.isBlockDevice()
              ? goMode.device
              : 0;
  const special = (bit: number, value: number): number => ((info.mode & bit) === 0 ? 0 : value);
  return (
    type +
    (info.mode & 0o777) +
    special(0o4000, goMode.setuid) +
    special(0o2000, goMode.setgid) +
    special(0o1000, goMode.sticky)
  );
}
