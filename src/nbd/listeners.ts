/**
 * The sockets that clients connect to.
 *
 * A Unix socket is a file that others can remove (cleaners of temporary files do). So each is
 * looked at every few seconds, and made again where it is gone; clients that are connected notice
 * nothing. What somebody else has put at the path is theirs: it is said once, and left alone until
 * it goes or turns out to be a socket without a listener. At the end only our own file is removed.
 */
import type { CommandError, NbdAddress } from "../array/protocol.ts";
import { errnoName } from "../base/errno.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import { isPowerOfTwo } from "../base/units.ts";
import { Ready, type SocketKernel } from "../reactor/kernel.ts";
import type { EventLoop } from "../reactor/loop.ts";
import { listenError, listenProblem } from "./listen-problem.ts";
import type { Newcomer } from "./negotiator.ts";

export interface Listener {
  fd: number;
  readonly token: number;
  readonly address: NbdAddress;
  readonly mode: number;
  /** The file of a Unix socket, as `SocketKernel.fileAt` names it; "" for TCP. */
  file: string;
  /** What somebody else had put in its place at the last look. */
  stranger: string;
  /** What was said last of why the file is not there. */
  trouble: string;
  isResting: boolean;
}

/** Who has connected there; `fd` is the client's socket. */
export function newcomerOf({ address }: Listener, sockets: SocketKernel, fd: number): Newcomer {
  const peer = sockets.peerOf(fd);
  // By the listener: a socket of TCP that tells no address must not count as one of a Unix socket.
  if (address.kind === "unix") return { peer, caller: null };
  return { peer, caller: { address: sockets.addressOf(fd), certificates: [] } };
}

/** How long a listener rests when the process is out of file descriptors. */
const ACCEPT_BACK_OFF_MS = 100;
const LOOK_EVERY_MS = 2_000;

export class Listeners {
  private readonly loop: EventLoop;
  private readonly log: Log;
  /** Clients wait at the listener. */
  private readonly onReady: (listener: Listener) => void;
  private readonly list: Listener[] = [];
  private lookTimer = 0;
  private restCount = 0;

  constructor(options: { loop: EventLoop; log: Log; onReady: (listener: Listener) => void }) {
    this.loop = options.loop;
    this.log = options.log;
    this.onReady = options.onReady;
  }

  /** `mode` is that of a Unix socket's file. The answer has the real port. */
  add(address: NbdAddress, mode: number): Result<NbdAddress, CommandError> {
    const { sockets } = this.loop;
    const fd = this.open(address, mode);
    if (fd < 0) return err(listenError(address, -fd));
    const token = this.loop.addHandler(() => this.onReady(listener));
    const file = address.kind === "unix" ? sockets.fileAt(address.path) : "";
    const rest = { stranger: "", trouble: "", isResting: false };
    const listener: Listener = { fd, token, address, mode, file, ...rest };
    this.list.push(listener);
    sockets.watch(fd, token, Ready.read);
    if (address.kind === "tcp") return ok({ ...address, port: sockets.localPort(fd) });
    if (this.lookTimer === 0) this.lookLater();
    return ok(address);
  }

  /** Level-triggered readiness of a listener that cannot accept would spin. */
  rest(listener: Listener, errno: number): void {
    this.restCount += 1;
    if (isPowerOfTwo(this.restCount)) {
      const fields = { errno: errnoName(errno), times: this.restCount };
      this.log.write("warn", "nbd accept failed: tried again every 100 ms", fields);
    }
    listener.isResting = true;
    this.loop.sockets.watch(listener.fd, listener.token, 0);
    this.loop.timers.scheduleAfter(ACCEPT_BACK_OFF_MS, () => {
      listener.isResting = false;
      if (this.list.includes(listener)) {
        this.loop.sockets.watch(listener.fd, listener.token, Ready.read);
      }
    });
  }

  /** Ends all of them. Whoever comes to the path later finds nothing. */
  close(): void {
    const { sockets, timers } = this.loop;
    timers.cancel(this.lookTimer);
    for (const { address, file, fd, token } of this.list) {
      // Order: the file goes while the socket still holds its inode, which nobody else can have.
      if (address.kind === "unix" && file !== "") sockets.removeFile(address.path, file);
      this.end(fd);
      this.loop.removeHandler(token);
    }
    this.list.length = 0;
  }

  private open(address: NbdAddress, mode: number): number {
    const { sockets } = this.loop;
    return address.kind === "unix"
      ? sockets.listenUnix({ path: address.path, mode })
      : sockets.listenTcp({ host: address.host, port: address.port });
  }

  private end(fd: number): void {
    this.loop.sockets.unwatch(fd);
    this.loop.sockets.close(fd);
  }

  private lookLater(): void {
    this.lookTimer = this.loop.timers.scheduleAfter(LOOK_EVERY_MS, () => {
      for (const listener of this.list) {
        if (listener.address.kind === "unix") this.look(listener, listener.address.path);
      }
      this.lookLater();
    });
  }

  private look(listener: Listener, path: string): void {
    const file = this.loop.sockets.fileAt(path);
    if (file === listener.file) {
      listener.stranger = "";
      listener.trouble = "";
      return;
    }
    // A socket that has just been put there may not listen yet: it is given until the next look.
    if (file !== "" && file !== listener.stranger) {
      listener.stranger = file;
      return;
    }
    const fd = this.open(listener.address, listener.mode);
    if (fd < 0) {
      this.say(listener, listenProblem(listener.address, -fd));
      return;
    }
    // Who has connected to the old socket and was not accepted yet would be hung up on.
    this.onReady(listener);
    this.end(listener.fd);
    listener.fd = fd;
    listener.file = this.loop.sockets.fileAt(path);
    this.loop.sockets.watch(fd, listener.token, listener.isResting ? 0 : Ready.read);
    this.log.write("warn", "nbd socket was gone and has been made again", { path });
    listener.stranger = "";
    listener.trouble = "";
  }

  private say(listener: Listener, trouble: string): void {
    if (listener.trouble === trouble) return;
    listener.trouble = trouble;
    this.log.write("warn", "nbd socket has lost its path; new clients cannot come", { trouble });
  }
}
