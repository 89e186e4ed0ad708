/**
 * Another program of ours in the place of this process (execve): same pid, same terminal, same sockets of
 * the service manager, nothing of this one's memory.
 */
import koffi from 'koffi';

const libc = koffi.load(null);
const fcntlCall = libc.func('int fcntl(int fd, int command, int argument)');
const execveCall = libc.func('int execve(const char *path, const char **argv, const char **envp)');

/** Linux `include/uapi/asm-generic/fcntl.h`: sets the flags of a descriptor; 0 is "keep it over exec". */
const F_SETFD = 2;
const STDIO_COUNT = 3;
/** No service manager passes more sockets than this. */
const PASSED_SOCKET_COUNT_MAX = 64;

/** Node marks every file that it finds open at its start to be closed by exec: we want ours again. */
function keepFiles(): void {
  const { LISTEN_PID: pid, LISTEN_FDS: count } = process.env;
  const passed =
    pid === String(process.pid) ? Math.min(Number(count ?? 0), PASSED_SOCKET_COUNT_MAX) : 0;
  for (let fd = 0; fd < STDIO_COUNT + passed; fd += 1) fcntlCall(fd, F_SETFD, 0);
}

/**
 * Replaces this process by a node that runs `words`. Returns only when the kernel refuses.
 *
 * @param words - options of node, a file, and the words for it
 * @param environment - all of the new process's
 */
export function replaceProcess(
  words: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): void {
  const { execPath } = process;
  const lines = Object.entries(environment).map(([name, value]) => `${name}=${value ?? ''}`);
  keepFiles();
  execveCall(execPath, [execPath, ...words, null], [...lines, null]);
}
